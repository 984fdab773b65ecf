//! Owns the scripts that run on the server, each with the name by which the server knows it. What goes into
//! them and comes out of them stands in `commands` and `answers`.

/// A script and its SHA-1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Script {
    pub(crate) text: &'static str,
    pub(crate) sha: &'static str,
}

/// Whether a script is called by its name or brought along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScriptCall {
    /// By name: for a command that is sent alone, since the server may not know it.
    BySha,
    /// Brought along: always works.
    ByText,
}

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $file:literal, $sha:literal;)*) => {
        $($(#[$doc])* pub(crate) const $name: Script =
            Script { text: include_str!(concat!("scripts/", $file)), sha: $sha };)*
    };
}

scripts! {
    /// Swaps a value if its bytes are still the expected ones.
    SWAP = "swap.lua", "c2141316fd01ad6a3129b7ff2323caa9dcbe1a7b";
    /// Runs a command that may create what lies under the key, and then gives that its TTL.
    BIRTH = "birth.lua", "10bb91d060107ae8b41a5a7b008b2f4fa93c7465";
    /// Gives back what leases have run out, and takes the first value of a queue.
    LEASE = "lease.lua", "9f9da7c526f7a6e20bed9677bf4815df6da1b19e";
    /// Ends a lease.
    END_LEASE = "end_lease.lua", "5151f4c2655300ae277f445c629279b2948f1405";
    /// Takes a lock, or a place among those who wait for it.
    LOCK = "lock.lua", "5446c9c2dc7376e06d8fa78363720b730c1acbe3";
    /// Extends or frees a lock for whoever has it.
    HOLD = "hold.lua", "74d87aacd53baafe8ecc503e7493d1574dd150d0";
    /// Begins the notes on calls.
    NOTES = "notes.lua", "44a88b63baf62274c1b905ed0a42655d4c26605d";
    /// Does the steps of one call, once however often it is called.
    ONCE = "once.lua", "f4170306ffb922517c868816d8e87ea5f93465e1";
    /// Does operations that waited, each once.
    REPLAY = "replay.lua", "e7326e85957a061f173588855504a64395987037";
}

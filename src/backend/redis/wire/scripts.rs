//! Owns the texts of the scripts that run on the server and the hashes by which the server knows them. Knows
//! nothing of what they receive and return: see `commands` and `replies`.

use std::sync::OnceLock;

/// How long the server keeps a marker or a reply cache that no store renews: 30 days.
pub(crate) const SESSION_TTL_MILLIS: u64 = 30 * 24 * 3600 * 1000;

/// A script in Lua.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) text: &'static str,
    sha: OnceLock<String>,
}

impl Script {
    /// The comment at the head of `source` is not part of the text: it need not be sent.
    const fn new(source: &'static str) -> Self {
        let bytes = source.as_bytes();
        let mut at = 0;
        while at + 1 < bytes.len() && bytes[at] == b'-' && bytes[at + 1] == b'-' {
            while at < bytes.len() && bytes[at] != b'\n' {
                at += 1;
            }
            at += 1;
        }
        Self { text: source.split_at(at).1, sha: OnceLock::new() }
    }

    /// Returns the SHA-1 of the text in hexadecimal digits. It is computed once.
    pub(crate) fn sha(&self) -> &str {
        self.sha.get_or_init(|| sha1_smol::Sha1::from(self.text).digest().to_string())
    }
}

/// How a script is named in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScriptCall {
    /// By its SHA-1: only for a command that is sent alone, because the server may not know the script.
    BySha,
    /// By its text, which always works.
    ByText,
}

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)*) => {
        $($(#[$doc])* pub(crate) static $name: Script =
            Script::new(include_str!(concat!("scripts/", $file)));)*
    };
}

scripts! {
    /// Swaps a value if its bytes are still the expected ones.
    SWAP = "swap.lua";
    /// Runs a command that may create its key, and sets the TTL of a created key.
    CREATE = "create.lua";
    /// Puts the values of expired leases back, and leases the first value of a queue.
    LEASE = "lease.lua";
    /// Ends a lease.
    END_LEASE = "end_lease.lua";
    /// Takes a lock, or a position in its queue.
    LOCK = "lock.lua";
    /// Extends or releases a lock that the caller holds.
    HOLD_LOCK = "hold_lock.lua";
    /// Compares keys with what a write leaves whose reply was lost.
    HOLDS = "holds.lua";
    /// Creates the reply cache of a store.
    CREATE_REPLY_CACHE = "create_reply_cache.lua";
    /// Applies the steps of one call, once however often it is sent.
    CALL = "call.lua";
    /// Succeeds if the user may use all of its keys.
    CHECK_KEYS = "check_keys.lua";
    /// Makes a store the holder of a replay queue's marker.
    CLAIM_MARKER = "claim_marker.lua";
    /// Applies queued operations, each once.
    REPLAY = "replay.lua";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_has_the_hash_that_the_server_computes() {
        assert_eq!(Script::new("return 1").sha(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }

    #[test]
    fn the_comment_at_the_head_is_not_sent() {
        assert_eq!(Script::new("-- a\n-- b\nreturn 1").text, "return 1");
        assert_eq!(Script::new("return 1 -- c\n").text, "return 1 -- c\n");
        for script in
            [&SWAP, &CREATE, &LEASE, &END_LEASE, &LOCK, &HOLD_LOCK, &HOLDS, &CALL, &CLAIM_MARKER, &REPLAY]
        {
            assert!(script.text.starts_with("local ") || script.text.starts_with("if "), "{}", script.text);
        }
    }
}

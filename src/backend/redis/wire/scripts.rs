//! Owns the texts of the scripts that run on the server and the hashes by which the server knows them. Knows
//! nothing of what they receive and return: see `commands` and `replies`.

use std::sync::OnceLock;

use crate::key::Key;

/// How long the server keeps a marker or a reply cache that no store renews: 30 days.
pub(crate) const SESSION_TTL_MILLIS: u64 = 30 * 24 * 3600 * 1000;

/// A script in Lua.
#[derive(Debug)]
pub(crate) struct Script {
    /// The contents of the files of which it is made.
    parts: &'static [&'static str],
    text: OnceLock<String>,
    sha: OnceLock<String>,
    /// The same script as a call that the server recognises, and its hash.
    call: OnceLock<(String, String)>,
}

impl Script {
    const fn new(parts: &'static [&'static str]) -> Self {
        Self { parts, text: OnceLock::new(), sha: OnceLock::new(), call: OnceLock::new() }
    }

    /// Returns the text. It is made once.
    pub(crate) fn text(&self) -> &str {
        self.text.get_or_init(|| self.parts.iter().copied().map(without_comment).collect())
    }

    /// Returns the SHA-1 of the text in hexadecimal digits. It is computed once.
    pub(crate) fn sha(&self) -> &str {
        self.sha.get_or_init(|| sha1(self.text()))
    }

    /// Returns the text of a call that does what this script does, and its hash. They are made once.
    pub(crate) fn as_call(&self) -> (&str, &str) {
        let (text, sha) = self.call.get_or_init(|| {
            let [keep, head, tail] = [KEEP, CALL_HEAD, CALL_TAIL].map(without_comment);
            let text = if std::ptr::eq(self, &raw const CALL) {
                format!("{keep}{head}{}", self.text())
            } else {
                format!("{keep}{head}local function body(KEYS, ARGV)\n{}\nend\n{tail}", self.text())
            };
            let sha = sha1(&text);
            (text, sha)
        });
        (text, sha)
    }
}

fn sha1(text: &str) -> String {
    sha1_smol::Sha1::from(text).digest().to_string()
}

/// Returns a script without the comment at its head, which need not be sent.
fn without_comment(source: &str) -> &str {
    let comment: usize =
        source.split_inclusive('\n').take_while(|line| line.starts_with("--")).map(str::len).sum();
    source.split_at(comment).1
}

/// How a script is named in a command.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ScriptCall<'h> {
    /// By its SHA-1: only for a command that is sent alone, because the server may not know the script.
    BySha,
    /// By its text, which always works.
    ByText,
    /// As a call that the server recognises, by its SHA-1.
    CallBySha(&'h CallHead<'h>),
    /// As a call that the server recognises, by its text.
    CallByText(&'h CallHead<'h>),
}

impl<'h> ScriptCall<'h> {
    /// Returns the same for a call that the server recognises.
    pub(crate) fn with_head(self, head: &'h CallHead<'h>) -> Self {
        match self {
            Self::BySha | Self::CallBySha(_) => Self::CallBySha(head),
            Self::ByText | Self::CallByText(_) => Self::CallByText(head),
        }
    }

    /// Returns by what the server recognises the call, if it is one.
    pub(crate) fn head(self) -> Option<&'h CallHead<'h>> {
        match self {
            Self::BySha | Self::ByText => None,
            Self::CallBySha(head) | Self::CallByText(head) => Some(head),
        }
    }
}

/// By what the server recognises a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallHead<'h> {
    /// The key of the reply cache, and its id.
    pub(crate) cache: &'h Key<'static>,
    pub(crate) cache_id: u64,
    pub(crate) slot: u32,
    pub(crate) sequence: u64,
    /// Whether the call was never sent before.
    pub(crate) is_first: bool,
    /// Whether the call renews the TTL of the reply cache.
    pub(crate) renews: bool,
}

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $($file:literal)+;)*) => {
        $($(#[$doc])* pub(crate) static $name: Script =
            Script::new(&[$(include_str!(concat!("scripts/", $file))),+]);)*
    };
}

const KEEP: &str = include_str!("scripts/keep.lua");
const CALL_HEAD: &str = include_str!("scripts/call_head.lua");
const CALL_TAIL: &str = include_str!("scripts/call_tail.lua");

scripts! {
    /// Swaps a value if its bytes are still the expected ones.
    SWAP = "swap.lua";
    /// Runs a command that may create its key, and sets the TTL of a created key.
    CREATE = "create.lua";
    /// Puts the values of expired leases back, and leases the first value of a queue.
    LEASE = "lease.lua";
    /// Adds a value to a queue later.
    PUSH_DELAYED = "push_delayed.lua";
    /// Ends a lease.
    END_LEASE = "end_lease.lua";
    /// Extends a lease.
    EXTEND_LEASE = "extend_lease.lua";
    /// Takes a lock, or a position in its queue.
    LOCK = "lock.lua";
    /// Takes the first free permit of a name.
    PERMIT = "permit.lua";
    /// Extends or releases a lock that the caller holds.
    HOLD_LOCK = "hold_lock.lua";
    /// Compares keys with what a write leaves whose reply was lost.
    HOLDS = "holds.lua";
    /// Replaces the epoch after a rollback.
    REPLACE_EPOCH = "replace_epoch.lua";
    /// Adds to a sliding window.
    WINDOW = "window_add.lua" "window.lua";
    /// Reads a value and renews its TTL.
    RENEW = "get_and_renew.lua" "renew.lua";
    /// Creates the reply cache of a store.
    CREATE_REPLY_CACHE = "keep.lua" "create_reply_cache.lua";
    /// Forgets a large reply in the reply cache.
    FORGET_REPLY = "forget_reply.lua";
    /// Applies the steps of one call, once however often it is sent. It is only a call: see [`Script::as_call`].
    CALL = "get_and_renew.lua" "call.lua";
    /// Puts staged entries in the place of what their keys hold, or of all that is stored under a prefix.
    PLACE_STAGED = "place_staged.lua";
    /// Succeeds if the user may use all of its keys.
    CHECK_KEYS = "check_keys.lua";
    /// Makes a store the holder of a replay queue's marker.
    CLAIM_MARKER = "keep.lua" "claim_marker.lua";
    /// Applies queued operations, each once.
    REPLAY = "keep.lua" "window_add.lua" "get_and_renew.lua" "replay.lua";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_has_the_hash_that_the_server_computes() {
        assert_eq!(Script::new(&["return 1"]).sha(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }

    #[test]
    fn the_comment_at_the_head_is_not_sent() {
        assert_eq!(Script::new(&["-- a\n-- b\nreturn 1"]).text(), "return 1");
        assert_eq!(Script::new(&["return 1 -- c\n"]).text(), "return 1 -- c\n");
        assert_eq!(Script::new(&["-- a\nlocal b\n", "-- c\nreturn b"]).text(), "local b\nreturn b");
        for script in [
            &SWAP,
            &CREATE,
            &LEASE,
            &PUSH_DELAYED,
            &END_LEASE,
            &EXTEND_LEASE,
            &LOCK,
            &PERMIT,
            &HOLD_LOCK,
            &HOLDS,
            &FORGET_REPLY,
            &WINDOW,
            &RENEW,
            &CALL,
            &CLAIM_MARKER,
            &REPLAY,
        ] {
            let text = script.text();
            assert!(
                text.starts_with("local ") || text.starts_with("if ") || text.starts_with('\n'),
                "{text}"
            );
        }
        for part in [CALL_HEAD, CALL_TAIL] {
            assert!(without_comment(part).starts_with("local "), "{part}");
        }
    }

    #[test]
    fn a_script_becomes_the_body_of_a_call() {
        let (text, sha) = SWAP.as_call();
        let body = format!("\nlocal function body(KEYS, ARGV)\n{}\nend\n", SWAP.text());
        assert!(text.contains(without_comment(CALL_HEAD)) && text.contains(&body), "{text}");
        assert!(text.ends_with(without_comment(CALL_TAIL)), "{text}");
        assert_eq!(sha, sha1(text));
        assert!(CALL.as_call().0.ends_with(CALL.text()));
    }
}

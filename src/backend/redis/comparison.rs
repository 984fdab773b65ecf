//! Owns the proof that a write whose reply was lost is done: the server holds what the write leaves. Knows nothing of
//! how the write was sent.
//!
//! If the server holds it at a moment within the call, the call may return: either the first attempt was applied, or
//! the write would change nothing at that moment. Anything else proves nothing. That the server still holds what it
//! held before does not prove that the write was not applied, since another client may have undone it.

use std::collections::HashMap;

use crate::backend::redis::client::Redis;
use crate::backend::redis::connect::connection::Connection;
use crate::backend::redis::failure::{Failure, Stage};
use crate::backend::redis::retry::RetryRule;
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::action::Left;
use crate::backend::redis::wire::replies;
use crate::backend::redis::wire::resp::{CommandWriter, MAX_ARGS};
use crate::backend::redis::wire::scripts::{HOLDS, ScriptCall};
use crate::clock::Millis;
use crate::key::Key;

impl Redis {
    /// Returns whether writes that failed are done all the same: their reply was lost, and the server holds what the
    /// last write to each key leaves.
    pub(crate) fn has_left(
        &self,
        failure: &Failure,
        left: &[(&Key<'_>, Left<'_>)],
        budget: &TimeBudget,
    ) -> bool {
        if failure.stage != Stage::InDoubt || self.options.max_retries == 0 || left.len() > MAX_ARGS / 4 {
            return false;
        }
        let last: HashMap<&str, (&Key<'_>, Left<'_>)> =
            left.iter().map(|(key, left)| (&***key, (*key, *left))).collect();
        let keys: Vec<&Key<'_>> = last.values().map(|(key, _)| *key).collect();
        let limit = u64::try_from(self.options.timeout.as_millis()).unwrap_or(u64::MAX);
        let write = |writer: &mut CommandWriter<'_>, call: ScriptCall<'_>| {
            writer.script(&HOLDS, call, &keys, 3 * keys.len());
            for (_, left) in last.values() {
                writer.left(*left, limit);
            }
        };
        let work = |connection: &mut Connection, _| {
            self.call_script(connection, budget, false, write, |next| replies::number(next()?))
        };
        // INVARIANT: as for a mutation, the connection on which the reply was lost is closed on the server first.
        // Otherwise the write could still come after this proof, over the writes of other clients.
        matches!(self.run(RetryRule::Recognised, budget, work), Ok((1, _)))
    }
}

impl CommandWriter<'_> {
    /// Writes what a key must hold: the SHA-1 of its value, empty for none, and the least and the longest TTL that may
    /// be left, empty for any. `limit`: the write was sent at most so many milliseconds ago.
    fn left(&mut self, left: Left<'_>, limit: u64) {
        let sha = |bytes| sha1_smol::Sha1::from(bytes).digest().to_string();
        match left {
            Left::Absent => self.arg(b"").arg(b"").arg(b""),
            Left::Value(bytes, None) => self.arg(sha(bytes).as_bytes()).integer(-1).integer(-1),
            Left::Value(bytes, Some(ttl)) => {
                let least = ttl.get().saturating_sub(limit);
                self.arg(sha(bytes).as_bytes()).number(least).number(Millis::get(ttl))
            }
            Left::ValueWithAnyTtl(bytes) => self.arg(sha(bytes).as_bytes()).arg(b"").arg(b""),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backend::redis::wire::resp::words;

    #[test]
    fn a_ttl_may_have_run_for_as_long_as_the_call() {
        let text = |left| words(|writer| writer.left(left, 500));
        let sha = sha1_smol::Sha1::from("1").digest().to_string();
        let ttl = |millis| Millis::new(Duration::from_millis(millis)).ok();
        assert_eq!(text(Left::Value(b"1", None)), format!("{sha} -1 -1"));
        assert_eq!(text(Left::Value(b"1", ttl(700))), format!("{sha} 200 700"));
        assert_eq!(text(Left::Value(b"1", ttl(300))), format!("{sha} 0 300"));
        assert_eq!(text(Left::ValueWithAnyTtl(b"1")), sha);
        assert_eq!(text(Left::Absent), "");
    }
}

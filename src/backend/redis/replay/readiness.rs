//! Owns the check, when a store is opened, that its queued operations can be replayed on this server after an outage.
//! Knows nothing of queues.

use redis::Value;

use crate::backend::redis::client::Redis;
use crate::backend::redis::connect::connection::{Connection, Request};
use crate::backend::redis::failure::{Failure, FailureKind};
use crate::backend::redis::keys;
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::replies::refused;
use crate::backend::redis::wire::scripts::{REPLAY, ScriptCall};
use crate::util::unique_id::unique_id;

/// How long the key of the check lives if the program is killed before it deletes the key.
const TTL_MILLIS: u64 = 60_000;

/// The commands of the check, in order.
const COMMANDS: [&str; 4] = ["HSETNX", "PEXPIRE", "EVAL", "DEL"];

impl Redis {
    /// Checks that the server takes what the replay needs: a marker, and a script over several keys. A server that takes
    /// no writes for now is accepted, since it refuses each write to its caller, too.
    pub(crate) fn check_can_replay(&self, budget: &TimeBudget) -> Result<(), Failure> {
        let mut pooled = self.pool.checkout(budget)?;
        let replies = pooled.run(|connection| self.try_replay(connection, budget))?;
        COMMANDS.into_iter().zip(replies).try_for_each(|(command, reply)| accepted(command, reply))
    }

    /// Sends the commands of the check, with a key of their own, and the script with a marker that does not fit.
    fn try_replay(&self, connection: &mut Connection, budget: &TimeBudget) -> Result<Vec<Value>, Failure> {
        let (probe, epoch) = (keys::replay_check(unique_id()), keys::epoch());
        let mut writer = self.writer(connection);
        writer.command(4, COMMANDS[0]).key(&probe).arg(b"check").arg(b"1");
        writer.command(3, COMMANDS[1]).key(&probe).number(TTL_MILLIS);
        writer.script(&REPLAY, ScriptCall::ByText, &[&probe, &epoch], 1).arg(b"none");
        writer.command(2, COMMANDS[3]).key(&probe);
        // A late write to a key of its own does no harm.
        let request = Request { replies: COMMANDS.len(), mutation: false, atomic: false };
        connection.send(request, budget)?;
        COMMANDS.iter().map(|_| connection.receive(budget)).collect()
    }
}

/// Returns the failure that says what is missing, if the server refused a command of the check for good.
fn accepted(command: &str, reply: Value) -> Result<(), Failure> {
    let Err(failure) = refused(reply) else { return Ok(()) };
    let advice = match failure.kind {
        FailureKind::NotWritable => return Ok(()),
        FailureKind::Denied => "grant the permissions that the README names",
        FailureKind::OtherServer => "use a server that is not part of a cluster",
        FailureKind::Unreachable
        | FailureKind::Broken
        | FailureKind::FoundUseless
        | FailureKind::Timeout
        | FailureKind::Busy
        | FailureKind::Exhausted
        | FailureKind::Tls
        | FailureKind::Closed
        | FailureKind::Forked => return Err(failure),
        FailureKind::Oversized
        | FailureKind::TooLarge { .. }
        | FailureKind::WrongType
        | FailureKind::NotAnInteger
        | FailureKind::Overflow
        | FailureKind::NoScript
        | FailureKind::ReplyEvicted
        | FailureKind::Protocol
        | FailureKind::Unsupported
        | FailureKind::Other => "use a server that has this command",
    };
    let kind = if failure.kind == FailureKind::Denied { failure.kind } else { FailureKind::Unsupported };
    let text = failure.cause.to_string();
    // A server repeats the beginning of the script behind the name of a command that it does not know.
    let text = text.split(", with args").next().unwrap_or_default();
    let cause = format!(
        "this server refuses {command}, without which operations that are queued in an outage could never be replayed: \
         {advice}, or open the store with fallback=none ({text})"
    );
    Err(Failure { kind, cause: cause.into(), ..failure })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str) -> Option<(FailureKind, String)> {
        let reply = redis::parse_redis_value(line.as_bytes()).unwrap();
        accepted("EVAL", reply).err().map(|failure| (failure.kind, failure.cause.to_string()))
    }

    #[test]
    fn only_what_is_refused_for_good_prevents_the_opening() {
        for (line, kind) in [
            (":1\r\n", None),
            ("*0\r\n", None),
            ("-OOM command not allowed when used memory > 'maxmemory'.\r\n", None),
            ("-MISCONF Redis is configured to save RDB snapshots\r\n", None),
            ("-LOADING Redis is loading the dataset in memory\r\n", Some(FailureKind::Busy)),
            ("-NOREPLICAS Not enough good replicas to write.\r\n", Some(FailureKind::Busy)),
            ("-NOPERM this user has no permissions to run the 'eval' command\r\n", Some(FailureKind::Denied)),
            (
                "-ERR unknown command 'EVAL', with args beginning with: 'local x'\r\n",
                Some(FailureKind::Unsupported),
            ),
            ("-CROSSSLOT Keys in request don't hash to the same slot\r\n", Some(FailureKind::Unsupported)),
        ] {
            assert_eq!(check(line).map(|(kind, _)| kind), kind, "{line}");
        }
        let (_, cause) =
            check("-ERR unknown command 'EVAL', with args beginning with: 'local x'\r\n").unwrap();
        assert!(cause.contains("unknown command 'EVAL'") && cause.contains("fallback=none"), "{cause}");
        assert!(!cause.contains("local x"), "{cause}");
    }
}

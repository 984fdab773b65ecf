//! Owns what the error replies of servers mean: one table of their texts. It separates permanent refusals from
//! temporary ones, and says which refusals make the connection useless. Does no I/O.

use redis::ServerError;

use crate::backend::redis::failure_kind::FailureKind;

/// How a row of the table recognises a text.
#[derive(Debug, Clone, Copy)]
enum Pattern {
    /// The first word of the text.
    Code(&'static str),
    /// How the text begins, whatever follows.
    Begins(&'static str),
    /// Words anywhere in the text.
    Contains(&'static str),
}

/// Whether the connection on which an error reply came can be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// It can.
    Usable,
    /// It leads to the wrong server, is not logged in, or the server closes it.
    Useless,
}

use After::{Usable, Useless};
use Pattern::{Begins, Code, Contains};

/// The first row that fits decides. A text that no row fits is an error of the operation alone.
const TABLE: &[(Pattern, FailureKind, After)] = &[
    // For good: another attempt of the same operation meets the same refusal.
    (Code("WRONGTYPE"), FailureKind::WrongType, Usable),
    (Begins("ERR value is not an integer"), FailureKind::NotAnInteger, Usable),
    (Begins("ERR hash value is not an integer"), FailureKind::NotAnInteger, Usable),
    (Begins("ERR increment or decrement would overflow"), FailureKind::Overflow, Usable),
    (Code("NOPERM"), FailureKind::Denied, Usable),
    (Code("WRONGPASS"), FailureKind::Denied, Usable),
    (Code("NOAUTH"), FailureKind::Denied, Useless),
    // Protected mode: the server talks to clients of its own machine only.
    (Code("DENIED"), FailureKind::Denied, Useless),
    (Contains("can't run this command"), FailureKind::Denied, Usable),
    (Contains("can't access at least one of the keys"), FailureKind::Denied, Usable),
    (Begins("ERR ACL failure in script"), FailureKind::Denied, Usable),
    (Begins("ERR Protocol error"), FailureKind::Oversized, Useless),
    (Code("CROSSSLOT"), FailureKind::OtherServer, Usable),
    (Code("MOVED"), FailureKind::OtherServer, Usable),
    (Code("ASK"), FailureKind::OtherServer, Usable),
    (Contains("ttempted to access a non local key"), FailureKind::OtherServer, Usable),
    (Code("NOSCRIPT"), FailureKind::NoScript, Usable),
    (Code("EVICTED"), FailureKind::ReplyEvicted, Usable),
    // For now: the server serves nobody.
    (Code("LOADING"), FailureKind::Busy, Usable),
    (Code("BUSY"), FailureKind::Busy, Usable),
    (Code("MASTERDOWN"), FailureKind::Busy, Useless),
    (Code("READONLY"), FailureKind::Busy, Useless),
    (Code("CLUSTERDOWN"), FailureKind::Busy, Usable),
    (Contains("while the cluster is down"), FailureKind::Busy, Usable),
    (Contains("attempted to access a slot not served"), FailureKind::Busy, Usable),
    (Code("TRYAGAIN"), FailureKind::Busy, Usable),
    (Code("NOREPLICAS"), FailureKind::Busy, Usable),
    (Code("UNBLOCKED"), FailureKind::Busy, Usable),
    (Begins("ERR max number of clients"), FailureKind::Busy, Useless),
    // For now: the server serves reads, and takes no writes.
    (Code("OOM"), FailureKind::NotWritable, Usable),
    (Code("MISCONF"), FailureKind::NotWritable, Usable),
];

/// Returns the text of an error reply, without what a script or a transaction puts around it.
pub(crate) fn text(error: &ServerError) -> String {
    let text = format!("{} {}", error.code(), error.details().unwrap_or_default());
    without_wrapping(text.trim_end()).to_owned()
}

/// Returns what a text means. It may be the text of an error that a script caught.
pub(crate) fn kind_of(text: &str) -> FailureKind {
    row_of(without_wrapping(text)).map_or(FailureKind::Other, |(kind, _)| kind)
}

/// Returns whether an error reply shows that the connection must be replaced.
pub(crate) fn makes_useless(error: &ServerError) -> bool {
    row_of(&text(error)).is_some_and(|(_, after)| after == Useless)
}

fn row_of(text: &str) -> Option<(FailureKind, After)> {
    let fits = |pattern: &Pattern| match pattern {
        Code(code) => text.split(' ').next() == Some(*code),
        Begins(words) => text.starts_with(words),
        Contains(words) => text.contains(words),
    };
    TABLE.iter().find(|(pattern, ..)| fits(pattern)).map(|(_, kind, after)| (*kind, *after))
}

/// Returns the error that a script or EXEC ran into. Redis 6.2 puts the script and the line before it: `ERR Error running
/// script (call to f_…): @user_script:7: @user_script: 7: -OOM …`.
fn without_wrapping(text: &str) -> &str {
    const POSITION: &str = "@user_script:";
    if let Some(reason) = text.strip_prefix("EXECABORT Transaction discarded because of: ") {
        return reason;
    }
    if !text.starts_with("ERR Error running script") && !text.starts_with(POSITION) {
        return text;
    }
    let behind = text.rsplit_once(POSITION).map(|(_, behind)| behind.trim_start());
    let reason = behind.and_then(|behind| behind.split_once(": "));
    reason.map_or(text, |(_line, reason)| reason.trim_start_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use FailureKind::{
        Busy, Denied, NoScript, NotAnInteger, NotWritable, Other, OtherServer, Overflow, Oversized,
        ReplyEvicted, WrongType,
    };

    fn reply(text: &str) -> ServerError {
        match redis::parse_redis_value(format!("-{text}\r\n").as_bytes()) {
            Ok(redis::Value::ServerError(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    /// The texts were sent by Redis 7.0.15 unless a row names another server.
    const MEASURED: &[(&str, FailureKind, After)] = &[
        ("WRONGTYPE Operation against a key holding the wrong kind of value", WrongType, Usable),
        ("ERR value is not an integer or out of range", NotAnInteger, Usable),
        ("ERR hash value is not an integer", NotAnInteger, Usable),
        ("ERR increment or decrement would overflow", Overflow, Usable),
        ("NOPERM this user has no permissions to run the 'get' command", Denied, Usable),
        ("NOPERM this user has no permissions to access one of the keys used as arguments", Denied, Usable),
        // 6.2
        ("NOPERM this user has no permissions to run the 'get' command or its subcommand", Denied, Usable),
        // 7.2, 8.2 and Valkey 9.1
        ("NOPERM User app has no permissions to run the 'get' command", Denied, Usable),
        ("NOPERM No permissions to access a key", Denied, Usable),
        ("WRONGPASS invalid username-password pair or user is disabled.", Denied, Usable),
        ("NOAUTH Authentication required.", Denied, Useless),
        ("NOAUTH HELLO must be called with the client already authenticated", Denied, Useless),
        ("DENIED Redis is running in protected mode because protected mode is enabled", Denied, Useless),
        ("ERR The user executing the script can't run this command or subcommand", Denied, Usable),
        (
            "ERR The user executing the script can't run this command or subcommand script: d7, on @user_script:1.",
            Denied,
            Usable,
        ),
        (
            "ERR The user executing the script can't access at least one of the keys mentioned in the command \
             arguments",
            Denied,
            Usable,
        ),
        // 6.2 and KeyDB
        (
            "@user_script: 1: The user executing the script can't run this command or subcommand",
            Denied,
            Usable,
        ),
        // 7.2 and later
        (
            "ERR ACL failure in script: User app has no permissions to run the 'get' command script: 1a, on \
             @user_script:1.",
            Denied,
            Usable,
        ),
        ("ERR ACL failure in script: No permissions to access a key", Denied, Usable),
        // Valkey 9.1
        (
            "ERR ACL failure in script: User app has no permissions to run the 'get' command script: on \
             @user_script:1.",
            Denied,
            Usable,
        ),
        ("ERR Protocol error: invalid bulk length", Oversized, Useless),
        ("ERR Protocol error: invalid multibulk length", Oversized, Useless),
        ("ERR Protocol error: too big inline request", Oversized, Useless),
        ("ERR Protocol error: too big mbulk count string", Oversized, Useless),
        ("NOSCRIPT No matching script. Please use EVAL.", NoScript, Usable),
        // Valkey 9.1
        ("NOSCRIPT No matching script.", NoScript, Usable),
        ("EVICTED the reply cache is another one", ReplyEvicted, Usable),
        ("LOADING Redis is loading the dataset in memory", Busy, Usable),
        (
            "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            Busy,
            Usable,
        ),
        // Valkey 9.1
        (
            "BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            Busy,
            Usable,
        ),
        ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", Busy, Useless),
        ("READONLY You can't write against a read only replica.", Busy, Useless),
        ("@user_script: 7: -READONLY You can't write against a read only replica.", Busy, Useless),
        ("CLUSTERDOWN Hash slot not served", Busy, Usable),
        ("TRYAGAIN Multiple keys request during rehashing of slot", Busy, Usable),
        // A command of a script in a cluster: 6.2; 7.0 and later; Valkey 9.1
        (
            "@user_script: 1: Lua script attempted to execute a command while the cluster is down",
            Busy,
            Usable,
        ),
        ("ERR Script attempted to execute a command while the cluster is down", Busy, Usable),
        (
            "ERR Can not execute a command 'set' while the cluster is down script: on @user_script:1.",
            Busy,
            Usable,
        ),
        // 8.2
        ("ERR Script attempted to access a slot not served", Busy, Usable),
        ("NOREPLICAS Not enough good replicas to write.", Busy, Usable),
        ("NOREPLICAS Not enough good replicas to write. script: 88, on @user_script:1.", Busy, Usable),
        ("UNBLOCKED force unblock from blocking operation, instance state changed", Busy, Usable),
        ("ERR max number of clients reached", Busy, Useless),
        ("OOM command not allowed when used memory > 'maxmemory'.", NotWritable, Usable),
        (
            "OOM command not allowed when used memory > 'maxmemory'. script: 88, on @user_script:1.",
            NotWritable,
            Usable,
        ),
        // 6.2
        (
            "ERR Error running script (call to f_c2): @user_script:7: @user_script: 7: -OOM command not allowed \
             when used memory > 'maxmemory'.",
            NotWritable,
            Usable,
        ),
        (
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
            NotWritable,
            Usable,
        ),
        // 6.2
        (
            "ERR Error running script (call to f_88): @user_script:1: @user_script: 1: -MISCONF Redis is configured \
             to save RDB snapshots, but it is currently not able to persist on disk.",
            NotWritable,
            Usable,
        ),
        // Valkey 9.1
        (
            "MISCONF Valkey is configured to save RDB snapshots, but it's currently unable to persist to disk.",
            NotWritable,
            Usable,
        ),
        ("EXECABORT Transaction discarded because of previous errors.", Other, Usable),
        (
            "EXECABORT Transaction discarded because of: NOPERM this user has no permissions to run the 'exec' command",
            Denied,
            Usable,
        ),
        (
            "EXECABORT Transaction discarded because of: LOADING Redis is loading the dataset in memory",
            Busy,
            Usable,
        ),
        (
            "EXECABORT Transaction discarded because of: OOM command not allowed when used memory > 'maxmemory'.",
            NotWritable,
            Usable,
        ),
        ("ERR unknown command 'EVAL', with args beginning with: 'return 1' '0' ", Other, Usable),
        ("ERR unknown subcommand 'KILX'. Try CLIENT HELP.", Other, Usable),
        // 6.2
        ("ERR unknown command `EVAL`, with args beginning with: `return 1`, `0`, ", Other, Usable),
        ("ERR Unknown subcommand or wrong number of arguments for 'KILX'. Try CLIENT HELP.", Other, Usable),
        ("@user_script: 1: Unknown Redis command called from Lua script", Other, Usable),
        ("ERR syntax error", Other, Usable),
        ("CROSSSLOT Keys in request don't hash to the same slot", OtherServer, Usable),
        // A key of another server in a script: 6.2; 7.0 and 7.2; Valkey 9.1
        (
            "@user_script: 1: Lua script attempted to access a non local key in a cluster node",
            OtherServer,
            Usable,
        ),
        ("ERR Script attempted to access a non local key in a cluster node", OtherServer, Usable),
        ("ERR Attempted to access a non local key in a cluster node", OtherServer, Usable),
        ("MOVED 3999 127.0.0.1:6381", OtherServer, Usable),
        ("NOPROTO unsupported protocol version", Other, Usable),
    ];

    #[test]
    fn each_measured_text_has_its_meaning() {
        for (text, kind, after) in MEASURED {
            assert_eq!(kind_of(text), *kind, "{text}");
            assert_eq!(kind_of(&super::text(&reply(text))), *kind, "as a reply: {text}");
            assert_eq!(makes_useless(&reply(text)), *after == Useless, "{text}");
        }
    }

    #[test]
    fn an_error_in_a_script_is_reported_without_the_script() {
        for (text, error) in [
            (
                "ERR Error running script (call to f_c2): @user_script:7: @user_script: 7: -OOM command not allowed",
                "OOM command not allowed",
            ),
            (
                "ERR Error running script (call to f_c2): @user_script:7: WRONGTYPE Operation",
                "WRONGTYPE Operation",
            ),
            ("@user_script: 7: -READONLY You can't write", "READONLY You can't write"),
            (
                "WRONGTYPE Operation script: c2, on @user_script:7.",
                "WRONGTYPE Operation script: c2, on @user_script:7.",
            ),
            ("ERR syntax error", "ERR syntax error"),
            ("OOM", "OOM"),
        ] {
            assert_eq!(without_wrapping(text), error);
        }
    }
}

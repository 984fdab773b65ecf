//! Owns the first exchange on a new connection: who this client is, which server it reaches, and whether that
//! server has lost data. Knows nothing of how sockets are opened.

use redis::Value;

use crate::backend::redis::connect::connection::{Connection, Request};
use crate::backend::redis::connect::epoch::{Epoch, EpochProbe, GetOutcome};
use crate::backend::redis::connect::identity::Identity;
use crate::backend::redis::failure::{Failure, FailureKind, Stage};
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::replies::refused;
use crate::backend::redis::wire::resp::CommandWriter;
use crate::config::RedisAddress;

const OLDEST: (u32, u32) = (6, 2);

/// Logs in, selects the database, and reads the connection's identity and the epoch of the server.
pub(crate) fn handshake(
    connection: &mut Connection,
    address: &RedisAddress,
    epoch: &Epoch,
    budget: &TimeBudget,
) -> Result<(), Failure> {
    let probe = epoch.begin_probe();
    let mut replies = 3;
    connection.buffer.clear();
    let mut writer = CommandWriter::new(&mut connection.buffer, b"");
    match &address.password {
        None => writer.command(2, "HELLO").arg(b"2"),
        Some(password) => writer
            .command(5, "HELLO")
            .arg(b"2")
            .arg(b"AUTH")
            .arg(address.username.as_deref().unwrap_or("default").as_bytes())
            .arg(password.as_bytes()),
    };
    if address.db != 0 {
        replies += 1;
        writer.command(2, "SELECT").arg(address.db.to_string().as_bytes());
    }
    writer.command(2, "CLIENT").arg(b"INFO");
    epoch.write_get(&mut writer);
    connection.apply_deadline(budget)?;
    let sent = connection.send(Request { replies, mutation: false, atomic: true }, budget);
    // The buffer held the password.
    connection.buffer = Vec::new();
    sent?;
    check_hello(connection.receive(budget)?)?;
    connection.apply_deadline(budget)?;
    if address.db != 0 {
        refused(connection.receive(budget)?)?;
        connection.apply_deadline(budget)?;
    }
    connection.identity = Identity::from_client_info(&connection.receive(budget)?);
    connection.apply_deadline(budget)?;
    read_epoch(connection, epoch, probe, budget)
}

/// Receives the epoch, and creates one if the server has none. A user who may do neither is served all the same.
fn read_epoch(
    connection: &mut Connection,
    epoch: &Epoch,
    probe: EpochProbe,
    budget: &TimeBudget,
) -> Result<(), Failure> {
    match epoch.on_get(probe, connection.receive(budget)?) {
        GetOutcome::Done => return Ok(()),
        GetOutcome::Unready => {
            connection.discard();
            return Ok(());
        }
        GetOutcome::Missing => {}
    }
    connection.buffer.clear();
    epoch.write_create(&mut CommandWriter::new(&mut connection.buffer, b""));
    connection.apply_deadline(budget)?;
    // If it arrives late, it either finds an epoch or creates one, which the next probe sees: it counts as a
    // read, so that a lost reply quarantines nothing.
    connection.send(Request { replies: 2, mutation: false, atomic: false }, budget)?;
    let created = connection.receive_tolerantly(budget)?;
    connection.apply_deadline(budget)?;
    let found = connection.receive_tolerantly(budget)?;
    epoch.on_create(probe, &created, found);
    Ok(())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a server may send any value of the protocol")]
fn check_hello(reply: Value) -> Result<(), Failure> {
    let too_old = |version: &str| {
        let what = format!("Redis {version}: 6.2 or newer is needed");
        Failure::new(FailureKind::Unsupported, Stage::NotSent, what)
    };
    match reply {
        Value::ServerError(error) => {
            if error.details().is_some_and(|details| details.starts_with("unknown command")) {
                return Err(too_old("older than 6"));
            }
            let mut failure = Failure::from_error_reply(&error);
            // A server may repeat its arguments, and they held the password.
            if failure.kind == FailureKind::Other {
                failure.cause = format!("{} in reply to HELLO", error.code()).into();
            }
            Err(failure)
        }
        Value::Array(parts) => match version(&parts) {
            Some((number, text)) if number < OLDEST => Err(too_old(&text)),
            Some(_) => Ok(()),
            None => {
                Err(Failure::new(FailureKind::Protocol, Stage::NotSent, "the reply to HELLO has no version"))
            }
        },
        other => Err(Failure::unexpected_reply(&other)),
    }
}

fn version(parts: &[Value]) -> Option<((u32, u32), String)> {
    let at = parts.iter().position(|part| matches!(part, Value::BulkString(text) if text == b"version"))?;
    let Value::BulkString(text) = parts.get(at + 1)? else {
        return None;
    };
    let text = String::from_utf8_lossy(text).into_owned();
    let mut numbers = text.split('.').map(|part| part.parse().ok());
    let number = (numbers.next()??, numbers.next()??);
    Some((number, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(version: &str) -> Value {
        Value::Array(
            [b"server", &b"redis"[..], b"version", version.as_bytes()]
                .map(|part| Value::BulkString(part.to_vec()))
                .to_vec(),
        )
    }

    #[test]
    fn an_old_server_is_unsupported() {
        assert!(check_hello(hello("6.2.0")).is_ok());
        assert!(check_hello(hello("10.0")).is_ok());
        assert_eq!(check_hello(hello("6.0.16")).unwrap_err().kind, FailureKind::Unsupported);
        let unknown = redis::parse_redis_value(b"-ERR unknown command `HELLO`, with args: `2` `hunter2`\r\n");
        let failure = check_hello(unknown.unwrap()).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Unsupported);
        assert!(!failure.cause.to_string().contains("hunter2"));
    }

    #[test]
    fn a_server_that_repeats_the_password_is_not_quoted() {
        let echo = redis::parse_redis_value(b"-ERR Syntax error in HELLO option 'hunter2'\r\n").unwrap();
        let failure = check_hello(echo).unwrap_err();
        assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
    }
}

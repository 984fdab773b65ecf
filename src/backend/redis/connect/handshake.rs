//! Owns the first exchange on a new connection: who this client is, which server it reaches, and whether that
//! server has lost data. Knows nothing of how sockets are opened.

use redis::{ServerError, Value};

use crate::backend::redis::connect::connection::{Connection, Request};
use crate::backend::redis::connect::credentials::{CHECK_URL, LoginAttempt};
use crate::backend::redis::connect::epoch::Epoch;
use crate::backend::redis::connect::epoch_exchange::read_epoch;
use crate::backend::redis::connect::greeting::{Acceptance, Greeting};
use crate::backend::redis::connect::identity::Identity;
use crate::backend::redis::connect::transaction_check::{self, CHECK_REPLIES};
use crate::backend::redis::failure::{Failure, FailureKind};
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::replies::refused;
use crate::backend::redis::wire::resp::CommandWriter;

/// How a connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    /// HELLO logs in, and its reply says what the server is.
    Hello,
    /// AUTH logs in, and INFO says what the server is: for a server or a proxy that does not know HELLO.
    AuthAndInfo,
}

/// As whom a connection logs in, and which database it uses.
pub(crate) struct ConnectionSetup<'s> {
    pub(crate) login: Option<&'s LoginAttempt<'s>>,
    pub(crate) db: i64,
}

/// Logs in, selects the database, and reads the connection's identity and the epoch of the server.
pub(crate) fn handshake(
    connection: &mut Connection,
    setup: &ConnectionSetup<'_>,
    acceptance: &Acceptance,
    epoch: &Epoch,
    budget: &TimeBudget,
) -> Result<(), Failure> {
    if !try_opening(Opening::Hello, connection, setup, acceptance, epoch, budget)? {
        try_opening(Opening::AuthAndInfo, connection, setup, acceptance, epoch, budget)?;
    }
    Ok(())
}

/// Returns `false` if the server does not know HELLO.
fn try_opening(
    opening: Opening,
    connection: &mut Connection,
    setup: &ConnectionSetup<'_>,
    acceptance: &Acceptance,
    epoch: &Epoch,
    budget: &TimeBudget,
) -> Result<bool, Failure> {
    let probe = epoch.begin_probe();
    connection.buffer.clear();
    let mut writer = CommandWriter::new(&mut connection.buffer, b"");
    let mut replies = write_opening(opening, &mut writer, setup.login);
    if setup.db != 0 {
        replies += 1;
        writer.command(2, "SELECT").arg(setup.db.to_string().as_bytes());
    }
    replies += CHECK_REPLIES;
    transaction_check::write_check(&mut writer);
    writer.command(2, "CLIENT").arg(b"INFO");
    epoch.write_get(&mut writer);
    let sent = connection.send(Request { replies: replies + 3, mutation: false, atomic: true }, budget);
    // The buffer held the password.
    connection.buffer = Vec::new();
    sent?;
    let greeting = match opening {
        Opening::Hello => read_hello(connection.receive_tolerantly(budget)?, setup.login)?,
        Opening::AuthAndInfo => Some(read_auth_and_info(connection, setup.login, budget)?),
    };
    let Some(greeting) = greeting else {
        for _ in 0..replies + 2 {
            connection.receive_tolerantly(budget)?;
        }
        return Ok(false);
    };
    greeting.check(acceptance)?;
    if setup.db != 0 {
        refused(connection.receive(budget)?).map_err(|failure| {
            let cause = format!("database {} of the URL: {}", setup.db, failure.cause).into();
            Failure { cause, ..failure }
        })?;
    }
    connection.read_check(budget)?;
    connection.identity = Identity::from_client_info(&connection.receive(budget)?);
    read_epoch(connection, epoch, probe, budget)?;
    Ok(true)
}

/// Writes the commands that log in and ask what the server is, and returns how many replies they have.
fn write_opening(
    opening: Opening,
    writer: &mut CommandWriter<'_>,
    login: Option<&LoginAttempt<'_>>,
) -> usize {
    match (opening, login) {
        (Opening::Hello, None) => {
            writer.command(2, "HELLO").arg(b"2");
            1
        }
        (Opening::Hello, Some(LoginAttempt { user, password, .. })) => {
            let hello = writer.command(5, "HELLO").arg(b"2").arg(b"AUTH");
            hello.arg(user.as_bytes()).arg(password.as_bytes());
            1
        }
        (Opening::AuthAndInfo, login) => {
            if let Some(LoginAttempt { user, password, .. }) = login {
                writer.command(3, "AUTH").arg(user.as_bytes()).arg(password.as_bytes());
            }
            writer.command(2, "INFO").arg(b"server");
            writer.command(2, "INFO").arg(b"replication");
            2 + usize::from(login.is_some())
        }
    }
}

/// Reads the reply to HELLO; `None` if the server does not know that command.
#[expect(clippy::wildcard_enum_match_arm, reason = "a server may send any value of the protocol")]
fn read_hello(reply: Value, login: Option<&LoginAttempt<'_>>) -> Result<Option<Greeting>, Failure> {
    match reply {
        Value::Array(parts) => Ok(Some(Greeting::from_hello(&parts))),
        Value::ServerError(error) if is_unknown_command(&error, login) => Ok(None),
        Value::ServerError(error) => Err(login_failure(&error, login)),
        other => Err(Failure::unexpected_reply(&other)),
    }
}

/// Reads the replies to AUTH, if there is a login, and to INFO.
fn read_auth_and_info(
    connection: &mut Connection,
    login: Option<&LoginAttempt<'_>>,
    budget: &TimeBudget,
) -> Result<Greeting, Failure> {
    if login.is_some()
        && let Value::ServerError(error) = connection.receive_tolerantly(budget)?
    {
        return Err(login_failure(&error, login));
    }
    let server = read_info(connection.receive_tolerantly(budget)?)?;
    let replication = read_info(connection.receive_tolerantly(budget)?)?;
    Ok(Greeting::from_info(&format!("{server}\r\n{replication}")))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a server may send any value of the protocol")]
fn read_info(reply: Value) -> Result<String, Failure> {
    match reply {
        Value::BulkString(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Value::VerbatimString { text, .. } => Ok(text),
        Value::ServerError(error) => {
            let failure = Failure::from_error_reply(&error);
            let cause = format!(
                "the server does not know HELLO, and INFO, which also says what the server is, is refused: {}",
                failure.cause
            );
            Err(Failure { cause: cause.into(), ..failure })
        }
        other => Err(Failure::unexpected_reply(&other)),
    }
}

/// Returns whether the server does not know HELLO. Valkey 9.1 tells nobody which commands it knows before the login: it
/// asks for a login although HELLO would have been one.
fn is_unknown_command(error: &ServerError, login: Option<&LoginAttempt<'_>>) -> bool {
    error.details().is_some_and(|details| details.starts_with("unknown command"))
        || (login.is_some() && error.code() == "NOAUTH")
}

/// Classifies the refusal of a login, and says what to change.
fn login_failure(error: &ServerError, login: Option<&LoginAttempt<'_>>) -> Failure {
    let mut failure = Failure::from_error_reply(error);
    // A server may repeat its arguments, and they held the password.
    if login.is_some() && failure.kind == FailureKind::Other && error.code() == "ERR" {
        failure.cause = "ERR in reply to the login".into();
    }
    let advice = match (error.code(), login) {
        ("WRONGPASS", login) => login.map_or(CHECK_URL, |login| &*login.advice),
        ("NOAUTH", _) => {
            "the URL needs a user and a password: redis://user:password@host, or the password is in a password_file"
        }
        ("DENIED", _) => {
            failure.kind = FailureKind::Denied;
            "give the server a password, and write it into the URL or a password_file"
        }
        _ => return failure,
    };
    failure.cause = format!("{} ({advice})", failure.cause).into();
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> LoginAttempt<'static> {
        LoginAttempt { user: "anna", password: "hunter2".into(), advice: "check the user".into() }
    }

    fn error(line: &str) -> Value {
        redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap()
    }

    #[test]
    fn a_server_that_does_not_know_hello_is_asked_in_another_way() {
        let unknown = "ERR unknown command `HELLO`, with args: `2` `AUTH` `anna` `hunter2`";
        for line in [unknown, "NOAUTH Authentication required."] {
            assert_eq!(read_hello(error(line), Some(&login())).unwrap(), None, "{line}");
        }
    }

    #[test]
    fn a_refused_login_keeps_the_words_of_the_server_and_says_what_to_change() {
        for (line, kind, advice) in [
            (
                "WRONGPASS invalid username-password pair or user is disabled.",
                FailureKind::Denied,
                "check the user",
            ),
            (
                "NOAUTH HELLO must be called with the client already authenticated",
                FailureKind::Denied,
                "user:password",
            ),
            ("DENIED Redis is running in protected mode because", FailureKind::Denied, "password"),
            ("LOADING Redis is loading the dataset in memory", FailureKind::Busy, ""),
        ] {
            for login in [None, Some(&login())] {
                if line.starts_with("NOAUTH") && login.is_some() {
                    continue;
                }
                let failure = read_hello(error(line), login).unwrap_err();
                let cause = failure.cause.to_string();
                assert_eq!(failure.kind, kind, "{line}");
                assert!(cause.starts_with(line) && cause.contains(advice), "{cause}");
            }
        }
    }

    #[test]
    fn a_server_that_repeats_the_password_is_not_quoted() {
        let echo = || error("ERR Syntax error in HELLO option 'hunter2'");
        let failure = read_hello(echo(), Some(&login())).unwrap_err();
        assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
        let failure = read_hello(echo(), None).unwrap_err();
        assert!(format!("{failure:?}").contains("Syntax error"), "{failure:?}");
    }

    #[test]
    fn what_is_no_reply_to_the_opening_is_a_violation_of_the_protocol() {
        for reply in [Value::Nil, Value::Int(1), Value::Okay, Value::BulkString(b"x".to_vec())] {
            assert_eq!(read_hello(reply, None).unwrap_err().kind, FailureKind::Protocol);
        }
        assert_eq!(read_info(Value::Int(1)).unwrap_err().kind, FailureKind::Protocol);
    }
}

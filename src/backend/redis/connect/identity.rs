//! Owns the name by which the server knows a connection. Knows nothing of sockets, nor of the connections that
//! are open.

use std::net::SocketAddr;

use redis::Value;

use crate::backend::redis::connect::peer::PeerAddress;
use crate::backend::redis::failure::{Failure, FailureKind};
use crate::backend::redis::wire::resp::CommandWriter;

/// How `CLIENT KILL` names a connection. The address guards against ids that the server uses again after a
/// restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    id: String,
    address: String,
    /// The server's own end of the connection, as the server knows it.
    server: Option<String>,
    /// Whether the server's own end is the address that was dialed, so that no proxy is in between.
    is_direct: bool,
}

/// What the reply to `CLIENT KILL` shows of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Killed {
    /// The server has closed it, or did not have it any more.
    Gone,
    /// The server that replied does not know it. Another server behind the same proxy may have it.
    Unknown,
    /// It cannot be closed from here: the server or a proxy refuses the command.
    Refused,
}

impl Identity {
    /// Reads the reply to `CLIENT INFO`; `None` if the user lacks the permission for it.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a server may send any value of the protocol")]
    pub(crate) fn from_client_info(reply: &Value) -> Option<Self> {
        let text = match reply {
            Value::BulkString(text) => std::str::from_utf8(text).ok()?,
            Value::VerbatimString { text, .. } => text.as_str(),
            _ => return None,
        };
        let field = |name: &str| {
            text.split_ascii_whitespace().find_map(|field| field.strip_prefix(name)).map(ToOwned::to_owned)
        };
        let server = field("laddr=");
        Some(Self { id: field("id=")?, address: field("addr=")?, server, is_direct: false })
    }

    /// Notes which address was dialed.
    pub(crate) fn note_dialed(&mut self, dialed: &PeerAddress) {
        self.is_direct = self.server.as_deref().is_some_and(|server| match dialed {
            PeerAddress::Tcp(dialed) => server
                .parse::<SocketAddr>()
                .is_ok_and(|server| (server.ip(), server.port()) == (dialed.ip(), dialed.port())),
            // The server writes a Unix socket with the port 0.
            #[cfg(unix)]
            PeerAddress::Unix(path) => {
                server.strip_suffix(":0").is_some_and(|server| path.as_os_str() == server)
            }
        });
    }

    /// Reads the reply to [`Identity::write_kill`], which was sent over the connection `by`. Fails if the server cannot
    /// serve now.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a server may send any value of the protocol")]
    pub(crate) fn killed(&self, by: Option<&Self>, reply: &Value) -> Result<Killed, Failure> {
        match reply {
            Value::Int(1..) => Ok(Killed::Gone),
            Value::Int(_) if by.is_some_and(|by| self.has_server_of(by)) => Ok(Killed::Gone),
            Value::Int(_) => Ok(Killed::Unknown),
            Value::ServerError(error) => match Failure::from_error_reply(error) {
                failure if failure.kind == FailureKind::Busy => Err(failure),
                _ => Ok(Killed::Refused),
            },
            _ => Ok(Killed::Refused),
        }
    }

    /// Returns whether both connections lead to one server for certain.
    fn has_server_of(&self, other: &Self) -> bool {
        self.is_direct && other.is_direct && self.server == other.server
    }

    /// Writes the command that makes the server close this connection.
    pub(crate) fn write_kill(&self, writer: &mut CommandWriter<'_>) {
        writer
            .command(6, "CLIENT")
            .arg(b"KILL")
            .arg(b"ID")
            .arg(self.id.as_bytes())
            .arg(b"ADDR")
            .arg(self.address.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_is_read_from_client_info() {
        let info = Value::BulkString(b"id=42 addr=127.0.0.1:5000 laddr=127.0.0.1:6379 fd=8".to_vec());
        let identity = Identity::from_client_info(&info).unwrap();
        assert_eq!((identity.id.as_str(), identity.address.as_str()), ("42", "127.0.0.1:5000"));
    }

    fn identity(dialed: &str) -> Identity {
        let info = Value::BulkString(b"id=42 addr=127.0.0.1:5000 laddr=127.0.0.1:6379 fd=8".to_vec());
        let mut identity = Identity::from_client_info(&info).unwrap();
        identity.note_dialed(&PeerAddress::Tcp(dialed.parse().unwrap()));
        identity
    }

    #[test]
    fn a_server_that_does_not_know_a_connection_is_trusted_only_without_a_proxy() {
        let (direct, proxied) = (identity("127.0.0.1:6379"), identity("127.0.0.1:7000"));
        for (orphan, by, killed) in [
            (&direct, Some(&direct), Killed::Gone),
            (&direct, Some(&proxied), Killed::Unknown),
            (&proxied, Some(&direct), Killed::Unknown),
            (&proxied, Some(&proxied), Killed::Unknown),
            (&direct, None, Killed::Unknown),
        ] {
            assert_eq!(orphan.killed(by, &Value::Int(0)).unwrap(), killed, "{by:?}");
            assert_eq!(orphan.killed(by, &Value::Int(1)).unwrap(), Killed::Gone);
        }
    }

    #[test]
    fn a_refusal_of_any_kind_means_that_the_connection_cannot_be_closed() {
        let direct = identity("127.0.0.1:6379");
        let killed = |line: &[u8]| direct.killed(Some(&direct), &redis::parse_redis_value(line).unwrap());
        for line in [
            &b"-NOPERM this user has no permissions to run the 'client|kill' command\r\n"[..],
            b"-ERR unknown command 'CLIENT', with args beginning with: 'KILL'\r\n",
            b"-ERR unknown subcommand 'KILL'. Try CLIENT HELP.\r\n",
            b"-ERR syntax error\r\n",
            b"-ERR No such client\r\n",
            b"$-1\r\n",
            b"+OK\r\n",
        ] {
            assert_eq!(killed(line).unwrap(), Killed::Refused, "{}", String::from_utf8_lossy(line));
        }
        let busy = killed(b"-BUSY Redis is busy running a script.\r\n").unwrap_err();
        assert_eq!(busy.kind, FailureKind::Busy);
    }

    #[test]
    fn without_permission_there_is_no_identity() {
        assert_eq!(Identity::from_client_info(&Value::Nil), None);
    }
}

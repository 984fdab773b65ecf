//! Owns the name by which the server knows a connection. Knows nothing of sockets, nor of the connections that
//! are open.

use redis::Value;

use crate::backend::redis::wire::resp::CommandWriter;

/// How `CLIENT KILL` names a connection. The address guards against ids that the server uses again after a
/// restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    id: String,
    address: String,
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
        Some(Self { id: field("id=")?, address: field("addr=")? })
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

    #[test]
    fn without_permission_there_is_no_identity() {
        assert_eq!(Identity::from_client_info(&Value::Nil), None);
    }
}

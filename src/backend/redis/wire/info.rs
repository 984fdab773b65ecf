//! Owns how the replies to INFO and CONFIG GET are read: as fields with a text each. Does no I/O.

use std::collections::BTreeMap;

use redis::Value;

/// The fields of a reply.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Info {
    pub(crate) fields: BTreeMap<String, String>,
}

impl Info {
    /// Reads the text of INFO: a line `name:value` for each field, and lines with the names of sections.
    pub(crate) fn from_text(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.filter_map(|line| line.trim_end().split_once(':'));
        Self { fields: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect() }
    }

    /// Reads the reply to INFO; any other reply has no fields.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a server may send any value of the protocol")]
    pub(crate) fn from_reply(reply: &Value) -> Self {
        match reply {
            Value::BulkString(text) => Self::from_text(&String::from_utf8_lossy(text)),
            Value::VerbatimString { text, .. } => Self::from_text(text),
            _ => Self::default(),
        }
    }

    /// Adds the reply to CONFIG GET, which is names and values in turn. Returns whether the server told them.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a server may send any value of the protocol")]
    pub(crate) fn add_config(&mut self, reply: &Value) -> bool {
        let text = |value: &Value| match value {
            Value::BulkString(text) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        };
        let Value::Array(parts) = reply else { return false };
        for pair in parts.chunks_exact(2) {
            if let (Some(name), Some(value)) = (text(&pair[0]), text(&pair[1])) {
                self.fields.insert(name, value);
            }
        }
        !parts.is_empty()
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// Reads a number of which 0 means that there is no limit.
    pub(crate) fn limit(&self, name: &str) -> Option<u64> {
        self.number(name).filter(|limit| *limit > 0)
    }

    /// The role of the server, in today's word for a replica.
    pub(crate) fn role(&self) -> Option<String> {
        self.text("role").map(role)
    }

    /// The policy by which the server evicts keys, if it ever does: it needs a limit, too.
    pub(crate) fn eviction_policy(&self) -> Option<&str> {
        self.limit("maxmemory")?;
        self.text("maxmemory_policy").filter(|policy| *policy != "noeviction")
    }
}

/// Returns a role as this crate names it.
pub(crate) fn role(name: &str) -> String {
    if name == "slave" { "replica".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_sections_are_not() {
        let info = Info::from_text("# Memory\r\nused_memory:900\r\nexecutable:/a:b\r\n\r\n# CPU\r\n");
        assert_eq!(info.fields.len(), 2);
        assert_eq!((info.number("used_memory"), info.text("executable")), (Some(900), Some("/a:b")));
    }

    #[test]
    fn a_server_evicts_only_with_a_limit_and_a_policy() {
        let info = |most: &str, policy: &str| {
            Info::from_text(&format!("maxmemory:{most}\r\nmaxmemory_policy:{policy}\r\n"))
        };
        assert_eq!(info("1048576", "allkeys-lru").eviction_policy(), Some("allkeys-lru"));
        assert_eq!(info("1048576", "noeviction").eviction_policy(), None);
        assert_eq!(info("0", "allkeys-lru").eviction_policy(), None);
        assert_eq!(Info::default().eviction_policy(), None);
    }

    #[test]
    fn settings_are_added_as_fields() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let mut info = Info::default();
        assert!(info.add_config(&Value::Array(vec![bulk("maxclients"), bulk("10000")])));
        assert_eq!(info.number("maxclients"), Some(10000));
        assert!(!info.add_config(&Value::Array(Vec::new())));
        assert!(!info.add_config(&Value::Nil));
    }
}

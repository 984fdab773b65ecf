//! Owns what a server says of itself at the beginning of a connection, and which servers are refused for it. Does no
//! I/O, and knows nothing of what else a connection asks for.

use std::sync::atomic::{AtomicBool, Ordering};

use redis::Value;

use crate::backend::redis::failure::{Failure, FailureKind, Stage};

const OLDEST: (u32, u32) = (6, 2);

/// Which servers a store accepts.
pub(crate) struct Acceptance {
    /// Whether the store reads from a replica. Only one without a fallback does: it can tell its caller that a write
    /// is refused.
    reads_replicas: bool,
    /// Whether a server of this address was accepted before. A replica is then one that was the primary, or will be,
    /// so that the store waits for it; at first it is taken for a wrong address.
    was_accepted: AtomicBool,
}

impl Acceptance {
    pub(crate) fn new(reads_replicas: bool) -> Self {
        Self { reads_replicas, was_accepted: AtomicBool::new(false) }
    }
}

/// What a server says of itself, in the reply to HELLO or in INFO.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// `7.0.15`.
    pub(crate) version: Option<String>,
    /// `standalone`, `sentinel` or `cluster`.
    pub(crate) mode: Option<String>,
    /// `master` or `replica`; in INFO `master` or `slave`.
    pub(crate) role: Option<String>,
}

impl Greeting {
    /// Reads the reply to HELLO: names and values in turn.
    pub(crate) fn from_hello(parts: &[Value]) -> Self {
        let field = |name: &[u8]| {
            let mut pairs = parts.chunks_exact(2);
            let value =
                pairs.find_map(|pair| (text(&pair[0]) == Some(name)).then(|| text(&pair[1])).flatten());
            value.map(|value| String::from_utf8_lossy(value).into_owned())
        };
        Self { version: field(b"version"), mode: field(b"mode"), role: field(b"role") }
    }

    /// Reads the sections `server` and `replication` of INFO.
    pub(crate) fn from_info(info: &str) -> Self {
        let field = |name: &str| {
            info.lines().find_map(|line| line.trim_end().strip_prefix(name)).map(ToOwned::to_owned)
        };
        // Valkey names the mode in another way.
        let mode = field("redis_mode:").or_else(|| field("server_mode:"));
        Self { version: field("redis_version:"), mode, role: field("role:") }
    }

    /// Returns why a store cannot work with this server, or notes that it can.
    pub(crate) fn check(&self, acceptance: &Acceptance) -> Result<(), Failure> {
        let refuse = |kind, what: String| Err(Failure::new(kind, Stage::NotSent, what));
        match &self.version {
            None => {
                return refuse(FailureKind::Protocol, "the server does not state its version".to_owned());
            }
            Some(text) => match number(text) {
                Some(number) if number >= OLDEST => {}
                Some(_) => {
                    return refuse(FailureKind::Unsupported, format!("Redis {text}: 6.2 or newer is needed"));
                }
                None => {
                    return refuse(
                        FailureKind::Protocol,
                        format!("the version of the server is no version: {text:?}"),
                    );
                }
            },
        }
        match self.mode.as_deref() {
            Some("sentinel") => {
                let what = "the server says `mode: sentinel`: it is a Redis Sentinel, which holds no data; write the \
                            address of the primary into the URL";
                return refuse(FailureKind::Unsupported, what.to_owned());
            }
            Some("cluster") => {
                let what = "the server says `mode: cluster`: it is a node of a Redis Cluster, which is not supported; \
                            write the address of a server that is not part of a cluster into the URL";
                return refuse(FailureKind::Unsupported, what.to_owned());
            }
            Some(_) | None => {}
        }
        if let Some(role @ ("replica" | "slave")) = self.role.as_deref()
            && !acceptance.reads_replicas
        {
            let was_accepted = acceptance.was_accepted.load(Ordering::Relaxed);
            let kind = if was_accepted { FailureKind::Busy } else { FailureKind::Unsupported };
            let what = format!(
                "the server says `role: {role}`: it is a replica, which takes no writes; write the address of the \
                 primary into the URL"
            );
            return refuse(kind, what);
        }
        acceptance.was_accepted.store(true, Ordering::Relaxed);
        Ok(())
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a server may send any value of the protocol")]
fn text(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(text) => Some(text),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

/// Returns the first two numbers of a version.
fn number(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.').map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(version: &str, mode: &str, role: &str) -> Greeting {
        let parts = ["server", "redis", "version", version, "mode", mode, "role", role];
        let parts = parts.map(|part| Value::BulkString(part.as_bytes().to_vec()));
        Greeting::from_hello(&parts)
    }

    fn kind(greeting: &Greeting, was_accepted: bool) -> Option<FailureKind> {
        let acceptance = Acceptance { reads_replicas: false, was_accepted: AtomicBool::new(was_accepted) };
        greeting.check(&acceptance).err().map(|failure| failure.kind)
    }

    #[test]
    fn a_store_that_reads_replicas_accepts_one() {
        assert!(hello("7.0.15", "standalone", "replica").check(&Acceptance::new(true)).is_ok());
        assert!(hello("7.0.15", "sentinel", "replica").check(&Acceptance::new(true)).is_err());
    }

    #[test]
    fn only_a_new_primary_that_stands_alone_is_accepted() {
        for (version, mode, role, first, later) in [
            ("6.2.0", "standalone", "master", None, None),
            ("10.0", "standalone", "master", None, None),
            ("7.0.15-rc1", "standalone", "master", None, None),
            (
                "6.0.16",
                "standalone",
                "master",
                Some(FailureKind::Unsupported),
                Some(FailureKind::Unsupported),
            ),
            ("7.0.15", "sentinel", "", Some(FailureKind::Unsupported), Some(FailureKind::Unsupported)),
            ("7.0.15", "cluster", "master", Some(FailureKind::Unsupported), Some(FailureKind::Unsupported)),
            ("7.0.15", "standalone", "replica", Some(FailureKind::Unsupported), Some(FailureKind::Busy)),
            ("seven", "standalone", "master", Some(FailureKind::Protocol), Some(FailureKind::Protocol)),
        ] {
            let greeting = hello(version, mode, role);
            assert_eq!(
                (kind(&greeting, false), kind(&greeting, true)),
                (first, later),
                "{version} {mode} {role}"
            );
        }
        assert_eq!(kind(&Greeting::from_hello(&[]), false), Some(FailureKind::Protocol));
    }

    #[test]
    fn info_says_the_same_as_hello() {
        let info =
            "# Server\r\nredis_version:6.2.7\r\nredis_mode:standalone\r\n# Replication\r\nrole:slave\r\n";
        let greeting = Greeting::from_info(info);
        assert_eq!(greeting.version.as_deref(), Some("6.2.7"));
        assert_eq!(kind(&greeting, false), Some(FailureKind::Unsupported));
        assert_eq!(kind(&Greeting::from_info(&info.replace("slave", "master")), false), None);
    }
}

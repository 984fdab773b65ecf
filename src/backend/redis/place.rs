//! Owns how a server, and the part of it that is a store's, are named. Holds no secret.

use std::fmt;

/// Where a store keeps its state.
#[derive(Debug)]
pub(crate) struct ServerPlace {
    /// The host and the port.
    pub(crate) host: String,
    pub(crate) db: i64,
    pub(crate) prefix: String,
}

impl ServerPlace {
    /// Returns a cause without the host that it begins with, for a text that names the place already.
    pub(crate) fn without_host<'c>(&self, cause: &'c str) -> &'c str {
        let rest = cause.strip_prefix("connecting to ").and_then(|rest| rest.strip_prefix(&*self.host));
        rest.and_then(|rest| rest.strip_prefix(": ")).unwrap_or(cause)
    }
}

/// `10.0.0.7:6379/0 (prefix "web")`.
impl fmt::Display for ServerPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, db, prefix } = self;
        write!(f, "{host}/{db} (prefix {prefix:?})")
    }
}

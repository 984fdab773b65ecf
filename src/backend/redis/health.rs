//! Owns what a server is asked before it is taken to serve. Knows nothing of what is made of the answer.

use redis::Value;

use crate::backend::redis::client::Redis;
use crate::backend::redis::connect::connection::Request;
use crate::backend::redis::failure::{ErrorContext, Failure, FailureKind};
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::replies::refused;
use crate::config::Fallback;
use crate::error::Result;

impl Redis {
    /// Makes the first connection, within `connect_timeout`, and asks whether the server serves: one that
    /// loads its data does not.
    pub(crate) fn check_ready(&self) -> Result<()> {
        let limit = TimeBudget::new(self.options.connect_timeout);
        let greet = || {
            let mut lease = self.pool.checkout(&limit, true)?;
            let connection = lease.connection()?;
            let mut packer = self.writer(connection);
            packer.command(1, "PING");
            packer.command(2, "INFO").arg(b"memory");
            connection.send(Request { replies: 2, mutation: false, atomic: true }, &limit)?;
            let serves = connection.receive(&limit)?;
            let memory = connection.receive(&limit)?;
            match refused(serves) {
                Err(failure) if failure.kind != FailureKind::Denied => return Err(failure),
                _ => {}
            }
            self.warn_of_eviction(&memory);
            Ok(())
        };
        greet().map_err(|failure: Failure| failure.into_error(ErrorContext::reading("HELLO", ""), None))
    }

    /// Tells whether the server answers on a fresh connection: one that was slow once is not away.
    pub(crate) fn probe(&self) -> bool {
        let limit = TimeBudget::new(self.probe_budget());
        let ask = || {
            let mut connection = self.pool.dial(&limit)?;
            connection.apply_deadline(&limit)?;
            self.writer(&mut connection).command(1, "PING");
            connection.ask(&limit)
        };
        match ask().and_then(refused) {
            Ok(_) => true,
            // One that says that it loads or is busy does not serve.
            Err(failure) => failure.kind == FailureKind::Denied,
        }
    }

    /// What says how much of a queue is done, and which calls are, must not be taken away to make room. A user
    /// may lack the right to see whether it can be.
    fn warn_of_eviction(&self, memory: &Value) {
        let text = match memory {
            Value::BulkString(text) => String::from_utf8_lossy(text),
            Value::VerbatimString { text, .. } => text.into(),
            _ => return,
        };
        let needs_it = self.options.fallback != Fallback::None || self.options.exactly_once;
        if let Some(policy) = evicts(&text).filter(|_| needs_it) {
            log::warn!(
                "the Redis server evicts keys (maxmemory-policy {policy}): if it evicts those of `__millpond`, what \
                 was under way in an outage can be in doubt"
            );
        }
    }
}

/// The policy by which a server takes keys away, from what it says of its memory.
fn evicts(memory: &str) -> Option<&str> {
    let field = |name: &str| memory.lines().find_map(|line| line.trim_end().strip_prefix(name));
    let policy = field("maxmemory_policy:")?;
    let is_bounded = field("maxmemory:").is_some_and(|most| most != "0");
    (is_bounded && policy != "noeviction").then_some(policy)
}

#[cfg(test)]
mod tests {
    use crate::backend::redis::health::evicts;

    #[test]
    fn a_server_evicts_where_its_memory_is_bounded_and_its_policy_says_so() {
        let info = |most: &str, policy: &str| {
            format!("# Memory\r\nused_memory:900\r\nmaxmemory:{most}\r\nmaxmemory_policy:{policy}\r\n")
        };
        assert_eq!(evicts(&info("1048576", "allkeys-lru")), Some("allkeys-lru"));
        assert_eq!(evicts(&info("1048576", "volatile-ttl")), Some("volatile-ttl"));
        assert_eq!(evicts(&info("1048576", "noeviction")), None);
        assert_eq!(evicts(&info("0", "allkeys-lru")), None);
        assert_eq!(evicts("# Memory\r\n"), None);
    }
}

//! Owns the check whether the server serves. Knows nothing of what follows if it does not.

use std::time::{Duration, Instant};

use redis::Value;

use crate::backend::redis::client::Redis;
use crate::backend::redis::examination::server_info::Words;
use crate::backend::redis::failure::{Failure, FailureKind};
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::info::{self, Info};
use crate::backend::redis::wire::replies::refused;
use crate::inspection::Health;

/// What is asked. The user may lack the permission for `ROLE`, or for `INFO`.
const QUESTIONS: [Words<'_>; 3] = [("PING", &[]), ("ROLE", &[]), ("INFO", &["replication"])];

impl Redis {
    /// Returns whether the server replies within `connect_timeout`.
    pub(crate) fn health(&self) -> Health {
        let begun = Instant::now();
        let budget = TimeBudget::new(self.options.connect_timeout);
        let outcome = self.ask_each(&budget, &QUESTIONS).and_then(|replies| self.judge(replies));
        let latency = begun.elapsed();
        match outcome {
            Ok(health) => Health { latency, ..health },
            Err(failure) => {
                let cause = self.link.diagnose(failure).cause;
                let name = self.server_name();
                Health::unhealthy(latency, format!("Redis {name}: {}", self.without_host(&cause.to_string())))
            }
        }
    }

    fn judge(&self, replies: Vec<Value>) -> Result<Health, Failure> {
        let mut replies = replies.into_iter();
        let mut next = || replies.next().unwrap_or(Value::Nil);
        match refused(next()) {
            // A user who may not send `PING` is answered by a server that serves.
            Err(failure) if failure.kind != FailureKind::Denied => return Err(failure),
            Ok(_) | Err(_) => {}
        }
        let (role, replication) = (next(), Info::from_reply(&next()));
        let role = role_of(&role).or_else(|| replication.role());
        let lost_primary =
            role.as_deref() == Some("replica") && replication.text("master_link_status") == Some("down");
        let name = self.server_name();
        let details = match role.as_deref() {
            Some("replica") if lost_primary => {
                format!("Redis {name} is a replica that has lost its primary: it may answer with old values")
            }
            Some("replica") => format!("Redis {name} answers; it is a replica, which takes no writes"),
            Some(_) | None => format!("Redis {name} answers"),
        };
        Ok(Health { healthy: !lost_primary, role, details, latency: Duration::ZERO })
    }
}

/// Reads the first word of the reply to `ROLE`.
fn role_of(reply: &Value) -> Option<String> {
    let Value::Array(parts) = reply else { return None };
    let Some(Value::BulkString(role)) = parts.first() else { return None };
    Some(info::role(&String::from_utf8_lossy(role)))
}

//! Every operation of a user who may not use one of the commands: it is refused and has changed nothing, or it needs no
//! such command. That is no outage.

use millpond::{Error, StateStore};

use super::{Call, Setup, calls};
use crate::support::proxy::Proxy;
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{memory, open, patient};

const COMMANDS: &str = "get set del getdel getex exists type pttl pexpire persist incrby mget mset hset hget hmget \
                        hgetall hkeys hlen hdel hincrby hexists hsetnx rpush lpush lpop rpop llen lrange ltrim linsert \
                        watch unwatch multi exec eval evalsha script scan zadd zrem zscore zrangebyscore zrange zcard \
                        client info time blpop incr psetex";

impl Setup {
    /// A store of a user whose rights can be changed by `right`.
    fn limited(server: &RedisServer, exactly_once: bool) -> Self {
        let (raw, proxy) = (RawClient::connect(&server.url(0)), Proxy::to(server.port()));
        raw.run::<_, ()>("ACL", &["SETUSER", "app", "on", ">pw", "~*", "+@all"]);
        let options = patient(memory()).pool_size(1).exactly_once(exactly_once);
        let store = open(&format!("redis://app:pw@{}", proxy.address()), options).unwrap();
        Self { raw, proxy, store }
    }

    fn right(&self, right: &str) {
        self.raw.run::<_, ()>("ACL", &["SETUSER", "app", right]);
    }
}

fn is_denied(error: &Error) -> bool {
    match error {
        Error::Denied { .. } => true,
        Error::Partial { source, .. } => is_denied(source),
        _ => false,
    }
}

/// The number of outages and of outcomes that were not the caller's to see.
fn troubles(store: &StateStore) -> [u64; 4] {
    let stats = store.stats().outages;
    [stats.outages, stats.rejected, stats.conflicts, stats.uncertain]
}

impl Call {
    /// Makes the call without the right to one command. Returns whether it was refused.
    fn is_denied_without(&self, setup: &Setup, command: &str) -> bool {
        let mut guard = None;
        setup.prepare(self);
        let ready = self.ready(&setup.store, &mut guard).unwrap();
        setup.right(&format!("-{command}"));
        if ["multi", "exec"].contains(&command) {
            // Whether the server takes transactions is asked once on each connection: the call gets a new one.
            setup.raw.run::<_, ()>("CLIENT", &["KILL", "USER", "app"]);
            setup.store.contains("a").unwrap();
        }
        let outcome = ready(&mut guard);
        setup.right(&format!("+{command}"));
        let found = setup.state();
        let what = format!("{} without {command}: {outcome:?}, found {found:?}", self.name);
        let place = self.states.iter().position(|state| state.split('|').any(|state| state == found));
        let place = place.unwrap_or_else(|| panic!("applied in part: {what}"));
        match &outcome {
            Ok(answer) => {
                assert_eq!((place, answer.as_str()), (self.states.len() - 1, self.answer), "{what}");
            }
            Err(error) => {
                assert!(is_denied(error), "{what}");
                let is_partial = matches!(error, Error::Partial { .. });
                assert!(place == 0 || (is_partial && self.states.len() > 2), "{what}");
                // A server does not say which command of a script it refused.
                let text = error.to_string();
                assert!(text.contains("script") || text.contains(&format!("'{command}")), "{what}");
            }
        }
        assert_eq!(troubles(&setup.store), [0; 4], "{what}");
        outcome.is_err()
    }
}

#[test]
fn a_call_that_needs_a_denied_command_is_refused_and_changes_nothing() {
    let server = RedisServer::start();
    for exactly_once in [false, true] {
        let setup = Setup::limited(&server, exactly_once);
        let mut denied = 0;
        for call in calls::all() {
            for command in COMMANDS.split_whitespace() {
                denied += usize::from(call.is_denied_without(&setup, command));
            }
        }
        assert!(denied > 50, "{denied} calls were refused");
        setup.store.clear().unwrap();
    }
}

//! Owns how a host's name becomes addresses, within a time budget. Knows nothing of sockets.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::backend::redis::failure::{Failure, FailureKind, Stage};
use crate::backend::redis::time_budget::TimeBudget;
use crate::util::threads;

/// Looks one host up. The system's resolver has no time limit, so it runs in a thread of its own; there is at most one
/// such thread, however many connections are made.
pub(crate) struct Resolver {
    host: String,
    port: u16,
    lookup: Arc<Lookup>,
}

#[derive(Default)]
struct Lookup {
    state: Mutex<LookupState>,
    ended: Condvar,
}

#[derive(Default)]
struct LookupState {
    is_running: bool,
    /// How many lookups have ended, and what the last one found.
    count: u64,
    found: Option<Result<Vec<SocketAddr>, String>>,
}

impl Resolver {
    pub(crate) fn new(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port, lookup: Arc::default() }
    }

    /// Returns the host's addresses.
    pub(crate) fn resolve(&self, budget: &TimeBudget) -> Result<Vec<SocketAddr>, Failure> {
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, self.port)]);
        }
        let mut state = self.lookup.state.lock();
        let before = state.count;
        if !state.is_running {
            state.is_running = true;
            drop(state);
            let (host, port, lookup) = (self.host.clone(), self.port, Arc::clone(&self.lookup));
            let run = move || lookup.run(&host, port);
            if threads::spawn("millpond-resolve", run).is_err() {
                // The system has no room for a thread now: better without a time limit than not at all.
                self.lookup.run(&self.host, self.port);
            }
            state = self.lookup.state.lock();
        }
        while state.count == before {
            if self.lookup.ended.wait_until(&mut state, budget.end).timed_out() {
                let cause = "the host's name was not found within the time limit";
                return Err(Failure::new(FailureKind::Timeout, Stage::NotSent, cause));
            }
        }
        match &state.found {
            Some(Ok(addresses)) if !addresses.is_empty() => Ok(addresses.clone()),
            Some(Err(cause)) => Err(Failure::new(FailureKind::Unreachable, Stage::NotSent, cause.clone())),
            Some(Ok(_)) | None => {
                Err(Failure::new(FailureKind::Unreachable, Stage::NotSent, "the host has no address"))
            }
        }
    }
}

impl Lookup {
    fn run(&self, host: &str, port: u16) {
        let found = (host, port).to_socket_addrs().map(Iterator::collect);
        let mut state = self.state.lock();
        state.found = Some(found.map_err(|error| error.to_string()));
        state.is_running = false;
        state.count += 1;
        self.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn addresses_and_names_are_looked_up() {
        let budget = TimeBudget::new(Duration::from_secs(20));
        for host in ["127.0.0.1", "::1", "localhost"] {
            let found = Resolver::new(host, 7).resolve(&budget).unwrap();
            assert!(found.iter().all(|address| address.port() == 7 && address.ip().is_loopback()), "{host}");
        }
    }

    /// The number of the loopback interface is the zone.
    #[cfg(target_os = "linux")]
    #[test]
    fn an_address_keeps_its_zone() {
        let budget = TimeBudget::new(Duration::from_secs(20));
        let found = Resolver::new("fe80::1%lo", 7).resolve(&budget).unwrap();
        let SocketAddr::V6(address) = found[0] else { panic!("{found:?}") };
        assert_eq!(address.scope_id(), 1);
    }

    #[test]
    fn a_lookup_that_hangs_is_waited_for_once_and_within_the_limit() {
        let resolver = Resolver::new("localhost", 7);
        resolver.lookup.state.lock().is_running = true;
        let begun = Instant::now();
        let failure = resolver.resolve(&TimeBudget::new(Duration::from_millis(20))).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Timeout);
        assert!(begun.elapsed() >= Duration::from_millis(20));
    }
}

//! Owns what all pools for one server share: how to dial it, whether it may be used right now, and which
//! connections are open or in quarantine. Knows nothing of slots nor of operations.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::backend::redis::connect::connection::Connection;
use crate::backend::redis::connect::cutoff::Cutoff;
use crate::backend::redis::connect::dialer::Dialer;
use crate::backend::redis::connect::epoch::Epoch;
use crate::backend::redis::connect::fork::ForkGuard;
use crate::backend::redis::connect::identity::Identity;
use crate::backend::redis::connect::open_connections::OpenConnections;
use crate::backend::redis::connect::quarantine::Quarantine;
use crate::backend::redis::failure::{Failure, FailureKind, Stage};
use crate::backend::redis::time_budget::TimeBudget;
use crate::stats::recorder::Recorder;

pub(crate) struct ServerLink {
    dialer: Dialer,
    fork_guard: ForkGuard,
    /// Connections of an older generation are not used any more.
    generation: AtomicU64,
    closed: AtomicBool,
    /// During an outage: no connection is handed out, and no socket is touched.
    suspended: AtomicBool,
    /// Ends the waits of the replay when the store is closed.
    cutoff: Arc<Cutoff>,
    quarantine: Quarantine,
    open_connections: Arc<OpenConnections>,
}

impl ServerLink {
    pub(crate) fn new(dialer: Dialer) -> Self {
        let quarantine = Quarantine::new(dialer.timeout, dialer.server_name.clone());
        Self {
            dialer,
            fork_guard: ForkGuard::new(),
            generation: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            suspended: AtomicBool::new(false),
            cutoff: Arc::default(),
            quarantine,
            open_connections: Arc::default(),
        }
    }

    pub(crate) fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    pub(crate) fn epoch(&self) -> &Epoch {
        &self.dialer.epoch
    }

    /// Returns whether this process opened the store, and was not forked off the one that did.
    #[inline]
    pub(crate) fn is_same_process(&self) -> bool {
        self.fork_guard.is_same_process()
    }

    /// INVARIANT: nothing is sent over a socket that another process has too.
    fn check_process(&self) -> Result<(), Failure> {
        if self.fork_guard.is_surely_same_process() { Ok(()) } else { Err(Failure::forked()) }
    }

    pub(crate) fn check_open(&self) -> Result<(), Failure> {
        self.check_process()?;
        if self.is_closed() { Err(Failure::closed()) } else { Ok(()) }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Ends the waits of the replay at this time, and all waits that begin later.
    pub(crate) fn cut_off(&self, at: Instant) {
        self.cutoff.set(at);
    }

    /// Returns the time budget of an exchange that the closing of the store may cut off.
    pub(crate) fn budget(&self, length: Duration) -> TimeBudget {
        TimeBudget::new(length).until(|end| self.cutoff.limit(end))
    }

    /// Hands out no more connections, for good.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Hands out no more connections until [`ServerLink::resume`]; those in use are dropped when they come back.
    pub(crate) fn suspend(&self) {
        self.suspended.store(true, Ordering::Release);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::Acquire)
    }

    pub(crate) fn resume(&self) {
        self.suspended.store(false, Ordering::Release);
    }

    pub(crate) fn check_not_suspended(&self) -> Result<(), Failure> {
        if self.is_suspended() {
            return Err(Failure::new(FailureKind::Unreachable, Stage::NotSent, "the server is disconnected"));
        }
        Ok(())
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        &self.dialer.recorder
    }

    /// The generation of the connections that may be used.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Ends a generation: its connections lead to a server that is gone. Idle ones are dropped at their next use.
    pub(crate) fn end_generation(&self, generation: u64) {
        let _ = self.generation.compare_exchange(
            generation,
            generation + 1,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    pub(crate) fn dial(&self, budget: &TimeBudget) -> Result<Connection, Failure> {
        self.check_not_suspended()?;
        self.dial_now(budget)
    }

    /// As [`ServerLink::dial`], also during an outage. The closing of the store may cut off what is done over the
    /// connection.
    pub(crate) fn dial_even_if_suspended(&self, budget: &TimeBudget) -> Result<Connection, Failure> {
        let mut connection = self.dial_now(budget)?;
        connection.obey(Arc::clone(&self.cutoff));
        Ok(connection)
    }

    fn dial_now(&self, budget: &TimeBudget) -> Result<Connection, Failure> {
        self.check_process()?;
        let generation = self.generation.load(Ordering::Acquire);
        let mut connection = self.dialer.dial(generation, budget)?;
        connection.registration = connection
            .identity
            .as_ref()
            .map(|identity| self.open_connections.register(identity.clone(), generation));
        Ok(connection)
    }

    /// Returns the failure of the first connection, or one that names the mistake in the configuration behind it.
    pub(crate) fn diagnose(&self, failure: Failure) -> Failure {
        self.dialer.diagnose(failure)
    }

    /// Makes sure that none of the orphaned connections can change anything on the server any more.
    pub(crate) fn kill_orphans(&self, budget: &TimeBudget) -> Result<(), Failure> {
        self.quarantine.kill_all(budget, |budget| self.dial(budget))
    }

    /// As [`ServerLink::kill_orphans`], also during an outage.
    pub(crate) fn kill_orphans_even_if_suspended(&self, budget: &TimeBudget) -> Result<(), Failure> {
        self.quarantine.kill_all(budget, |budget| self.dial_even_if_suspended(budget))
    }

    /// Drops a connection, or quarantines it if a mutation sent over it may still run.
    pub(crate) fn dispose(&self, connection: Connection) {
        if connection.outstanding().may_still_write() {
            self.quarantine.add(connection);
        }
    }

    /// Returns the connections of older generations that are not known to be closed.
    pub(crate) fn older_connections(&self) -> Vec<Identity> {
        self.open_connections.older_than(self.generation.load(Ordering::Acquire))
    }

    /// Notes that the server has closed a connection, or never had it.
    pub(crate) fn forget(&self, identity: &Identity) {
        self.open_connections.forget(identity);
    }
}

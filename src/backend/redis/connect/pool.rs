//! Owns the connections: how many there are, who has one, and which is still good. Knows nothing of
//! operations.

use std::cell::RefCell;
use std::convert::Infallible;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use r2d2::ManageConnection;
use scheduled_thread_pool::ScheduledThreadPool;

use crate::backend::redis::connect::connection::{Connection, Identity, Outstanding};
use crate::backend::redis::connect::dialer::Dialer;
use crate::backend::redis::connect::epoch::Epoch;
use crate::backend::redis::connect::fork::ForkGuard;
use crate::backend::redis::connect::open_connections::OpenConnections;
use crate::backend::redis::connect::quarantine::Quarantine;
use crate::backend::redis::failure::{Failure, FailureKind, Stage};
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::resp::CommandWriter;

/// A connection that was idle for longer is asked whether it lives.
const IDLE: Duration = Duration::from_secs(1);

/// So long the making of a slot may take, where nobody is to wait for one that is in use.
const MAKING: Duration = Duration::from_millis(20);

/// A place in the pool, with a connection or without.
type Slot = Option<Connection>;

/// Makes empty slots. Whoever takes one fills it, in its own thread and within its own limit, and so gets
/// its own typed error; the pool never waits for a server, retries or logs.
struct SlotManager;

impl ManageConnection for SlotManager {
    type Connection = Slot;
    type Error = Infallible;

    fn connect(&self) -> Result<Slot, Infallible> {
        Ok(None)
    }

    fn is_valid(&self, _: &mut Slot) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut Slot) -> bool {
        false
    }
}

pub(crate) struct Pool {
    slots: r2d2::Pool<SlotManager>,
    /// Who finds no free connection waits for one.
    blocks: bool,
    server: Arc<PoolState>,
}

/// What pools of connections to the same server have in common.
struct PoolState {
    dialer: Dialer,
    fork_guard: ForkGuard,
    /// Connections of an older generation are not used any more.
    generation: AtomicU64,
    closed: AtomicBool,
    /// The server is away: no connection is given out, and no socket touched.
    suspended: AtomicBool,
    quarantine: Quarantine,
    live: Arc<OpenConnections>,
}

thread_local! {
    /// The servers to which this thread holds a connection while it runs what the caller gave it.
    static INSIDE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

impl Pool {
    pub(crate) fn new(dialer: Dialer, size: u32) -> Self {
        let graveyard = Quarantine::new(dialer.timeout);
        let server = Arc::new(PoolState {
            dialer,
            fork_guard: ForkGuard::new(),
            generation: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            suspended: AtomicBool::new(false),
            quarantine: graveyard,
            live: Arc::default(),
        });
        Self { slots: new_slots(size), blocks: true, server }
    }

    /// Another pool of connections to the same server: they are buried, purged and closed with these. Who
    /// finds none free does not wait for one.
    pub(crate) fn with_own_slots(&self, size: u32) -> Self {
        Self { slots: new_slots(size), blocks: false, server: Arc::clone(&self.server) }
    }

    pub(crate) fn quarantine(&self) -> &Quarantine {
        &self.server.quarantine
    }

    pub(crate) fn epoch(&self) -> &Epoch {
        &self.server.dialer.epoch
    }

    fn is_closed(&self) -> bool {
        self.server.closed.load(Ordering::Relaxed)
    }

    /// Whether this process opened the store, and was not forked off the one that did.
    #[inline]
    pub(crate) fn is_same_process(&self) -> bool {
        self.server.fork_guard.is_same_process()
    }

    /// INVARIANT: nothing goes over a socket that another process has too.
    fn check_process(&self) -> Result<(), Failure> {
        if self.server.fork_guard.is_surely_same_process() { Ok(()) } else { Err(forked()) }
    }

    pub(crate) fn check_open(&self) -> Result<(), Failure> {
        self.check_process()?;
        match self.is_closed() {
            false => Ok(()),
            true => Err(Failure::new(FailureKind::Closed, Stage::NotSent, "the store is closed")),
        }
    }

    /// Notes that this thread holds a connection and runs what the caller gave it, which may want another.
    pub(crate) fn enter_user_code(&self) -> ReentryGuard {
        INSIDE.with_borrow_mut(|inside| inside.push(self.name()));
        ReentryGuard { name: self.name() }
    }

    fn name(&self) -> usize {
        Arc::as_ptr(&self.server).addr()
    }

    fn is_in_user_code(&self) -> bool {
        INSIDE.with_borrow(|inside| inside.contains(&self.name()))
    }

    /// Takes a connection that can be used, making one where there is none.
    ///
    /// `late`: time of the limit has gone by already.
    pub(crate) fn checkout(&self, limit: &TimeBudget, late: bool) -> Result<PooledConnection<'_>, Failure> {
        self.check_open()?;
        self.check_not_suspended()?;
        let (slot, waited) = match self.slots.try_get() {
            Some(slot) => (CheckedOutSlot::Pooled(slot), late),
            None => (self.next_slot(limit)?, true),
        };
        let mut lease = PooledConnection { slot, pool: self, used: limit.begun };
        lease.prepare(limit, waited)?;
        Ok(lease)
    }

    /// Waits for a place, where that can be of use.
    fn next_slot(&self, limit: &TimeBudget) -> Result<CheckedOutSlot, Failure> {
        let left = limit.left().unwrap_or_default();
        if self.is_in_user_code() {
            // Who holds a connection already may hold the last one, and would wait for itself.
            let is_full = self.slots.state().connections >= self.slots.max_size();
            let slot = if is_full { None } else { self.slots.get_timeout(left.min(MAKING)).ok() };
            return Ok(slot.map_or(CheckedOutSlot::Extra(None), CheckedOutSlot::Pooled));
        }
        let wait = if self.blocks { left } else { left.min(MAKING) };
        self.slots.get_timeout(wait).map(CheckedOutSlot::Pooled).map_err(|_| self.exhausted())
    }

    /// Drops every idle connection at its next use: the server that they led to is gone.
    fn purge(&self, generation: u64) {
        let _ = self.server.generation.compare_exchange(
            generation,
            generation + 1,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    /// Buries what is in the graveyard.
    pub(crate) fn kill_orphans(&self, limit: &TimeBudget) -> Result<(), Failure> {
        self.quarantine().kill_all(limit, |limit| self.dial(limit))
    }

    /// Drops the connections that nobody uses; the others go when they come back.
    pub(crate) fn close(&self) {
        self.server.closed.store(true, Ordering::Relaxed);
        let mut idle = Vec::new();
        while let Some(mut slot) = self.slots.try_get() {
            *slot = None;
            idle.push(slot);
        }
    }

    pub(crate) fn dial(&self, limit: &TimeBudget) -> Result<Connection, Failure> {
        self.check_not_suspended()?;
        self.dial_even_if_suspended(limit)
    }

    /// Makes a connection, also while the server is away.
    pub(crate) fn dial_even_if_suspended(&self, limit: &TimeBudget) -> Result<Connection, Failure> {
        self.check_process()?;
        let generation = self.server.generation.load(Ordering::Acquire);
        let mut connection = self.server.dialer.dial(generation, limit)?;
        connection.registration = connection
            .identity
            .as_ref()
            .map(|identity| self.server.live.register(identity.clone(), generation));
        Ok(connection)
    }

    /// Gives out no more connections, and lets those that there are be dropped when they come back.
    pub(crate) fn suspend(&self) {
        self.server.suspended.store(true, Ordering::Release);
        self.server.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether no connection is given out.
    pub(crate) fn is_suspended(&self) -> bool {
        self.server.suspended.load(Ordering::Acquire)
    }

    /// Gives out connections again.
    pub(crate) fn resume(&self) {
        self.server.suspended.store(false, Ordering::Release);
    }

    fn check_not_suspended(&self) -> Result<(), Failure> {
        match self.is_suspended() {
            true => Err(Failure::new(FailureKind::Unreachable, Stage::NotSent, "the server is away")),
            false => Ok(()),
        }
    }

    /// Connections of an older generation that are not known to be closed.
    pub(crate) fn older_connections(&self) -> Vec<Identity> {
        self.server.live.older_than(self.server.generation.load(Ordering::Acquire))
    }

    /// Notes that the server has closed a connection, or never had it.
    pub(crate) fn forget(&self, identity: &Identity) {
        self.server.live.forget(identity);
    }

    /// Lets go of a connection that is in no pool: to the graveyard, where that is its place.
    pub(crate) fn put_back(&self, connection: Connection) {
        match connection.outstanding() {
            Outstanding::Mutations | Outstanding::PartialMutation => self.quarantine().add(connection),
            Outstanding::Nothing | Outstanding::Reads => {}
        }
    }

    /// As [`Pool::bury`], also while the server is away.
    pub(crate) fn kill_orphans_even_if_suspended(&self, limit: &TimeBudget) -> Result<(), Failure> {
        self.quarantine().kill_all(limit, |limit| self.dial_even_if_suspended(limit))
    }

    fn exhausted(&self) -> Failure {
        let cause = format!("all {} connections of the pool were in use", self.slots.max_size());
        Failure::new(FailureKind::Exhausted, Stage::NotSent, cause)
    }
}

fn forked() -> Failure {
    Failure::new(FailureKind::Forked, Stage::NotSent, "the store was opened by another process")
}

/// While it lives, this thread does not wait for a connection that it may hold itself.
pub(crate) struct ReentryGuard {
    name: usize,
}

impl Drop for ReentryGuard {
    fn drop(&mut self) {
        INSIDE.with_borrow_mut(|inside| {
            if let Some(at) = inside.iter().rposition(|name| *name == self.name) {
                inside.remove(at);
            }
        });
    }
}

fn new_slots(size: u32) -> r2d2::Pool<SlotManager> {
    r2d2::Pool::builder()
        .max_size(size)
        .min_idle(Some(0))
        .test_on_check_out(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .thread_pool(worker())
        .build_unchecked(SlotManager)
}

/// The one thread that makes the slots of a pool. It ends with the pool; and since no pool leans on the
/// thread of another, one made in a forked child works, which takes no threads of its parent along.
fn worker() -> Arc<ScheduledThreadPool> {
    Arc::new(ScheduledThreadPool::builder().num_threads(1).thread_name_pattern("millpond-pool").build())
}

/// Where a connection stands while it is used.
enum CheckedOutSlot {
    Pooled(r2d2::PooledConnection<SlotManager>),
    /// Nowhere in a pool: it is closed after its use.
    Extra(Slot),
}

impl Deref for CheckedOutSlot {
    type Target = Slot;

    fn deref(&self) -> &Slot {
        match self {
            Self::Pooled(slot) => slot,
            Self::Extra(slot) => slot,
        }
    }
}

impl DerefMut for CheckedOutSlot {
    fn deref_mut(&mut self) -> &mut Slot {
        match self {
            Self::Pooled(slot) => slot,
            Self::Extra(slot) => slot,
        }
    }
}

/// A connection in use. Dropped, also by a panic, it goes back, away, or to the graveyard.
pub(crate) struct PooledConnection<'a> {
    slot: CheckedOutSlot,
    pool: &'a Pool,
    used: Instant,
}

impl PooledConnection<'_> {
    fn prepare(&mut self, limit: &TimeBudget, mut waited: bool) -> Result<(), Failure> {
        // A socket has its usual time-outs only where the limit is the usual one.
        waited |= limit.end < limit.begun + self.pool.server.dialer.timeout;
        let current = self.pool.server.generation.load(Ordering::Relaxed);
        if let Some(connection) = self.slot.as_mut() {
            let idle = limit.begun.saturating_duration_since(connection.used) > IDLE;
            waited |= idle;
            if connection.generation != current || (idle && !is_alive(connection, limit)) {
                *self.slot = None;
            }
        }
        if self.slot.is_none() {
            *self.slot = Some(self.pool.dial(limit)?);
            waited = true;
        }
        match self.slot.as_mut() {
            Some(connection) if waited => connection.apply_deadline(limit),
            Some(connection) => connection.reset_timeouts(),
            None => Ok(()),
        }
    }

    /// The connection, in the process that opened it.
    pub(crate) fn connection(&mut self) -> Result<&mut Connection, Failure> {
        // What the caller gave to run in between may have forked.
        match self.slot.as_mut() {
            Some(_) if !self.pool.is_same_process() => Err(forked()),
            Some(connection) => Ok(connection),
            None => Err(Failure::new(FailureKind::Unreachable, Stage::NotSent, "the connection is gone")),
        }
    }

    /// Notes that the server was heard of just now, long after the connection was taken.
    pub(crate) fn renew(&mut self) {
        self.used = Instant::now();
    }

    /// Draws the conclusions of a failure on this connection.
    pub(crate) fn note_failure(&mut self, failure: &Failure) {
        match (failure.kind, self.slot.as_mut()) {
            (FailureKind::Unreachable, connection) => {
                let generation = connection.map_or(0, |connection| connection.generation);
                self.pool.purge(generation);
            }
            (FailureKind::Protocol, Some(connection)) => connection.discard(),
            _ => {}
        }
    }
}

/// Asks an idle connection for a sign of life; any answer is one.
fn is_alive(connection: &mut Connection, limit: &TimeBudget) -> bool {
    connection.buffer.clear();
    CommandWriter::new(&mut connection.buffer, b"").command(1, "PING");
    // Half of what is left: the other half is for a connection in its place.
    let most = limit.left().unwrap_or_default() / 2;
    let limit = limit.within(most);
    connection.apply_deadline(&limit).and_then(|()| connection.ask(&limit)).is_ok()
}

impl Drop for PooledConnection<'_> {
    fn drop(&mut self) {
        let Some(mut connection) = self.slot.take() else {
            return;
        };
        match connection.outstanding() {
            Outstanding::Mutations | Outstanding::PartialMutation => self.pool.quarantine().add(connection),
            Outstanding::Nothing if connection.is_usable() && !self.pool.is_closed() => {
                connection.used = self.used;
                *self.slot = Some(connection);
            }
            Outstanding::Nothing | Outstanding::Reads => {}
        }
    }
}

//! Owns the connections: how many there are, who has one, and which is still good. Knows nothing of
//! operations.

use std::cell::RefCell;
use std::convert::Infallible;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use r2d2::{ManageConnection, PooledConnection};
use scheduled_thread_pool::ScheduledThreadPool;

use crate::backend::redis::connect::connection::{Connection, Identity, Owed};
use crate::backend::redis::connect::dialer::Dialer;
use crate::backend::redis::connect::epoch::Epoch;
use crate::backend::redis::connect::fork::Origin;
use crate::backend::redis::connect::open_connections::Registry;
use crate::backend::redis::connect::quarantine::Graveyard;
use crate::backend::redis::failure::{Failure, Stage, Trouble};
use crate::backend::redis::time_budget::Limit;
use crate::backend::redis::wire::resp::Packer;

/// A connection that was idle for longer is asked whether it lives.
const IDLE: Duration = Duration::from_secs(1);

/// So long the making of a slot may take, where nobody is to wait for one that is in use.
const MAKING: Duration = Duration::from_millis(20);

/// A place in the pool, with a connection or without.
type Slot = Option<Connection>;

/// Makes empty slots. Whoever takes one fills it, in its own thread and within its own limit, and so gets
/// its own typed error; the pool never waits for a server, retries or logs.
struct Slots;

impl ManageConnection for Slots {
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
    slots: r2d2::Pool<Slots>,
    /// Who finds no free connection waits for one.
    patient: bool,
    server: Arc<Server>,
}

/// What pools of connections to the same server have in common.
struct Server {
    dialer: Dialer,
    origin: Origin,
    /// Connections of an older generation are not used any more.
    generation: AtomicU64,
    closed: AtomicBool,
    /// The server is away: no connection is given out, and no socket touched.
    away: AtomicBool,
    graveyard: Graveyard,
    live: Arc<Registry>,
}

thread_local! {
    /// The servers to which this thread holds a connection while it runs what the caller gave it.
    static INSIDE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

impl Pool {
    pub(crate) fn new(dialer: Dialer, size: u32) -> Self {
        let graveyard = Graveyard::new(dialer.timeout);
        let server = Arc::new(Server {
            dialer,
            origin: Origin::here(),
            generation: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            away: AtomicBool::new(false),
            graveyard,
            live: Arc::default(),
        });
        Self { slots: slots(size), patient: true, server }
    }

    /// Another pool of connections to the same server: they are buried, purged and closed with these. Who
    /// finds none free does not wait for one.
    pub(crate) fn beside(&self, size: u32) -> Self {
        Self { slots: slots(size), patient: false, server: Arc::clone(&self.server) }
    }

    pub(crate) fn graveyard(&self) -> &Graveyard {
        &self.server.graveyard
    }

    pub(crate) fn epoch(&self) -> &Epoch {
        &self.server.dialer.epoch
    }

    fn is_closed(&self) -> bool {
        self.server.closed.load(Ordering::Relaxed)
    }

    /// Whether this process opened the store, and was not forked off the one that did.
    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        self.server.origin.is_here()
    }

    /// INVARIANT: nothing goes over a socket that another process has too.
    fn check_process(&self) -> Result<(), Failure> {
        if self.server.origin.is_surely_here() { Ok(()) } else { Err(forked()) }
    }

    pub(crate) fn check_open(&self) -> Result<(), Failure> {
        self.check_process()?;
        match self.is_closed() {
            false => Ok(()),
            true => Err(Failure::new(Trouble::Closed, Stage::NotSent, "the store is closed")),
        }
    }

    /// Notes that this thread holds a connection and runs what the caller gave it, which may want another.
    pub(crate) fn step_inside(&self) -> Inside {
        INSIDE.with_borrow_mut(|inside| inside.push(self.name()));
        Inside { name: self.name() }
    }

    fn name(&self) -> usize {
        Arc::as_ptr(&self.server).addr()
    }

    fn is_inside(&self) -> bool {
        INSIDE.with_borrow(|inside| inside.contains(&self.name()))
    }

    /// Takes a connection that can be used, making one where there is none.
    ///
    /// `late`: time of the limit has gone by already.
    pub(crate) fn checkout(&self, limit: &Limit, late: bool) -> Result<Lease<'_>, Failure> {
        self.check_open()?;
        self.check_not_away()?;
        let (slot, waited) = match self.slots.try_get() {
            Some(slot) => (Place::Pooled(slot), late),
            None => (self.next_place(limit)?, true),
        };
        let mut lease = Lease { slot, pool: self, used: limit.begun };
        lease.prepare(limit, waited)?;
        Ok(lease)
    }

    /// Waits for a place, where that can be of use.
    fn next_place(&self, limit: &Limit) -> Result<Place, Failure> {
        let left = limit.left().unwrap_or_default();
        if self.is_inside() {
            // Who holds a connection already may hold the last one, and would wait for itself.
            let is_full = self.slots.state().connections >= self.slots.max_size();
            let slot = if is_full { None } else { self.slots.get_timeout(left.min(MAKING)).ok() };
            return Ok(slot.map_or(Place::Own(None), Place::Pooled));
        }
        let wait = if self.patient { left } else { left.min(MAKING) };
        self.slots.get_timeout(wait).map(Place::Pooled).map_err(|_| self.exhausted())
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
    pub(crate) fn bury(&self, limit: &Limit) -> Result<(), Failure> {
        self.graveyard().bury(limit, |limit| self.dial(limit))
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

    pub(crate) fn dial(&self, limit: &Limit) -> Result<Connection, Failure> {
        self.check_not_away()?;
        self.dial_always(limit)
    }

    /// Makes a connection, also while the server is away.
    pub(crate) fn dial_always(&self, limit: &Limit) -> Result<Connection, Failure> {
        self.check_process()?;
        let generation = self.server.generation.load(Ordering::Acquire);
        let mut connection = self.server.dialer.dial(generation, limit)?;
        connection.registered =
            connection.identity.as_ref().map(|identity| self.server.live.enter(identity.clone(), generation));
        Ok(connection)
    }

    /// Gives out no more connections, and lets those that there are be dropped when they come back.
    pub(crate) fn cut_off(&self) {
        self.server.away.store(true, Ordering::Release);
        self.server.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether no connection is given out.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.server.away.load(Ordering::Acquire)
    }

    /// Gives out connections again.
    pub(crate) fn come_back(&self) {
        self.server.away.store(false, Ordering::Release);
    }

    fn check_not_away(&self) -> Result<(), Failure> {
        match self.is_cut_off() {
            true => Err(Failure::new(Trouble::Away, Stage::NotSent, "the server is away")),
            false => Ok(()),
        }
    }

    /// Connections of an older generation that are not known to be closed.
    pub(crate) fn older_connections(&self) -> Vec<Identity> {
        self.server.live.older(self.server.generation.load(Ordering::Acquire))
    }

    /// Notes that the server has closed a connection, or never had it.
    pub(crate) fn forget(&self, identity: &Identity) {
        self.server.live.forget(identity);
    }

    /// Lets go of a connection that is in no pool: to the graveyard, where that is its place.
    pub(crate) fn put_away(&self, connection: Connection) {
        match connection.owed() {
            Owed::Mutations | Owed::TornMutations => self.graveyard().add(connection),
            Owed::Nothing | Owed::Reads => {}
        }
    }

    /// As [`Pool::bury`], also while the server is away.
    pub(crate) fn bury_always(&self, limit: &Limit) -> Result<(), Failure> {
        self.graveyard().bury(limit, |limit| self.dial_always(limit))
    }

    fn exhausted(&self) -> Failure {
        let cause = format!("all {} connections of the pool were in use", self.slots.max_size());
        Failure::new(Trouble::Exhausted, Stage::NotSent, cause)
    }
}

fn forked() -> Failure {
    Failure::new(Trouble::Forked, Stage::NotSent, "the store was opened by another process")
}

/// While it lives, this thread does not wait for a connection that it may hold itself.
pub(crate) struct Inside {
    name: usize,
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.with_borrow_mut(|inside| {
            if let Some(at) = inside.iter().rposition(|name| *name == self.name) {
                inside.remove(at);
            }
        });
    }
}

fn slots(size: u32) -> r2d2::Pool<Slots> {
    r2d2::Pool::builder()
        .max_size(size)
        .min_idle(Some(0))
        .test_on_check_out(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .thread_pool(worker())
        .build_unchecked(Slots)
}

/// The one thread that makes the slots of a pool. It ends with the pool; and since no pool leans on the
/// thread of another, one made in a forked child works, which takes no threads of its parent along.
fn worker() -> Arc<ScheduledThreadPool> {
    Arc::new(ScheduledThreadPool::builder().num_threads(1).thread_name_pattern("millpond-pool").build())
}

/// Where a connection stands while it is used.
enum Place {
    Pooled(PooledConnection<Slots>),
    /// Nowhere in a pool: it is closed after its use.
    Own(Slot),
}

impl Deref for Place {
    type Target = Slot;

    fn deref(&self) -> &Slot {
        match self {
            Self::Pooled(slot) => slot,
            Self::Own(slot) => slot,
        }
    }
}

impl DerefMut for Place {
    fn deref_mut(&mut self) -> &mut Slot {
        match self {
            Self::Pooled(slot) => slot,
            Self::Own(slot) => slot,
        }
    }
}

/// A connection in use. Dropped, also by a panic, it goes back, away, or to the graveyard.
pub(crate) struct Lease<'a> {
    slot: Place,
    pool: &'a Pool,
    used: Instant,
}

impl Lease<'_> {
    fn prepare(&mut self, limit: &Limit, mut waited: bool) -> Result<(), Failure> {
        // A socket has its usual time-outs only where the limit is the usual one.
        waited |= limit.end < limit.begun + self.pool.server.dialer.timeout;
        let current = self.pool.server.generation.load(Ordering::Relaxed);
        if let Some(connection) = self.slot.as_mut() {
            let idle = limit.begun.saturating_duration_since(connection.used) > IDLE;
            waited |= idle;
            if connection.generation != current || (idle && !lives(connection, limit)) {
                *self.slot = None;
            }
        }
        if self.slot.is_none() {
            *self.slot = Some(self.pool.dial(limit)?);
            waited = true;
        }
        match self.slot.as_mut() {
            Some(connection) if waited => connection.arm(limit),
            Some(connection) => connection.arm_fully(),
            None => Ok(()),
        }
    }

    /// The connection, in the process that opened it.
    pub(crate) fn connection(&mut self) -> Result<&mut Connection, Failure> {
        // What the caller gave to run in between may have forked.
        match self.slot.as_mut() {
            Some(_) if !self.pool.is_ours() => Err(forked()),
            Some(connection) => Ok(connection),
            None => Err(Failure::new(Trouble::Away, Stage::NotSent, "the connection is gone")),
        }
    }

    /// Notes that the server was heard of just now, long after the connection was taken.
    pub(crate) fn renew(&mut self) {
        self.used = Instant::now();
    }

    /// Draws the conclusions of a failure on this connection.
    pub(crate) fn note(&mut self, failure: &Failure) {
        match (failure.trouble, self.slot.as_mut()) {
            (Trouble::Away, connection) => {
                let generation = connection.map_or(0, |connection| connection.generation);
                self.pool.purge(generation);
            }
            (Trouble::Garbage, Some(connection)) => connection.discard(),
            _ => {}
        }
    }
}

/// Asks an idle connection for a sign of life; any answer is one.
fn lives(connection: &mut Connection, limit: &Limit) -> bool {
    connection.buffer.clear();
    Packer::new(&mut connection.buffer, b"").command(1, "PING");
    // Half of what is left: the other half is for a connection in its place.
    let most = limit.left().unwrap_or_default() / 2;
    let limit = limit.within(most);
    connection.arm(&limit).and_then(|()| connection.ask(&limit)).is_ok()
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let Some(mut connection) = self.slot.take() else {
            return;
        };
        match connection.owed() {
            Owed::Mutations | Owed::TornMutations => self.pool.graveyard().add(connection),
            Owed::Nothing if connection.is_usable() && !self.pool.is_closed() => {
                connection.used = self.used;
                *self.slot = Some(connection);
            }
            Owed::Nothing | Owed::Reads => {}
        }
    }
}

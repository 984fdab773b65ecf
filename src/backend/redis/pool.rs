//! Owns the connections: how many there are, who has one, and which is still good. Knows nothing of
//! operations.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use r2d2::{ManageConnection, PooledConnection};
use scheduled_thread_pool::ScheduledThreadPool;

use super::classify::{Failure, Stage, Trouble};
use super::commands::Packer;
use super::connection::{Connection, Owed};
use super::dial::Dialer;
use super::graveyard::Graveyard;
use super::limit::Limit;

/// A connection that was idle for longer is asked whether it lives.
const IDLE: Duration = Duration::from_secs(1);

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

pub(super) struct Pool {
    slots: r2d2::Pool<Slots>,
    dialer: Dialer,
    /// Connections of an older generation are not used any more.
    generation: AtomicU64,
    closed: AtomicBool,
    graveyard: Graveyard,
}

impl Pool {
    pub(super) fn new(dialer: Dialer, size: u32) -> Self {
        let slots = r2d2::Pool::builder()
            .max_size(size)
            .min_idle(Some(0))
            .test_on_check_out(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .thread_pool(worker())
            .build_unchecked(Slots);
        let graveyard = Graveyard::new(dialer.timeout);
        Self { slots, dialer, generation: AtomicU64::new(0), closed: AtomicBool::new(false), graveyard }
    }

    pub(super) fn graveyard(&self) -> &Graveyard {
        &self.graveyard
    }

    /// Takes a connection that can be used, making one where there is none.
    ///
    /// `late`: time of the limit has gone by already.
    pub(super) fn checkout(&self, limit: &Limit, late: bool) -> Result<Lease<'_>, Failure> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Failure::new(Trouble::Exhausted, Stage::NotSent, "the store is closed"));
        }
        let (slot, waited) = match self.slots.try_get() {
            Some(slot) => (slot, late),
            None => (
                self.slots.get_timeout(limit.left().unwrap_or_default()).map_err(|_| self.exhausted())?,
                true,
            ),
        };
        let mut lease = Lease { slot, pool: self, limit: *limit };
        lease.prepare(limit, waited)?;
        Ok(lease)
    }

    /// Drops every idle connection at its next use: the server that they led to is gone.
    pub(super) fn purge(&self, generation: u64) {
        let _ = self.generation.compare_exchange(
            generation,
            generation + 1,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    /// Buries what is in the graveyard.
    pub(super) fn bury(&self, limit: &Limit) -> Result<(), Failure> {
        self.graveyard.bury(limit, |limit| self.dial(limit))
    }

    /// Drops the connections that nobody uses; the others go when they come back.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        let mut idle = Vec::new();
        while let Some(mut slot) = self.slots.try_get() {
            *slot = None;
            idle.push(slot);
        }
    }

    pub(super) fn dial(&self, limit: &Limit) -> Result<Connection, Failure> {
        self.dialer.dial(self.generation.load(Ordering::Relaxed), limit)
    }

    fn exhausted(&self) -> Failure {
        let cause = format!("all {} connections of the pool were in use", self.slots.max_size());
        Failure::new(Trouble::Exhausted, Stage::NotSent, cause)
    }
}

/// The one thread that makes the slots of a pool. It ends with the pool; and since no pool leans on the
/// thread of another, one made in a forked child works, which takes no threads of its parent along.
fn worker() -> Arc<ScheduledThreadPool> {
    Arc::new(ScheduledThreadPool::builder().num_threads(1).thread_name_pattern("millpond-pool").build())
}

/// A connection in use. Dropped, also by a panic, it goes back, away, or to the graveyard.
pub(super) struct Lease<'a> {
    slot: PooledConnection<Slots>,
    pool: &'a Pool,
    limit: Limit,
}

impl Lease<'_> {
    fn prepare(&mut self, limit: &Limit, mut waited: bool) -> Result<(), Failure> {
        let current = self.pool.generation.load(Ordering::Relaxed);
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

    /// Brings the socket's time-outs into line with what is left.
    pub(super) fn connection(&mut self) -> Result<&mut Connection, Failure> {
        match self.slot.as_mut() {
            Some(connection) => Ok(connection),
            None => Err(Failure::new(Trouble::Away, Stage::NotSent, "the connection is gone")),
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.slot.as_ref().map_or(0, |connection| connection.generation)
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
            Owed::Mutations | Owed::TornMutations => self.pool.graveyard.add(connection),
            Owed::Nothing if connection.is_usable() && !self.pool.closed.load(Ordering::Relaxed) => {
                connection.used = self.limit.begun;
                *self.slot = Some(connection);
            }
            Owed::Nothing | Owed::Reads => {}
        }
    }
}

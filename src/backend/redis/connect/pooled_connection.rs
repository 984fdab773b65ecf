//! Owns a connection while it is in use: whether it still works when it is taken, and what happens to it
//! afterwards. Knows nothing of the pool nor of operations.

use std::time::{Duration, Instant};

use crate::backend::redis::connect::connection::Connection;
use crate::backend::redis::connect::epoch::Epoch;
use crate::backend::redis::connect::epoch_exchange::ask_for_epoch;
use crate::backend::redis::connect::pool_slots::{CheckedOutSlot, PoolSlot};
use crate::backend::redis::connect::server_link::ServerLink;
use crate::backend::redis::failure::{Failure, FailureKind, Stage};
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::resp::CommandWriter;
use crate::stats::counter::Counter;

/// A connection that was idle for longer is pinged before it is used.
const MAX_IDLE: Duration = Duration::from_secs(1);

/// A connection in use. When dropped, also by a panic, it returns to its pool, is closed, or is quarantined.
pub(crate) struct PooledConnection<'a> {
    slot: CheckedOutSlot,
    link: &'a ServerLink,
    last_used: Instant,
}

impl<'a> PooledConnection<'a> {
    /// Fills a slot with a connection that works.
    pub(crate) fn prepare(
        slot: CheckedOutSlot,
        link: &'a ServerLink,
        budget: &TimeBudget,
    ) -> Result<Self, Failure> {
        link.recorder().add(Counter::CheckedOut, 1);
        let mut taken = Self { slot, link, last_used: budget.begun };
        taken.fill(budget)?;
        Ok(taken)
    }

    fn fill(&mut self, budget: &TimeBudget) -> Result<(), Failure> {
        empty_if_useless(&mut self.slot, self.link);
        if let Some(connection) = self.slot.as_mut() {
            let was_idle = budget.begun.saturating_duration_since(connection.used) > MAX_IDLE;
            let is_usable = (!was_idle || answers_ping(connection, budget))
                && (!self.link.epoch().is_in_doubt()
                    || answers_for_epoch(connection, self.link.epoch(), budget));
            if !is_usable && let Some(connection) = self.slot.take() {
                self.link.dispose(connection);
            }
        }
        if self.slot.is_none() {
            *self.slot = Some(self.link.dial(budget)?);
        }
        Ok(())
    }

    /// Returns the connection, but only in the process that opened it.
    pub(crate) fn connection(&mut self) -> Result<&mut Connection, Failure> {
        match self.slot.as_mut() {
            // A closure of the caller that ran in between may have forked.
            Some(_) if !self.link.is_same_process() => Err(Failure::forked()),
            Some(connection) => Ok(connection),
            None => Err(Failure::new(FailureKind::Broken, Stage::NotSent, "the connection is gone")),
        }
    }

    /// Uses the connection, and discards it if its failure shows that it is useless.
    pub(crate) fn run<T>(
        &mut self,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let outcome = work(self.connection()?);
        if let Err(failure) = &outcome {
            self.note_failure(failure);
        }
        outcome
    }

    /// Notes that the server replied just now, long after the connection was taken.
    pub(crate) fn renew(&mut self) {
        self.last_used = Instant::now();
    }

    fn note_failure(&mut self, failure: &Failure) {
        if matches!(failure.kind, FailureKind::Broken | FailureKind::Unreachable) {
            let generation = self.slot.as_ref().map_or(0, |connection| connection.generation);
            self.link.end_generation(generation);
        } else if failure.kind == FailureKind::Protocol
            && let Some(connection) = self.slot.as_mut()
        {
            connection.discard();
        }
    }
}

/// Empties a slot whose connection is known to be of no use, without asking the server.
pub(crate) fn empty_if_useless(slot: &mut PoolSlot, link: &ServerLink) {
    let generation = link.generation();
    let is_useless =
        |connection: &mut Connection| connection.generation != generation || !connection.check_in_step();
    if let Some(connection) = slot.take_if(is_useless) {
        link.dispose(connection);
    }
}

/// Returns whether the server replies at all, whatever the reply.
fn answers_ping(connection: &mut Connection, budget: &TimeBudget) -> bool {
    connection.buffer.clear();
    CommandWriter::new(&mut connection.buffer, b"").command(1, "PING");
    connection.ask(&half_of(budget)).is_ok()
}

/// Finds out whether the server has lost data. Returns whether the connection can still be used.
fn answers_for_epoch(connection: &mut Connection, epoch: &Epoch, budget: &TimeBudget) -> bool {
    ask_for_epoch(connection, epoch, &half_of(budget)).is_ok() && connection.is_usable()
}

/// The other half is left for dialing a replacement.
fn half_of(budget: &TimeBudget) -> TimeBudget {
    budget.within(budget.left().unwrap_or_default() / 2)
}

impl Drop for PooledConnection<'_> {
    fn drop(&mut self) {
        self.link.recorder().add(Counter::Returned, 1);
        let Some(mut connection) = self.slot.take() else {
            return;
        };
        if connection.is_usable() && !self.link.is_closed() {
            connection.used = self.last_used;
            *self.slot = Some(connection);
        } else {
            self.link.dispose(connection);
        }
    }
}

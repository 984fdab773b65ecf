//! Owns which thread gets a connection, and when a mutation may be sent. Knows nothing of operations.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::redis::connect::pool_slots::{CheckedOutSlot, PoolSlots};
use crate::backend::redis::connect::pooled_connection::PooledConnection;
use crate::backend::redis::connect::reentry::{ReentryGuard, is_in_user_code};
use crate::backend::redis::connect::server_link::ServerLink;
use crate::backend::redis::failure::{Failure, FailureKind, Stage};
use crate::backend::redis::time_budget::TimeBudget;
use crate::stats::counter::Counter;

/// How long making a slot may take if the pool does not wait for a slot in use.
const MAKE_SLOT: Duration = Duration::from_millis(20);

pub(crate) struct Pool {
    slots: PoolSlots,
    /// `true`: a checkout waits for a free connection; `false`: it fails with `Exhausted`.
    waits: bool,
    link: Arc<ServerLink>,
}

impl Pool {
    /// Makes a pool whose checkouts wait for a free connection.
    pub(crate) fn waiting(link: Arc<ServerLink>, size: u32) -> Self {
        Self { slots: PoolSlots::new(size), waits: true, link }
    }

    /// Makes a pool whose checkouts fail if all connections are in use.
    pub(crate) fn not_waiting(link: Arc<ServerLink>, size: u32) -> Self {
        Self { slots: PoolSlots::new(size), waits: false, link }
    }

    /// Checks a connection out that is good for commands which read, and makes one if none is idle.
    pub(crate) fn checkout(&self, budget: &TimeBudget) -> Result<PooledConnection<'_>, Failure> {
        self.link.check_open()?;
        self.link.check_not_suspended()?;
        let slot = match self.slots.try_take() {
            Some(slot) => slot,
            None => self.wait_for_slot(budget)?,
        };
        PooledConnection::prepare(slot, &self.link, budget)
    }

    /// As [`Pool::checkout`], for a mutation.
    pub(crate) fn checkout_for_write(&self, budget: &TimeBudget) -> Result<PooledConnection<'_>, Failure> {
        loop {
            let connection = self.checkout(budget)?;
            // INVARIANT: no mutation is sent while one without a reply may still run on another connection: it
            // would run afterwards and bring its old value back.
            if self.link.quarantine().is_empty() {
                return Ok(connection);
            }
            drop(connection);
            self.link.kill_orphans(budget)?;
        }
    }

    /// Waits for a slot if that can help.
    fn wait_for_slot(&self, budget: &TimeBudget) -> Result<CheckedOutSlot, Failure> {
        let soon = budget.end.min(Instant::now() + MAKE_SLOT);
        if is_in_user_code(self.server()) {
            // This thread holds a connection already, perhaps the last one: it would wait for itself.
            let slot = if self.slots.is_full() { None } else { self.slots.take(soon) };
            return Ok(slot.unwrap_or_else(CheckedOutSlot::extra));
        }
        if self.waits && self.slots.is_full() {
            self.link.recorder().add(Counter::Waited, 1);
        }
        let end = if self.waits { budget.end } else { soon };
        self.slots.take(end).ok_or_else(|| self.exhausted())
    }

    /// Marks that this thread holds a connection and runs a caller's closure, which may ask for another.
    pub(crate) fn enter_user_code(&self) -> ReentryGuard {
        ReentryGuard::enter_user_code(self.server())
    }

    /// A number that all pools for this server share.
    fn server(&self) -> usize {
        Arc::as_ptr(&self.link).addr()
    }

    /// Drops the idle connections. The others are dropped when they come back, since the link is closed.
    pub(crate) fn drop_idle(&self) {
        let mut idle = Vec::new();
        while let Some(mut slot) = self.slots.try_take_idle() {
            *slot = None;
            idle.push(slot);
        }
    }

    fn exhausted(&self) -> Failure {
        let cause = format!("all {} connections of the pool were in use", self.slots.size());
        Failure::new(FailureKind::Exhausted, Stage::NotSent, cause)
    }
}

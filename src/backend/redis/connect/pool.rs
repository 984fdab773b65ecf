//! Owns which thread gets a connection, and when a mutation may be sent. Knows nothing of operations.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::redis::connect::pool_slots::{CheckedOutSlot, PoolSlots};
use crate::backend::redis::connect::pooled_connection::{PooledConnection, empty_if_useless};
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

    /// Returns whether the pool hands out no connections for now.
    pub(crate) fn is_suspended(&self) -> bool {
        self.link.is_suspended()
    }

    /// Makes one connection, if fewer than `least` slots have one; returns whether it did. It occupies an empty slot, as
    /// an operation does that finds no connection, so the pool never has more connections than slots.
    pub(crate) fn make_one_below(&self, least: u32, budget: &TimeBudget) -> Result<bool, Failure> {
        self.link.check_open()?;
        self.link.check_not_suspended()?;
        match self.slot_to_fill(least) {
            Some(slot) => PooledConnection::prepare(slot, &self.link, budget).map(|_| true),
            None => Ok(false),
        }
    }

    /// Returns an empty slot, if fewer than `least` slots have a connection. A slot in use has one, or soon will.
    ///
    /// All idle slots are taken for an instant, since the library hands out no particular one.
    fn slot_to_fill(&self, least: u32) -> Option<CheckedOutSlot> {
        let mut idle = self.slots.take_all_idle();
        for slot in &mut idle {
            empty_if_useless(slot, &self.link);
        }
        let empty = idle.iter().position(|slot| slot.is_none());
        let empty_count =
            u32::try_from(idle.iter().filter(|slot| slot.is_none()).count()).unwrap_or(u32::MAX);
        let made = self.slots.made_count();
        let slot = if made.saturating_sub(empty_count) >= least {
            None
        } else if let Some(empty) = empty {
            Some(idle.remove(empty))
        } else if made < self.slots.size() {
            self.slots.take(Instant::now() + MAKE_SLOT)
        } else {
            None
        };
        PoolSlots::give_back(idle);
        // Instead of a new slot it may be one that was given back just now, or one that belongs to no pool.
        slot.filter(|slot| slot.is_none() && slot.is_pooled())
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

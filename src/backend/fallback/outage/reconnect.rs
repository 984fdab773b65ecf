//! Owns the way back to the server: when it is tried, and how what waited is done there, in order and once.
//! Knows nothing of what is served meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::backend::fallback::outage::disconnected::{Outage, Tally};
use crate::backend::fallback::outage::probe::{LogThrottle, ProbeBackoff, ProbeFailure};
use crate::backend::fallback::queue::group::QueuedGroup;
use crate::backend::fallback::queue::queued_at::QueuedAt;
use crate::backend::fallback::shadow::cache::Shadowed;
use crate::backend::fallback::shared::Shared;
use crate::backend::redis::keys;
use crate::backend::redis::replay::connection::{ReconnectError, ReplayConnection, ReplayReply, ReplayStep};
use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::backend::redis::replay::queued_op::{QueuedOp, ReplayOutcome};
use crate::clock::Deadline;
use crate::config::OnConflict;
use crate::key::Key;

use crate::outage::Event;

/// How much is done in one step.
const CHUNK_OPERATIONS: usize = 1000;
const CHUNK_BYTES: u64 = 4 << 20;
const MOST_HALVED: u32 = 10;

/// When so few wait, writers wait until they are done too.
const LAST: u64 = 256;

/// How long a writer waits that would be faster than what is done on the server.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

impl Shared {
    /// Tries until the server is back or the store ends. A later outage has its own thread, also where this
    /// one slept while somebody else ended the outage that it is for.
    pub(crate) fn reconnect_when_possible(&self, away: &Arc<Outage>) {
        let mut breaker = ProbeBackoff::new();
        let mut reminder = LogThrottle::new(away.cause.clone());
        while !self.is_ending() && self.outage().is_some_and(|now| Arc::ptr_eq(&now, away)) {
            let closed = match self.try_reconnect() {
                Ok(()) => return,
                Err(closed) => closed,
            };
            if reminder.is_due(&closed.cause) {
                let (place, waiting) = (self.redis.server_name(), away.state().queue.len());
                let for_long = self.clock.now().duration_since(away.since).unwrap_or_default();
                log::warn!(
                    "the Redis server {place} is away for {for_long:.0?}, and {waiting} operations wait: {}",
                    closed.cause
                );
            }
            let silence = if closed.timed_out { ProbeFailure::TimedOut } else { ProbeFailure::Refused };
            self.rest(breaker.next(silence, fastrand::f64()));
        }
    }

    /// Tries once. Where it fails, the outage goes on.
    pub(crate) fn try_reconnect(&self) -> Result<(), ReconnectError> {
        let outcome = {
            let _one_at_a_time = self.reconnecting.lock();
            self.replay_and_reconnect()
        };
        self.dispatch_events();
        outcome
    }

    fn replay_and_reconnect(&self) -> Result<(), ReconnectError> {
        let Some(away) = self.outage() else {
            return Ok(());
        };
        let mut way = ReplaySession {
            inner: self,
            outage: &away,
            connection: self.redis.open_replay_connection()?,
            has_done: false,
            most: CHUNK_OPERATIONS,
        };
        way.reconcile()?;
        let (mut before, mut pause) = (u64::MAX, FIRST_PAUSE);
        loop {
            let waiting = way.outage.state().queue.len();
            // The first step shows whether anything gets through, and nobody is to wait for that.
            if waiting == 0 || (waiting <= LAST && way.has_done) {
                break;
            }
            // However many writers there are, in the end they are slower than what is done there.
            if waiting >= before {
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            before = waiting;
            way.outage.throttle((waiting / 2).max(LAST), pause);
            way.replay_chunk()?;
        }
        // INVARIANT: from here on no operation runs here, until either all is done there or the outage goes on.
        let mut outage = self.outage.write();
        while !way.outage.state().queue.is_empty() {
            way.replay_chunk()?;
        }
        let (tally, since) = (away.tally(), away.since);
        self.done.store(away.state().queue.done(), Ordering::Relaxed);
        drop(way);
        self.shadow.forget_in_doubt();
        self.redis.resume();
        self.was_connected.store(true, Ordering::Release);
        self.is_disconnected.store(false, Ordering::Release);
        *outage = None;
        let away_for = self.clock.now().duration_since(since).unwrap_or_default();
        let Tally { replayed, rejected, conflicts } = tally;
        self.events.lock().push_back(Event::Connected { replayed, rejected, conflicts, away_for });
        drop(outage);
        let place = self.redis.server_name();
        log::info!(
            "the Redis server {place} is back after {away_for:?}: {replayed} operations that waited are done there"
        );
        if rejected > 0 || conflicts > 0 {
            log::warn!(
                "of what waited for the Redis server {place} it refused {rejected} operations (see take_rejected), and \
                 {conflicts} met what others had written (see take_conflicts)"
            );
        }
        Ok(())
    }

    fn rest(&self, pause: Duration) {
        let mut wake = self.wake.lock();
        if !wake.ending {
            self.wakeup.wait_for(&mut wake, pause);
        }
    }
}

impl Drop for ReplaySession<'_> {
    fn drop(&mut self) {
        self.outage.unthrottle();
    }
}

/// One try.
struct ReplaySession<'w> {
    inner: &'w Shared,
    outage: &'w Outage,
    connection: ReplayConnection<'w>,
    /// Whether anything got through.
    has_done: bool,
    /// How many operations are done in one step.
    most: usize,
}

impl ReplaySession<'_> {
    /// Finds out how far the server is: what was done there, and whether it has forgotten that.
    fn reconcile(&mut self) -> Result<(), ReconnectError> {
        let marker = self.marker();
        let (done, sent) = {
            let state = self.outage.state();
            (state.queue.done(), state.queue.sent())
        };
        let (made, held) = self.connection.init_marker(&marker, done)?;
        let mut lost = None;
        if self.inner.was_marked.swap(true, Ordering::Relaxed) && made {
            let doubtful = self.outage.take_in_doubt();
            self.inner.report_uncertain(doubtful, self.outage);
            lost = Some("the marker of what was done there is gone".to_owned());
        } else if held < done {
            self.connection.reset_marker(&marker, done)?;
            lost = Some(format!("{done} was done there, it knows of {held}"));
        } else if held > sent {
            let cause = format!("the server knows of operation {held}, and {sent} was the last one sent");
            return Err(ReconnectError { stale: true, timed_out: true, ..ReconnectError::local(cause) });
        }
        if let Some(cause) = self.inner.take_data_loss() {
            self.outage.state().queue.forget_observed();
            lost = Some(cause.to_owned());
        }
        if let Some(cause) = lost {
            self.inner.report_data_loss(cause);
        }
        Ok(())
    }

    fn marker(&self) -> Key<'static> {
        keys::marker(self.inner.identity)
    }

    /// Does the first operations that wait.
    fn replay_chunk(&mut self) -> Result<(), ReconnectError> {
        let (chunk, done, last, sent) = {
            let mut state = self.outage.state();
            let done = state.queue.done();
            let halved = self.outage.halved();
            let (chunk, last) = state.queue.next_chunk((self.most >> halved).max(1), CHUNK_BYTES >> halved);
            (chunk, done, last, state.queue.sent())
        };
        if let Some(journal) = &self.inner.queue_file {
            journal
                .note_sent(last)
                .map_err(|error| ReconnectError::local(format!("what is sent cannot be noted: {error}")))?;
        }
        let steps: Vec<ReplayStep<'_>> = chunk.iter().flat_map(|pending| steps(pending)).collect();
        let remote_wins = self.inner.on_conflict == OnConflict::RemoteWins;
        let marker = self.marker();
        let begun = Instant::now();
        let told = self.connection.replay(&marker, done, last, remote_wins, &steps);
        self.tune_chunk(begun.elapsed(), &told);
        let told = match told {
            // The server looks at all the keys first: one that this user may not touch stops the whole chunk.
            Err(closed) if closed.denied && chunk.len() > 1 => {
                self.most = (chunk.len() / 2).max(1);
                return Ok(());
            }
            Err(closed) if closed.denied => {
                // Where not even nothing may be done, it is not this operation that stands in the way.
                self.connection.replay(&marker, done, done, remote_wins, &[])?;
                // That may have been so, and be so no more.
                match self.connection.replay(&marker, done, last, remote_wins, &steps) {
                    Err(closed) if closed.denied => {
                        self.connection.replay(&marker, done, last, remote_wins, &[])?;
                        let rejected = |index| (index, ReplayOutcome::Rejected(closed.cause.clone()));
                        ReplayReply::Applied((0..steps.len()).map(rejected).collect())
                    }
                    told => told?,
                }
            }
            told => told?,
        };
        self.most = (self.most * 2).min(CHUNK_OPERATIONS);
        let (upto, outcomes) = match told {
            ReplayReply::Applied(outcomes) => (last, outcomes),
            // The answer to an earlier chunk was lost: it is told now. Of those before it nobody can tell any
            // more what became of them, where they could not be noted before the program was killed.
            ReplayReply::AlreadyAt { at: Some(at), from, outcomes } if at > done && at <= sent => {
                if let Some(from) = from.filter(|from| (done + 1..at).contains(from)) {
                    self.acknowledge(from, Vec::new());
                }
                (at, outcomes)
            }
            ReplayReply::AlreadyAt { .. } => return self.reconcile(),
        };
        self.acknowledge(upto, outcomes);
        Ok(())
    }

    /// Lets a step be as long as fits the limit: a line may be slow, and what is cut off is never done.
    fn tune_chunk(&self, took: Duration, outcome: &Result<ReplayReply, ReconnectError>) {
        let halved = self.outage.halved();
        match outcome {
            Err(closed) if closed.timed_out => self.outage.shrink_chunk((halved + 1).min(MOST_HALVED)),
            Ok(_) if took < self.inner.limit / 8 => self.outage.shrink_chunk(halved.saturating_sub(1)),
            Ok(_) | Err(_) => {}
        }
    }

    /// Takes out what is done, and keeps what became of it: for whoever asks, and for the next outage.
    fn acknowledge(&mut self, upto: u64, outcomes: Vec<(usize, ReplayOutcome)>) {
        let finished = self.outage.state().queue.acknowledge(upto);
        if let Some(journal) = &self.inner.queue_file
            && let Err(error) = journal.note_done(upto)
        {
            // The marker on the server tells it as well.
            log::warn!("what is done on the server could not be noted: {error}");
        }
        let ops: Vec<(&QueuedOp, QueuedAt)> =
            finished.iter().flat_map(|pending| pending.ops.iter().map(|op| (op, pending.queued))).collect();
        self.has_done = true;
        self.inner.count_outcomes(self.outage, ops.len() as u64, &outcomes);
        let now = self.outage.now();
        for (op, queued) in &ops {
            let writing = self.inner.shadow.begin_write(&op.key);
            match op.action.after_waiting(queued.age()) {
                QueuedAction::Put { value, ttl } => {
                    let deadline = ttl.map(|ttl| Deadline::after(&now, ttl));
                    writing.record_write(Shadowed::Value { bytes: value.bytes, deadline });
                }
                QueuedAction::Delete => writing.record_write(Shadowed::Absent),
                QueuedAction::PutIfPresent { .. }
                | QueuedAction::Incr { .. }
                | QueuedAction::Expire { .. }
                | QueuedAction::Persist
                | QueuedAction::MapPut { .. }
                | QueuedAction::MapDelete { .. }
                | QueuedAction::MapIncr { .. }
                | QueuedAction::Push { .. }
                | QueuedAction::Pop { .. }
                | QueuedAction::Trim { .. }
                | QueuedAction::SetLease { .. } => {}
            }
        }
        for (index, outcome) in outcomes {
            let Some((op, _)) = ops.get(index) else { continue };
            if !matches!(outcome, ReplayOutcome::Overwritten(_)) {
                drop(self.inner.shadow.begin_write(&op.key));
            }
            if matches!(outcome, ReplayOutcome::Dropped(_)) {
                self.outage.state().note_dropped(&op.key);
            }
            if outcome == ReplayOutcome::Uncertain {
                self.inner.report_uncertain(vec![(*op).clone()], self.outage);
            }
            self.inner.report_outcome(op, outcome);
        }
    }
}

/// What a part of the queue becomes on the server, by now.
fn steps(pending: &QueuedGroup) -> impl Iterator<Item = ReplayStep<'_>> {
    let age = pending.queued.age();
    pending.ops.iter().map(move |op| ReplayStep {
        key: &op.key,
        action: op.action.after_waiting(age),
        observed: &op.observed,
        in_doubt: op.in_doubt.as_ref(),
        age,
    })
}

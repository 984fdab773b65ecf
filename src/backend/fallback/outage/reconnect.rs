//! Owns the way back to the server: when it is tried, and how what waited is done there, in order and once.
//! Knows nothing of what is served meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::backend::fallback::outage::disconnected::{Away, Tally};
use crate::backend::fallback::outage::probe::{Breaker, Reminder, Silence};
use crate::backend::fallback::queue::queued_at::Stamp;
use crate::backend::fallback::queue::replay_queue::Pending;
use crate::backend::fallback::shadow::cache::Known;
use crate::backend::fallback::shared::Inner;
use crate::backend::redis::replay::connection::{Bridge, Closed, Replayed, Step};
use crate::backend::redis::replay::queued_op::{Deferred, Outcome};
use crate::clock::Deadline;
use crate::config::OnConflict;
use crate::key::Key;
use crate::op::Action;
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

impl Inner {
    /// Tries until the server is back or the store ends. A later outage has its own thread, also where this
    /// one slept while somebody else ended the outage that it is for.
    pub(crate) fn return_when_possible(&self, away: &Arc<Away>) {
        let mut breaker = Breaker::new();
        let mut reminder = Reminder::new(away.cause.clone());
        while !self.is_ending() && self.outage().is_some_and(|now| Arc::ptr_eq(&now, away)) {
            let closed = match self.try_return() {
                Ok(()) => return,
                Err(closed) => closed,
            };
            if reminder.is_due(&closed.cause) {
                let (place, waiting) = (self.redis.place(), away.state().queue.len());
                let for_long = self.clock.now().duration_since(away.since).unwrap_or_default();
                log::warn!(
                    "the Redis server {place} is away for {for_long:.0?}, and {waiting} operations wait: {}",
                    closed.cause
                );
            }
            let silence = if closed.timed_out { Silence::TimedOut } else { Silence::Refused };
            self.rest(breaker.next(silence, fastrand::f64()));
        }
    }

    /// Tries once. Where it fails, the outage goes on.
    pub(crate) fn try_return(&self) -> Result<(), Closed> {
        let outcome = {
            let _one_at_a_time = self.returning.lock();
            self.go_back()
        };
        self.tell();
        outcome
    }

    fn go_back(&self) -> Result<(), Closed> {
        let Some(away) = self.outage() else {
            return Ok(());
        };
        let mut way = Way {
            inner: self,
            away: &away,
            bridge: self.redis.bridge()?,
            has_done: false,
            most: CHUNK_OPERATIONS,
        };
        way.agree()?;
        let (mut before, mut pause) = (u64::MAX, FIRST_PAUSE);
        loop {
            let waiting = way.away.state().queue.len();
            // The first step shows whether anything gets through, and nobody is to wait for that.
            if waiting == 0 || (waiting <= LAST && way.has_done) {
                break;
            }
            // However many writers there are, in the end they are slower than what is done there.
            if waiting >= before {
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            before = waiting;
            way.away.slow((waiting / 2).max(LAST), pause);
            way.replay_chunk()?;
        }
        // INVARIANT: from here on no operation runs here, until either all is done there or the outage goes on.
        let mut outage = self.outage.write();
        while !way.away.state().queue.is_empty() {
            way.replay_chunk()?;
        }
        let (tally, since) = (away.tally(), away.since);
        self.done.store(away.state().queue.done(), Ordering::Relaxed);
        drop(way);
        self.shadow.settle();
        self.redis.come_back();
        self.was_connected.store(true, Ordering::Release);
        self.is_away.store(false, Ordering::Release);
        *outage = None;
        let away_for = self.clock.now().duration_since(since).unwrap_or_default();
        let Tally { replayed, rejected, conflicts } = tally;
        self.events.lock().push_back(Event::Connected { replayed, rejected, conflicts, away_for });
        drop(outage);
        let place = self.redis.place();
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
            self.woken.wait_for(&mut wake, pause);
        }
    }
}

impl Drop for Way<'_> {
    fn drop(&mut self) {
        self.away.hurry();
    }
}

/// One try.
struct Way<'w> {
    inner: &'w Inner,
    away: &'w Away,
    bridge: Bridge<'w>,
    /// Whether anything got through.
    has_done: bool,
    /// How many operations are done in one step.
    most: usize,
}

impl Way<'_> {
    /// Finds out how far the server is: what was done there, and whether it has forgotten that.
    fn agree(&mut self) -> Result<(), Closed> {
        let marker = self.marker();
        let (done, sent) = {
            let state = self.away.state();
            (state.queue.done(), state.queue.sent())
        };
        let (made, held) = self.bridge.mark(&marker, done)?;
        let mut lost = None;
        if self.inner.was_marked.swap(true, Ordering::Relaxed) && made {
            let doubtful = self.away.take_doubtful();
            self.inner.doubt(doubtful, self.away);
            lost = Some("the marker of what was done there is gone".to_owned());
        } else if held < done {
            self.bridge.mark_anew(&marker, done)?;
            lost = Some(format!("{done} was done there, it knows of {held}"));
        } else if held > sent {
            let cause = format!("the server knows of operation {held}, and {sent} was the last one sent");
            return Err(Closed { stale: true, timed_out: true, ..Closed::here(cause) });
        }
        if let Some(cause) = self.inner.forget_history() {
            self.away.state().queue.forget_seen();
            lost = Some(cause.to_owned());
        }
        if let Some(cause) = lost {
            self.inner.lose_history(cause);
        }
        Ok(())
    }

    fn marker(&self) -> Key<'static> {
        Key::marker(self.inner.identity)
    }

    /// Does the first operations that wait.
    fn replay_chunk(&mut self) -> Result<(), Closed> {
        let (chunk, done, last, sent) = {
            let mut state = self.away.state();
            let done = state.queue.done();
            let halved = self.away.halved();
            let (chunk, last) = state.queue.chunk((self.most >> halved).max(1), CHUNK_BYTES >> halved);
            (chunk, done, last, state.queue.sent())
        };
        if let Some(journal) = &self.inner.journal {
            journal
                .sending(last)
                .map_err(|error| Closed::here(format!("what is sent cannot be noted: {error}")))?;
        }
        let steps: Vec<Step<'_>> = chunk.iter().flat_map(|pending| steps(pending)).collect();
        let remote_wins = self.inner.on_conflict == OnConflict::RemoteWins;
        let marker = self.marker();
        let begun = Instant::now();
        let told = self.bridge.replay(&marker, done, last, remote_wins, &steps);
        self.suit(begun.elapsed(), &told);
        let told = match told {
            // The server looks at all the keys first: one that this user may not touch stops the whole chunk.
            Err(closed) if closed.denied && chunk.len() > 1 => {
                self.most = (chunk.len() / 2).max(1);
                return Ok(());
            }
            Err(closed) if closed.denied => {
                // Where not even nothing may be done, it is not this operation that stands in the way.
                self.bridge.replay(&marker, done, done, remote_wins, &[])?;
                // That may have been so, and be so no more.
                match self.bridge.replay(&marker, done, last, remote_wins, &steps) {
                    Err(closed) if closed.denied => {
                        self.bridge.replay(&marker, done, last, remote_wins, &[])?;
                        let rejected = |index| (index, Outcome::Rejected(closed.cause.clone()));
                        Replayed::Done((0..steps.len()).map(rejected).collect())
                    }
                    told => told?,
                }
            }
            told => told?,
        };
        self.most = (self.most * 2).min(CHUNK_OPERATIONS);
        let (upto, outcomes) = match told {
            Replayed::Done(outcomes) => (last, outcomes),
            // The answer to an earlier chunk was lost: it is told now. Of those before it nobody can tell any
            // more what became of them, where they could not be noted before the program was killed.
            Replayed::Marked { at: Some(at), from, outcomes } if at > done && at <= sent => {
                if let Some(from) = from.filter(|from| (done + 1..at).contains(from)) {
                    self.finish(from, Vec::new());
                }
                (at, outcomes)
            }
            Replayed::Marked { .. } => return self.agree(),
        };
        self.finish(upto, outcomes);
        Ok(())
    }

    /// Lets a step be as long as fits the limit: a line may be slow, and what is cut off is never done.
    fn suit(&self, took: Duration, outcome: &Result<Replayed, Closed>) {
        let halved = self.away.halved();
        match outcome {
            Err(closed) if closed.timed_out => self.away.halve((halved + 1).min(MOST_HALVED)),
            Ok(_) if took < self.inner.limit / 8 => self.away.halve(halved.saturating_sub(1)),
            Ok(_) | Err(_) => {}
        }
    }

    /// Takes out what is done, and keeps what became of it: for whoever asks, and for the next outage.
    fn finish(&mut self, upto: u64, outcomes: Vec<(usize, Outcome)>) {
        let finished = self.away.state().queue.finish(upto);
        if let Some(journal) = &self.inner.journal
            && let Err(error) = journal.finished(upto)
        {
            // The marker on the server tells it as well.
            log::warn!("what is done on the server could not be noted: {error}");
        }
        let ops: Vec<(&Deferred, Stamp)> =
            finished.iter().flat_map(|pending| pending.ops.iter().map(|op| (op, pending.queued))).collect();
        self.has_done = true;
        self.inner.count(self.away, ops.len() as u64, &outcomes);
        let now = self.away.now();
        for (op, queued) in &ops {
            let writing = self.inner.shadow.writing(&op.key);
            match op.aged(queued.age()) {
                Action::Put { value, ttl } => {
                    let deadline = ttl.map(|ttl| Deadline::after(&now, ttl));
                    writing.left(Known::Value { bytes: value.bytes, deadline });
                }
                Action::Delete => writing.left(Known::Absent),
                _ => {}
            }
        }
        for (index, outcome) in outcomes {
            let Some((op, _)) = ops.get(index) else { continue };
            if !matches!(outcome, Outcome::Overwritten(_)) {
                drop(self.inner.shadow.writing(&op.key));
            }
            if matches!(outcome, Outcome::Dropped(_)) {
                self.away.state().note_dropped(&op.key);
            }
            if outcome == Outcome::Uncertain {
                self.inner.doubt(vec![(*op).clone()], self.away);
            }
            self.inner.note(op, outcome);
        }
    }
}

/// What a part of the queue becomes on the server, by now.
fn steps(pending: &Pending) -> impl Iterator<Item = Step<'_>> {
    let age = pending.queued.age();
    pending.ops.iter().map(move |op| Step {
        key: &op.key,
        action: op.aged(age),
        seen: &op.seen,
        told: op.told.as_ref(),
        age,
    })
}

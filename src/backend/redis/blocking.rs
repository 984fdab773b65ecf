//! Owns the operations that wait: for a value to be pushed, or for a lock to be free. Knows nothing of the commands
//! that they become.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::backend::redis::client::Redis;
use crate::backend::redis::connect::connection::{Connection, Request};
use crate::backend::redis::connect::pool::Pool;
use crate::backend::redis::failure::{ErrorContext, Failure, FailureKind};
use crate::backend::redis::operation_error::OperationError;
use crate::backend::redis::retry::{Attempt, RetryRule};
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::calls::LockAttempt;
use crate::backend::redis::wire::{lock_replies, replies};
use crate::bytes::Bytes;
use crate::clock::Millis;
use crate::error::Kind;
use crate::key::Key;
use crate::op::{End, EntryAction, Grant, LockAction, Op};
use crate::util::backoff::Backoff;
use crate::util::log_later::log_later;

/// The longest that one BLPOP waits: after this time a wait notices that the store was closed.
const SLICE: Duration = Duration::from_secs(1);

/// The shortest wait that BLPOP is asked for: zero would mean for ever.
const LEAST: Duration = Duration::from_millis(2);

/// How much later than the end of a wait the server's reply may come.
const SLACK: Duration = Duration::from_millis(150);

/// The first and the longest pauses between two attempts, and how much of each chance may take away.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_LOCK_PAUSE: Duration = Duration::from_millis(25);
const JITTER: f64 = 0.5;

/// The pauses of a wait, which never last longer than the wait itself.
struct WaitPauses {
    backoff: Backoff,
    end: Instant,
}

impl WaitPauses {
    fn new(longest: Duration, end: Instant) -> Self {
        Self { backoff: Backoff::new(FIRST_PAUSE, longest, JITTER), end }
    }

    /// Makes the next pause; returns `false` once the end has come.
    fn sleep(&mut self) -> bool {
        let left = left(self.end);
        if left.is_zero() {
            return false;
        }
        thread::sleep(self.backoff.next(fastrand::f64()).min(left));
        true
    }
}

fn left(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
}

/// Sleeps through the rest of a wait that is too short to ask the server for, and finds nothing.
fn sleep_until<R>(end: Instant) -> Option<R> {
    thread::sleep(left(end));
    None
}

/// Spells a wait for BLPOP: in seconds.
fn seconds(wait: Duration) -> String {
    format!("{}.{:03}", wait.as_secs(), wait.subsec_millis())
}

impl Redis {
    /// Pops the first value of a queue, and waits until `end` for one to be pushed.
    pub(crate) fn pop_wait(&self, key: &Key<'_>, end: Instant) -> Result<Option<Bytes>, OperationError> {
        if self.is_exact() {
            // BLPOP cannot store its reply in the reply cache.
            return self.poll(end, || self.pop(key, end));
        }
        let mut pauses = WaitPauses::new(LONGEST_PAUSE, end);
        let mut has_tried = false;
        loop {
            self.check_open()?;
            if left(end) < LEAST {
                let found = if has_tried { None } else { self.pop(key, end)? };
                return Ok(found.or_else(|| sleep_until(end)));
            }
            match self.wait_a_slice(key, end) {
                Ok(None) => has_tried = true,
                Ok(found) => return Ok(found),
                // All connections for blocking commands are in use: poll the queue instead.
                Err(Failure { kind: FailureKind::Exhausted, .. }) => {
                    if let Some(found) = self.pop(key, end)? {
                        return Ok(Some(found));
                    }
                    has_tried = true;
                    pauses.sleep();
                }
                Err(failure) => {
                    let context =
                        ErrorContext { key, expected: Kind::Queue, ..ErrorContext::writing("BLPOP") };
                    return Err(self.error_of(failure, context, &self.budget_until(end)));
                }
            }
        }
    }

    fn pop(&self, key: &Key<'_>, end: Instant) -> Result<Option<Bytes>, OperationError> {
        let op = Op { key: key.clone(), action: EntryAction::Pop { end: End::Front } };
        let call = self.is_exact().then(|| self.begin_call());
        Ok(self.apply_in(call.as_deref(), &op, Some(end))?.found()?)
    }

    fn wait_a_slice(&self, key: &Key<'_>, end: Instant) -> Result<Option<Bytes>, Failure> {
        let pool = self
            .blocking_pool
            .get_or_init(|| Pool::not_waiting(Arc::clone(&self.link), self.options.wait_connections));
        let budget = self.budget_until(end);
        let block = |_: Attempt| {
            let mut connection = pool.checkout_for_write(&budget)?;
            let found = connection.run(|connection| self.block(connection, key, end, &budget))?;
            connection.renew();
            Ok(found)
        };
        self.retry(RetryRule::AtMostOnce, &budget, block).map(|(found, _)| found)
    }

    fn block(
        &self,
        connection: &mut Connection,
        key: &Key<'_>,
        end: Instant,
        budget: &TimeBudget,
    ) -> Result<Option<Bytes>, Failure> {
        let left = left(end).max(LEAST);
        let slice = left.min(SLICE);
        let mut writer = self.writer(connection);
        writer.command(3, "BLPOP").key(key).arg(seconds(slice).as_bytes());
        connection.send(Request { replies: 1, mutation: true, atomic: true }, budget)?;
        // Before the last slice, a slow server gets the time of any operation to reply.
        let wait = TimeBudget::new((slice + self.options.timeout).min(left.saturating_add(SLACK)));
        replies::popped(connection.receive(&wait)?)
    }

    /// Makes attempts until one yields a result, or the end comes.
    pub(crate) fn poll<R, E: From<OperationError>>(
        &self,
        end: Instant,
        mut attempt: impl FnMut() -> Result<Option<R>, E>,
    ) -> Result<Option<R>, E> {
        let mut pauses = WaitPauses::new(LONGEST_PAUSE, end);
        loop {
            if let Some(found) = attempt()? {
                return Ok(Some(found));
            }
            self.check_open()?;
            if !pauses.sleep() {
                return Ok(None);
            }
        }
    }

    /// Takes a lock, and waits until `end` for it to be free.
    pub(crate) fn lock_wait(
        &self,
        name: &Key<'_>,
        ttl: Millis,
        end: Instant,
    ) -> Result<Option<Grant>, OperationError> {
        if left(end) < LEAST {
            let op = Op { key: name.clone(), action: LockAction::Lock { ttl } };
            let granted = self.apply_scripted(&op, Some(end))?.granted()?;
            return Ok(granted.or_else(|| sleep_until(end)));
        }
        let waiter = format!("{:x}-{:032x}", std::process::id(), fastrand::u128(..));
        let outcome = self.poll_in_queue(name, ttl, &waiter, end);
        match &outcome {
            // A waiter that got the lock has left the queue; and an unreachable server cannot be asked to remove it.
            Ok(Some(_)) | Err(Failure { kind: FailureKind::Unreachable | FailureKind::Broken, .. }) => {}
            Ok(None) | Err(_) => self.leave_queue(name, &waiter),
        }
        outcome.map_err(|failure| {
            let context = ErrorContext { key: name, ..ErrorContext::writing("EVAL") };
            self.error_of(failure, context, &self.budget_until(end))
        })
    }

    fn poll_in_queue(
        &self,
        name: &Key<'_>,
        ttl: Millis,
        waiter: &str,
        end: Instant,
    ) -> Result<Option<Grant>, Failure> {
        let mut pauses = WaitPauses::new(LONGEST_LOCK_PAUSE, end);
        loop {
            self.link.check_open()?;
            let budget = self.budget_until(end);
            match self.try_lock(name, ttl, waiter, &budget)? {
                Some(grant) => return Ok(Some(grant)),
                None if pauses.sleep() => {}
                None => return Ok(None),
            }
        }
    }

    fn try_lock(
        &self,
        name: &Key<'_>,
        ttl: Millis,
        waiter: &str,
        budget: &TimeBudget,
    ) -> Result<Option<Grant>, Failure> {
        if self.is_exact() {
            return self.call(&self.begin_call(), &LockAttempt { name, ttl, waiter }, budget);
        }
        let work = |connection: &mut Connection, _| {
            self.call_script(
                connection,
                budget,
                false,
                |writer, call| writer.lock(name, ttl, waiter, call),
                |next| lock_replies::granted(next()?),
            )
        };
        self.run(RetryRule::AtMostOnce, budget, work).map(|(granted, _)| granted)
    }

    /// Removes a waiter from the lock's queue, so that the next one gets its turn. If that fails, the entry expires
    /// soon.
    fn leave_queue(&self, name: &Key<'_>, waiter: &str) {
        let budget = TimeBudget::new(self.options.timeout.min(SLACK));
        let work = |connection: &mut Connection, _| {
            let mut writer = self.writer(connection);
            writer.leave(name, waiter);
            let request = Request { replies: writer.commands(), mutation: true, atomic: false };
            connection.send(request, &budget)?;
            (0..request.replies).try_for_each(|_| connection.receive(&budget).map(drop))
        };
        let outcome = match self.run(RetryRule::Recognised, &budget, work) {
            // A closed store hands out no connections any more.
            Err(Failure { kind: FailureKind::Closed, .. }) => {
                self.link.dial(&budget).and_then(|mut connection| {
                    let outcome = work(&mut connection, Attempt::default());
                    self.link.dispose(connection);
                    outcome
                })
            }
            outcome => outcome.map(|((), _)| ()),
        };
        if let Err(failure) = outcome {
            let name: &str = name;
            log_later!(
                Debug,
                "could not leave the queue of the lock {name:?} on Redis {}: {}",
                self.server_name(),
                failure.cause
            );
        }
    }

    /// The time budget of one exchange within a wait.
    pub(crate) fn budget_until(&self, end: Instant) -> TimeBudget {
        TimeBudget::new(self.options.timeout.min(left(end).saturating_add(SLACK)))
    }

    fn check_open(&self) -> Result<(), OperationError> {
        self.link.check_open().map_err(|failure| OperationError::new(failure, ErrorContext::reading("", "")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_spelled_in_seconds() {
        for (millis, text) in [(2, "0.002"), (1000, "1.000"), (1999, "1.999"), (61_050, "61.050")] {
            assert_eq!(seconds(Duration::from_millis(millis)), text);
        }
        assert_eq!(seconds(Duration::from_micros(2_999)), "0.002");
    }

    #[test]
    fn pauses_end_with_the_wait() {
        let begun = Instant::now();
        let mut pauses = WaitPauses::new(LONGEST_PAUSE, begun + Duration::from_millis(20));
        while pauses.sleep() {}
        assert!(begun.elapsed() >= Duration::from_millis(20));
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        assert!(!WaitPauses::new(LONGEST_PAUSE, begun).sleep());
    }
}

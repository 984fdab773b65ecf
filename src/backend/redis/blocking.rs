//! Owns the operations that wait: for a value to be pushed, for a lock to be free. What they say stands in
//! `commands`.

use std::thread;
use std::time::{Duration, Instant};

use crate::backend::redis::client::Redis;
use crate::backend::redis::connect::connection::{Connection, Request};
use crate::backend::redis::failure::{ErrorContext, Failure, FailureKind};
use crate::backend::redis::retry::{Job, ONCE};
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::replies;
use crate::bytes::Bytes;
use crate::clock::Millis;
use crate::error::{Kind, Result};
use crate::key::Key;
use crate::op::{End, EntryAction, Grant, LockAction, Op};

/// The longest that one BLPOP waits: after this, a store that was closed ends the wait.
const SLICE: Duration = Duration::from_secs(1);

/// BLPOP does not wait for less: no time at all would be for ever.
const LEAST: Duration = Duration::from_millis(2);

/// How much later than the end of a wait the server's answer may come.
const SLACK: Duration = Duration::from_millis(150);

/// The first and the longest pauses between two looks.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE_IN_LINE: Duration = Duration::from_millis(25);

/// Pauses that get longer, by chance more or less, and never go on beyond an end.
struct Backoff {
    next: Duration,
    longest: Duration,
    end: Instant,
}

impl Backoff {
    fn new(longest: Duration, end: Instant) -> Self {
        Self { next: FIRST_PAUSE, longest, end }
    }

    /// Makes the next pause; `false` where the end has come.
    fn make(&mut self) -> bool {
        let left = left(self.end);
        if left.is_zero() {
            return false;
        }
        thread::sleep(self.next.mul_f64(0.5 + fastrand::f64() / 2.0).min(left));
        self.next = (self.next * 2).min(self.longest);
        true
    }
}

fn left(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
}

/// A wait that is too short for the server is waited out here, and comes to nothing.
fn sleep_until<R>(end: Instant) -> Option<R> {
    thread::sleep(left(end));
    None
}

/// How a time to wait is spelled for BLPOP: seconds.
fn seconds(wait: Duration) -> String {
    format!("{}.{:03}", wait.as_secs(), wait.subsec_millis())
}

impl Redis {
    pub(crate) fn wait_to_pop(&self, key: &Key<'_>, end: Instant) -> Result<Option<Bytes>> {
        if self.is_exact() {
            // BLPOP cannot note what it handed out.
            return self.poll(end, || self.pop(key, end));
        }
        let mut pauses = Backoff::new(LONGEST_PAUSE, end);
        let mut looked = false;
        loop {
            self.check_open()?;
            if left(end) < LEAST {
                let found = if looked { None } else { self.pop(key, end)? };
                return Ok(found.or_else(|| sleep_until(end)));
            }
            match self.wait_a_slice(key, end) {
                Ok(None) => looked = true,
                Ok(found) => return Ok(found),
                // All connections for waiting are in use: then it is looked at from time to time.
                Err(Failure { kind: FailureKind::Exhausted, .. }) => {
                    if let Some(found) = self.pop(key, end)? {
                        return Ok(Some(found));
                    }
                    looked = true;
                    pauses.make();
                }
                Err(failure) => {
                    let about = ErrorContext { key, expected: Kind::Queue, ..ErrorContext::writing("BLPOP") };
                    return Err(self.error_of(failure, about, &self.budget_until(end)));
                }
            }
        }
    }

    fn pop(&self, key: &Key<'_>, end: Instant) -> Result<Option<Bytes>> {
        let op = Op { key: key.clone(), action: EntryAction::Pop { end: End::Front } };
        let turn = self.deduplicates(&op.action).then(|| self.begin_call());
        self.apply_in(turn.as_deref(), &op, Some(end))?.found()
    }

    fn wait_a_slice(&self, key: &Key<'_>, end: Instant) -> Result<Option<Bytes>, Failure> {
        let pool = self.blocking_pool.get_or_init(|| self.pool.with_own_slots(self.options.wait_connections));
        let limit = self.budget_until(end);
        let attempt = |late, _| {
            let mut lease = pool.checkout_for(ONCE, &limit, late)?;
            let found = lease.run(|connection| self.block(connection, key, end, &limit))?;
            lease.renew();
            Ok(found)
        };
        self.retry(ONCE, &limit, attempt).map(|(found, _)| found)
    }

    fn block(
        &self,
        connection: &mut Connection,
        key: &Key<'_>,
        end: Instant,
        limit: &TimeBudget,
    ) -> Result<Option<Bytes>, Failure> {
        let left = left(end).max(LEAST);
        let slice = left.min(SLICE);
        // In the middle of a wait a server that is held up has the time of any operation to answer.
        connection.set_blocking_timeout((slice + self.options.timeout).min(left.saturating_add(SLACK)))?;
        let mut packer = self.writer(connection);
        packer.command(3, "BLPOP").key(key).arg(seconds(slice).as_bytes());
        connection.send(Request { replies: 1, mutation: true, atomic: true }, limit)?;
        replies::popped(connection.receive(limit)?)
    }

    /// Makes attempts until one yields something, or the end comes.
    pub(crate) fn poll<R>(
        &self,
        end: Instant,
        mut attempt: impl FnMut() -> Result<Option<R>>,
    ) -> Result<Option<R>> {
        let mut pauses = Backoff::new(LONGEST_PAUSE, end);
        loop {
            if let Some(found) = attempt()? {
                return Ok(Some(found));
            }
            self.check_open()?;
            if !pauses.make() {
                return Ok(None);
            }
        }
    }

    pub(crate) fn wait_to_lock(&self, name: &Key<'_>, ttl: Millis, end: Instant) -> Result<Option<Grant>> {
        if left(end) < LEAST {
            let op = Op { key: name.clone(), action: LockAction::Lock { ttl } };
            let granted = self.apply_once(&op, Some(end))?.granted()?;
            return Ok(granted.or_else(|| sleep_until(end)));
        }
        let waiter = format!("{:x}-{:032x}", std::process::id(), fastrand::u128(..));
        let outcome = self.poll_in_queue(name, ttl, &waiter, end);
        match &outcome {
            // It left the line when it was served; and to a server that is away there is no way.
            Ok(Some(_)) | Err(Failure { kind: FailureKind::Unreachable, .. }) => {}
            Ok(None) | Err(_) => self.leave_queue(name, &waiter),
        }
        outcome.map_err(|failure| {
            let about = ErrorContext { key: name, ..ErrorContext::writing("EVAL") };
            self.error_of(failure, about, &self.budget_until(end))
        })
    }

    fn poll_in_queue(
        &self,
        name: &Key<'_>,
        ttl: Millis,
        waiter: &str,
        end: Instant,
    ) -> Result<Option<Grant>, Failure> {
        let mut pauses = Backoff::new(LONGEST_PAUSE_IN_LINE, end);
        loop {
            self.pool.check_open()?;
            let limit = self.budget_until(end);
            let attempt = |connection: &mut Connection, _| {
                self.call_script(
                    connection,
                    &limit,
                    |packer, call| packer.lock(name, ttl, waiter, call),
                    |next| replies::granted(next()?),
                )
            };
            match self.run(ONCE, &limit, attempt)?.0 {
                Some(grant) => return Ok(Some(grant)),
                None if pauses.make() => {}
                None => return Ok(None),
            }
        }
    }

    /// Gives the place of one who waited to whoever is next. Where that fails, the place is lost soon.
    fn leave_queue(&self, name: &Key<'_>, waiter: &str) {
        let limit = TimeBudget::new(self.options.timeout.min(SLACK));
        let work = |connection: &mut Connection, _| {
            let mut packer = self.writer(connection);
            packer.leave(name, waiter);
            let unit = Request { replies: packer.commands(), mutation: true, atomic: false };
            connection.send(unit, &limit)?;
            (0..unit.replies).try_for_each(|_| connection.receive(&limit).map(drop))
        };
        let outcome = match self.run(Job { repeatable: true, ..ONCE }, &limit, work) {
            // A store that is closed gives no connections out any more.
            Err(Failure { kind: FailureKind::Closed, .. }) => {
                self.pool.dial(&limit).and_then(|mut connection| {
                    let outcome =
                        connection.apply_deadline(&limit).and_then(|()| work(&mut connection, false));
                    self.pool.put_back(connection);
                    outcome
                })
            }
            outcome => outcome.map(|((), _)| ()),
        };
        if let Err(failure) = outcome {
            let name: &str = name;
            log::debug!("no longer waiting for the lock {name:?}: {}", failure.cause);
        }
    }

    /// The limit of one exchange of a wait.
    pub(crate) fn budget_until(&self, end: Instant) -> TimeBudget {
        TimeBudget::new(self.options.timeout.min(left(end).saturating_add(SLACK)))
    }

    fn check_open(&self) -> Result<()> {
        self.pool.check_open().map_err(|failure| failure.into_error(ErrorContext::reading("", ""), None))
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
        let mut pauses = Backoff::new(LONGEST_PAUSE, begun + Duration::from_millis(20));
        while pauses.make() {}
        assert!(begun.elapsed() >= Duration::from_millis(20));
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        assert!(!Backoff::new(LONGEST_PAUSE, begun).make());
    }
}

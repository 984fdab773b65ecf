//! Owns the operations of a backend, each done on the server or here. Knows nothing of when which of the two
//! serves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Fallback;
use super::away::{self, Away};
use super::shadow::{Known, Writing};
use crate::backend::redis::Redis;
use crate::backend::{Backend, Status, Work};
use crate::bytes::Bytes;
use crate::clock::{Millis, Ttl};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{Action, End, Grant, Op, Reply};
use crate::page::{Cursor, Page};
use crate::query::{Answer, Query};

/// How often a queue is looked at by who waits for a value while the server is away.
const LOOK: Duration = Duration::from_millis(10);

impl Fallback {
    /// Runs a transaction while the server is away.
    fn transact_here(&self, work: &mut Work<'_>) -> Result<bool> {
        let Some(away) = self.inner.outage() else {
            return Ok(false);
        };
        let run = away.run(work)?;
        let outage = self.inner.outage.read();
        match &*outage {
            Some(now) if Arc::ptr_eq(now, &away) => {
                away.finish(run).inspect(|made| self.inner.note_queued(u64::from(*made)))
            }
            // It is over: what was read here is to be read there.
            _ => Ok(false),
        }
    }
}

impl Backend for Fallback {
    fn get(&self, key: &Key<'_>) -> Result<Option<Bytes>> {
        let there = |redis: &Redis| {
            let reading = self.inner.shadow.reading(key);
            let found = redis.get(key)?;
            reading.saw(Known::value(found.clone()));
            Ok(found)
        };
        self.serve(true, there, |away, _| away.get(key))
    }

    fn get_many(&self, keys: &[Key<'_>]) -> Vec<Result<Option<Bytes>>> {
        let there = |redis: &Redis| ended(redis.get_many(keys));
        let outcome = self.serve(true, there, |away, _| Ok(keys.iter().map(|key| away.get(key)).collect()));
        outcome.unwrap_or_else(|error| vec![Err(error)])
    }

    fn ask(&self, key: &Key<'_>, query: &Query) -> Result<Answer> {
        self.serve(true, |redis| redis.ask(key, query), |away, _| away.ask(key, query))
    }

    fn ttl(&self, key: &Key<'_>) -> Result<Option<Ttl>> {
        self.serve(true, |redis| redis.ttl(key), |away, _| away.ttl(key))
    }

    fn apply(&self, op: Op<'_>) -> Result<Reply> {
        let mut was_there = false;
        let there = |redis: &Redis| {
            was_there = true;
            let writing = self.inner.shadow.writing(&op.key);
            match redis.apply(op.clone()) {
                Ok(reply) => {
                    self.inner.keep(writing, &op, &reply);
                    Ok(reply)
                }
                Err(error) => {
                    not_done(writing, &op, &error);
                    Err(error)
                }
            }
        };
        let here = |away: &Away, lost| {
            let reply = away.apply(&op, lost)?;
            self.inner.note_queued(1);
            Ok(reply)
        };
        let outcome = self.serve(op.action.is_idempotent(), there, here);
        if was_there {
            self.inner.learn([&op.key]);
        }
        outcome
    }

    fn apply_until(&self, op: Op<'_>, end: Instant) -> Result<Reply> {
        let repeatable = op.action.is_idempotent();
        self.serve(repeatable, |redis| redis.apply_until(op.clone(), end), |away, lost| away.apply(&op, lost))
    }

    fn apply_each(&self, ops: Vec<Op<'_>>) -> Vec<Result<Reply>> {
        let repeatable = ops.iter().all(|op| op.action.is_idempotent());
        let there = |redis: &Redis| {
            let writing: Vec<_> = ops.iter().map(|op| self.inner.shadow.writing(&op.key)).collect();
            let outcomes = ended(redis.apply_each(ops.clone()));
            let outcomes = match outcomes {
                Ok(outcomes) => outcomes,
                Err(error) => {
                    for (op, writing) in ops.iter().zip(writing) {
                        not_done(writing, op, &error);
                    }
                    return Err(error);
                }
            };
            for (n, (op, writing)) in ops.iter().zip(writing).enumerate() {
                // A list that is shorter ends with the error that ended it.
                match outcomes.get(n).or(outcomes.last()) {
                    Some(Ok(reply)) => self.inner.keep(writing, op, reply),
                    Some(Err(error)) => not_done(writing, op, error),
                    None => {}
                }
            }
            Ok(outcomes)
        };
        let here = |away: &Away, lost| {
            let outcomes = ops.iter().map(|op| match away.apply(op, lost) {
                Ok(reply) => {
                    self.inner.note_queued(1);
                    Ok(reply)
                }
                Err(error) if lost => Err(error.after_lost_answer()),
                Err(error) => Err(error),
            });
            Ok(outcomes.collect())
        };
        let outcome = self.serve(repeatable, there, here);
        self.inner.learn(ops.iter().map(|op| &op.key));
        outcome.unwrap_or_else(|error| vec![Err(error)])
    }

    fn commit(&self, writes: Vec<Op<'_>>) -> Result<()> {
        let there = |redis: &Redis| {
            let writing: Vec<_> = writes.iter().map(|op| self.inner.shadow.writing(&op.key)).collect();
            if let Err(error) = redis.commit(writes.clone()) {
                for (op, writing) in writes.iter().zip(writing) {
                    not_done(writing, op, &error);
                }
                return Err(error);
            }
            for (op, writing) in writes.iter().zip(writing) {
                self.inner.keep(writing, op, &Reply::Done);
            }
            Ok(())
        };
        let here = |away: &Away, lost| {
            away.commit(&writes, lost).inspect(|()| self.inner.note_queued(writes.len() as u64))
        };
        let outcome = self.serve(true, there, here);
        self.inner.learn(writes.iter().map(|op| &op.key));
        outcome
    }

    fn pop_wait(&self, key: &Key<'_>, end: Instant) -> Result<Option<Bytes>> {
        let pop = || Op { key: key.clone(), action: Action::Pop { end: End::Front } };
        loop {
            self.inner.shadow.writing(key);
            let here = |away: &Away, _| {
                let found = away.apply(&pop(), false)?.found()?;
                self.inner.note_queued(u64::from(found.is_some()));
                Ok(found)
            };
            let found = self.serve(false, |redis| redis.pop_wait(key, end), here)?;
            let left = end.saturating_duration_since(Instant::now());
            if found.is_some() || left.is_zero() {
                return Ok(found);
            }
            // Nobody tells here of a push; there the server does the waiting.
            std::thread::sleep(left.min(LOOK));
        }
    }

    fn attempt_until<R>(
        &self,
        queue: &Key<'_>,
        end: Instant,
        attempt: impl FnMut() -> Result<Option<R>>,
    ) -> Result<Option<R>> {
        // The attempts themselves are served by one or the other.
        self.inner.redis.attempt_until(queue, end, attempt)
    }

    fn lock_wait(&self, name: &Key<'_>, ttl: Millis, end: Instant) -> Result<Option<Grant>> {
        self.serve(false, |redis| redis.lock_wait(name, ttl, end), |_, _| Err(away::refused()))
    }

    fn transact(&self, work: &mut Work<'_>) -> Result<bool> {
        let mut written = Vec::new();
        let mut there = |redis: &Redis| {
            let outcome = redis.transact(&mut |base, now| {
                let changes = work(base, now);
                written = changes.iter().map(|(key, _)| key.clone()).collect();
                changes
            });
            for key in &written {
                drop(self.inner.shadow.writing(key));
            }
            outcome
        };
        // While the server is away it runs below, where no lock is held that the store may want meanwhile.
        let mut is_here = false;
        let outcome = self.serve(false, &mut there, |_, _| {
            is_here = true;
            Ok(false)
        });
        self.inner.learn(&written);
        if is_here { self.transact_here(work) } else { outcome }
    }

    fn page(&self, prefix: &str, from: &Cursor) -> Result<Page> {
        self.serve(
            true,
            |redis| redis.page(prefix, from),
            |away, _| Ok(away.table().page(prefix, from, &away.now())),
        )
    }

    fn keys(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        self.serve(
            true,
            |redis| redis.keys(prefix, after, limit),
            |away, _| Ok(away.table().first_keys(prefix, after, limit, &away.now())),
        )
    }

    fn count(&self, prefix: &str) -> Result<u64> {
        self.serve(true, |redis| redis.count(prefix), |away, _| Ok(away.table().count(prefix, &away.now())))
    }

    fn remove(&self, prefix: &str) -> Result<u64> {
        let there = |redis: &Redis| {
            self.inner.shadow.clear();
            redis.remove(prefix).inspect(|_| self.inner.shadow.clear())
        };
        let here = |away: &Away, _| {
            if !away.is_exclusive() {
                return Err(away::refused());
            }
            let keys = away.table().first_keys(prefix, None, usize::MAX, &away.now());
            let removed = keys.into_iter().map(|key| {
                let removed = away.apply(&Op { key: Key::listed(key), action: Action::Delete }, false)?;
                self.inner.note_queued(1);
                removed.flag()
            });
            removed.map(|removed| removed.map(u64::from)).sum()
        };
        self.serve(false, there, here)
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn close(&self) -> Result<()> {
        self.inner.close(self.inner.limit)
    }

    fn status(&self) -> Status {
        match self.inner.outage() {
            None => Status::Connected,
            Some(away) => Status::Away { since: away.since, pending: away.state().queue.len() },
        }
    }
}

/// Notes that a write has failed, and whether it may be done all the same.
fn not_done(writing: Writing<'_>, op: &Op<'_>, error: &Error) {
    match error.maybe_applied() {
        true => writing.lost(&op.action),
        false => writing.failed(),
    }
}

/// A list of outcomes that ends with an error because the server went away is that error.
fn ended<R>(mut outcomes: Vec<Result<R>>) -> Result<Vec<Result<R>>> {
    match outcomes.last() {
        Some(Err(error)) if error.unreachable().is_some() => match outcomes.pop() {
            Some(Err(error)) if outcomes.is_empty() => Err(error),
            Some(last) => {
                outcomes.push(last);
                Ok(outcomes)
            }
            None => Ok(outcomes),
        },
        _ => Ok(outcomes),
    }
}

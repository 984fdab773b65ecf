//! Owns the operations of a backend, each done on the server or here. Knows nothing of when which of the two
//! serves.

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::backend::fallback::outage::disconnected::{Outage, refused};
use crate::backend::fallback::outage::sent::Sent;
use crate::backend::fallback::shadow::after_write;
use crate::backend::fallback::shadow::cache::Shadowed;
use crate::backend::fallback::shared::{Fallback, OnLostReply};
use crate::backend::redis::client::Redis;
use crate::backend::redis::replay::queued_op::Observed;
use crate::backend::{Backend, Status, TransactionBody};
use crate::bytes::Bytes;
use crate::clock::{Millis, Ttl};
use crate::error::{Error, Kind, Result};
use crate::key::Key;
use crate::op::{
    Answer, Cursor, End, EntryAction, Grant, LeaseAction, LockAction, Op, Page, Query, Reply, Write,
};

/// How often a queue is looked at by who waits for a value while the server is away.
const LOOK: Duration = Duration::from_millis(10);

impl Fallback {
    /// Runs a transaction while the server is away.
    fn transact_locally(&self, work: &mut TransactionBody<'_>) -> Result<bool> {
        let Some(away) = self.shared.outage() else {
            return Ok(false);
        };
        let run = away.run(work)?;
        // The closure may have forked.
        self.shared.redis.check_process()?;
        let outage = self.shared.outage.read();
        match &*outage {
            Some(now) if Arc::ptr_eq(now, &away) => away.finish(run),
            // It is over: what was read here is to be read there.
            _ => Ok(false),
        }
    }

    /// Does one operation, within what is left of a wait if it is part of one.
    fn apply_one(&self, op: &Op<'_>, end: Option<Instant>) -> Result<Reply> {
        let takes_turns = self.shared.redis.deduplicates(&op.action);
        let again =
            if takes_turns { OnLostReply::AskServer } else { OnLostReply::of(op.action.traits().repeat) };
        // Only who is on the way to the server needs a turn.
        let turn = OnceCell::new();
        let there = |redis: &Redis| {
            let writing = self.shared.shadow.begin_write(&op.key);
            let turn = takes_turns.then(|| &**turn.get_or_init(|| redis.begin_call()));
            match redis.apply_in(turn, op, end) {
                Ok(reply) => {
                    self.shared.record_reply(writing, op, &reply);
                    Ok(reply)
                }
                Err(error) => {
                    writing.record_failure(error.maybe_applied(), || Observed::left_by_entry(&op.action));
                    Err(error)
                }
            }
        };
        let here = |away: &Outage, sent| match turn.get() {
            Some(turn) if sent == Sent::InDoubt => self.shared.apply_in_doubt(away, op, turn),
            _ => away.apply(op, sent),
        };
        self.route_write(again, || [&op.key], there, here)
    }
}

impl Backend for Fallback {
    fn get(&self, key: &Key<'_>) -> Result<Option<Bytes>> {
        let there = |redis: &Redis| {
            let reading = self.shared.shadow.begin_read(key);
            let found = redis.get(key)?;
            reading.record_read(Shadowed::value(found.clone()));
            Ok(found)
        };
        self.route(OnLostReply::Repeat, there, |away, _| away.get(key))
    }

    fn get_many(&self, keys: &[Key<'_>]) -> Vec<Result<Option<Bytes>>> {
        self.get_batch(keys)
    }

    fn ask(&self, key: &Key<'_>, query: &Query) -> Result<Answer> {
        let there = |redis: &Redis| {
            let reading = is_of_other(query).then(|| self.shared.shadow.begin_read(key));
            let answer = redis.ask(key, query)?;
            if let Some(reading) = reading {
                reading.record_read(Shadowed::NotAValue);
            }
            Ok(answer)
        };
        self.route(OnLostReply::Repeat, there, |away, _| away.ask(key, query))
    }

    fn ttl(&self, key: &Key<'_>) -> Result<Option<Ttl>> {
        self.route(OnLostReply::Repeat, |redis| redis.ttl(key), |away, _| away.ttl(key))
    }

    fn apply(&self, op: Op<'_>) -> Result<Reply> {
        self.apply_one(&op, None)
    }

    fn apply_lease(&self, op: Op<'_, LeaseAction>, end: Option<Instant>) -> Result<Reply> {
        let on_server = |redis: &Redis| {
            let writing = self.shared.shadow.begin_write(&op.key);
            match redis.apply_once(&op, end) {
                Ok(reply) => {
                    writing.record_write(Shadowed::NotAValue);
                    Ok(reply)
                }
                Err(error) => {
                    writing.record_failure(error.maybe_applied(), || Observed::OwnWrite);
                    Err(error)
                }
            }
        };
        let locally = |outage: &Outage, _| outage.apply_lease(&op);
        let on_lost_reply = OnLostReply::of(op.action.traits().repeat);
        self.route_write(on_lost_reply, || [&op.key], on_server, locally)
    }

    fn apply_lock(&self, op: Op<'_, LockAction>) -> Result<Reply> {
        let on_lost_reply = OnLostReply::of(op.action.traits().repeat);
        self.route(on_lost_reply, |redis| redis.apply_once(&op, None), |_, _| Err(refused()))
    }

    fn apply_each(&self, ops: Vec<Op<'_>>) -> Vec<Result<Reply>> {
        self.apply_batch(&ops)
    }

    fn commit(&self, writes: Vec<Op<'_, Write>>) -> Result<()> {
        let there = |redis: &Redis| {
            let mut writing = self.shared.shadow.begin_writes(keys_of(&writes));
            if let Err(error) = redis.commit(writes.clone()) {
                let done = writes.iter().map(|op| Observed::left_by_write(&op.action));
                writing.record_failures_from(0, error.maybe_applied(), done);
                return Err(error);
            }
            for (place, op) in writes.iter().enumerate() {
                writing.record_write(place, self.shared.shadowed_after_write(&op.action));
            }
            Ok(())
        };
        let here = |away: &Outage, sent| away.commit(&writes, sent);
        self.route_write(OnLostReply::Repeat, || writes.iter().map(|op| &op.key), there, here)
    }

    fn pop_wait(&self, key: &Key<'_>, end: Instant) -> Result<Option<Bytes>> {
        let pop = || Op { key: key.clone(), action: EntryAction::Pop { end: End::Front } };
        if self.shared.redis.deduplicates(&pop().action) {
            return self.attempt_until(key, end, || self.apply_one(&pop(), Some(end))?.found());
        }
        loop {
            self.shared.shadow.begin_write(key);
            let here = |away: &Outage, _| {
                let found = away.apply(&pop(), Sent::Not)?.found()?;
                Ok(found)
            };
            let found = self.route(OnLostReply::Fail, |redis| redis.pop_wait(key, end), here)?;
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
        self.shared.redis.attempt_until(queue, end, attempt)
    }

    fn lock_wait(&self, name: &Key<'_>, ttl: Millis, end: Instant) -> Result<Option<Grant>> {
        self.route(OnLostReply::Fail, |redis| redis.lock_wait(name, ttl, end), |_, _| Err(refused()))
    }

    fn transact(&self, work: &mut TransactionBody<'_>) -> Result<bool> {
        let mut written = Vec::new();
        let mut there = |redis: &Redis| {
            let mut writing = None;
            let mut after = Vec::new();
            let outcome = redis.transact(&mut |base, now| {
                let changes = work(base, now);
                after = after_write::after_changes(&changes);
                written = changes.iter().map(|(key, _)| key.clone()).collect();
                writing = Some(self.shared.shadow.begin_writes(written.clone()));
                changes
            });
            if let Some(mut writing) = writing {
                if matches!(outcome, Ok(true)) {
                    for (place, known) in after.into_iter().enumerate() {
                        if let Some(known) = known {
                            writing.record_write(place, known);
                        }
                    }
                } else {
                    let lost = outcome.as_ref().is_err_and(Error::maybe_applied);
                    let done =
                        |known: Option<Shadowed>| known.map_or(Observed::OwnWrite, |known| known.observed());
                    writing.record_failures_from(0, lost, after.into_iter().map(done));
                }
            }
            outcome
        };
        // While the server is away it runs below, where no lock is held that the store may want meanwhile.
        let mut is_here = false;
        let outcome = self.route(OnLostReply::Fail, &mut there, |_, _| {
            is_here = true;
            Ok(false)
        });
        self.shared.carry_into_outage(&written);
        if is_here { self.transact_locally(work) } else { outcome }
    }

    fn page(&self, prefix: &str, from: &Cursor) -> Result<Page> {
        self.route(
            OnLostReply::Repeat,
            |redis| redis.page(prefix, from),
            |away, _| Ok(away.table().page(prefix, from, &away.now())),
        )
    }

    fn keys(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        self.route(
            OnLostReply::Repeat,
            |redis| redis.keys(prefix, after, limit),
            |away, _| Ok(away.table().first_keys(prefix, after, limit, &away.now())),
        )
    }

    fn count(&self, prefix: &str) -> Result<u64> {
        self.route(
            OnLostReply::Repeat,
            |redis| redis.count(prefix),
            |away, _| Ok(away.table().count(prefix, &away.now())),
        )
    }

    fn remove(&self, prefix: &str) -> Result<u64> {
        let there = |redis: &Redis| {
            self.shared.shadow.clear();
            redis.remove(prefix).inspect(|_| self.shared.shadow.clear())
        };
        let here = |away: &Outage, _| {
            // Of keys that are not known here nobody could say that they are gone.
            if !away.is_exclusive() || !away.assumes_absence() {
                return Err(refused());
            }
            let keys = away.table().first_keys(prefix, None, usize::MAX, &away.now());
            let removed = keys.into_iter().map(|key| {
                let removed =
                    away.apply(&Op { key: Key::listed(key), action: EntryAction::Delete }, Sent::Not)?;
                removed.flag()
            });
            removed.map(|removed| removed.map(u64::from)).sum()
        };
        self.route(OnLostReply::Fail, there, here)
    }

    fn flush(&self) -> Result<()> {
        self.shared.queue_file.as_ref().map_or(Ok(()), |journal| journal.flush())
    }

    fn close(&self) -> Result<()> {
        self.shared.close(self.shared.limit)
    }

    fn stands_in(&self) -> bool {
        !self.strict && self.shared.serves && self.shared.is_disconnected.load(Ordering::Acquire)
    }

    fn status(&self) -> Status {
        match self.shared.outage() {
            None => Status::Connected,
            Some(away) => Status::Away { since: away.since, pending: away.state().queue.len() },
        }
    }
}

fn keys_of<'o>(ops: &'o [Op<'_, Write>]) -> Vec<&'o str> {
    ops.iter().map(|op| &*op.key).collect()
}

/// Whether a question is about what is no value.
fn is_of_other(query: &Query) -> bool {
    matches!(query.kind(), Some(Kind::Map | Kind::Queue))
}

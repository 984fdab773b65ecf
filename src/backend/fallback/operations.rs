//! Owns the operations of a backend, each carried out on the server or locally. Knows nothing of how the choice between
//! the two is made.

use std::time::{Duration, Instant};

use crate::backend::fallback::entry_write::{EntryWrite, LeaseWrite};
use crate::backend::fallback::open::FallbackBackend;
use crate::backend::fallback::outage::refusal::refused;
use crate::backend::fallback::outage::sent::Sent;
use crate::backend::fallback::outage::serving::Outage;
use crate::backend::fallback::route::{Mode, OnLostReply, Pair};
use crate::backend::fallback::shadow::cache::Shadowed;
use crate::backend::redis::client::Redis;
use crate::backend::redis::operation_error::OperationError;
use crate::backend::{Backend, TransactionBody, window_sum};
use crate::bytes::Bytes;
use crate::clock::{Millis, Ttl};
use crate::error::{Kind, Result};
use crate::key::Key;
use crate::op::{
    Answer, Cursor, End, EntryAction, Grant, LeaseAction, LockAction, Op, Page, Query, Reply, Write,
};
use crate::outage::Status;

/// How often a waiting thread looks at a queue during an outage.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

impl FallbackBackend {
    pub(super) fn read<R>(
        &self,
        on_server: impl FnMut(&Redis) -> Result<R, OperationError>,
        locally: impl FnMut(&Outage) -> Result<R>,
    ) -> Result<R> {
        self.route(OnLostReply::Fail, &mut Pair(on_server, locally))
    }

    /// Runs a call that changes keys on the server without a list of them. What the shadow holds of keys is forgotten,
    /// also what was read during the call: however the call ends, the server may have changed them.
    pub(super) fn forget_all_around<R>(&self, call: impl FnOnce() -> R) -> R {
        self.shared.shadow.clear();
        let outcome = call();
        self.shared.shadow.clear();
        outcome
    }

    /// Carries out one mutation, until `end` if it is a part of a longer wait.
    fn apply_until(&self, op: &Op<'_>, end: Option<Instant>) -> Result<Reply> {
        let mut write = EntryWrite::new(&self.shared, op, end);
        self.route(write.on_lost_reply(), &mut write)
    }
}

impl Backend for FallbackBackend {
    fn get(&self, key: &Key<'_>) -> Result<Option<Bytes>> {
        let on_server = |redis: &Redis| {
            let read = self.shared.shadow.begin_read(key);
            let found = redis.get(key)?;
            read.record_read(Shadowed::value(found.clone()));
            Ok(found)
        };
        self.read(on_server, |outage| outage.get(key))
    }

    fn get_many(&self, keys: &[Key<'_>]) -> Vec<Result<Option<Bytes>>> {
        self.get_batch(keys)
    }

    fn ask(&self, key: &Key<'_>, query: &Query) -> Result<Answer> {
        let is_about_a_value = !matches!(query.kind(), Some(Kind::Map | Kind::Queue));
        let on_server = |redis: &Redis| {
            let read = (!is_about_a_value).then(|| self.shared.shadow.begin_read(key));
            let answer = redis.ask(key, query)?;
            if let Some(read) = read {
                read.record_read(Shadowed::NotAValue);
            }
            Ok(answer)
        };
        self.read(on_server, |outage| outage.ask(key, query))
    }

    fn window_sum(&self, key: &Key<'_>, width: Millis) -> Result<i64> {
        let locally = |outage: &Outage| {
            let fields = outage.ask(key, &Query::Map)?.map()?;
            window_sum(key, width, &outage.now(), &fields)
        };
        self.read(|redis| redis.window_sum(key, width), locally)
    }

    fn ttl(&self, key: &Key<'_>) -> Result<Option<Ttl>> {
        self.read(|redis| redis.ttl(key), |outage| outage.ttl(key))
    }

    fn apply(&self, op: Op<'_>) -> Result<Reply> {
        self.apply_until(&op, None)
    }

    fn apply_each(&self, ops: Vec<Op<'_>>) -> Vec<Result<Reply>> {
        self.apply_batch(&ops)
    }

    fn apply_lease(&self, op: Op<'_, LeaseAction>, end: Option<Instant>) -> Result<Reply> {
        self.route(OnLostReply::Fail, &mut LeaseWrite { shared: &self.shared, op: &op, end })
    }

    fn apply_lock(&self, op: Op<'_, LockAction>) -> Result<Reply> {
        self.route(
            OnLostReply::Fail,
            &mut Pair(|redis: &Redis| redis.apply_scripted(&op, None), |_: &_| Err(refused())),
        )
    }

    fn commit(&self, writes: Vec<Op<'_, Write>>) -> Result<()> {
        self.commit_batch(&writes)
    }

    fn pop_wait(&self, key: &Key<'_>, end: Instant) -> Result<Option<Bytes>> {
        let pop = Op { key: key.clone(), action: EntryAction::Pop { end: End::Front } };
        if self.shared.redis.is_exact() {
            return self.attempt_until(key, end, || self.apply_until(&pop, Some(end))?.found());
        }
        loop {
            self.shared.shadow.forget(key);
            let on_server = |redis: &Redis| redis.pop_wait(key, end);
            let locally = |outage: &Outage| outage.apply(&pop, Sent::Not)?.found();
            let found = self.route(OnLostReply::Fail, &mut Pair(on_server, locally))?;
            let left = end.saturating_duration_since(Instant::now());
            if found.is_some() || left.is_zero() {
                return Ok(found);
            }
            // The server waits for a push itself; locally no push wakes this thread, so it polls.
            std::thread::sleep(left.min(POLL_INTERVAL));
        }
    }

    fn attempt_until<R>(
        &self,
        _queue: &Key<'_>,
        end: Instant,
        attempt: impl FnMut() -> Result<Option<R>>,
    ) -> Result<Option<R>> {
        // Each attempt is routed by itself.
        self.shared.redis.poll(end, attempt)
    }

    fn lock_wait(&self, name: &Key<'_>, ttl: Millis, end: Instant) -> Result<Option<Grant>> {
        let on_server = |redis: &Redis| redis.lock_wait(name, ttl, end);
        self.route(OnLostReply::Fail, &mut Pair(on_server, |_: &_| Err(refused())))
    }

    fn transact(&self, body: &mut TransactionBody<'_>) -> Result<bool> {
        self.run_transaction(body)
    }

    fn page(&self, prefix: &str, from: &Cursor) -> Result<Page> {
        self.read(
            |redis| redis.page(prefix, from),
            |outage| Ok(outage.table().page(prefix, from, &outage.now())),
        )
    }

    fn keys(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        self.read(
            |redis| redis.keys(prefix, after, limit),
            |outage| Ok(outage.table().first_keys(prefix, after, limit, &outage.now())),
        )
    }

    fn count(&self, prefix: &str) -> Result<u64> {
        self.read(|redis| redis.count(prefix), |outage| Ok(outage.table().count(prefix, &outage.now())))
    }

    fn remove(&self, prefix: &str) -> Result<u64> {
        let on_server = |redis: &Redis| self.forget_all_around(|| redis.remove(prefix));
        let locally = |outage: &Outage| {
            // Keys of which nothing is known locally might remain.
            if !outage.is_exclusive() || !outage.unknown_is_absent() {
                return Err(refused());
            }
            outage.remove_reserved(prefix)?;
            let keys = outage.table().first_keys(prefix, None, usize::MAX, &outage.now());
            let removed = keys.into_iter().map(|key| {
                let delete = Op { key: Key::listed(key), action: EntryAction::Delete };
                outage.apply(&delete, Sent::Not)?.flag().map(u64::from)
            });
            removed.sum()
        };
        self.route(OnLostReply::Fail, &mut Pair(on_server, locally))
    }

    fn flush(&self) -> Result<()> {
        self.shared.queue_file.as_ref().map_or(Ok(()), |file| file.flush())
    }

    fn close(&self) -> Result<()> {
        self.shared.close(self.shared.policy.timeout)
    }

    fn stands_in(&self) -> bool {
        self.mode() == Mode::FallsBack && self.shared.outage.is_disconnected()
    }

    fn is_partial(&self, key: &Key<'_>) -> bool {
        self.shared.outage.read().as_ref().is_some_and(|outage| outage.is_partial(key))
    }

    fn status(&self) -> Status {
        match self.shared.outage.current() {
            None => Status::Connected,
            Some(outage) => Status::Disconnected {
                since: outage.since,
                pending: outage.session().queue.len(),
                reason: self.shared.reconnector.last_failure().unwrap_or_else(|| outage.cause.clone()),
                never_reached: !self.shared.reconnector.was_connected(),
            },
        }
    }
}

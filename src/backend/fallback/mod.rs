//! Owns which of two serves: the server while it answers, what is known here while it does not. Knows nothing
//! of how either works.

mod away;
mod breaker;
mod exclusive;
mod known;
mod leaving;
mod questions;
mod queue;
mod returning;
mod shadow;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};

use self::away::Away;
use self::queue::Bounds;
use self::shadow::{Known, Shadow};
use super::redis::Redis;
use super::{Backend, Status, Work};
use crate::bytes::Bytes;
use crate::clock::{Clock, Millis, Ttl};
use crate::config::{self, OnConflict, RedisOptions, Unknown};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{Action, End, Grant, Op, Reply};
use crate::outage::{Event, PendingOperation, Rejected, WriteConflict};
use crate::page::{Cursor, Page};
use crate::query::{Answer, Query};

/// Of so many conflicts it is kept what they were; the others are only counted.
const MOST_TOLD: usize = 10_000;

/// How often a queue is looked at by who waits for a value while the server is away.
const LOOK: Duration = Duration::from_millis(10);

/// A handle on the two; dropping the last one ends them.
pub(crate) struct Fallback {
    inner: Arc<Inner>,
    owner: Arc<Owner>,
    /// For this handle being away is always an error.
    strict: bool,
}

/// Ends what it owns when the last handle is dropped.
struct Owner(Arc<Inner>);

type Listener = Arc<dyn Fn(&Event) + Send + Sync>;

struct Inner {
    redis: Redis,
    clock: Arc<dyn Clock>,
    shadow: Arc<Shadow>,
    fallback: config::Fallback,
    unknown: Option<Unknown>,
    exclusive: bool,
    on_conflict: OnConflict,
    bounds: Bounds,
    limit: Duration,
    /// Who the marker on the server belongs to: no two stores have the same.
    identity: u128,
    /// The number of the last operation that is done there.
    done: AtomicU64,
    was_connected: AtomicBool,
    was_marked: AtomicBool,
    /// Whether there is an outage: what every operation looks at first.
    is_away: AtomicBool,
    /// INVARIANT: whoever does an operation here holds it for reading, so that none is under way when the
    /// outage ends.
    outage: RwLock<Option<Arc<Away>>>,
    returning: Mutex<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
    wake: Mutex<Wake>,
    woken: Condvar,
    counts: Counts,
    told: Mutex<Told>,
    listeners: Mutex<Vec<Listener>>,
    verdict: Mutex<Option<Verdict>>,
    /// What is still to be told, and whose turn it is to tell it.
    events: Mutex<VecDeque<Event>>,
    telling: Mutex<()>,
}

/// What was found out of a server that was silent once.
#[derive(Clone, Copy)]
struct Verdict {
    asked: Instant,
    alive: bool,
}

/// What the thread that waits for the server is told.
#[derive(Default)]
struct Wake {
    now: bool,
    ending: bool,
}

#[derive(Default)]
struct Counts {
    outages: AtomicU64,
    queued: AtomicU64,
    replayed: AtomicU64,
    conflicts: AtomicU64,
    rejected: AtomicU64,
    uncertain: AtomicU64,
}

/// What waits to be asked for.
#[derive(Default)]
struct Told {
    rejected: Vec<Rejected>,
    conflicts: Vec<WriteConflict>,
    uncertain: Vec<PendingOperation>,
}

impl Fallback {
    pub(crate) fn open(
        url: &str,
        key_prefix: &str,
        options: &RedisOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let redis = Redis::new(url, key_prefix, options)?;
        // Nothing is read from it where nothing is served while the server is away.
        let shadow = if options.fallback == config::Fallback::None { 0 } else { options.shadow_bytes };
        let inner = Arc::new(Inner {
            redis,
            clock,
            shadow: Arc::new(Shadow::new(shadow)),
            fallback: options.fallback,
            unknown: options.unknown,
            exclusive: options.exclusive,
            on_conflict: options.on_conflict,
            bounds: Bounds { operations: options.max_pending, bytes: options.max_pending_bytes },
            limit: options.timeout,
            identity: identity(),
            done: AtomicU64::new(0),
            was_connected: AtomicBool::new(false),
            was_marked: AtomicBool::new(false),
            is_away: AtomicBool::new(false),
            outage: RwLock::default(),
            returning: Mutex::default(),
            thread: Mutex::default(),
            wake: Mutex::default(),
            woken: Condvar::new(),
            counts: Counts::default(),
            told: Mutex::default(),
            listeners: Mutex::default(),
            verdict: Mutex::default(),
            events: Mutex::default(),
            telling: Mutex::default(),
        });
        let fallback = Self { owner: Arc::new(Owner(Arc::clone(&inner))), inner, strict: false };
        match fallback.inner.redis.greet() {
            Ok(()) => fallback.inner.was_connected.store(true, Ordering::Release),
            Err(error) if options.fallback == config::Fallback::None => return Err(error),
            Err(error) => match error.unreachable() {
                Some(unreachable) => fallback.inner.leave(&unreachable.cause.to_string()),
                None => return Err(error),
            },
        }
        Ok(fallback)
    }

    /// The same store, for which being away is always an error.
    pub(crate) fn strict(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), owner: Arc::clone(&self.owner), strict: true }
    }

    /// Does something on the server, or here while that is away.
    ///
    /// `repeatable`: where the answer of the server was lost, it may be done again; `here` is told whether
    /// one was.
    fn serve<R>(
        &self,
        repeatable: bool,
        mut there: impl FnMut(&Redis) -> Result<R>,
        mut here: impl FnMut(&Away, bool) -> Result<R>,
    ) -> Result<R> {
        let inner = &self.inner;
        let mut lost = false;
        let falls_back = !self.strict && inner.fallback == config::Fallback::Memory;
        loop {
            if !inner.is_away.load(Ordering::Acquire) {
                let outcome = there(&inner.redis);
                match &outcome {
                    // What may have been done there, or was in part, must not be done here as well; and who
                    // wants nobody else to serve is told what became of it there.
                    Err(error) if inner.is_outage(error) => {
                        let is_partial = matches!(error, Error::Partial { .. });
                        if is_partial || (error.maybe_applied() && !repeatable) || !falls_back {
                            return outcome;
                        }
                        lost |= error.maybe_applied();
                    }
                    _ => return outcome,
                }
            }
            if !falls_back {
                return Err(is_away());
            }
            let outage = inner.outage.read();
            if let Some(away) = &*outage {
                return here(away, lost);
            }
        }
    }
}

impl Inner {
    fn outage(&self) -> Option<Arc<Away>> {
        self.outage.read().clone()
    }

    fn is_ending(&self) -> bool {
        self.wake.lock().ending
    }

    /// Tells the listeners what has happened, in the order in which it did. They may use the store, so no
    /// lock is held that it needs; one that is told something right now is told the rest afterwards.
    fn tell(&self) {
        while !self.events.lock().is_empty() {
            let Some(_turn) = self.telling.try_lock() else { return };
            while let Some(event) = self.next_event() {
                let listeners = self.listeners.lock().clone();
                for listener in listeners {
                    listener(&event);
                }
            }
        }
    }

    fn next_event(&self) -> Option<Event> {
        self.events.lock().pop_front()
    }

    fn note_queued(&self, operations: u64) {
        self.counts.queued.fetch_add(operations, Ordering::Relaxed);
    }

    /// Where an outage began while operations on these keys were on their way to the server, what serves now
    /// has to know of them.
    fn learn<'k>(&self, keys: impl IntoIterator<Item = &'k Key<'k>>) {
        // The lock, and not `is_away`: an outage that is just beginning may have looked at the shadow already.
        if let Some(away) = &*self.outage.read() {
            keys.into_iter().for_each(|key| away.learn(key));
        }
    }
}

/// A number that no other store has, also not one of a process that was forked off.
fn identity() -> u128 {
    let nanos = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
    let mut hash = sha1_smol::Sha1::new();
    hash.update(&fastrand::u128(..).to_le_bytes());
    hash.update(&u128::from(std::process::id()).to_le_bytes());
    hash.update(&nanos.to_le_bytes());
    let bytes = hash.digest().bytes();
    bytes.first_chunk().map_or(nanos, |bytes| u128::from_le_bytes(*bytes))
}

fn is_away() -> Error {
    Error::Unavailable { maybe_applied: false, source: "the server is away".into() }
}

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
        let there = |redis: &Redis| {
            let writing = self.inner.shadow.writing(&op.key);
            match redis.apply(op.clone()) {
                Ok(reply) => {
                    self.inner.keep(writing, &op, &reply);
                    Ok(reply)
                }
                Err(error) => {
                    writing.failed(error.maybe_applied());
                    Err(error)
                }
            }
        };
        let here = |away: &Away, lost| {
            let reply = away.apply(op.clone(), lost)?;
            self.inner.note_queued(1);
            Ok(reply)
        };
        let outcome = self.serve(op.action.is_idempotent(), there, here);
        self.inner.learn([&op.key]);
        outcome
    }

    fn apply_until(&self, op: Op<'_>, end: Instant) -> Result<Reply> {
        let repeatable = op.action.is_idempotent();
        self.serve(
            repeatable,
            |redis| redis.apply_until(op.clone(), end),
            |away, lost| away.apply(op.clone(), lost),
        )
    }

    fn apply_each(&self, ops: Vec<Op<'_>>) -> Vec<Result<Reply>> {
        let repeatable = ops.iter().all(|op| op.action.is_idempotent());
        let there = |redis: &Redis| {
            let writing: Vec<_> = ops.iter().map(|op| self.inner.shadow.writing(&op.key)).collect();
            let outcomes = ended(redis.apply_each(ops.clone()));
            let outcomes = match outcomes {
                Ok(outcomes) => outcomes,
                Err(error) => {
                    for writing in writing {
                        writing.failed(error.maybe_applied());
                    }
                    return Err(error);
                }
            };
            for ((op, outcome), writing) in ops.iter().zip(&outcomes).zip(writing) {
                if let Ok(reply) = outcome {
                    self.inner.keep(writing, op, reply);
                }
            }
            Ok(outcomes)
        };
        let here = |away: &Away, lost| {
            Ok(ops
                .iter()
                .map(|op| away.apply(op.clone(), lost).inspect(|_| self.inner.note_queued(1)))
                .collect())
        };
        let outcome = self.serve(repeatable, there, here);
        self.inner.learn(ops.iter().map(|op| &op.key));
        outcome.unwrap_or_else(|error| vec![Err(error)])
    }

    fn commit(&self, writes: Vec<Op<'_>>) -> Result<()> {
        let there = |redis: &Redis| {
            let writing: Vec<_> = writes.iter().map(|op| self.inner.shadow.writing(&op.key)).collect();
            if let Err(error) = redis.commit(writes.clone()) {
                for writing in writing {
                    writing.failed(error.maybe_applied());
                }
                return Err(error);
            }
            for (op, writing) in writes.iter().zip(writing) {
                self.inner.keep(writing, op, &Reply::Done);
            }
            Ok(())
        };
        let here = |away: &Away, lost| {
            away.commit(writes.clone(), lost).inspect(|()| self.inner.note_queued(writes.len() as u64))
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
                let found = away.apply(pop(), false)?.found()?;
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
                let removed = away.apply(Op { key: Key::listed(key), action: Action::Delete }, false)?;
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

impl Drop for Owner {
    fn drop(&mut self) {
        if let Err(error) = self.0.close(Duration::ZERO) {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            log::error!("a store was dropped while its server was away: {cause}");
        }
    }
}

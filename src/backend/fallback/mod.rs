//! Owns which of two serves: the server while it answers, what is known here while it does not. Knows nothing
//! of how either works.

mod away;
mod breaker;
mod queue;
mod returning;
mod shadow;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};

use self::away::{Away, Rules};
use self::queue::Bounds;
use self::shadow::{Known, Shadow, Writing};
use super::redis::Redis;
use super::{Backend, Status, Work};
use crate::bytes::Bytes;
use crate::clock::{Clock, Deadline, Millis, Now, Ttl};
use crate::config::{self, OnConflict, RedisOptions, Unknown};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{Action, Grant, Op, Reply};
use crate::outage::{Event, PendingOperation, PendingReason, Rejected, Stats, WriteConflict};
use crate::page::{Cursor, Page};
use crate::query::{Answer, Query};
use crate::value::Value;

/// Of so many conflicts it is kept what they were; the others are only counted.
const MOST_TOLD: usize = 10_000;

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

    /// Tells whether an error means that the server is away, and draws the conclusion.
    fn is_outage(self: &Arc<Self>, error: &Error) -> bool {
        let Some(unreachable) = error.unreachable() else {
            return error.is_exhausted() && self.await_verdict();
        };
        if self.is_away.load(Ordering::Acquire) {
            return true;
        }
        // One slow command is no outage, nor one connection that was closed.
        if unreachable.doubtful && self.is_alive() {
            return false;
        }
        self.leave(&unreachable.cause.to_string());
        true
    }

    /// Finds out whether the server answers: one thread for all that have come before it asks.
    fn is_alive(&self) -> bool {
        let came = Instant::now();
        let mut verdict = self.verdict.lock();
        if self.is_away.load(Ordering::Acquire) {
            return false;
        }
        match *verdict {
            Some(Verdict { asked, alive }) if asked >= came => alive,
            _ => {
                let asked = Instant::now();
                let alive = self.redis.is_alive();
                *verdict = Some(Verdict { asked, alive });
                alive
            }
        }
    }

    /// Waits until those who have the connections have found out whether the server is away, for no longer
    /// than that takes them.
    fn await_verdict(self: &Arc<Self>) -> bool {
        let is_away = || self.is_away.load(Ordering::Acquire);
        let end = Instant::now() + self.redis.verdict();
        let mut wake = self.wake.lock();
        while !is_away() && !wake.ending && !self.woken.wait_until(&mut wake, end).timed_out() {}
        drop(wake);
        // They may just be at it, or have found out and not yet drawn the conclusion.
        let verdict = self.verdict.try_lock_until(end + self.redis.verdict()).and_then(|verdict| *verdict);
        if verdict.is_some_and(|verdict| !verdict.alive && verdict.asked + self.limit > end) {
            self.leave("no answer within the time limit");
        }
        is_away()
    }

    /// Begins an outage, unless there is one.
    fn leave(self: &Arc<Self>, cause: &str) {
        let mut outage = self.outage.write();
        if outage.is_some() || self.is_ending() {
            return;
        }
        self.redis.cut_off();
        let unknown_is_absent = match self.unknown {
            Some(Unknown::Absent) => true,
            Some(Unknown::Error) => false,
            None => !self.was_connected.load(Ordering::Acquire),
        };
        let rules = Rules { unknown_is_absent, exclusive: self.exclusive, bounds: self.bounds };
        let done = self.done.load(Ordering::Relaxed);
        let away = Away::begin(rules, done, Arc::clone(&self.clock), Arc::clone(&self.shadow));
        let away = Arc::new(away);
        *outage = Some(Arc::clone(&away));
        self.is_away.store(true, Ordering::Release);
        self.events.lock().push_back(Event::Away { cause: cause.to_owned() });
        drop(outage);
        // Whoever waits for the verdict has either seen it or waits by now.
        drop(self.wake.lock());
        self.woken.notify_all();
        self.counts.outages.fetch_add(1, Ordering::Relaxed);
        log::warn!("the Redis server cannot be reached: {cause}");
        let inner = Arc::clone(self);
        let named = std::thread::Builder::new().name("millpond-return".to_owned());
        match named.spawn(move || inner.return_when_possible(&away)) {
            Ok(thread) => *self.thread.lock() = Some(thread),
            Err(error) => log::error!("no thread to wait for the Redis server: {error}"),
        }
        self.tell();
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

    /// Keeps what an operation on the server has left there.
    fn keep(&self, writing: Writing<'_>, op: &Op<'_>, reply: &Reply) {
        let now = Now::of(&*self.clock);
        let before = self.shadow.get(&op.key, &now);
        if let Some(known) = known(&op.action, reply, before.as_ref(), &now) {
            writing.left(known);
        }
    }

    fn note_queued(&self, operations: u64) {
        self.counts.queued.fetch_add(operations, Ordering::Relaxed);
    }

    /// Where an outage began while operations on these keys were on their way to the server, what serves now
    /// has to know of them.
    fn learn<'k>(&self, keys: impl IntoIterator<Item = &'k Key<'k>>) {
        if !self.is_away.load(Ordering::Acquire) {
            return;
        }
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

/// What is known of a key after an action on the server, of which `before` was known.
fn known(action: &Action, reply: &Reply, before: Option<&Known>, now: &Now<'_>) -> Option<Known> {
    let value = |value: &Value, ttl: Option<Millis>| Known::Value {
        bytes: value.bytes.clone(),
        deadline: ttl.map(|ttl| Deadline::after(now, ttl)),
    };
    // Until when it stays is as it was.
    let kept = |value: &Value| match before {
        Some(Known::Value { deadline, .. }) => {
            Some(Known::Value { bytes: value.bytes.clone(), deadline: *deadline })
        }
        Some(Known::Absent) | None => None,
    };
    match (action, reply) {
        (Action::Put { value: put, ttl }, _)
        | (Action::PutAndGet { value: put, ttl }, _)
        | (Action::PutIfAbsent { value: put, ttl }, Reply::Flag(true)) => Some(value(put, *ttl)),
        (Action::PutIfPresent { value: put }, Reply::Flag(true)) => kept(put),
        (Action::Swap { expected: None, new: Some(new), birth_ttl }, Reply::Flag(true)) => {
            Some(value(new, *birth_ttl))
        }
        (Action::Swap { expected: Some(_), new: Some(new), .. }, Reply::Flag(true)) => kept(new),
        (Action::Incr { by, birth_ttl }, Reply::Number(number)) => match before {
            Some(Known::Value { .. }) => kept(&Value::integer(*number)),
            Some(Known::Absent) if number == by => Some(value(&Value::integer(*number), *birth_ttl)),
            Some(Known::Absent) | None => {
                // Whether it was there before, and until when it stays, is not known.
                birth_ttl.is_none().then(|| value(&Value::integer(*number), None))
            }
        },
        (Action::PutIfPresent { .. }, Reply::Flag(false))
        | (Action::Swap { new: None, .. }, Reply::Flag(true))
        | (Action::Delete | Action::Take, _) => Some(Known::Absent),
        _ => None,
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

    fn apply_each(&self, ops: Vec<Op<'_>>) -> Vec<Result<Reply>> {
        let repeatable = ops.iter().all(|op| op.action.is_idempotent());
        let there = |redis: &Redis| {
            let writing: Vec<_> = ops.iter().map(|op| self.inner.shadow.writing(&op.key)).collect();
            let outcomes = ended(redis.apply_each(ops.clone()));
            let outcomes = match outcomes {
                Ok(outcomes) => outcomes,
                Err(error) => {
                    writing.into_iter().for_each(|writing| writing.failed(error.maybe_applied()));
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
                writing.into_iter().for_each(|writing| writing.failed(error.maybe_applied()));
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
        self.inner.shadow.writing(key);
        self.serve(false, |redis| redis.pop_wait(key, end), |_, _| Err(away::refused()))
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
            written.iter().for_each(|key| drop(self.inner.shadow.writing(key)));
            outcome
        };
        // A transaction rests on what others may have changed.
        let outcome = self.serve(false, &mut there, |_, _| Err(away::refused()));
        self.inner.learn(&written);
        outcome
    }

    fn page(&self, prefix: &str, from: &Cursor) -> Result<Page> {
        self.serve(true, |redis| redis.page(prefix, from), |away, _| Ok(away.table().page(prefix, from, &away.now())))
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
        self.serve(false, there, |_, _| Err(away::refused()))
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

/// What a program asks about outages.
impl Fallback {
    pub(crate) fn on_event(&self, listener: impl Fn(&Event) + Send + Sync + 'static) {
        self.inner.listeners.lock().push(Arc::new(listener));
    }

    pub(crate) fn stats(&self) -> Stats {
        let counts = &self.inner.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Stats {
            outages: read(&counts.outages),
            queued: read(&counts.queued),
            replayed: read(&counts.replayed),
            pending: self.inner.outage().map_or(0, |away| away.state().queue.len()),
            conflicts: read(&counts.conflicts),
            rejected: read(&counts.rejected),
            uncertain: read(&counts.uncertain),
            buried: self.inner.redis.buried(),
        }
    }

    pub(crate) fn pending(&self) -> Vec<PendingOperation> {
        let mut pending = self.inner.told.lock().uncertain.clone();
        if let Some(away) = self.inner.outage() {
            let state = away.state();
            for waiting in state.queue.iter() {
                pending.extend(waiting.ops.iter().map(|op| PendingOperation {
                    key: op.key.to_string(),
                    operation: op.action.name(),
                    since: waiting.queued.wall,
                    reason: PendingReason::Away,
                }));
            }
        }
        pending
    }

    pub(crate) fn take_rejected(&self) -> Vec<Rejected> {
        std::mem::take(&mut self.inner.told.lock().rejected)
    }

    pub(crate) fn take_conflicts(&self) -> Vec<WriteConflict> {
        std::mem::take(&mut self.inner.told.lock().conflicts)
    }

    /// Tries now whether the server is back.
    pub(crate) fn reconnect(&self) -> Result<()> {
        self.inner.try_return().map_err(|closed| Error::Unavailable {
            maybe_applied: false,
            source: closed.cause.into(),
        })
    }

    pub(crate) fn close_within(&self, timeout: Duration) -> Result<()> {
        self.inner.close(timeout)
    }
}

impl Inner {
    /// Ends: what waits is done on the server within `timeout`, or is lost.
    fn close(&self, timeout: Duration) -> Result<()> {
        {
            let mut wake = self.wake.lock();
            if wake.ending {
                return Ok(());
            }
            wake.ending = true;
        }
        self.woken.notify_all();
        // A thread that panicked has nothing to tell.
        let _ = self.thread.lock().take().map(JoinHandle::join);
        let waiting = || self.outage().map_or(0, |away| away.state().queue.len());
        let end = Instant::now() + timeout;
        while waiting() > 0 {
            match self.try_return() {
                Ok(()) => break,
                Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(10)),
                Err(_) => break,
            }
        }
        self.redis.close()?;
        match waiting() {
            0 => Ok(()),
            left => {
                let source = format!("{left} operations that waited for the server were not done there").into();
                Err(Error::Unavailable { maybe_applied: false, source })
            }
        }
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

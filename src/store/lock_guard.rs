//! Owns the guard of a lock or a permit: how long it is held, how it is extended and released, and what happens if it is
//! lost. Knows nothing of how it was taken.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::backend::Backend;
use crate::clock::Millis;
use crate::error::{Error, LockLoss, Result};
use crate::key::{Companion, Key};
use crate::op::{Grant, Hold, LockAction, Op};
use crate::stats::counter::{Counter, Operation};
use crate::store::renewals::Renew;
use crate::store::state_store::{StateStore, on_backend};
use crate::util::log_later::{FlushOnDrop, log_later};

/// A renewal is due when this part of the time has passed. If one fails, for instance because the server cannot be
/// reached, it is tried again after the smaller part.
const RENEWED_AFTER: u32 = 3;
const TRIED_AGAIN_AFTER: u32 = 12;

/// A lock or a permit that is held: see [`StateStore::lock`] and [`Permits`](crate::Permits). Dropping it releases it, and
/// logs a failure. After [`StateStore::close`] nothing can be released: on File and Redis it is held until it expires.
#[must_use = "a lock is released when its guard is dropped: bind the guard to a name such as `guard`"]
pub struct LockGuard {
    lock: Arc<HeldLock>,
    /// Its number among the renewals of its store, if it is renewed.
    renewal: Option<u64>,
    released: AtomicBool,
}

/// What the guard shares with the thread that renews it.
struct HeldLock {
    store: StateStore,
    /// The name under which the backend knows it.
    key: Key<'static>,
    /// The name that the program gave it, with the namespace.
    name: String,
    token: u64,
    until: AtomicU64,
    term: Mutex<Term>,
    /// Set by a renewal that found it lost.
    loss: OnceLock<LockLoss>,
    /// Whether the loss is counted.
    is_found_lost: AtomicBool,
}

/// The time for which a lock was last taken or extended. Until its end nobody else can hold the lock, whatever happens
/// to the clock of the server and to the connection.
#[derive(Clone, Copy)]
struct Term {
    /// Before the request was sent to the server.
    begun: Instant,
    ttl: Millis,
}

impl Term {
    fn end(self) -> Instant {
        self.begun + self.ttl.duration()
    }

    fn next_renewal(self) -> Instant {
        self.begun + self.ttl.duration() / RENEWED_AFTER
    }
}

/// What the backend has granted.
pub(crate) struct Granted<'k> {
    /// The name under which the backend knows it.
    pub(crate) key: Key<'k>,
    /// The name that the program gave it, with the namespace.
    pub(crate) name: String,
    pub(crate) grant: Grant,
    pub(crate) ttl: Millis,
    /// Before the request was sent to the server.
    pub(crate) requested_at: Instant,
}

impl LockGuard {
    pub(crate) fn new(store: &StateStore, granted: Granted<'_>) -> Self {
        let Granted { key, name, grant: Grant { token, until }, ttl, requested_at } = granted;
        let lock = HeldLock {
            store: store.clone(),
            key: key.into_owned(),
            name,
            token,
            until: AtomicU64::new(until),
            term: Mutex::new(Term { begun: requested_at, ttl }),
            loss: OnceLock::new(),
            is_found_lost: AtomicBool::new(false),
        };
        Self { lock: Arc::new(lock), renewal: None, released: AtomicBool::new(false) }
    }

    /// Keeps the lock from expiring while the guard exists: a thread of the store extends it each time that a third of its
    /// time has passed, by the time for which it was last taken or extended. There is one such thread a store; it
    /// runs only while there is something to renew, and nothing is renewed any more once the guard is released or
    /// dropped.
    ///
    /// If the lock is lost, `on_lost` is called once, with [`LockLost`](Error::LockLost), and the guard answers the same
    /// from then on. It is lost if somebody else has taken it, for instance because the process was stopped for longer
    /// than its time, or if it could not be extended until its time was over, for instance because the server could not
    /// be reached. If the store is closed, `on_lost` is called with [`Unavailable`](Error::Unavailable), since nothing is
    /// renewed any more. It runs on the thread that renews and may use the store; while it runs, no other lock of
    /// the store is renewed. It is not called after [`release`](Self::release) has returned.
    ///
    /// A lock that is renewed does not expire if its holder hangs, only if its process ends, stops, or cannot reach the
    /// server.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use std::sync::atomic::{AtomicBool, Ordering};
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// let is_lost = Arc::new(AtomicBool::new(false));
    /// let seen = Arc::clone(&is_lost);
    /// let (ttl, wait) = (Duration::from_secs(30), Duration::from_secs(5));
    /// let guard = store.lock("report", ttl, wait)?.renewed(move |_| seen.store(true, Ordering::Relaxed))?;
    /// for _page in 0..1000 {
    ///     if is_lost.load(Ordering::Relaxed) {
    ///         break; // another may print the report now
    ///     }
    /// }
    /// guard.release()?;
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Unavailable`](Error::Unavailable) if the system has no room for the thread, or after a fork: then the lock is
    /// released.
    pub fn renewed(mut self, on_lost: impl FnOnce(Error) + Send + 'static) -> Result<Self> {
        self.end_renewal();
        let due = self.lock.term.lock().next_renewal();
        let renewals = &self.lock.store.context().shared.renewals;
        let id = renewals.add(Arc::clone(&self.lock) as Arc<dyn Renew>, due, Box::new(on_lost))?;
        self.renewal = Some(id);
        Ok(self)
    }

    /// Returns the fencing token: larger than those of all earlier holders, and below 2^53.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// let ttl = Duration::from_secs(30);
    /// let first = store.lock("report", ttl, Duration::ZERO)?;
    /// let token = first.token(); // send it along with each write to the printer
    /// first.release()?;
    /// assert!(store.lock("report", ttl, Duration::ZERO)?.token() > token);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn token(&self) -> u64 {
        self.lock.token
    }

    /// Makes the lock expire `ttl` from now. If it is [renewed](Self::renewed), it is renewed by this time from now on.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// let guard = store.lock("report", Duration::from_secs(30), Duration::ZERO)?;
    /// for _page in 0..3 {
    ///     // … print a page …
    ///     guard.extend(Duration::from_secs(30))?; // an error means: stop, the lock is lost
    /// }
    /// guard.release()?;
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`LockLost`](Error::LockLost), [`InvalidTtl`](Error::InvalidTtl).
    pub fn extend(&self, ttl: Duration) -> Result<()> {
        let ttl = Millis::new(ttl)?;
        let Some(id) = self.renewal else { return self.lock.extend(ttl) };
        let renewals = &self.lock.store.context().shared.renewals;
        // A renewal that was under way could otherwise follow, and shorten the time again.
        renewals.suspend(id);
        let outcome = self.lock.extend(ttl);
        renewals.resume(id, self.lock.term.lock().next_renewal());
        outcome
    }

    /// Releases the lock.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// let guard = store.lock("report", Duration::from_secs(30), Duration::ZERO)?;
    /// // … print the report …
    /// guard.release()?; // an error means: another may have printed it too
    /// assert!(store.try_lock("report", Duration::from_secs(30))?.is_some());
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`LockLost`](Error::LockLost) if it was lost before: somebody else may have worked under it.
    pub fn release(self) -> Result<()> {
        self.unlock()
    }

    /// Asks the store whether this guard still holds the lock.
    ///
    /// If a Redis server is disconnected and memory serves in its place, there is nobody to ask. Then this returns
    /// `true` until the end of the time for which the lock was last taken or extended, counted from before that
    /// request was sent to the server.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// let guard = store.lock("report", Duration::from_secs(30), Duration::ZERO)?;
    /// assert!(guard.is_held()?);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Unavailable`](Error::Unavailable) on Redis.
    pub fn is_held(&self) -> Result<bool> {
        self.lock.is_held()
    }

    fn unlock(&self) -> Result<()> {
        self.released.store(true, Ordering::Relaxed);
        self.end_renewal();
        self.lock.release()
    }

    fn end_renewal(&self) {
        if let Some(id) = self.renewal {
            self.lock.store.context().shared.renewals.remove(id);
        }
    }
}

impl HeldLock {
    fn grant(&self) -> Grant {
        Grant { token: self.token, until: self.until.load(Ordering::Relaxed) }
    }

    fn lost(&self, how: LockLoss) -> Error {
        if !self.is_found_lost.swap(true, Ordering::Relaxed) {
            self.store.recorder().add(Counter::LocksLost, 1);
        }
        Error::LockLost { name: self.name.clone(), how }
    }

    /// Fails if a renewal has found it lost: it is never extended again, even if it still could be.
    fn check_not_lost(&self) -> Result<()> {
        self.loss.get().map_or(Ok(()), |how| Err(self.lost(*how)))
    }

    fn extend(&self, ttl: Millis) -> Result<()> {
        self.store.context().check_open()?;
        self.check_not_lost()?;
        let begun = Instant::now();
        self.apply(LockAction::Extend { grant: self.grant(), ttl })?;
        *self.term.lock() = Term { begun, ttl };
        Ok(())
    }

    fn release(&self) -> Result<()> {
        self.store.context().check_open()?;
        let outcome = self.apply(LockAction::Unlock { grant: self.grant() });
        self.check_not_lost()?;
        outcome
    }

    fn is_held(&self) -> Result<bool> {
        self.store.context().check_open()?;
        if self.loss.get().is_some() {
            return Ok(false);
        }
        let lock = self.key.companion(Companion::Lock);
        let ask = || on_backend!(&self.store, backend => backend.get(&lock));
        let outcome = self.store.counted(Operation::Other, ("is_held", &self.key), ask);
        if on_backend!(&self.store, backend => backend.stands_in()) {
            return Ok(Instant::now() < self.term.lock().end());
        }
        Ok(outcome?.is_some_and(|token| *token == *self.token.to_string().as_bytes()))
    }

    fn apply(&self, action: LockAction) -> Result<()> {
        let name = if matches!(action, LockAction::Extend { .. }) { "extend" } else { "release" };
        let op = Op { key: self.key.clone(), action };
        let change = || on_backend!(&self.store, backend => backend.apply_lock(op));
        match self.store.counted(Operation::Other, (name, &self.key), change)?.hold()? {
            Hold::Held { until } => {
                self.until.store(until, Ordering::Relaxed);
                Ok(())
            }
            Hold::Expired => Err(self.lost(LockLoss::Expired)),
            Hold::TakenByAnother => Err(self.lost(LockLoss::TakenByAnother)),
            Hold::NotHeld => Err(self.lost(LockLoss::NotHeld)),
        }
    }
}

impl Renew for HeldLock {
    fn renew(&self) -> Result<Instant> {
        let Term { ttl, .. } = *self.term.lock();
        let how = match self.extend(ttl) {
            Ok(()) => return Ok(self.term.lock().next_renewal()),
            Err(Error::LockLost { how, .. }) => how,
            Err(error) if error.is_closed() => return Err(error),
            Err(_) => {
                let (now, end) = (Instant::now(), self.term.lock().end());
                if now < end {
                    return Ok((now + ttl.duration() / TRIED_AGAIN_AFTER).min(end));
                }
                LockLoss::Expired
            }
        };
        Err(self.lost(*self.loss.get_or_init(|| how)))
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        self.lock.store.recorder().add(Counter::LocksEnded, 1);
        if self.released.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = self.unlock() {
            let _lines = FlushOnDrop;
            let name = &self.lock.name;
            log_later!(
                Debug,
                "releasing the lock {name:?} failed, so it is held until it expires: {error:#}"
            );
        }
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HeldLock { name, token, .. } = &*self.lock;
        f.debug_struct("LockGuard").field("name", name).field("token", token).finish_non_exhaustive()
    }
}

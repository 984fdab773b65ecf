//! Owns the documented group of locks: one holder at a time, for a limited time.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::backend::Backend;
use crate::clock::Millis;
use crate::error::{Error, LockLoss, Result};
use crate::key::{Companion, Key};
use crate::op::{Grant, Hold, LockAction, Op};
use crate::store::state_store::{StateStore, on_backend};
use crate::store::wait::deadline_after;
use crate::util::log_later::{FlushOnDrop, log_later};

/// # Locks
///
/// A lock has one holder at a time: one thread on Memory and File, and on Redis one thread of all programs
/// with the same server and prefix. It expires after its time to live, since a holder may die; so a delayed holder
/// may go on while another one has the lock already. If that would do harm, pass the
/// [token](LockGuard::token) along to the resource that the lock protects, and let the resource refuse a smaller
/// token than it has seen: each token is larger than all before it, also after the lock expired, the store was
/// cleared or the server was restarted. (A server that lost its data continues from its clock. Stores with
/// different key prefixes that reach one lock count their tokens separately, and continue from the clock too.)
///
/// Names follow the rules of keys and belong to the namespace of the handle, but locks are no keys: they are
/// not listed, and [`clear`](Self::clear) leaves them. Waiters get a lock in the order in which they
/// arrived, and [`try_lock`](Self::try_lock) does not overtake them; on Redis, a waiter that does not poll for some hundred
/// milliseconds loses its place. The algorithm on Redis is that of one server: `SET` with a time
/// limit and a token, changed only by the owner of the token, in scripts, by the clock of the server.
impl StateStore {
    /// Takes a lock for at most `ttl`; returns `None` if somebody holds it, or waits for it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let store = millpond::StateStore::memory();
    /// let guard = store.try_lock("report", Duration::from_secs(30))?.expect("nobody else has it");
    /// assert!(store.try_lock("report", Duration::from_secs(30))?.is_none());
    /// guard.release()?;
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidKey`](Error::InvalidKey) for the name, [`InvalidTtl`](Error::InvalidTtl). A
    /// [lost reply](crate::RedisStore#lost-replies) of Redis leaves it in doubt; if the lock was taken all the same, it
    /// expires after `ttl`.
    pub fn try_lock(&self, name: impl AsRef<str>, ttl: Duration) -> Result<Option<LockGuard>> {
        let name = self.context().key(name.as_ref())?;
        let ttl = Millis::new(ttl)?;
        let requested_at = Instant::now();
        let op = Op { key: name.clone(), action: LockAction::Lock { ttl } };
        let granted = on_backend!(self, backend => backend.apply_lock(op))?.granted()?;
        Ok(granted.map(|grant| LockGuard::new(self, name, grant, requested_at + ttl.duration())))
    }

    /// Takes a lock for at most `ttl`, and waits for it for at most `wait` while somebody else holds it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let store = millpond::StateStore::memory();
    /// let guard = store.lock("report", Duration::from_secs(30), Duration::from_secs(5))?;
    /// assert!(guard.is_held()?);
    /// let busy = store.lock("report", Duration::from_secs(30), Duration::from_millis(10));
    /// assert!(matches!(busy, Err(millpond::Error::Busy { .. })));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Busy`](Error::Busy) after `wait`, and else as [`try_lock`](Self::try_lock).
    pub fn lock(&self, name: impl AsRef<str>, ttl: Duration, wait: Duration) -> Result<LockGuard> {
        let name = self.context().key(name.as_ref())?;
        let ttl = Millis::new(ttl)?;
        let started = Instant::now();
        let granted = on_backend!(self, backend => backend.lock_wait(&name, ttl, deadline_after(wait)))?;
        // The attempt that succeeded took no longer than an operation may.
        let latest_attempt = Instant::now().checked_sub(self.context().shared.limit);
        let requested_at = latest_attempt.map_or(started, |attempt| attempt.max(started));
        match granted {
            Some(grant) => Ok(LockGuard::new(self, name, grant, requested_at + ttl.duration())),
            None => Err(Error::Busy { name: name.to_string(), waited: wait }),
        }
    }

    /// Runs `work` while this thread holds a lock, which it waits for as [`lock`](Self::lock) does, and releases the
    /// lock afterwards, also if `work` panics.
    ///
    /// If `work` takes longer than `ttl`, the lock expires, and another thread may take it: `work` can ask
    /// [`is_held`](LockGuard::is_held), and [`extend`](LockGuard::extend) the lock.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let store = millpond::StateStore::memory();
    /// let (ttl, wait) = (Duration::from_secs(30), Duration::from_secs(5));
    /// let token = store.with_lock("report", ttl, wait, |guard| guard.token())?;
    /// assert!(token > 0);
    /// assert!(store.try_lock("report", ttl)?.is_some(), "it is free again");
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`lock`](Self::lock), and then `work` has not run; [`LockLost`](Error::LockLost) if the lock was lost before
    /// `work` had ended: somebody else may have worked under it at the same time.
    pub fn with_lock<R>(
        &self,
        name: impl AsRef<str>,
        ttl: Duration,
        wait: Duration,
        work: impl FnOnce(&LockGuard) -> R,
    ) -> Result<R> {
        let guard = self.lock(name.as_ref(), ttl, wait)?;
        let result = work(&guard);
        guard.release()?;
        Ok(result)
    }
}

/// A lock that is held: see [`StateStore::lock`]. Dropping it releases the lock, and logs a failure. After
/// [`StateStore::close`] nothing can be released: on File and Redis the lock is held until it expires.
#[must_use = "a lock is released when its guard is dropped: bind the guard to a name such as `guard`"]
pub struct LockGuard {
    store: StateStore,
    name: Key<'static>,
    token: u64,
    until: AtomicU64,
    released: AtomicBool,
    /// Until then nobody else can hold the lock, whatever happens to the clock of the server and to the connection.
    deadline: Mutex<Instant>,
}

impl LockGuard {
    fn new(store: &StateStore, name: Key<'_>, grant: Grant, deadline: Instant) -> Self {
        let Grant { token, until } = grant;
        Self {
            store: store.clone(),
            name: name.into_owned(),
            token,
            until: AtomicU64::new(until),
            released: AtomicBool::new(false),
            deadline: Mutex::new(deadline),
        }
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
        self.token
    }

    /// Makes the lock expire `ttl` from now.
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
        self.store.context().check_open()?;
        let requested_at = Instant::now();
        self.update_lock(LockAction::Extend { grant: self.grant(), ttl })?;
        *self.deadline.lock() = requested_at + ttl.duration();
        Ok(())
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
        self.store.context().check_open()?;
        let lock = self.name.companion(Companion::Lock);
        let outcome = on_backend!(&self.store, backend => backend.get(&lock));
        if on_backend!(&self.store, backend => backend.stands_in()) {
            return Ok(Instant::now() < *self.deadline.lock());
        }
        Ok(outcome?.is_some_and(|token| *token == *self.token.to_string().as_bytes()))
    }

    fn grant(&self) -> Grant {
        Grant { token: self.token, until: self.until.load(Ordering::Relaxed) }
    }

    fn unlock(&self) -> Result<()> {
        self.released.store(true, Ordering::Relaxed);
        self.store.context().check_open()?;
        self.update_lock(LockAction::Unlock { grant: self.grant() })
    }

    fn update_lock(&self, action: LockAction) -> Result<()> {
        let lost = |how| Err(Error::LockLost { name: self.name.to_string(), how });
        let op = Op { key: self.name.clone(), action };
        match on_backend!(&self.store, backend => backend.apply_lock(op))?.hold()? {
            Hold::Held { until } => {
                self.until.store(until, Ordering::Relaxed);
                Ok(())
            }
            Hold::Expired => lost(LockLoss::Expired),
            Hold::TakenByAnother => lost(LockLoss::TakenByAnother),
            Hold::NotHeld => lost(LockLoss::NotHeld),
        }
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        if self.released.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = self.unlock() {
            let _lines = FlushOnDrop;
            let name: &str = &self.name;
            log_later!(
                Debug,
                "releasing the lock {name:?} failed, so it is held until it expires: {error:#}"
            );
        }
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name: &str = &self.name;
        f.debug_struct("LockGuard").field("name", &name).field("token", &self.token).finish_non_exhaustive()
    }
}

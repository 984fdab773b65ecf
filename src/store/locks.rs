//! Owns the documented group of locks: one holder at a time, for a limited time.

use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::op::{LockAction, Op};
use crate::stats::counter::Operation;
use crate::store::lock_guard::{Granted, LockGuard};
use crate::store::permits::Permits;
use crate::store::state_store::{StateStore, on_backend};
use crate::store::wait::deadline_after;

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
        let key = self.context().key(name.as_ref())?;
        let ttl = Millis::new(ttl)?;
        let requested_at = Instant::now();
        let op = Op { key: key.clone(), action: LockAction::Lock { ttl } };
        let take = || on_backend!(self, backend => backend.apply_lock(op));
        let granted = self.counted(Operation::Other, ("try_lock", &key), take)?.granted()?;
        self.recorder().count_lock(granted.is_some());
        let name = key.to_string();
        Ok(granted.map(|grant| LockGuard::new(self, Granted { key, name, grant, ttl, requested_at })))
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
        let key = self.context().key(name.as_ref())?;
        let ttl = Millis::new(ttl)?;
        let started = Instant::now();
        let take = || on_backend!(self, backend => backend.lock_wait(&key, ttl, deadline_after(wait)));
        let granted = self.counted_wait(Operation::Other, take)?;
        self.recorder().count_lock(granted.is_some());
        // The attempt that succeeded took no longer than an operation may.
        let latest_attempt = Instant::now().checked_sub(self.context().shared.limit);
        let requested_at = latest_attempt.map_or(started, |attempt| attempt.max(started));
        let name = key.to_string();
        match granted {
            Some(grant) => Ok(LockGuard::new(self, Granted { key, name, grant, ttl, requested_at })),
            None => Err(Error::Busy { name, waited: wait }),
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

    /// Takes a lock, and keeps it from expiring while the guard exists: one thread of the store extends it each time that a
    /// third of `ttl` has passed. If the lock is lost, `on_lost` is called once, and the guard answers
    /// [`LockLost`](Error::LockLost) from then on; [`renewed`](LockGuard::renewed) says when that happens, and what
    /// `on_lost` may do.
    ///
    /// So `ttl` can be short, and need not cover the work: it is how long others wait for the lock of a program that died.
    /// This does not wait for a lock that somebody holds; `lock(name, ttl, wait)?.renewed(on_lost)?` does.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let store = millpond::StateStore::memory();
    /// let guard = store.lock_renewed("report", Duration::from_secs(10), |error| {
    ///     eprintln!("stop printing: {error}"); // or end the process, or tell the thread that works
    /// })?;
    /// // … print the report, however long it takes …
    /// guard.release()?;
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Busy`](Error::Busy) if somebody holds the lock, or waits for it; else as [`try_lock`](Self::try_lock) and
    /// [`renewed`](LockGuard::renewed).
    pub fn lock_renewed(
        &self,
        name: impl AsRef<str>,
        ttl: Duration,
        on_lost: impl FnOnce(Error) + Send + 'static,
    ) -> Result<LockGuard> {
        let name = name.as_ref();
        match self.try_lock(name, ttl)? {
            Some(guard) => guard.renewed(on_lost),
            None => Err(Error::Busy { name: self.context().key(name)?.to_string(), waited: Duration::ZERO }),
        }
    }

    /// Returns a counting semaphore: at most `n` holders at a time have a permit of this name, in all programs with the
    /// same server and prefix, each for at most `ttl`. See [`Permits`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// let store = millpond::StateStore::memory();
    /// let downloads = store.permits("downloads", 2, Duration::from_secs(30));
    /// let first = downloads.try_acquire()?.expect("nobody downloads");
    /// let second = downloads.try_acquire()?.expect("one permit is left");
    /// assert!(downloads.try_acquire()?.is_none());
    /// first.release()?;
    /// assert!(downloads.try_acquire()?.is_some());
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn permits(&self, name: impl AsRef<str>, n: u32, ttl: Duration) -> Permits {
        Permits::new(self, name.as_ref(), n, ttl)
    }
}

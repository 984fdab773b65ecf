//! Owns the counting semaphore: permits of one name, of which at most a number is held at a time. Knows nothing of how a
//! permit is extended and released: see the guard.

use std::fmt;
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{LockAction, Op, Permit};
use crate::stats::counter::Operation;
use crate::store::lock_guard::{Granted, LockGuard};
use crate::store::state_store::{StateStore, on_backend};
use crate::store::wait::deadline_after;

/// The most permits of one name: one step looks at them all, and nobody else is served meanwhile.
const MOST: u32 = 1000;

/// A counting semaphore: see [`StateStore::permits`].
///
/// Each permit is held by a guard as that of a lock: it has a [token](LockGuard::token), it expires after its time unless
/// it is [extended](LockGuard::extend) or [renewed](LockGuard::renewed), and dropping the guard gives it back. The permit of
/// a program that died is free again when its time is over. Nobody is preferred: a waiter may be overtaken, unlike those
/// that wait for a lock.
///
/// Programs that use one name should agree on the number. If they do not, each is given a permit only while fewer than
/// its own number are held, counted from the first. A lock and a semaphore of one name have nothing to do with each other.
/// On Redis a permit is stored as a lock is, under `{name}:__millpond:permit:{number}:__millpond:lock`.
#[derive(Clone)]
pub struct Permits {
    store: StateStore,
    name: String,
    most: u32,
    ttl: Duration,
}

impl Permits {
    pub(crate) fn new(store: &StateStore, name: &str, most: u32, ttl: Duration) -> Self {
        Self { store: store.clone(), name: name.to_owned(), most, ttl }
    }

    /// Takes a permit; returns `None` if none is free.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// let printers = store.permits("printers", 1, Duration::from_secs(30));
    /// if let Some(permit) = printers.try_acquire()? {
    ///     // … print …
    ///     permit.release()?;
    /// }
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`try_lock`](StateStore::try_lock); [`Unsupported`](Error::Unsupported) for more than 1000 permits.
    pub fn try_acquire(&self) -> Result<Option<LockGuard>> {
        let key = self.store.context().key(&self.name)?;
        let ttl = self.ttl()?;
        let acquired =
            self.store.counted(Operation::Other, ("try_acquire", &key), || self.attempt(&key, ttl))?;
        self.store.recorder().count_lock(acquired.is_some());
        Ok(acquired)
    }

    /// Takes a permit, and waits for one for at most `wait` while none is free.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// let printers = store.permits("printers", 2, Duration::from_secs(30));
    /// let permit = printers.acquire(Duration::from_secs(5))?.renewed(|error| eprintln!("stop: {error}"))?;
    /// // … print, however long it takes …
    /// permit.release()?;
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Busy`](Error::Busy) after `wait`, and else as [`try_acquire`](Self::try_acquire).
    pub fn acquire(&self, wait: Duration) -> Result<LockGuard> {
        let key = self.store.context().key(&self.name)?;
        let ttl = self.ttl()?;
        let (end, waited_for) = (deadline_after(wait), key.permits());
        let wait_for_one = || {
            on_backend!(&self.store, backend => backend.attempt_until(&waited_for, end, || {
                self.store.context().check_open()?;
                self.attempt(&key, ttl)
            }))
        };
        let found = self.store.counted_wait(Operation::Other, wait_for_one)?;
        self.store.recorder().count_lock(found.is_some());
        found.ok_or_else(|| Error::Busy { name: key.to_string(), waited: wait })
    }

    fn ttl(&self) -> Result<Millis> {
        if self.most > MOST {
            return Err(Error::Unsupported { what: format!("more than {MOST} permits of one name") });
        }
        Millis::new(self.ttl)
    }

    fn attempt(&self, key: &Key<'_>, ttl: Millis) -> Result<Option<LockGuard>> {
        let requested_at = Instant::now();
        let op = Op { key: key.clone(), action: LockAction::Permit { most: self.most, ttl } };
        let Some(Permit { number, grant }) =
            on_backend!(&self.store, backend => backend.apply_lock(op))?.permit()?
        else {
            return Ok(None);
        };
        let granted = Granted { key: key.permit(number), name: key.to_string(), grant, ttl, requested_at };
        Ok(Some(LockGuard::new(&self.store, granted)))
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, most, ttl, .. } = self;
        f.debug_struct("Permits")
            .field("name", name)
            .field("most", most)
            .field("ttl", ttl)
            .finish_non_exhaustive()
    }
}

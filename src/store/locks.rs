//! Locks: one holder at a time, for a limited time.

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

/// # Locks
///
/// A lock has one holder at a time: one thread on Memory, File and Redis, and on Redis one of all programs
/// with the same server and prefix. It runs out after its time to live, since a holder may die; so a holder
/// that is held up may go on while another one has the lock already. Where that would do harm, give the
/// [token](LockGuard::token) along with what the lock protects, and let that refuse a smaller token than it
/// has seen: each token is larger than all before it, also after the lock expired, the store was cleared or
/// the server was restarted. (A server that lost its data goes on from its clock; so do stores with different
/// key prefixes that reach one lock, which count apart.)
///
/// Names follow the rules of keys and lie in the namespace of the handle, but locks are no keys: they are
/// not listed, and [`clear`](Self::clear) leaves them. Those who wait get a lock in the order in which they
/// came, and [`lock`](Self::lock) does not overtake them; on Redis, who was not seen to wait for some hundred
/// milliseconds loses the place. The algorithm on Redis is that of one server: `SET` with a time
/// limit and a token, changed only by whoever has the token, in scripts; time is the server's.
impl StateStore {
    /// Takes a lock for at most `ttl`; `None` where somebody has it, or waits for it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # fn main() -> millpond::Result<()> {
    /// let store = millpond::StateStore::memory();
    /// let guard = store.lock("report", Duration::from_secs(30))?.expect("nobody else has it");
    /// assert!(store.lock("report", Duration::from_secs(30))?.is_none());
    /// guard.release()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`InvalidKey`](Error::InvalidKey) of the name, [`InvalidTtl`](Error::InvalidTtl). On Redis it is never
    /// repeated after a lost answer; a lock that may have been taken then runs out.
    pub fn lock(&self, name: &str, ttl: Duration) -> Result<Option<LockGuard>> {
        let name = self.context().key(name)?;
        let ttl = Millis::new(ttl)?;
        let sent = Instant::now();
        let op = Op { key: name.clone(), action: LockAction::Lock { ttl } };
        let granted = on_backend!(self, backend => backend.apply_lock(op))?.granted()?;
        Ok(granted.map(|grant| LockGuard::new(self, name, grant, sent + ttl.duration())))
    }

    /// Takes a lock for at most `ttl`, and waits for it to be free; `None` after `timeout`.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn lock_wait(&self, name: &str, ttl: Duration, timeout: Duration) -> Result<Option<LockGuard>> {
        let name = self.context().key(name)?;
        let ttl = Millis::new(ttl)?;
        let begun = Instant::now();
        let granted = on_backend!(self, backend => backend.lock_wait(&name, ttl, deadline_after(timeout)))?;
        // The attempt that succeeded took no longer than an operation may.
        let sent =
            Instant::now().checked_sub(self.context().shared.limit).map_or(begun, |sent| sent.max(begun));
        Ok(granted.map(|grant| LockGuard::new(self, name, grant, sent + ttl.duration())))
    }
}

/// A lock that is held: see [`StateStore::lock`]. Dropping it releases the lock, and logs what failed. After
/// [`StateStore::close`] nothing can be released: on File and Redis the lock is held until it runs out.
#[must_use = "a lock is released when its guard is dropped"]
pub struct LockGuard {
    store: StateStore,
    name: Key<'static>,
    token: u64,
    until: AtomicU64,
    released: AtomicBool,
    /// Until then nobody else has it, whatever becomes of the server's clock and of the way to it.
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

    /// The fencing token: larger than that of every holder before, below 2^53.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.token
    }

    /// Lets the lock run out only after `ttl`, counted from now.
    ///
    /// # Errors
    /// [`LockLost`](Error::LockLost), [`InvalidTtl`](Error::InvalidTtl).
    pub fn extend(&self, ttl: Duration) -> Result<()> {
        let ttl = Millis::new(ttl)?;
        self.store.context().check_open()?;
        let sent = Instant::now();
        self.hold(LockAction::Extend { grant: self.grant(), ttl })?;
        *self.deadline.lock() = sent + ttl.duration();
        Ok(())
    }

    /// Releases the lock.
    ///
    /// # Errors
    /// [`LockLost`](Error::LockLost) where it was lost before: somebody else may have worked under it.
    pub fn release(self) -> Result<()> {
        self.let_go()
    }

    /// Asks the store whether the lock is still this guard's.
    ///
    /// While a Redis server is away, and something serves in its place, nobody can be asked: then it is this
    /// guard's until the time is over for which it was taken or extended last, counted from before the server was
    /// told.
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

    fn let_go(&self) -> Result<()> {
        self.released.store(true, Ordering::Relaxed);
        self.store.context().check_open()?;
        self.hold(LockAction::Unlock { grant: self.grant() })
    }

    fn hold(&self, action: LockAction) -> Result<()> {
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
        if let Err(error) = self.let_go() {
            let name: &str = &self.name;
            log::debug!("releasing the lock {name:?}: {error}");
        }
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name: &str = &self.name;
        f.debug_struct("LockGuard").field("name", &name).field("token", &self.token).finish_non_exhaustive()
    }
}

//! Owns which of two serves: the server while it answers, what is known here while it does not. Knows nothing
//! of how either works.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};

use crate::backend::fallback::outage::disconnected::Outage;
use crate::backend::fallback::outage::sent::Sent;
use crate::backend::fallback::queue::file::{QueueFile, Restored};
use crate::backend::fallback::queue::replay_queue::QueueBounds;
use crate::backend::fallback::report::counts::Counts;
use crate::backend::fallback::shadow::cache::Shadow;
use crate::backend::redis::client::Redis;
use crate::clock::Clock;
use crate::config;
use crate::config::{OnConflict, StateConfig, Unknown};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::Repeat;
use crate::outage::{Event, PendingOperation, Rejected, WriteConflict};
use crate::util::unique_id;

/// Of so many conflicts it is kept what they were; the others are only counted.
pub(crate) const MAX_CONFLICTS_KEPT: usize = 10_000;

/// A handle on the two; dropping the last one ends them.
pub(crate) struct Fallback {
    pub(crate) shared: Arc<Shared>,
    owner: Arc<Owner>,
    /// For this handle being away is always an error.
    pub(crate) strict: bool,
}

/// Ends what it owns when the last handle is dropped.
struct Owner(Arc<Shared>);

pub(crate) type Listener = Arc<dyn Fn(&Event) + Send + Sync>;

pub(crate) struct Shared {
    pub(crate) redis: Redis,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shadow: Arc<Shadow>,
    /// Whether something is served while the server is away.
    pub(crate) serves: bool,
    pub(crate) unknown: Option<Unknown>,
    pub(crate) exclusive: bool,
    pub(crate) on_conflict: OnConflict,
    pub(crate) queue_bounds: QueueBounds,
    pub(crate) max_outage: Option<Duration>,
    pub(crate) limit: Duration,
    /// Who the marker on the server belongs to: no two stores have the same.
    pub(crate) identity: u128,
    /// Where what waits is kept as well.
    pub(crate) queue_file: Option<Arc<QueueFile>>,
    /// The number of the last operation that is done there.
    pub(crate) done: AtomicU64,
    pub(crate) was_connected: AtomicBool,
    pub(crate) was_marked: AtomicBool,
    /// Whether there is an outage: what every operation looks at first.
    pub(crate) is_disconnected: AtomicBool,
    /// Whether nothing more is done here: what waited was counted, and is lost or kept.
    pub(crate) has_ended: AtomicBool,
    /// INVARIANT: whoever does an operation here holds it for reading, so that none is under way when the
    /// outage ends.
    pub(crate) outage: RwLock<Option<Arc<Outage>>>,
    pub(crate) reconnecting: Mutex<()>,
    pub(crate) thread: Mutex<Option<JoinHandle<()>>>,
    pub(crate) wake: Mutex<Wake>,
    pub(crate) wakeup: Condvar,
    pub(crate) counts: Arc<Counts>,
    pub(crate) reports: Mutex<Reports>,
    pub(crate) listeners: Mutex<Vec<Listener>>,
    pub(crate) last_probe: Mutex<Option<ProbeResult>>,
    /// What is still to be told, and whose turn it is to tell it.
    pub(crate) events: Mutex<VecDeque<Event>>,
    dispatching: Mutex<()>,
}

/// What can be made of an operation whose answer from the server was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnLostReply {
    /// Nothing: done twice it would do harm.
    Fail,
    /// It is done again: twice is like once.
    Repeat,
    /// The server will tell whether it was done.
    AskServer,
}

impl OnLostReply {
    pub(crate) fn of(repeat: Repeat) -> Self {
        if repeat.is_harmless() { Self::Repeat } else { Self::Fail }
    }
}

/// What was found out of a server that was silent once.
#[derive(Clone, Copy)]
pub(crate) struct ProbeResult {
    pub(crate) asked: Instant,
    pub(crate) alive: bool,
}

/// What the thread that waits for the server is told.
#[derive(Default)]
pub(crate) struct Wake {
    pub(crate) ending: bool,
}

/// What waits to be asked for.
#[derive(Default)]
pub(crate) struct Reports {
    pub(crate) rejected: Vec<Rejected>,
    pub(crate) conflicts: Vec<WriteConflict>,
    pub(crate) uncertain: Vec<PendingOperation>,
}

impl Fallback {
    pub(crate) fn open(
        url: &str,
        key_prefix: &str,
        config: &StateConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let options = &config.redis;
        // Lanes are counted anew in every run of a program: their notes are no others'.
        let redis = Redis::new(url, key_prefix, options, unique_id::unique_id())?;
        let mut left = Restored::nothing(unique_id::unique_id());
        let mut journal = None;
        if let config::Fallback::File { path } = &options.fallback {
            let (opened, found) = QueueFile::open(path, key_prefix, left.identity, &config.file, &clock)?;
            left = found;
            journal = Some(Arc::new(opened));
        }
        // Nothing is read from it where nothing is served while the server is away.
        let shadow = if options.fallback == config::Fallback::None { 0 } else { options.shadow_bytes };
        let inner = Arc::new(Shared {
            redis,
            clock,
            shadow: Arc::new(Shadow::new(shadow)),
            serves: options.fallback != config::Fallback::None,
            unknown: options.unknown,
            exclusive: options.exclusive,
            on_conflict: options.on_conflict,
            queue_bounds: QueueBounds { operations: options.max_pending, bytes: options.max_pending_bytes },
            max_outage: options.max_away,
            limit: options.timeout,
            identity: left.identity,
            queue_file: journal,
            done: AtomicU64::new(left.done),
            was_connected: AtomicBool::new(false),
            was_marked: AtomicBool::new(left.marked),
            is_disconnected: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            outage: RwLock::default(),
            reconnecting: Mutex::default(),
            thread: Mutex::default(),
            wake: Mutex::default(),
            wakeup: Condvar::new(),
            counts: Arc::default(),
            reports: Mutex::default(),
            listeners: Mutex::default(),
            last_probe: Mutex::default(),
            events: Mutex::default(),
            dispatching: Mutex::default(),
        });
        let fallback = Self { owner: Arc::new(Owner(Arc::clone(&inner))), shared: inner, strict: false };
        fallback.shared.begin(left.waiting, left.sent)?;
        Ok(fallback)
    }

    /// The same store, for which being away is always an error.
    pub(crate) fn strict(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), owner: Arc::clone(&self.owner), strict: true }
    }

    /// As [`Fallback::serve`], for writes: what serves in an outage has to know of those that were on their way to
    /// the server when it began.
    pub(crate) fn route_write<'k, R, K: IntoIterator<Item = &'k Key<'k>>>(
        &self,
        again: OnLostReply,
        keys: impl FnOnce() -> K,
        mut there: impl FnMut(&Redis) -> Result<R>,
        here: impl FnMut(&Outage, Sent) -> Result<R>,
    ) -> Result<R> {
        let mut was_there = false;
        let there = |redis: &Redis| {
            was_there = true;
            there(redis)
        };
        let outcome = self.route(again, there, here);
        if was_there {
            self.shared.carry_into_outage(keys());
        }
        outcome
    }

    /// Does something on the server, or here while that is away.
    ///
    /// `here` is told whether an answer of the server was lost.
    pub(crate) fn route<R>(
        &self,
        again: OnLostReply,
        mut there: impl FnMut(&Redis) -> Result<R>,
        mut here: impl FnMut(&Outage, Sent) -> Result<R>,
    ) -> Result<R> {
        let inner = &self.shared;
        // Before any lock: one that another thread held at the fork is never freed in the child.
        inner.redis.check_process()?;
        let mut lost = false;
        let falls_back = !self.strict && inner.serves;
        loop {
            let outages = inner.counts.outages.load(Ordering::Acquire);
            if !inner.is_disconnected.load(Ordering::Acquire) {
                let outcome = match there(&inner.redis) {
                    // What an earlier attempt may have done, the end of the store does not undo.
                    Err(error @ Error::Unavailable { .. }) if lost => Err(error.after_lost_answer()),
                    outcome => outcome,
                };
                inner.check_data_loss();
                let Err(error) = &outcome else { return outcome };
                let is_doubtful = error.maybe_applied();
                if again == OnLostReply::AskServer
                    && is_doubtful
                    && falls_back
                    && inner.begin_outage_in_doubt(error)
                {
                    lost = true;
                } else if !inner.is_outage(error, outages) || !falls_back {
                    // Who wants nobody else to serve is told what became of it there.
                    return outcome;
                } else if matches!(error, Error::Partial { .. })
                    || (is_doubtful && again != OnLostReply::Repeat)
                {
                    // What may have been done there, or was in part, must not be done here as well.
                    return outcome;
                }
                lost |= is_doubtful;
            }
            if !falls_back {
                return Err(server_disconnected());
            }
            let outage = inner.outage.read();
            if let Some(away) = &*outage {
                // Of what the server will tell, it is known that a refusal is one.
                let is_over = inner.has_ended.load(Ordering::Acquire);
                let unsure = lost && (is_over || again != OnLostReply::AskServer);
                let outcome = if is_over {
                    Err(Error::closed())
                } else {
                    here(away, if lost { Sent::InDoubt } else { Sent::Not })
                };
                return outcome.map_err(|error| if unsure { error.after_lost_answer() } else { error });
            }
        }
    }
}

impl Shared {
    pub(crate) fn outage(&self) -> Option<Arc<Outage>> {
        self.outage.read().clone()
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.wake.lock().ending
    }

    /// Tells the listeners what has happened, in the order in which it did. They may use the store, so no
    /// lock is held that it needs; one that is told something right now is told the rest afterwards.
    pub(crate) fn dispatch_events(&self) {
        while !self.events.lock().is_empty() {
            let Some(_turn) = self.dispatching.try_lock() else { return };
            while let Some(event) = self.next_event() {
                let listeners = self.listeners.lock().clone();
                for listener in listeners {
                    // Its panic is not that of the operation which happened to notice.
                    if catch_unwind(AssertUnwindSafe(|| listener(&event))).is_err() {
                        log::error!("a listener panicked when it was told {event:?}");
                    }
                }
            }
        }
    }

    fn next_event(&self) -> Option<Event> {
        self.events.lock().pop_front()
    }

    /// Where an outage began while operations on these keys were on their way to the server, what serves now
    /// has to know of them.
    pub(crate) fn carry_into_outage<'k>(&self, keys: impl IntoIterator<Item = &'k Key<'k>>) {
        // The lock, and not `is_away`: an outage that is just beginning may have looked at the shadow already.
        if let Some(away) = &*self.outage.read() {
            keys.into_iter().for_each(|key| away.refresh_from_shadow(key));
        }
    }
}

fn server_disconnected() -> Error {
    Error::Unavailable { maybe_applied: false, source: "the server is away".into() }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // What waits in a copy is done by the process that it was copied from.
        if self.0.redis.check_process().is_err() {
            return;
        }
        if let Err(error) = self.0.close(Duration::ZERO) {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            log::error!("a store was dropped while its server was away: {cause}");
        }
    }
}

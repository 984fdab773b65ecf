//! The cases that every promise is tested on, and how time passes in each.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use millpond::{Clock, ManualClock, OpenOptions, StateBackend, StateConfig, StateStore, Ttl};
#[cfg(feature = "redis")]
use millpond::{Fallback, RedisOptions};
use tempfile::TempDir;

#[cfg(feature = "redis")]
use super::ports::free_port;
#[cfg(feature = "redis")]
use super::raw_client::RawClient;
#[cfg(feature = "redis")]
use super::redis_server::RedisServer;

/// How much real time a test may take on a server, whose clock cannot be stopped.
const SLACK: Duration = Duration::from_secs(30);

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Memory,
    File,
    /// The directory is closed and opened again before every step.
    FileReopened,
    #[cfg(feature = "redis")]
    Redis,
    /// With the option `exactly_once`.
    #[cfg(feature = "redis")]
    RedisOnce,
    /// Fallback to memory, for a server that was unreachable when the store was opened.
    #[cfg(feature = "redis")]
    Away,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) backend: Backend,
    pub(crate) default_ttl: Option<Duration>,
}

/// A store under test, with its surroundings.
pub(crate) struct Context {
    case: Case,
    config: StateConfig,
    clock: Arc<ManualClock>,
    opened: Mutex<Opened>,
    #[cfg(feature = "redis")]
    raw: Option<RawClient>,
    _dir: Option<TempDir>,
}

struct Opened {
    store: Option<StateStore>,
    times: u32,
}

impl Context {
    pub(crate) fn new(case: Case) -> Self {
        Self::configured(case, |config| config)
    }

    /// A store with further options.
    pub(crate) fn configured(case: Case, change: impl FnOnce(StateConfig) -> StateConfig) -> Self {
        let mut config = StateConfig::default().default_ttl(case.default_ttl);
        let mut dir = None;
        #[cfg(feature = "redis")]
        let mut raw = None;
        match case.backend {
            Backend::Memory => {}
            #[cfg(feature = "redis")]
            Backend::Away => {
                let url = format!("redis://127.0.0.1:{}", free_port());
                config.backend = StateBackend::redis(url).key_prefix("test");
                // No other client can write while the server is never reachable.
                config.redis = RedisOptions::default().max_retries(0).exclusive(true);
            }
            Backend::File | Backend::FileReopened => {
                let made = tempfile::tempdir().expect("a temporary directory");
                config.backend = StateBackend::file(made.path().join("state"));
                dir = Some(made);
            }
            #[cfg(feature = "redis")]
            Backend::Redis | Backend::RedisOnce => {
                let (server, database) = RedisServer::shared();
                let url = server.url(database);
                raw = Some(RawClient::connect(&url));
                config.backend = StateBackend::redis(url).key_prefix("test");
                config.redis = RedisOptions::default()
                    .fallback(Fallback::None)
                    .timeout(Duration::from_secs(20))
                    .exactly_once(case.backend == Backend::RedisOnce);
            }
        }
        let opened = Mutex::new(Opened { store: None, times: 0 });
        let context = Self {
            case,
            config: change(config),
            clock: Arc::default(),
            opened,
            #[cfg(feature = "redis")]
            raw,
            _dir: dir,
        };
        context.reopen();
        context
    }

    /// The store, reopened if the case requires it. Handles from earlier calls must have been dropped before.
    pub(crate) fn store(&self) -> StateStore {
        if self.case.backend == Backend::FileReopened {
            self.reopen();
        }
        let opened = self.opened.lock().expect("no step panicked");
        opened.store.clone().expect("an open store")
    }

    /// Ends the store and opens it again, alternately after `close` and after a mere drop. Memory would lose
    /// its data, and is left as it is.
    pub(crate) fn reopen(&self) {
        let mut opened = self.opened.lock().expect("no step panicked");
        if opened.store.is_some() && self.in_memory() {
            return;
        }
        if let Some(store) = opened.store.take()
            && opened.times.is_multiple_of(2)
        {
            store.close().expect("closing");
        }
        opened.times += 1;
        let store = OpenOptions::new().clock(self.clock.clone()).with_config(self.config.clone());
        opened.store = Some(store.expect("opening the store"));
    }

    /// An empty store in memory whose time is that of the store.
    pub(crate) fn memory(&self) -> StateStore {
        if !self.clock_is_manual() {
            return StateStore::memory();
        }
        let store = OpenOptions::new().clock(self.clock.clone()).with_config(StateConfig::default());
        store.expect("opening the store")
    }

    /// Whether the data is lost when the store ends.
    pub(crate) fn in_memory(&self) -> bool {
        match self.case.backend {
            Backend::Memory => true,
            #[cfg(feature = "redis")]
            Backend::Away => true,
            #[cfg(feature = "redis")]
            Backend::Redis | Backend::RedisOnce => false,
            Backend::File | Backend::FileReopened => false,
        }
    }

    /// The time that the clock of the store shows.
    pub(crate) fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// Advances the time without waiting.
    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
        #[cfg(feature = "redis")]
        if let Some(raw) = &self.raw {
            raw.advance(by);
        }
    }

    /// Advances the time for leases and locks too. On a server these depend on the server's own clock, so the
    /// test really waits: the time should be short.
    pub(crate) fn wait_or_advance(&self, time: Duration) {
        if self.clock_is_manual() {
            self.advance(time);
        } else {
            std::thread::sleep(time + Duration::from_millis(2));
        }
    }

    /// Whether time passes only when a test advances it.
    pub(crate) fn clock_is_manual(&self) -> bool {
        match self.case.backend {
            Backend::Memory | Backend::File | Backend::FileReopened => true,
            #[cfg(feature = "redis")]
            Backend::Away => true,
            #[cfg(feature = "redis")]
            Backend::Redis | Backend::RedisOnce => false,
        }
    }

    /// Whether the store knows how many entries it holds without counting them.
    pub(crate) fn counts_entries(&self) -> bool {
        match self.case.backend {
            Backend::Memory | Backend::File | Backend::FileReopened => true,
            #[cfg(feature = "redis")]
            Backend::Redis | Backend::RedisOnce | Backend::Away => false,
        }
    }

    pub(crate) fn case(&self) -> Case {
        self.case
    }

    /// A new, empty store of the same case with the other options.
    pub(crate) fn open_another(&self, change: impl FnOnce(StateConfig) -> StateConfig) -> Self {
        Self::configured(self.case, change)
    }

    /// Whether a time to live is the expected one, allowing for the time that really passes on a server.
    pub(crate) fn is_ttl(&self, told: Option<Ttl>, expected: Option<Ttl>) -> bool {
        let slack = if self.clock_is_manual() { Duration::ZERO } else { SLACK };
        match (told, expected) {
            (Some(Ttl::In(told)), Some(Ttl::In(expected))) => {
                told <= expected && told + slack >= expected && !told.is_zero()
            }
            _ => told == expected,
        }
    }

    #[track_caller]
    pub(crate) fn assert_ttl(&self, key: &str, expected: impl Into<Option<Duration>>) {
        let expected = Some(expected.into().map_or(Ttl::Never, Ttl::In));
        let told = self.store().ttl(key).expect("a time to live");
        assert!(self.is_ttl(told, expected), "{key:?}: {told:?} is not {expected:?}");
    }

    /// Asserts that the entry has the time to live that the store sets by default.
    #[track_caller]
    pub(crate) fn assert_default_ttl(&self, key: &str) {
        self.assert_ttl(key, self.case.default_ttl);
    }
}

#[cfg(feature = "redis")]
impl Drop for Context {
    fn drop(&mut self) {
        if let Some(raw) = &self.raw
            && !std::thread::panicking()
        {
            raw.flush();
        }
    }
}

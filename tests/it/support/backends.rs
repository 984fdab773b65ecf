//! The cases that every promise is checked on, and how time passes in each.

use std::sync::{Arc, Mutex};
use std::time::Duration;

#[cfg(feature = "redis")]
use millpond::{Fallback, RedisOptions};
use millpond::{ManualClock, StateBackend, StateConfig, StateStore, Ttl};
use tempfile::TempDir;

#[cfg(feature = "redis")]
use super::raw_client::RawClient;
#[cfg(feature = "redis")]
use super::redis_server::{RedisServer, free_port};

/// How much real time a test may take on a server whose clock nobody can stop.
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
    /// Memory in the place of a server that was away when the store was opened.
    #[cfg(feature = "redis")]
    Away,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) backend: Backend,
    pub(crate) default_ttl: Option<Duration>,
}

/// One store under test, and what surrounds it.
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
                config.backend = StateBackend::Redis { url, key_prefix: "test".into() };
                // Nobody else can write while the server is away for good.
                config.redis = RedisOptions::default().max_retries(0).exclusive(true);
            }
            Backend::File | Backend::FileReopened => {
                let made = tempfile::tempdir().expect("a temporary directory");
                config.backend = StateBackend::File { path: made.path().join("state") };
                dir = Some(made);
            }
            #[cfg(feature = "redis")]
            Backend::Redis | Backend::RedisOnce => {
                let (server, database) = RedisServer::shared();
                let url = server.url(database);
                raw = Some(RawClient::connect(&url));
                config.backend = StateBackend::Redis { url, key_prefix: "test".into() };
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

    /// The store; opened anew where the case says so. Handles from earlier calls must be gone by then.
    pub(crate) fn store(&self) -> StateStore {
        if self.case.backend == Backend::FileReopened {
            self.reopen();
        }
        let opened = self.opened.lock().expect("no step panicked");
        opened.store.clone().expect("an open store")
    }

    /// Ends the store and opens it again: by turns after `close` and after a mere drop. Memory would be
    /// empty then, and stays as it is.
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
        let store = StateStore::with_clock(self.config.clone(), self.clock.clone());
        opened.store = Some(store.expect("opening the store"));
    }

    /// Whether ending the store would lose what it holds.
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

    /// Lets time go by without waiting for it.
    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
        #[cfg(feature = "redis")]
        if let Some(raw) = &self.raw {
            raw.advance(by);
        }
    }

    /// Lets time go by also for leases and locks, which on a server go by the server's own clock: there it
    /// is waited for, so it should be short.
    pub(crate) fn run_out(&self, time: Duration) {
        if self.time_stands() {
            self.advance(time);
        } else {
            std::thread::sleep(time + Duration::from_millis(2));
        }
    }

    /// Whether time passes only where a test moves it.
    pub(crate) fn time_stands(&self) -> bool {
        match self.case.backend {
            Backend::Memory | Backend::File | Backend::FileReopened => true,
            #[cfg(feature = "redis")]
            Backend::Away => true,
            #[cfg(feature = "redis")]
            Backend::Redis | Backend::RedisOnce => false,
        }
    }

    pub(crate) fn case(&self) -> Case {
        self.case
    }

    /// The same case with the other options, and nothing in it.
    pub(crate) fn another(&self, change: impl FnOnce(StateConfig) -> StateConfig) -> Self {
        Self::configured(self.case, change)
    }

    /// Whether the time to live that the store tells is the expected one, allowing for the time that
    /// really passes on a server.
    pub(crate) fn ttl_is(&self, told: Option<Ttl>, expected: Option<Ttl>) -> bool {
        let slack = if self.time_stands() { Duration::ZERO } else { SLACK };
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
        assert!(self.ttl_is(told, expected), "{key:?}: {told:?} is not {expected:?}");
    }

    /// Asserts that the entry got what the store gives to entries that name no time to live.
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

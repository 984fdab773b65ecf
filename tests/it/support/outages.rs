//! Stores that do not wait long for their server, and what holds them to it.

use std::time::{Duration, Instant};

use millpond::{Fallback, RedisOptions, Result, StateBackend, StateConfig, StateStore, Status};

use super::wait_until;

/// The limits of [`options`].
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_millis(300);
pub(crate) const LIMIT: Duration = Duration::from_millis(500);

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Short limits, and nothing that serves in the server's place.
pub(crate) fn options() -> RedisOptions {
    RedisOptions::default().connect_timeout(CONNECT_LIMIT).timeout(LIMIT).fallback(Fallback::None)
}

/// Short limits, and memory that serves in the server's place.
pub(crate) fn memory() -> RedisOptions {
    options().fallback(Fallback::Memory)
}

/// Opens a store with the prefix `t`.
pub(crate) fn open(url: &str, options: RedisOptions) -> Result<StateStore> {
    let backend = StateBackend::Redis { url: url.to_owned(), key_prefix: "t".to_owned() };
    StateStore::with_config(StateConfig::default().backend(backend).redis(options))
}

/// Runs `call` and holds it to its limit.
pub(crate) fn within<T>(limit: Duration, call: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let outcome = call();
    assert!(begun.elapsed() < limit + Duration::from_millis(250), "took {:?}", begun.elapsed());
    outcome
}

/// Waits for what has to come.
pub(crate) fn until(what: &str, holds: impl FnMut() -> bool) {
    wait_until(what, PATIENCE, holds);
}

/// Waits until the server serves again.
pub(crate) fn connected(store: &StateStore) {
    until("the store is connected", || store.status() == Status::Connected);
}

/// How many operations wait; `None` while the server serves.
pub(crate) fn pending(store: &StateStore) -> Option<u64> {
    match store.status() {
        Status::Away { pending, .. } => Some(pending),
        _ => None,
    }
}

/// Lets a store notice that its server is away, by reads, none of whose answers can be lost.
pub(crate) fn notices(store: &StateStore) {
    until("the store is away", || {
        let _ = store.get_bytes("noticed");
        pending(store).is_some()
    });
}

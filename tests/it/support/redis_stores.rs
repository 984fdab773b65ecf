//! Stores that do not wait long for their server, and what holds them to it.

use std::path::Path;
use std::time::{Duration, Instant};

use millpond::{
    Fallback, FileOptions, RedisOptions, Result, StateBackend, StateConfig, StateStore, Status, SyncPolicy,
};

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

/// Short limits, and memory that serves in the server's place and keeps what waits in a directory.
pub(crate) fn durable(dir: &Path) -> RedisOptions {
    options().fallback(Fallback::file(dir))
}

/// Opens a store with the prefix `t`.
pub(crate) fn open(url: &str, options: RedisOptions) -> Result<StateStore> {
    StateStore::with_config(config(url, options))
}

/// What [`open`] opens.
pub(crate) fn config(url: &str, options: RedisOptions) -> StateConfig {
    let backend = StateBackend::Redis { url: url.to_owned(), key_prefix: "t".to_owned() };
    // Whatever is synced: killing a program loses nothing that was written.
    StateConfig::default()
        .backend(backend)
        .redis(options)
        .file(FileOptions::default().sync(SyncPolicy::Never))
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

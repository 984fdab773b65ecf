//! Stores with short time limits, and functions that check these limits.

use std::path::Path;
use std::time::{Duration, Instant};

use millpond::{
    Error, Fallback, FileOptions, RedisOptions, Result, StateBackend, StateConfig, StateStore, Status,
    SyncPolicy,
};

use super::wait_until;

/// The limits of [`options`].
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_millis(300);
pub(crate) const LIMIT: Duration = Duration::from_millis(500);

/// How long a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Short limits, and no fallback.
pub(crate) fn options() -> RedisOptions {
    RedisOptions::default().connect_timeout(CONNECT_LIMIT).timeout(LIMIT).fallback(Fallback::None)
}

/// Short limits, and a fallback to memory.
pub(crate) fn memory() -> RedisOptions {
    options().fallback(Fallback::Memory)
}

/// Short limits, and a fallback to memory with a replay queue in a directory.
pub(crate) fn durable(dir: &Path) -> RedisOptions {
    options().fallback(Fallback::file(dir))
}

/// The same options with long limits, for tests in which no call should end at its limit, however slow the
/// machine is.
pub(crate) fn patient(options: RedisOptions) -> RedisOptions {
    options.connect_timeout(PATIENCE).timeout(PATIENCE)
}

/// Opens a store with the prefix `t`.
pub(crate) fn open(url: &str, options: RedisOptions) -> Result<StateStore> {
    StateStore::with_config(config(url, options))
}

/// The configuration of [`open`].
pub(crate) fn config(url: &str, options: RedisOptions) -> StateConfig {
    let backend = StateBackend::redis(url).key_prefix("t");
    // Whatever the sync policy: killing a program loses nothing that it wrote.
    StateConfig::default()
        .backend(backend)
        .redis(options)
        .file(FileOptions::default().sync(SyncPolicy::Never))
}

/// Runs `call` and asserts that it ends within its limit.
pub(crate) fn run_within<T>(limit: Duration, call: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let outcome = call();
    assert!(begun.elapsed() < limit + Duration::from_millis(250), "took {:?}", begun.elapsed());
    outcome
}

/// Waits for something that must happen.
pub(crate) fn wait_for(what: &str, holds: impl FnMut() -> bool) {
    wait_until(what, PATIENCE, holds);
}

/// Waits until the server serves again.
pub(crate) fn wait_until_connected(store: &StateStore) {
    wait_for("the store is connected", || store.status() == Status::Connected);
}

/// Puts a value, and does so once more if the connection broke: then nobody knows whether the first put was applied.
pub(crate) fn put_despite_a_broken_connection(store: &StateStore, key: &str, value: i64) {
    match store.put(key, value) {
        Err(Error::Unavailable { maybe_applied: true, .. }) => store.put(key, value).unwrap(),
        outcome => outcome.unwrap(),
    }
}

/// How many operations are queued; `None` while the server serves.
pub(crate) fn pending(store: &StateStore) -> Option<u64> {
    match store.status() {
        Status::Disconnected { pending, .. } => Some(pending),
        _ => None,
    }
}

/// Makes a store notice that its server is unreachable, by reads, since no operation can be in doubt after a
/// read.
pub(crate) fn notice_disconnect(store: &StateStore) {
    wait_for("the store is disconnected", || {
        let _ = store.get_bytes("noticed");
        pending(store).is_some()
    });
}

//! Shared code of the tests.
//!
//! - `backends`: the cases on which every promise is tested;
//! - `seeds`: the seeds of random histories;
//! - `child_process`: processes that can be killed;
//! - `files`, `corrupt`, `history`, `disk`: the directory of a File store, damage to it, a history of
//!   operations on it, and disks that fail;
//! - `redis_server`, `shared_server`, `proxied_server`, `raw_client`: Redis servers, and a client without the
//!   store;
//! - `server_program`: which Redis server is started, and what it can do;
//! - `ports`: free ports;
//! - `proxy`, `partition`: networks that fail;
//! - `scripted_server`: a server that answers as a test wants;
//! - `redis_stores`: stores with short time limits, and their fallbacks;
//! - `ledger`: the results of many writes, compared with a server.

pub(crate) mod backends;
pub(crate) mod child_process;
pub(crate) mod corrupt;
#[cfg(target_os = "linux")]
pub(crate) mod disk;
pub(crate) mod exposition;
pub(crate) mod files;
#[cfg(target_os = "linux")]
pub(crate) mod history;
#[cfg(feature = "redis")]
pub(crate) mod ledger;
#[cfg(feature = "redis")]
pub(crate) mod partition;
#[cfg(feature = "redis")]
pub(crate) mod ports;
#[cfg(feature = "redis")]
pub(crate) mod proxied_server;
#[cfg(feature = "redis")]
pub(crate) mod proxy;
#[cfg(feature = "redis")]
pub(crate) mod raw_client;
#[cfg(feature = "redis")]
pub(crate) mod redis_server;
#[cfg(feature = "redis")]
pub(crate) mod redis_stores;
#[cfg(feature = "redis")]
pub(crate) mod scripted_server;
pub(crate) mod seeds;
#[cfg(feature = "redis")]
pub(crate) mod server_program;
#[cfg(feature = "redis")]
pub(crate) mod shared_server;

use std::error::Error as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Asserts that a result is an error of one variant, and returns the error.
macro_rules! assert_error {
    ($result:expr, $pattern:pat $(if $guard:expr)?) => {
        match $result {
            Ok(value) => panic!("expected {}, got Ok({value:?})", stringify!($pattern)),
            Err(error) => {
                assert!(
                    matches!(&error, $pattern $(if $guard)?),
                    "expected {}, got {error:?}",
                    stringify!($pattern $(if $guard)?)
                );
                error
            }
        }
    };
}

/// Waits for a condition, and fails if it does not hold within the limit.
pub(crate) fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < limit, "waited {limit:?} in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// An error and all its sources, as a log shows them.
pub(crate) fn chain(error: &millpond::Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(error) = source {
        texts.push(error.to_string());
        source = error.source();
    }
    texts
}

/// Ends the other threads of a test, even if it fails: they check the flag.
pub(crate) struct Ending<'e>(pub(crate) &'e AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Returns how many bytes of this process are in memory.
#[cfg(target_os = "linux")]
pub(crate) fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

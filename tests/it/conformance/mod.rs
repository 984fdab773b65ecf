//! One function for each promise of the store, each run on every backend, with and without a `default_ttl`.
//!
//! `cargo test --test it conformance` runs all of them. A filter such as `::memory::`, `::file_reopened::` or
//! `::redis_with_default_ttl::` selects one case.

use std::time::Duration;

use crate::support::backends::{Backend, Case, Context};

/// Makes a test of each promise for each case.
macro_rules! promises {
    ($($name:ident),* $(,)?) => {
        $crate::conformance::promises_that_need_the_server!($($name),*);
        #[cfg(feature = "redis")]
        $crate::conformance::case!(away, Away, None, [$($name)*]);
        #[cfg(feature = "redis")]
        $crate::conformance::case!(away_with_default_ttl, Away, Some($crate::support::backends::HOUR), [$($name)*]);
    };
}

/// Like `promises`, for promises that memory cannot keep during an outage: leases and locks must hold between
/// programs.
macro_rules! promises_that_need_the_server {
    ($($name:ident),* $(,)?) => {
        $crate::conformance::case!(memory, Memory, None, [$($name)*]);
        $crate::conformance::case!(memory_with_default_ttl, Memory, Some($crate::support::backends::HOUR), [$($name)*]);
        $crate::conformance::case!(file, File, None, [$($name)*]);
        $crate::conformance::case!(file_with_default_ttl, File, Some($crate::support::backends::HOUR), [$($name)*]);
        $crate::conformance::case!(file_reopened, FileReopened, None, [$($name)*]);
        $crate::conformance::case!(file_reopened_with_default_ttl, FileReopened, Some($crate::support::backends::HOUR), [$($name)*]);
        #[cfg(feature = "redis")]
        $crate::conformance::case!(redis, Redis, None, [$($name)*]);
        #[cfg(feature = "redis")]
        $crate::conformance::case!(redis_with_default_ttl, Redis, Some($crate::support::backends::HOUR), [$($name)*]);
        #[cfg(feature = "redis")]
        $crate::conformance::case!(redis_once, RedisOnce, None, [$($name)*]);
        #[cfg(feature = "redis")]
        $crate::conformance::case!(redis_once_with_default_ttl, RedisOnce, Some($crate::support::backends::HOUR), [$($name)*]);
    };
}

macro_rules! case {
    ($case:ident, $backend:ident, $ttl:expr, [$($name:ident)*]) => {
        mod $case {
            $(
                #[test]
                fn $name() {
                    use $crate::conformance as c;
                    super::$name(&c::context(c::Backend::$backend, $ttl));
                }
            )*
        }
    };
}
use case;
use promises_that_need_the_server;

mod atomic;
mod batches;
mod byte_values;
mod bytes;
mod compare;
mod concurrency;
mod conflicts;
mod counters;
mod damaged_exports;
mod delayed;
mod encoding;
mod events;
mod examination;
mod expiry;
mod exports;
mod handles;
mod keys;
pub(crate) mod kinds;
mod lease_attempts;
mod lease_transactions;
mod leases;
mod lifecycle;
mod listing;
mod locks;
mod maps;
mod namespaces;
mod own_writes;
mod permits;
mod queues;
mod revisions;
mod sliding;
mod statistics;
mod transactions;
mod types;
mod values;
mod waiting;
mod windows;
mod write_batch;

/// Not an hour, like `default_ttl`: the time that a test sets must differ from the one that the store sets by
/// default.
const MINUTE: Duration = Duration::from_secs(60);

/// The length of leases and locks that expire during a test; on a server the test really waits that long.
const SHORT: Duration = Duration::from_millis(60);

/// Longer than any wait that ends as it should.
const PATIENCE: Duration = Duration::from_secs(30);

fn context(backend: Backend, default_ttl: Option<Duration>) -> Context {
    Context::new(Case { backend, default_ttl })
}

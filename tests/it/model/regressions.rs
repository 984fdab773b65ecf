//! Histories that failed once, in their shrunk form; each begins with its story.

use super::content::Content;
use super::operation::Operation;
use super::run;
use super::step::Step;
use crate::support::backends::{Backend, Case, HOUR};

/// Runs a history on every backend, with and without a `default_ttl`.
fn assert_holds_everywhere(history: &[Operation]) {
    let backends = [
        Backend::Memory,
        Backend::File,
        Backend::FileReopened,
        #[cfg(feature = "redis")]
        Backend::Away,
        #[cfg(feature = "redis")]
        Backend::Redis,
    ];
    for backend in backends {
        for default_ttl in [None, Some(HOUR)] {
            let case = Case { backend, default_ttl };
            run::run(case, history).unwrap_or_else(|failure| panic!("{case:?}: {failure}"));
        }
    }
}

/// This never failed here: other stores get this order wrong, when a counter is created again after it
/// expired.
#[test]
fn a_counter_counts_from_zero_after_it_expired() {
    assert_holds_everywhere(&[
        Operation::On(Step::Incr { key: 0, by: 3, ttl: Some(2) }),
        Operation::Advance { ticks: 1 },
        Operation::On(Step::Incr { key: 0, by: 3, ttl: Some(2) }),
        Operation::Advance { ticks: 1 },
        Operation::On(Step::Incr { key: 0, by: 1, ttl: None }),
        Operation::Reopen,
    ]);
}

/// This never failed here either: a time to live that outlives the value that it was set for.
#[test]
fn a_put_after_a_put_with_a_ttl_stays() {
    assert_holds_everywhere(&[
        Operation::On(Step::Put { key: 0, value: Content::Integer(1), ttl: Some(1) }),
        Operation::On(Step::Put { key: 0, value: Content::Integer(2), ttl: None }),
        Operation::On(Step::Persist { key: 0 }),
        Operation::Reopen,
        Operation::Advance { ticks: 4 },
        Operation::Reopen,
    ]);
}

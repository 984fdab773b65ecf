//! Time in the File variant: deadlines keep their meaning while no process has the store open, whatever the
//! system clock does meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millpond::{ManualClock, OpenOptions, StateStore, SyncPolicy, Ttl};

use crate::support::backends::HOUR;
use crate::support::files::{config, crashed_copy, files, journal, size};
use crate::support::wait_until;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn open(dir: &Path, clock: &Arc<ManualClock>) -> StateStore {
    OpenOptions::new().clock(clock.clone()).with_config(config(dir, SyncPolicy::Never)).unwrap()
}

#[test]
fn time_passes_while_the_store_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let store = open(dir.path(), &clock);
    store.put_with_ttl("short", 1, MINUTE).unwrap();
    store.put_with_ttl("long", 1, 2 * HOUR).unwrap();
    store.put("for ever", 1).unwrap();
    store.close().unwrap();
    clock.advance(HOUR);
    let store = open(dir.path(), &clock);
    assert_eq!(store.keys("").unwrap(), ["for ever", "long"]);
    assert_eq!(store.len().unwrap(), 2);
    assert_eq!(store.ttl("long").unwrap(), Some(Ttl::In(HOUR)));
    store.close().unwrap();
    clock.advance(HOUR);
    assert_eq!(open(dir.path(), &clock).keys("").unwrap(), ["for ever"]);
}

#[test]
fn a_clock_that_is_set_back_stops_until_it_has_caught_up() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let store = open(dir.path(), &clock);
    store.put_with_ttl("gone", 1, MINUTE).unwrap();
    store.put_with_ttl("here", 1, 2 * HOUR).unwrap();
    clock.advance(HOUR);
    let newest = millpond::Clock::now(&*clock);
    store.close().unwrap();

    clock.set(newest - HOUR + Duration::from_secs(1));
    let store = open(dir.path(), &clock);
    assert!(!store.contains("gone").unwrap(), "an expired entry came back");
    assert_eq!(store.ttl("here").unwrap(), Some(Ttl::In(HOUR)));
    store.put_with_ttl("new", 1, HOUR).unwrap();
    drop(store);
    let store = open(dir.path(), &clock);
    assert_eq!(store.ttl("new").unwrap(), Some(Ttl::In(HOUR)), "no time has passed");
    clock.set(newest + MINUTE);
    assert_eq!(store.ttl("here").unwrap(), Some(Ttl::In(59 * MINUTE)));
    assert_eq!(store.ttl("new").unwrap(), Some(Ttl::In(59 * MINUTE)));
    clock.set(newest + HOUR);
    assert!(store.is_empty().unwrap());
}

#[test]
fn a_line_from_more_than_a_day_ahead_does_not_stop_the_clock() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let right = millpond::Clock::now(&*clock);
    let store = open(dir.path(), &clock);
    store.put_with_ttl("before", 1, HOUR).unwrap();
    // The clock was wrong for a while: ten days ahead.
    clock.set(right + 10 * DAY);
    store.put_with_ttl("from ahead", 1, HOUR).unwrap();
    drop(store);
    clock.set(right + MINUTE);
    let store = open(dir.path(), &clock);
    store.put_with_ttl("after", 1, HOUR).unwrap();
    assert_eq!(store.ttl("after").unwrap(), Some(Ttl::In(HOUR)));
    clock.advance(HOUR);
    assert!(!store.contains("after").unwrap(), "the clock has stopped");
    drop(store);
    let store = open(dir.path(), &clock);
    assert!(!store.contains("after").unwrap() && !store.contains("before").unwrap());
    assert_eq!(store.ttl("from ahead").unwrap(), Some(Ttl::In(9 * DAY + 23 * HOUR + 59 * MINUTE)));
}

#[test]
fn opening_drops_expired_entries_also_from_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let store = open(dir.path(), &clock);
    for n in 0..500 {
        store.put_with_ttl(format!("secret{n}"), "x".repeat(100), MINUTE).unwrap();
    }
    store.put("stays", 1).unwrap();
    store.close().unwrap();
    clock.advance(MINUTE);
    let store = open(dir.path(), &clock);
    assert_eq!(store.keys("").unwrap(), ["stays"]);
    // Closing waits for no compaction, but opening has started one.
    wait_until("the store is compacted", Duration::from_secs(10), || size(dir.path()) < 4096);
    store.close().unwrap();
    for (name, bytes) in files(dir.path()) {
        assert!(!String::from_utf8_lossy(&bytes).contains("secret"), "{name}");
    }
    assert_eq!(open(dir.path(), &clock).keys("").unwrap(), ["stays"]);
}

fn crashed(dir: &Path, clock: &Arc<ManualClock>) -> (tempfile::TempDir, StateStore) {
    let copy = crashed_copy(dir);
    let store = open(copy.path(), clock);
    (copy, store)
}

/// The clock was wrong for a while: two days ahead, or a year.
#[test]
fn an_entry_that_was_absent_by_a_clock_far_ahead_stays_absent() {
    for lead in [2 * DAY, 365 * DAY] {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::default());
        let right = millpond::Clock::now(&*clock);
        let store = open(dir.path(), &clock);
        // The writes reclaim many of these, of which no line tells.
        for n in 0..500 {
            store.put_with_ttl(format!("gone{n}"), "x".repeat(20), HOUR).unwrap();
        }
        store.put_with_ttl("long", 1, 2 * lead).unwrap();
        clock.set(right + lead);
        assert_eq!(store.keys("").unwrap(), ["long"]);
        for n in 0..500 {
            store.put("other", n).unwrap();
        }
        store.close().unwrap();

        clock.set(right + MINUTE);
        for times in 0..3 {
            let store = open(dir.path(), &clock);
            assert_eq!(store.keys("").unwrap(), ["long", "other"]);
            let (_copy, copied) = crashed(dir.path(), &clock);
            assert_eq!(copied.keys("").unwrap(), ["long", "other"]);
            // The clock has not stopped.
            store.put_with_ttl("new", times, HOUR).unwrap();
            assert_eq!(store.ttl("new").unwrap(), Some(Ttl::In(HOUR)));
            clock.advance(HOUR);
            assert_eq!(store.keys("").unwrap(), ["long", "other"]);
            let (_copy, copied) = crashed(dir.path(), &clock);
            assert_eq!(copied.keys("").unwrap(), ["long", "other"]);
            if times == 1 {
                drop(store);
            }
        }
    }
}

#[test]
fn an_entry_that_was_absent_stays_absent_when_the_clock_is_set_back_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let right = millpond::Clock::now(&*clock);
    let store = open(dir.path(), &clock);
    store.put_with_ttl("soon", 1, MINUTE).unwrap();
    store.put_with_ttl("gone", 1, HOUR).unwrap();
    clock.advance(2 * MINUTE);
    assert!(!store.contains("soon").unwrap());
    clock.set(right);
    assert!(!store.contains("soon").unwrap(), "only a reading had shown that it was gone");
    clock.set(right + 30 * DAY);
    assert!(!store.contains("gone").unwrap());
    clock.set(right + 3 * MINUTE);
    assert!(!store.contains("gone").unwrap());
    // The next write lets the clock go on, after a compaction.
    store.put("other", 1).unwrap();
    wait_until("the store is compacted", Duration::from_secs(20), || {
        store.put("other", 1).unwrap();
        !journal(dir.path(), 1).exists()
    });
    wait_until("the clock goes on", Duration::from_secs(20), || {
        store.put_with_ttl("new", 1, HOUR).unwrap();
        clock.advance(HOUR);
        !store.contains("new").unwrap()
    });
    assert_eq!(store.keys("").unwrap(), ["other"]);
    let (_copy, copied) = crashed(dir.path(), &clock);
    assert_eq!(copied.keys("").unwrap(), ["other"]);
}

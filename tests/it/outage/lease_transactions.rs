//! `Transaction::ack` during an outage, in a program with an exclusive store: leases from before the outage, leases of
//! the outage, and what the server has after the replay.

use std::thread;
use std::time::Duration;

use millpond::{Error, Leased, RedisOptions, Result, StateStore, Transaction};

use crate::support::backends::HOUR;
use crate::support::proxied_server::ProxiedServer;
use crate::support::proxy::{Mode, Way};
use crate::support::redis_stores::{
    durable, memory, notice_disconnect, open, pending, wait_for, wait_until_connected,
};

struct Setup {
    server: ProxiedServer,
    store: StateStore,
}

impl Setup {
    fn new(options: RedisOptions) -> Self {
        let server = ProxiedServer::new();
        let store = server.store(options);
        Self { server, store }
    }

    fn begin_outage(&self) {
        self.server.proxy.set(Mode::Down);
        notice_disconnect(&self.store);
    }

    fn end_outage(&self) {
        self.server.proxy.set(Mode::Pass);
        wait_until_connected(&self.store);
    }

    /// What the server has: the queue, how many leases, how many leased values, and how many results.
    fn on_server(&self) -> (Vec<i64>, i64, i64, Option<i64>) {
        let raw = &self.server.raw;
        let queue = raw.run("LRANGE", &["t:q", "0", "-1"]);
        let leases = raw.run("ZCARD", &["t:q:__millpond:leases"]);
        (queue, leases, raw.run("HLEN", &["t:q:__millpond:leased"]), raw.run("GET", &["t:results"]))
    }
}

fn exclusive() -> RedisOptions {
    memory().exclusive(true)
}

fn lease(store: &StateStore) -> Leased<i64> {
    store.lease("q", HOUR).unwrap().expect("a value")
}

/// Counts a result and ends the lease, or gives up.
fn finish(tx: &mut Transaction<'_>, job: &Leased<i64>) -> Result<()> {
    tx.incr("results", 1)?;
    if tx.ack(job)? { Ok(()) } else { Err(Error::abort("the lease has ended")) }
}

#[test]
fn a_lease_from_before_an_outage_ends_with_its_result_during_it() {
    let setup = Setup::new(exclusive());
    let store = &setup.store;
    store.put("results", 0).unwrap();
    store.push_back_many("q", 1..=3).unwrap();
    let (first, second, third) = (lease(store), lease(store), lease(store));
    setup.begin_outage();
    store.transaction(|tx| finish(tx, &first)).unwrap();
    assert_error!(store.transaction(|tx| finish(tx, &first)), Error::Aborted(_));
    assert!(!first.ack().unwrap() && !first.nack().unwrap() && !first.extend(HOUR).unwrap());
    assert!(third.ack().unwrap());
    assert_error!(store.transaction(|tx| finish(tx, &third)), Error::Aborted(_));
    let aborted = store.transaction(|tx| {
        finish(tx, &second)?;
        Err::<(), _>(Error::abort("on second thoughts"))
    });
    assert_error!(aborted, Error::Aborted(_));
    setup.end_outage();
    assert_eq!(setup.on_server(), (vec![], 1, 1, Some(1)));
    assert_error!(store.transaction(|tx| finish(tx, &first)), Error::Aborted(_));
    store.transaction(|tx| finish(tx, &second)).unwrap();
    assert_eq!(setup.on_server(), (vec![], 0, 0, Some(2)));
    assert_eq!((store.stats().outages.conflicts, store.stats().outages.rejected), (0, 0));
}

#[test]
fn leases_of_an_outage_end_with_their_results() {
    let setup = Setup::new(exclusive());
    let store = &setup.store;
    store.put("results", 0).unwrap();
    store.push_back_many("q", 1..=2).unwrap();
    let (before, kept_from_before) = (lease(store), lease(store));
    store.delete("q").unwrap();
    setup.begin_outage();
    store.push_back_many("q", 3..=7).unwrap();
    let [first, second, extended, kept] = [(); 4].map(|()| lease(store));
    assert!(extended.extend(2 * HOUR).unwrap());
    // Both those that the server has and those that it does not have yet, in one transaction.
    let done = store.transaction(|tx| {
        finish(tx, &first)?;
        finish(tx, &before)?;
        finish(tx, &extended)?;
        assert!(!tx.ack(&before)? && !tx.ack(&extended)?);
        tx.push_back("q", 8).map(drop)
    });
    done.unwrap();
    assert!(!first.ack().unwrap() && !before.ack().unwrap());
    store.transaction(|tx| finish(tx, &second)).unwrap();
    setup.end_outage();
    assert_eq!(setup.on_server(), (vec![7, 8], 2, 2, Some(4)));
    for job in [&first, &before, &extended, &second] {
        assert_error!(store.transaction(|tx| finish(tx, job)), Error::Aborted(_));
    }
    for job in [&kept, &kept_from_before] {
        store.transaction(|tx| finish(tx, job)).unwrap();
    }
    assert_eq!(setup.on_server(), (vec![7, 8], 0, 0, Some(6)));
    assert_eq!((store.stats().outages.conflicts, store.stats().outages.rejected), (0, 0));
}

#[test]
fn every_lease_of_a_queue_may_end_in_an_outage() {
    let setup = Setup::new(exclusive());
    let store = &setup.store;
    store.put("results", 0).unwrap();
    store.push_back("q", 1).unwrap();
    let before = lease(store);
    store.delete("q").unwrap();
    setup.begin_outage();
    store.push_back_many("q", 2..=3).unwrap();
    let (first, second) = (lease(store), lease(store));
    let done = store.transaction(|tx| {
        finish(tx, &before)?;
        finish(tx, &first)?;
        finish(tx, &second)
    });
    done.unwrap();
    assert!(!before.ack().unwrap() && !first.ack().unwrap() && !second.ack().unwrap());
    setup.end_outage();
    assert_eq!(setup.on_server(), (vec![], 0, 0, Some(3)));
}

/// Another consumer may have got the value before the outage began.
#[test]
fn a_lease_that_had_expired_before_an_outage_does_not_end_during_it() {
    let setup = Setup::new(exclusive());
    let store = &setup.store;
    store.put("results", 0).unwrap();
    store.push_back_many("q", 1..=3).unwrap();
    let (acked, committed) = (lease(store), lease(store));
    let expired = store.lease::<i64>("q", Duration::from_millis(1)).unwrap().unwrap();
    assert!(acked.ack().unwrap());
    store.transaction(|tx| finish(tx, &committed)).unwrap();
    let mut found = None;
    wait_for("the lease expires", || {
        found = store.lease::<i64>("q", HOUR).unwrap();
        found.is_some()
    });
    let held = found.unwrap();
    assert_eq!(held.value(), expired.value());
    setup.begin_outage();
    for lost in [&acked, &committed, &expired] {
        let refused = store.transaction(|tx| finish(tx, lost));
        assert_error!(refused, Error::Unavailable { maybe_applied: false, .. });
        assert_error!(lost.ack(), Error::Unavailable { maybe_applied: false, .. });
    }
    store.transaction(|tx| finish(tx, &held)).unwrap();
    setup.end_outage();
    setup.begin_outage();
    assert_error!(store.transaction(|tx| finish(tx, &held)), Error::Unavailable { .. });
    setup.end_outage();
    assert_error!(store.transaction(|tx| finish(tx, &expired)), Error::Aborted(_));
    assert_eq!(setup.on_server(), (vec![], 0, 0, Some(2)));
}

#[test]
fn one_of_many_threads_ends_a_lease_in_an_outage() {
    let setup = Setup::new(exclusive());
    let store = &setup.store;
    store.put("results", 0).unwrap();
    store.push_back("q", 1).unwrap();
    let job = lease(store);
    setup.begin_outage();
    let done: usize = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| store.transaction(|tx| finish(tx, &job)).is_ok())).collect();
        threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
    });
    assert_eq!(done, 1);
    setup.end_outage();
    assert_eq!(setup.on_server(), (vec![], 0, 0, Some(1)));
}

#[test]
fn a_transaction_that_an_outage_outlasts_ends_its_lease_on_the_server() {
    let setup = Setup::new(exclusive());
    let store = &setup.store;
    store.put("results", 0).unwrap();
    store.push_back("q", 1).unwrap();
    let job = lease(store);
    setup.begin_outage();
    let mut runs = 0;
    let done = store.transaction(|tx| {
        runs += 1;
        finish(tx, &job)?;
        if runs == 1 {
            setup.end_outage();
        }
        Ok(())
    });
    done.unwrap();
    assert_eq!(runs, 2, "what was read locally is read again on the server");
    assert_eq!(setup.on_server(), (vec![], 0, 0, Some(1)));
    assert!(!job.ack().unwrap());
}

#[test]
fn a_store_that_is_not_exclusive_ends_no_lease_in_a_transaction_of_an_outage() {
    let setup = Setup::new(memory());
    let store = &setup.store;
    store.put("results", 0).unwrap();
    store.push_back("q", 1).unwrap();
    let job = lease(store);
    setup.begin_outage();
    let refused = store.transaction(|tx| finish(tx, &job));
    assert_error!(refused, Error::Unavailable { maybe_applied: false, .. });
    setup.end_outage();
    store.transaction(|tx| finish(tx, &job)).unwrap();
    assert_eq!(setup.on_server(), (vec![], 0, 0, Some(1)));
}

#[test]
fn a_full_queue_refuses_a_result_together_with_the_end_of_its_lease() {
    let setup = Setup::new(exclusive().max_pending(4));
    let store = &setup.store;
    store.put("results", 0).unwrap();
    store.push_back("q", 1).unwrap();
    let job = lease(store);
    setup.begin_outage();
    while store.put(format!("k:{}", pending(store).unwrap()), 1).is_ok() {}
    let refused = store.transaction(|tx| finish(tx, &job));
    assert_error!(refused, Error::Unavailable { maybe_applied: false, .. });
    setup.end_outage();
    assert_eq!(setup.on_server(), (vec![], 1, 1, Some(0)));
    store.transaction(|tx| finish(tx, &job)).unwrap();
    assert_eq!(setup.on_server(), (vec![], 0, 0, Some(1)));
}

#[test]
fn an_end_of_a_lease_outlives_the_program_with_its_result() {
    let dir = tempfile::tempdir().unwrap();
    let options = || durable(dir.path()).exclusive(true);
    let setup = Setup::new(options());
    let store = &setup.store;
    store.put("results", 0).unwrap();
    store.push_back_many("q", 1..=2).unwrap();
    let (first, second) = (lease(store), lease(store));
    setup.begin_outage();
    store.transaction(|tx| finish(tx, &first)).unwrap();
    assert_eq!(pending(store), Some(1), "the result and the end of the lease are queued together");
    store.close().unwrap();
    setup.server.proxy.set(Mode::Pass);
    let again = open(&setup.server.proxy.url(), options()).unwrap();
    wait_until_connected(&again);
    assert_eq!(setup.on_server(), (vec![], 1, 1, Some(1)));
    let refused = again.transaction(|tx| finish(tx, &second));
    assert_error!(refused, Error::Unsupported { .. });
}

/// The reply to the commit is lost; the server is asked whether it was made.
#[test]
fn a_lost_reply_to_a_commit_ends_a_lease_once_with_exactly_once() {
    let setup = Setup::new(exclusive().exactly_once(true));
    let store = &setup.store;
    store.put("results", 0).unwrap();
    store.push_back_many("q", 1..=2).unwrap();
    let (first, second) = (lease(store), lease(store));
    store.transaction(|tx| finish(tx, &first)).unwrap();
    let mut runs = 0;
    let done = store.transaction(|tx| {
        runs += 1;
        finish(tx, &second)?;
        setup.server.proxy.cut(Way::Answer, 0);
        Ok(())
    });
    done.unwrap();
    assert_eq!(runs, 1);
    assert_eq!(setup.on_server(), (vec![], 0, 0, Some(2)));
    assert!(!second.ack().unwrap());
}

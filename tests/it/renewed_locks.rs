//! Locks and permits that are renewed while their guards exist, on every variant, and what a program learns when one is
//! lost.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use millpond::{Error, LockLoss, ManualClock, OpenOptions, Result, StateBackend, StateConfig, StateStore};

#[cfg(feature = "redis")]
use crate::support::shared_server::SharedServer;
use crate::support::wait_until;

const MINUTE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(30);

/// A third of it is longer than a busy machine lets a thread wait.
const TTL: Duration = Duration::from_millis(900);

/// Short, where the lock is meant to be lost.
const SHORT: Duration = Duration::from_millis(60);

/// Makes a callback, and where its calls arrive. The other end is closed once the callback is dropped.
fn callback() -> (impl FnOnce(Error) + Send + 'static, Receiver<Error>) {
    let (sender, receiver) = mpsc::channel();
    (move |error| sender.send(error).unwrap(), receiver)
}

/// Memory and File, whose clock the test sets.
fn with_manual_clock(test: impl Fn(&StateStore, &ManualClock)) {
    let dir = tempfile::tempdir().unwrap();
    for backend in [StateBackend::memory(), StateBackend::file(dir.path().join("state"))] {
        let clock = Arc::new(ManualClock::default());
        let options = OpenOptions::new().clock(clock.clone());
        test(&options.with_config(StateConfig::default().backend(backend)).unwrap(), &clock);
    }
}

#[track_caller]
fn assert_lost<T>(outcome: Result<T>, expected: LockLoss) {
    match outcome {
        Err(Error::LockLost { name, how, .. }) => assert_eq!((name.as_str(), how), ("l", expected)),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it is held"),
    }
}

#[test]
fn a_renewed_lock_or_permit_outlives_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let file = StateBackend::file(dir.path().join("state"));
    let local = [StateStore::memory(), StateStore::new(file).unwrap()];
    #[cfg(feature = "redis")]
    let server = SharedServer::new();
    #[cfg(feature = "redis")]
    let on_server = [server.store("t")];
    #[cfg(not(feature = "redis"))]
    let on_server = [];
    let stores: Vec<_> = local.into_iter().chain(on_server).collect();
    let is_lost: Vec<_> = stores
        .iter()
        .map(|store| {
            let (lock, permit) = (callback(), callback());
            let guards = [
                store.lock_renewed("l", TTL, lock.0).unwrap(),
                store.permits("l", 1, TTL).acquire(TTL).unwrap().renewed(permit.0).unwrap(),
            ];
            (guards, [lock.1, permit.1])
        })
        .collect();
    let begun = Instant::now();
    wait_until("two and a half times the time are over", PATIENCE, || {
        for store in &stores {
            assert!(store.try_lock("l", TTL).unwrap().is_none(), "{store:?}");
            assert!(store.permits("l", 1, TTL).try_acquire().unwrap().is_none(), "{store:?}");
        }
        begun.elapsed() > TTL * 5 / 2
    });
    for (guards, told) in is_lost {
        for guard in guards {
            assert!(guard.is_held().unwrap());
            guard.release().unwrap();
        }
        assert!(told.iter().all(|receiver| receiver.recv().is_err()), "nothing was lost");
    }
    for store in &stores {
        assert!(store.try_lock("l", TTL).unwrap().is_some());
    }
}

#[test]
fn a_lost_lock_is_told_once_and_answers_lost() {
    with_manual_clock(|store, clock| {
        let (on_lost, told) = callback();
        let guard = store.lock_renewed("l", SHORT, on_lost).unwrap();
        clock.advance(MINUTE);
        assert_lost(told.recv_timeout(PATIENCE).unwrap().into_result(), LockLoss::Expired);
        assert!(told.recv().is_err(), "it is told once");
        assert!(!guard.is_held().unwrap());
        assert_lost(guard.extend(MINUTE), LockLoss::Expired);
        assert_lost(guard.release(), LockLoss::Expired);
        let (on_lost, told) = callback();
        let late = store.lock_renewed("l", SHORT, on_lost).unwrap();
        clock.advance(MINUTE);
        let Ok(Some(other)) = store.try_lock("l", MINUTE) else { panic!("the lock has expired") };
        let how = match told.recv_timeout(PATIENCE).unwrap() {
            Error::LockLost { how, .. } => how,
            error => panic!("{error:?}"),
        };
        assert_lost(late.release(), how);
        assert!(other.is_held().unwrap(), "the lock of another is not released");
    });
}

/// Makes an error look like the answer of a guard.
trait IntoResult {
    fn into_result(self) -> Result<()>;
}

impl IntoResult for Error {
    fn into_result(self) -> Result<()> {
        Err(self)
    }
}

#[test]
fn after_a_release_nothing_is_renewed_or_told() {
    with_manual_clock(|store, clock| {
        for by_drop in [false, true] {
            let (on_lost, told) = callback();
            let guard = store.lock_renewed("l", SHORT, on_lost).unwrap();
            let error = store.lock_renewed("l", SHORT, |_| unreachable!()).unwrap_err();
            assert!(error.is_busy(), "{error:?}");
            if by_drop {
                drop(guard);
            } else {
                guard.release().unwrap();
            }
            assert_eq!(told.try_recv().unwrap_err(), mpsc::TryRecvError::Disconnected);
            let other = store.lock("l", SHORT, PATIENCE).unwrap();
            clock.advance(SHORT);
            assert!(!other.is_held().unwrap(), "a lock that is not renewed expires");
        }
    });
}

#[test]
fn a_closed_store_tells_that_nothing_is_renewed() {
    with_manual_clock(|store, _| {
        let (on_lost, told) = callback();
        let guard = store.lock_renewed("l", MINUTE, on_lost).unwrap();
        store.close().unwrap();
        let error = told.try_recv().expect("the thread has ended with the store");
        assert!(error.is_closed(), "{error:?}");
        assert!(guard.release().unwrap_err().is_closed());
        assert!(store.lock_renewed("l", MINUTE, |_| ()).unwrap_err().is_closed());
    });
}

#[test]
fn a_callback_may_panic_and_use_the_store() {
    with_manual_clock(|store, clock| {
        let panicking = store.lock_renewed("l", SHORT, |_| panic!("on purpose")).unwrap();
        let inner = store.lock_renewed("inner", MINUTE, |_| ()).unwrap();
        let (sender, told) = mpsc::channel();
        let user = store.clone();
        let using = store.lock_renewed("using", SHORT, move |_| {
            inner.release().unwrap();
            let again = user.lock_renewed("again", MINUTE, |_| ()).unwrap();
            user.put("told", true).unwrap();
            sender.send(again).unwrap();
        });
        let using = using.unwrap();
        clock.advance(SHORT);
        let again = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(store.get("told").unwrap(), Some(true));
        assert!(again.is_held().unwrap());
        assert!(store.try_lock("inner", MINUTE).unwrap().is_some());
        assert_lost(panicking.release(), LockLoss::Expired);
        using.release().unwrap_err();
    });
}

#[test]
fn a_renewed_lock_goes_on_with_the_time_it_was_extended_by() {
    with_manual_clock(|store, clock| {
        let (on_lost, told) = callback();
        let guard = store.lock("l", SHORT, PATIENCE).unwrap().renewed(on_lost).unwrap();
        guard.extend(MINUTE).unwrap();
        clock.advance(MINUTE / 2);
        assert!(guard.is_held().unwrap());
        guard.extend(SHORT).unwrap();
        clock.advance(SHORT);
        assert_lost(told.recv_timeout(PATIENCE).unwrap().into_result(), LockLoss::Expired);
        drop(guard);
        // The second callback takes the place of the first.
        let first = callback();
        let second = callback();
        let guard = store.lock_renewed("l", SHORT, first.0).unwrap().renewed(second.0).unwrap();
        assert!(first.1.recv().is_err());
        clock.advance(MINUTE);
        assert_lost(second.1.recv_timeout(PATIENCE).unwrap().into_result(), LockLoss::Expired);
        guard.release().unwrap_err();
    });
}

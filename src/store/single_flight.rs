//! Single flight: of several threads that need the result for one key, one computes it and the others wait. Knows
//! nothing of what is computed.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, ReentrantMutex};

thread_local! {
    /// How many computations this thread is in the middle of, of all stores.
    static COMPUTING: Cell<usize> = const { Cell::new(0) };
}

/// The calls in progress, by key.
#[derive(Default)]
pub(crate) struct SingleFlight {
    calls: Mutex<HashMap<String, Arc<ReentrantMutex<()>>>>,
}

impl SingleFlight {
    /// Runs `work` while no other thread runs any for the same key. `work` may itself call this for any key: then it
    /// does not wait for other threads, since one of them could be waiting for this thread.
    pub(crate) fn run<R>(&self, key: &str, work: impl FnOnce() -> R) -> R {
        let call = Arc::clone(self.calls.lock().entry(key.to_owned()).or_default());
        let guard = FlightGuard { flights: self, key, call: Some(call) };
        let is_nested = COMPUTING.get() > 0;
        let _exclusive =
            guard.call.as_ref().and_then(|call| if is_nested { call.try_lock() } else { Some(call.lock()) });
        let _computing = Computing::begin();
        work()
    }
}

/// Counts a computation of this thread until it is dropped, also by a panic.
struct Computing;

impl Computing {
    fn begin() -> Self {
        COMPUTING.set(COMPUTING.get() + 1);
        Self
    }
}

impl Drop for Computing {
    fn drop(&mut self) {
        COMPUTING.set(COMPUTING.get() - 1);
    }
}

/// One thread's part in a call. Forgets the key when the last thread is done with it, also after a panic.
struct FlightGuard<'f> {
    flights: &'f SingleFlight,
    key: &'f str,
    call: Option<Arc<ReentrantMutex<()>>>,
}

impl Drop for FlightGuard<'_> {
    fn drop(&mut self) {
        let mut calls = self.flights.calls.lock();
        // INVARIANT: our reference is dropped under the lock. Otherwise two threads that end at the same time would
        // each count the other's reference, and neither would forget the key.
        drop(self.call.take());
        // The map holds one reference, and each thread that works or waits holds another one until its own drop.
        if calls.get(self.key).is_some_and(|call| Arc::strong_count(call) == 1) {
            calls.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_thread_works_at_a_time_and_no_key_is_left() {
        let flights = SingleFlight::default();
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        flights.run("k", || {
                            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            flights.run("k", || running.fetch_sub(1, Ordering::SeqCst));
                        });
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 1);
        assert!(flights.calls.lock().is_empty());
    }

    #[test]
    fn threads_that_need_each_others_keys_do_not_wait_in_a_circle() {
        let (flights, barrier) = (SingleFlight::default(), std::sync::Barrier::new(2));
        std::thread::scope(|scope| {
            for (own, other) in [("a", "b"), ("b", "a")] {
                let (flights, barrier) = (&flights, &barrier);
                scope.spawn(move || {
                    flights.run(own, || {
                        barrier.wait();
                        flights.run(other, || ());
                    });
                });
            }
        });
        assert!(flights.calls.lock().is_empty());
    }
}

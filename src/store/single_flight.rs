//! Owns that of several threads that would compute the same, one does and the others wait. Knows nothing of
//! what is computed.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, ReentrantMutex};

/// The keys that are being worked on.
#[derive(Default)]
pub(crate) struct SingleFlight(Mutex<HashMap<String, Arc<ReentrantMutex<()>>>>);

impl SingleFlight {
    /// Runs `work` while no other thread does for the same key. The same thread may come back here.
    pub(crate) fn run<R>(&self, key: &str, work: impl FnOnce() -> R) -> R {
        let flight = Arc::clone(self.0.lock().entry(key.to_owned()).or_default());
        let landing = Landing { flights: self, key, flight: Some(flight) };
        let _turn = landing.flight.as_ref().map(|flight| flight.lock());
        work()
    }
}

/// Forgets the key once nobody works on it, also after a panic.
struct Landing<'f> {
    flights: &'f SingleFlight,
    key: &'f str,
    flight: Option<Arc<ReentrantMutex<()>>>,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        let mut flights = self.flights.0.lock();
        // INVARIANT: given away under the lock, or of two that land together each would see the other's
        // and nobody would forget the key.
        drop(self.flight.take());
        // One is in the map; every thread that works or waits has another until it has come here.
        if flights.get(self.key).is_some_and(|flight| Arc::strong_count(flight) == 1) {
            flights.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_thread_at_a_time_and_nothing_is_left() {
        let flights = SingleFlight::default();
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        flights.run("k", || {
                            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            flights.run("k", || inside.fetch_sub(1, Ordering::SeqCst));
                        });
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 1);
        assert!(flights.0.lock().is_empty());
    }
}

//! Owns which stripe of the counters a thread adds to. Knows nothing of the counters.
//!
//! A stripe of its own costs a thread a plain addition. A stripe that threads share costs an atomic one, which takes
//! several nanoseconds even if no other thread adds at that moment.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How many threads at a time have a stripe to themselves: the bits of [`OWNERS`].
pub(crate) const OWNED: usize = 64;
/// How many stripes the other threads share.
pub(crate) const SHARED: usize = 16;
/// How many stripes there are.
#[cfg(test)]
pub(crate) const STRIPES: usize = OWNED + SHARED;

const NOT_YET: usize = usize::MAX;

/// Which stripes have an owner.
static OWNERS: AtomicU64 = AtomicU64::new(0);
/// Spreads the threads over the shared stripes.
static NEXT_SHARED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The stripe of this thread. Has no destructor, so that it can be read while the other thread-locals of the
    /// thread are destroyed.
    static STRIPE: Cell<usize> = const { Cell::new(NOT_YET) };
    /// Gives the stripe back at the end of the thread.
    static OWNERSHIP: Cell<Option<Ownership>> = const { Cell::new(None) };
}

/// The number of a stripe that this thread alone adds to.
struct Ownership(usize);

impl Ownership {
    fn take() -> Option<Self> {
        let mut owners = OWNERS.load(Ordering::Relaxed);
        loop {
            let number = owners.trailing_ones() as usize;
            if number >= OWNED {
                return None;
            }
            // INVARIANT: this sees all additions of the owner before, which has given the stripe back by `Release`.
            match OWNERS.compare_exchange_weak(
                owners,
                owners | (1 << number),
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(Self(number)),
                Err(changed) => owners = changed,
            }
        }
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        // INVARIANT: first this thread stops using it as its own. A destructor that runs later may still count.
        STRIPE.set(shared_stripe());
        OWNERS.fetch_and(!(1 << self.0), Ordering::Release);
    }
}

fn shared_stripe() -> usize {
    OWNED + NEXT_SHARED.fetch_add(1, Ordering::Relaxed) % SHARED
}

/// Returns the number of this thread's stripe if it has one, else a number that no stripe has. Below [`OWNED`], no other
/// thread adds to the stripe.
#[inline]
pub(crate) fn stripe() -> usize {
    STRIPE.get()
}

/// Returns the number of this thread's stripe, and gives it one if it has none.
pub(crate) fn chosen_stripe() -> usize {
    let stripe = STRIPE.get();
    if stripe != NOT_YET {
        return stripe;
    }
    let taken = Ownership::take();
    let own = taken.as_ref().map(|ownership| ownership.0);
    // In the destructors of a thread nothing can be kept until its end any more, and the stripe is given back here.
    let is_kept = OWNERSHIP.try_with(|ownership| ownership.set(taken)).is_ok();
    let stripe = own.filter(|_| is_kept).unwrap_or_else(shared_stripe);
    STRIPE.set(stripe);
    stripe
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn threads_that_run_together_own_different_stripes() {
        let barrier = Barrier::new(200);
        let stripes: Vec<usize> = thread::scope(|scope| {
            let run = || {
                let stripe = chosen_stripe();
                barrier.wait();
                assert_eq!(stripe, super::stripe(), "it stays");
                stripe
            };
            let threads: Vec<_> = (0..200).map(|_| scope.spawn(run)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let owned: Vec<usize> = stripes.iter().copied().filter(|stripe| *stripe < OWNED).collect();
        assert_eq!(owned.iter().collect::<BTreeSet<_>>().len(), owned.len());
        assert!(stripes.iter().all(|stripe| *stripe < STRIPES));
        assert!(stripes.iter().any(|stripe| *stripe >= OWNED), "200 threads cannot own a stripe each");
    }

    #[test]
    fn a_destructor_of_a_thread_may_count() {
        struct Late;
        impl Drop for Late {
            fn drop(&mut self) {
                assert!(chosen_stripe() < STRIPES);
            }
        }
        thread_local!(static LATE: Cell<Option<Late>> = const { Cell::new(None) });
        for uses_it_before in [false, true] {
            thread::spawn(move || {
                LATE.set(Some(Late));
                if uses_it_before {
                    chosen_stripe();
                }
            })
            .join()
            .unwrap();
        }
    }
}

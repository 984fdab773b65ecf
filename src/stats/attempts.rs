//! Owns how many attempts the operations of a thread make. Knows nothing of what is attempted.

use std::cell::Cell;

thread_local! {
    /// Has no destructor, so that it can be used while the other thread-locals of a thread are destroyed.
    static RETRIES: Cell<u64> = const { Cell::new(0) };
}

/// Notes that an operation of this thread makes another attempt.
#[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "only exchanges with a server are retried"))]
pub(crate) fn note_retry() {
    RETRIES.set(RETRIES.get().wrapping_add(1));
}

/// Returns how many attempts behind the first this thread has made in all its operations.
pub(crate) fn retries() -> u64 {
    RETRIES.get()
}

//! Owns how code of the program is run that must not break this crate: a listener, a logger. Knows nothing of what it
//! does.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs code of the program; returns `None` if it panicked. INVARIANT: the caller holds no lock of this crate.
pub(crate) fn run<R>(work: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => Some(outcome),
        Err(panic) => {
            // Its destructor is code of the program too, and could panic again.
            std::mem::forget(panic);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct PanicsWhenDropped;

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("dropped"));
        }
    }

    #[test]
    fn no_panic_escapes() {
        assert_eq!(run(|| 1), Some(1));
        assert_eq!(run(|| std::panic::resume_unwind(Box::new(PanicsWhenDropped))), None::<()>);
    }
}

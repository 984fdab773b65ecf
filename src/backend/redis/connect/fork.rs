//! Owns in which process an object was made: a child made by `fork` has a copy of it, and must not use it. Knows
//! nothing of the object.

/// The process in which an object was made.
pub(crate) struct ForkGuard {
    process: u32,
    /// Detects forks in the child. Asking for the process id is a system call, which costs a tenth of a write in
    /// memory; this is one load. `None` if this platform has no such detection.
    forks: Option<forkguard::Guard>,
}

impl ForkGuard {
    /// Guards an object made by this process.
    pub(crate) fn new() -> Self {
        Self { process: std::process::id(), forks: forkguard::Guard::try_new().ok() }
    }

    /// Returns whether this is still the same process.
    #[inline]
    pub(crate) fn is_same_process(&self) -> bool {
        match &self.forks {
            // A guard reports a fork once; asking its copy leaves the guard to report it again.
            Some(forks) => !forks.clone().detected_fork(),
            None => std::process::id() == self.process,
        }
    }

    /// As [`ForkGuard::is_same_process`], also for a child that was made without the C library. It asks for the
    /// process id: for use next to a system call.
    pub(crate) fn is_surely_same_process(&self) -> bool {
        self.is_same_process() && std::process::id() == self.process
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_is_detected_every_time() {
        let same = ForkGuard::new();
        let process = same.process.wrapping_add(1);
        let (other, undetected) =
            (ForkGuard { process, ..ForkGuard::new() }, ForkGuard { process, forks: None });
        for _ in 0..2 {
            assert!(same.is_same_process() && same.is_surely_same_process());
            assert!(other.is_same_process() && !other.is_surely_same_process());
            assert!(!undetected.is_same_process() && !undetected.is_surely_same_process());
        }
    }
}

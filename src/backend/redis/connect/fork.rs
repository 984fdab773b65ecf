//! Owns in which process something was made: a child made by `fork` has a copy of it, and must not use it.
//! Knows nothing of what it is.

/// The process in which something was made.
pub(crate) struct ForkGuard {
    process: u32,
    /// Counts forks in the child. Asking for the number of the process is a system call, which costs a tenth
    /// of a write in memory; this is one load. `None` where it cannot count.
    forks: Option<forkguard::Guard>,
}

impl ForkGuard {
    /// This process.
    pub(crate) fn new() -> Self {
        Self { process: std::process::id(), forks: forkguard::Guard::try_new().ok() }
    }

    /// Whether this is still the same process.
    #[inline]
    pub(crate) fn is_same_process(&self) -> bool {
        match &self.forks {
            // A guard tells of a fork once; its copy leaves it to be told again.
            Some(forks) => !forks.clone().detected_fork(),
            None => std::process::id() == self.process,
        }
    }

    /// As [`Origin::is_here`], for what costs more than a system call anyway: also where a child was made
    /// without the library that counts.
    pub(crate) fn is_surely_same_process(&self) -> bool {
        self.is_same_process() && std::process::id() == self.process
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_is_told_every_time() {
        let here = ForkGuard::new();
        let process = here.process.wrapping_add(1);
        let (elsewhere, without) =
            (ForkGuard { process, ..ForkGuard::new() }, ForkGuard { process, forks: None });
        for _ in 0..2 {
            assert!(here.is_same_process() && here.is_surely_same_process());
            assert!(elsewhere.is_same_process() && !elsewhere.is_surely_same_process());
            assert!(!without.is_same_process() && !without.is_surely_same_process());
        }
    }
}

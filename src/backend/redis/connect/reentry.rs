//! Owns which threads run a caller's closure while they hold a connection. Knows nothing of pools: a server is
//! a number.

use std::cell::RefCell;

thread_local! {
    /// The servers to which this thread holds a connection while it runs a caller's closure.
    static IN_USER_CODE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// While it lives, this thread must not wait for a connection to the server: it may hold the last one itself.
pub(crate) struct ReentryGuard {
    server: usize,
}

impl ReentryGuard {
    /// Marks that this thread holds a connection to the server and runs a caller's closure, which may ask for
    /// another connection.
    pub(crate) fn enter_user_code(server: usize) -> Self {
        // In the destructor of a thread-local, the thread's other ones may be gone.
        let _ = IN_USER_CODE.try_with(|servers| servers.borrow_mut().push(server));
        Self { server }
    }
}

/// Returns whether this thread holds a connection to the server while it runs a caller's closure; also if that is
/// unknown, because the thread is ending and its thread-locals are gone.
pub(crate) fn is_in_user_code(server: usize) -> bool {
    IN_USER_CODE.try_with(|servers| servers.borrow().contains(&server)).unwrap_or(true)
}

impl Drop for ReentryGuard {
    fn drop(&mut self) {
        let _ = IN_USER_CODE.try_with(|servers| {
            let mut servers = servers.borrow_mut();
            if let Some(at) = servers.iter().rposition(|server| *server == self.server) {
                servers.remove(at);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_in_user_code_until_its_last_guard_goes() {
        let outer = ReentryGuard::enter_user_code(1);
        let inner = ReentryGuard::enter_user_code(1);
        assert!(is_in_user_code(1) && !is_in_user_code(2));
        assert!(!std::thread::spawn(|| is_in_user_code(1)).join().unwrap(), "it is another thread");
        drop(outer);
        assert!(is_in_user_code(1));
        drop(inner);
        assert!(!is_in_user_code(1));
    }
}

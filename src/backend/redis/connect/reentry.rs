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
        IN_USER_CODE.with_borrow_mut(|servers| servers.push(server));
        Self { server }
    }
}

/// Returns whether this thread holds a connection to the server while it runs a caller's closure.
pub(crate) fn is_in_user_code(server: usize) -> bool {
    IN_USER_CODE.with_borrow(|servers| servers.contains(&server))
}

impl Drop for ReentryGuard {
    fn drop(&mut self) {
        IN_USER_CODE.with_borrow_mut(|servers| {
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

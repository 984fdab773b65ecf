//! Owns the thread that keeps a number of connections open, so that operations find them made. Knows nothing of how a
//! connection is made, nor of operations.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::backend::redis::connect::pool::Pool;
use crate::backend::redis::failure::Failure;
use crate::backend::redis::time_budget::TimeBudget;
use crate::util::log_later::{self, log_later};
use crate::util::threads;

/// How long it may take until a connection that the server has closed is replaced.
const INTERVAL: Duration = Duration::from_secs(1);

/// From this many failures in a row on, the cause is logged: an outage is noticed, and logged, earlier.
const LOGGED: u32 = 2;

/// Keeps connections of a pool open. The thread runs only if there is a number to keep.
pub(crate) struct ConnectionKeeper {
    pool: Arc<Pool>,
    /// How many connections the pool should have.
    least: u32,
    connect_timeout: Duration,
    state: Mutex<KeeperState>,
    wakeup: Condvar,
}

#[derive(Default)]
struct KeeperState {
    is_due: bool,
    is_ending: bool,
    thread: Option<JoinHandle<()>>,
}

impl ConnectionKeeper {
    pub(crate) fn new(pool: Arc<Pool>, least: u32, connect_timeout: Duration) -> Self {
        Self { pool, least, connect_timeout, state: Mutex::default(), wakeup: Condvar::new() }
    }

    /// Starts the thread. If the system has no room for it, operations make the connections that they need.
    pub(crate) fn start(self: &Arc<Self>, server: &str) {
        if self.least == 0 {
            return;
        }
        let (keeper, name) = (Arc::clone(self), server.to_owned());
        match threads::spawn("millpond-connections", move || keeper.run(&name)) {
            Ok(thread) => self.state.lock().thread = Some(thread),
            Err(error) => log_later!(
                Warn,
                "the thread that keeps min_connections to Redis {server} open cannot be started: {error}"
            ),
        }
    }

    /// Looks at the connections now: an outage is over.
    pub(crate) fn wake(&self) {
        self.state.lock().is_due = true;
        self.wakeup.notify_all();
    }

    /// Ends the thread, and waits for that until `end`.
    pub(crate) fn close(&self, end: Option<Instant>) {
        let mut state = self.state.lock();
        state.is_ending = true;
        let thread = state.thread.take();
        drop(state);
        self.wakeup.notify_all();
        if let Some(thread) = thread {
            threads::join_until(thread, end);
        }
    }

    fn run(&self, server: &str) {
        let mut failures = 0;
        loop {
            match self.fill() {
                Ok(()) => failures = 0,
                Err(failure) => {
                    failures += 1;
                    if failures == LOGGED && !self.pool.is_suspended() {
                        let cause = failure.cause;
                        log_later!(
                            Warn,
                            "Redis {server}: fewer than min_connections ({}) are open: {cause}",
                            self.least
                        );
                        log_later::flush();
                    }
                }
            }
            if self.wait() {
                return;
            }
        }
    }

    /// Makes the connections that are missing. During an outage there is nothing to do.
    fn fill(&self) -> Result<(), Failure> {
        while !self.pool.is_suspended() && !self.state.lock().is_ending {
            let budget = TimeBudget::new(self.connect_timeout);
            if !self.pool.make_one_below(self.least, &budget)? {
                break;
            }
        }
        Ok(())
    }

    /// Waits until the next look is due; returns whether the thread must end instead.
    fn wait(&self) -> bool {
        let end = Instant::now() + INTERVAL;
        let mut state = self.state.lock();
        while !state.is_due && !state.is_ending && !self.wakeup.wait_until(&mut state, end).timed_out() {}
        state.is_due = false;
        state.is_ending
    }
}

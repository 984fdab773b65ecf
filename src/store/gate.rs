//! Owns the gate of a store: who is inside, who waits to close it, and who waits to enter. Knows nothing of what is done
//! inside, nor of the store.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::error::{Error, Result};
use crate::store::wait::deadline_after;

/// The gate of a store: see [`StateStore::gate`](crate::StateStore::gate).
///
/// It is local to the process. A clone is the same gate.
#[derive(Clone, Default)]
pub struct Gate {
    shared: Arc<GateState>,
}

#[derive(Default)]
struct GateState {
    threads: Mutex<GateThreads>,
    changed: Condvar,
}

#[derive(Default)]
struct GateThreads {
    /// How often each thread is inside.
    inside: HashMap<ThreadId, usize>,
    closed_by: Option<ThreadId>,
    /// How many threads wait to close the gate. Newcomers wait for them.
    closing: usize,
    /// How many threads wait to enter.
    entering: usize,
    /// How many of these enter before the gate is closed again: those that waited when it was opened last. So a thread
    /// waits for at most one closing after the one that it found, however often the gate is closed.
    admitted: usize,
    /// How often the gate was opened.
    openings: u64,
}

impl Gate {
    /// Enters, for as long as the returned guard lives. Many threads may be inside at the same time. It waits while the
    /// gate is closed, and while a thread waits to close it.
    ///
    /// A thread that is inside enters again at once, and so does the thread that has closed the gate: neither waits for
    /// itself. The guard also leaves if the thread panics. It stays in its thread.
    ///
    /// ```
    /// let store = millpond::StateStore::memory();
    /// let gate = store.gate();
    /// let outer = gate.enter();
    /// let inner = gate.enter(); // the same thread, at once
    /// # drop((outer, inner));
    /// ```
    #[must_use = "the thread leaves when the guard is dropped"]
    pub fn enter(&self) -> Entered {
        let thread = thread::current().id();
        let mut threads = self.shared.threads.lock();
        if !threads.is_at_home(thread) {
            self.wait_to_enter(&mut threads);
        }
        *threads.inside.entry(thread).or_insert(0) += 1;
        drop(threads);
        Entered { gate: self.clone(), thread, stays: PhantomData }
    }

    fn wait_to_enter(&self, threads: &mut MutexGuard<'_, GateThreads>) {
        let openings = threads.openings;
        threads.entering += 1;
        while threads.openings == openings && (threads.closed_by.is_some() || threads.closing > 0) {
            self.shared.changed.wait(threads);
        }
        threads.entering -= 1;
        if threads.openings != openings {
            threads.admitted = threads.admitted.saturating_sub(1);
        }
    }

    /// Closes the gate, for as long as the returned guard lives: waits for at most `timeout` until nobody is inside. From
    /// the call on, newcomers wait. The gate opens again when the guard is dropped, also by a panic, or if the wait was in
    /// vain.
    ///
    /// A thread must not wait, while it has closed the gate, for another thread that is about to enter.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let store = millpond::StateStore::memory();
    /// let gate = store.gate();
    /// let inside = gate.enter();
    /// assert!(gate.close(Duration::from_secs(5)).unwrap_err().is_unsupported(), "at once");
    /// drop(inside);
    /// let closed = gate.close(Duration::from_secs(5))?;
    /// // … nobody is inside …
    /// drop(closed);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Busy`](Error::Busy), without a name, if others are still inside after `timeout`; [`Unsupported`](Error::Unsupported),
    /// at once, if this thread is inside or has closed the gate, since it would wait for itself.
    pub fn close(&self, timeout: Duration) -> Result<Closed> {
        let (begun, end, thread) = (Instant::now(), deadline_after(timeout), thread::current().id());
        let mut threads = self.shared.threads.lock();
        if threads.is_at_home(thread) {
            let what =
                "closing a gate in a thread that is inside or has closed it, and would wait for itself";
            return Err(Error::Unsupported { what: what.to_owned() });
        }
        threads.closing += 1;
        let mut is_over = false;
        while !threads.can_be_closed() && !is_over {
            is_over = self.shared.changed.wait_until(&mut threads, end).timed_out();
        }
        threads.closing -= 1;
        if threads.can_be_closed() {
            threads.closed_by = Some(thread);
            drop(threads);
            return Ok(Closed { gate: self.clone(), stays: PhantomData });
        }
        drop(threads);
        self.shared.changed.notify_all();
        Err(Error::Busy { name: String::new(), waited: begun.elapsed() })
    }
}

impl GateThreads {
    /// Returns whether a thread waits for nobody, since others may wait for it.
    fn is_at_home(&self, thread: ThreadId) -> bool {
        self.closed_by == Some(thread) || self.inside.contains_key(&thread)
    }

    fn can_be_closed(&self) -> bool {
        self.closed_by.is_none() && self.inside.is_empty() && self.admitted == 0
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is written to is code of the program, which must not run under a lock.
        let (inside, closed, closing, entering) = {
            let threads = self.shared.threads.lock();
            (threads.inside.len(), threads.closed_by.is_some(), threads.closing, threads.entering)
        };
        f.debug_struct("Gate")
            .field("inside", &inside)
            .field("closed", &closed)
            .field("closing", &closing)
            .field("entering", &entering)
            .finish()
    }
}

/// Makes a guard stay in the thread that made it.
type StaysInThread = PhantomData<*const ()>;

/// A thread is inside a gate until this is dropped: see [`Gate::enter`].
#[must_use = "the thread leaves when the guard is dropped"]
pub struct Entered {
    gate: Gate,
    thread: ThreadId,
    stays: StaysInThread,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut threads = self.gate.shared.threads.lock();
        if let Some(times) = threads.inside.get_mut(&self.thread) {
            *times -= 1;
            if *times == 0 {
                threads.inside.remove(&self.thread);
            }
        }
        let is_last = threads.inside.is_empty();
        drop(threads);
        if is_last {
            self.gate.shared.changed.notify_all();
        }
    }
}

impl fmt::Debug for Entered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entered").field("gate", &self.gate).finish_non_exhaustive()
    }
}

/// A gate is closed until this is dropped: see [`Gate::close`].
#[must_use = "the gate opens when the guard is dropped"]
pub struct Closed {
    gate: Gate,
    stays: StaysInThread,
}

impl Drop for Closed {
    fn drop(&mut self) {
        let mut threads = self.gate.shared.threads.lock();
        threads.closed_by = None;
        threads.openings += 1;
        threads.admitted = threads.entering;
        drop(threads);
        self.gate.shared.changed.notify_all();
    }
}

impl fmt::Debug for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closed").field("gate", &self.gate).finish_non_exhaustive()
    }
}

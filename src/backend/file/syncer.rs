//! Owns the thread that syncs the journal at an interval. Knows nothing of what is written.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::backend::file::core::Core;
use crate::backend::file::layout::failed;
use crate::error::Result;
use crate::util::{log_later, threads};

pub(crate) struct Syncer {
    thread: JoinHandle<()>,
    signal: Arc<StopSignal>,
}

#[derive(Default)]
struct StopSignal {
    is_stopping: Mutex<bool>,
    condvar: Condvar,
}

impl Syncer {
    pub(crate) fn spawn(core: &Arc<Core>, interval: Duration) -> Result<Self> {
        let signal = Arc::new(StopSignal::default());
        let (core_of_thread, signal_of_thread) = (Arc::clone(core), Arc::clone(&signal));
        let work = move || sync_every(&core_of_thread, interval, &signal_of_thread);
        let thread = threads::spawn("millpond-sync", work)
            .map_err(|error| failed("starting a thread for", &core.layout.dir, error))?;
        Ok(Self { thread, signal })
    }

    /// Ends the thread and waits for that.
    pub(crate) fn stop(self) {
        *self.signal.is_stopping.lock() = true;
        self.signal.condvar.notify_all();
        threads::join(self.thread);
    }
}

fn sync_every(core: &Core, interval: Duration, signal: &StopSignal) {
    loop {
        let due = Instant::now() + interval;
        let mut is_stopping = signal.is_stopping.lock();
        while !*is_stopping && !signal.condvar.wait_until(&mut is_stopping, due).timed_out() {}
        if *is_stopping {
            return;
        }
        drop(is_stopping);
        // A failure was logged and has poisoned the store; nobody waits for this thread's outcome.
        let outcome = core.durability.wait(core.durability.written());
        log_later::flush();
        if outcome.is_err() {
            return;
        }
    }
}

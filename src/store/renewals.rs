//! Owns the thread that renews locks: when each renewal is due, and how a loss is reported to the program. Knows nothing of
//! how a lock is extended.

use std::sync::Arc;
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::error::{Error, Result};
use crate::util::log_later::{self, FlushOnDrop, log_later};
use crate::util::{foreign, threads};

/// Something that expires unless it is renewed.
pub(crate) trait Renew: Send + Sync {
    /// Renews it, and returns when the next renewal is due. An error says that it is lost, and goes to the program.
    fn renew(&self) -> Result<Instant>;

    /// How log lines name it.
    fn name(&self) -> &str;
}

/// What the program does when something is lost.
pub(crate) type OnLost = Box<dyn FnOnce(Error) + Send>;

/// Everything that one store renews. The thread runs only while there is something to renew.
pub(crate) struct Renewals {
    state: Mutex<State>,
    wakeup: Condvar,
    /// Notified when no renewal is under way any more.
    idle: Condvar,
    /// In a child of this process the thread does not exist, and the lock may be held for ever.
    process: u32,
    /// How long the exchange of one renewal may take.
    limit: Duration,
}

#[derive(Default)]
struct State {
    entries: Vec<RenewalEntry>,
    next_id: u64,
    thread: Option<JoinHandle<()>>,
    is_running: bool,
    is_closed: bool,
    under_way: Option<UnderWay>,
}

#[derive(Clone, Copy)]
struct UnderWay {
    id: u64,
    thread: ThreadId,
}

struct RenewalEntry {
    id: u64,
    /// `None` while it must not be renewed.
    due: Option<Instant>,
    renew: Arc<dyn Renew>,
    on_lost: OnLost,
}

impl Renewals {
    pub(crate) fn new(limit: Duration) -> Self {
        let (state, wakeup, idle) = (Mutex::default(), Condvar::new(), Condvar::new());
        Self { state, wakeup, idle, process: std::process::id(), limit }
    }

    /// Renews something from `due` on, and returns its number.
    pub(crate) fn add(self: &Arc<Self>, renew: Arc<dyn Renew>, due: Instant, on_lost: OnLost) -> Result<u64> {
        self.check_process()?;
        let mut state = self.state.lock();
        if state.is_closed {
            drop(state);
            return Err(Error::closed());
        }
        let id = state.next_id;
        state.next_id += 1;
        state.entries.push(RenewalEntry { id, due: Some(due), renew, on_lost });
        if state.is_running {
            drop(state);
            self.wakeup.notify_all();
            return Ok(id);
        }
        let renewals = Arc::clone(self);
        match threads::spawn("millpond-renew", move || renewals.run()) {
            Ok(thread) => {
                state.is_running = true;
                state.thread = Some(thread);
                Ok(id)
            }
            Err(error) => {
                let entry = state.entries.pop();
                drop(state);
                drop(entry);
                Err(Error::unavailable(format!("the thread that renews locks cannot be started: {error}")))
            }
        }
    }

    /// Ends the renewals of an entry, and waits for the one that may be under way. Afterwards no loss is reported.
    pub(crate) fn remove(&self, id: u64) {
        if self.check_process().is_err() {
            return;
        }
        let mut state = self.state.lock();
        let entry = state.take(id);
        self.wait_until_idle(&mut state, id);
        drop(state);
        self.wakeup.notify_all();
        // What the program would have run is code of the program, and so is its destructor.
        drop(entry);
    }

    /// Makes no renewals of an entry until [`resume`](Self::resume), and waits for the one that may be under way.
    pub(crate) fn suspend(&self, id: u64) {
        if self.check_process().is_ok() {
            let mut state = self.state.lock();
            state.set_due(id, None);
            self.wait_until_idle(&mut state, id);
        }
    }

    pub(crate) fn resume(&self, id: u64, due: Instant) {
        if self.check_process().is_ok() {
            self.state.lock().set_due(id, Some(due));
            self.wakeup.notify_all();
        }
    }

    /// Ends the thread for good, and waits for that until `end`. For everything that is still renewed, the program is
    /// called back.
    pub(crate) fn close(&self, end: Option<Instant>) {
        if self.check_process().is_err() {
            return;
        }
        let mut state = self.state.lock();
        state.is_closed = true;
        let thread = state.thread.take();
        drop(state);
        self.wakeup.notify_all();
        if let Some(thread) = thread {
            threads::join_until(thread, end);
        }
    }

    fn check_process(&self) -> Result<()> {
        if std::process::id() == self.process { Ok(()) } else { Err(Error::forked()) }
    }

    /// Waits until no renewal of an entry is under way. If this thread is in the middle of it, because code of the program
    /// runs there, it cannot wait; and if such code holds the renewal up, the wait ends when the exchange must have
    /// ended.
    fn wait_until_idle(&self, state: &mut MutexGuard<'_, State>, id: u64) {
        let end = Instant::now().checked_add(self.limit);
        let is_under_way = |state: &State| {
            state.under_way.is_some_and(|other| other.id == id && other.thread != thread::current().id())
        };
        while is_under_way(state) {
            let Some(end) = end else { return self.idle.wait(state) };
            if self.idle.wait_until(state, end).timed_out() {
                return;
            }
        }
    }

    fn run(&self) {
        let _lines = FlushOnDrop;
        let mut state = self.state.lock();
        while !state.is_closed
            && let Some((id, due)) = state.next()
        {
            match due {
                None => self.wakeup.wait(&mut state),
                Some(due) if due > Instant::now() => _ = self.wakeup.wait_until(&mut state, due),
                Some(_) => self.renew(&mut state, id),
            }
        }
        state.is_running = false;
        let left = std::mem::take(&mut state.entries);
        drop(state);
        for entry in left {
            entry.tell(Error::closed());
        }
    }

    fn renew(&self, state: &mut MutexGuard<'_, State>, id: u64) {
        let Some(renew) = state.find(id).map(|entry| Arc::clone(&entry.renew)) else { return };
        state.under_way = Some(UnderWay { id, thread: thread::current().id() });
        let outcome = MutexGuard::unlocked(state, move || renew.renew());
        state.under_way = None;
        self.idle.notify_all();
        match outcome {
            Ok(due) => state.set_due_unless_suspended(id, due),
            Err(error) => {
                let lost = state.take(id);
                MutexGuard::unlocked(state, || {
                    if let Some(lost) = lost {
                        lost.tell(error);
                    }
                    log_later::flush();
                });
            }
        }
    }
}

impl State {
    fn find(&mut self, id: u64) -> Option<&mut RenewalEntry> {
        self.entries.iter_mut().find(|entry| entry.id == id)
    }

    fn take(&mut self, id: u64) -> Option<RenewalEntry> {
        let at = self.entries.iter().position(|entry| entry.id == id)?;
        Some(self.entries.swap_remove(at))
    }

    fn set_due(&mut self, id: u64, due: Option<Instant>) {
        if let Some(entry) = self.find(id) {
            entry.due = due;
        }
    }

    /// Sets when a renewal is due, unless it was suspended while one was under way.
    fn set_due_unless_suspended(&mut self, id: u64, due: Instant) {
        if let Some(next) = self.find(id).and_then(|entry| entry.due.as_mut()) {
            *next = due;
        }
    }

    /// Returns the entry that is renewed next, and when; without a time if all are suspended.
    fn next(&self) -> Option<(u64, Option<Instant>)> {
        let next = self.entries.iter().min_by_key(|entry| (entry.due.is_none(), entry.due))?;
        Some((next.id, next.due))
    }
}

impl RenewalEntry {
    /// Calls the program back. INVARIANT: the caller holds no lock.
    fn tell(self, error: Error) {
        let Self { renew, on_lost, .. } = self;
        if foreign::run(|| on_lost(error)).is_none() {
            let name = renew.name();
            log_later!(Error, "the callback of the lost lock {name:?} panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Sender};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// Reports each renewal, and is lost after so many of them.
    struct Counted {
        renewals: Mutex<u32>,
        lost_after: u32,
        reports: Sender<&'static str>,
    }

    impl Renew for Counted {
        fn renew(&self) -> Result<Instant> {
            let mut renewals = self.renewals.lock();
            *renewals += 1;
            self.reports.send("renewed").unwrap();
            if *renewals > self.lost_after { Err(Error::closed()) } else { Ok(Instant::now()) }
        }

        fn name(&self) -> &'static str {
            "counted"
        }
    }

    fn add(renewals: &Arc<Renewals>, lost_after: u32, reports: &Sender<&'static str>, panics: bool) -> u64 {
        let counted = Counted { renewals: Mutex::new(0), lost_after, reports: reports.clone() };
        let reports = reports.clone();
        let on_lost = Box::new(move |_: Error| {
            reports.send("lost").unwrap();
            assert!(!panics);
        });
        renewals.add(Arc::new(counted), Instant::now(), on_lost).unwrap()
    }

    fn wait_for_the_end(renewals: &Renewals) {
        let begun = Instant::now();
        while renewals.state.lock().is_running {
            assert!(begun.elapsed() < LIMIT);
            thread::yield_now();
        }
    }

    #[test]
    fn a_loss_is_told_once_and_the_thread_ends_with_the_last_entry() {
        let renewals = Arc::new(Renewals::new(LIMIT));
        for panics in [false, true] {
            let (reports, told) = mpsc::channel();
            let id = add(&renewals, 2, &reports, panics);
            drop(reports);
            // The channel ends with the entry.
            assert_eq!(told.iter().collect::<Vec<_>>(), ["renewed", "renewed", "renewed", "lost"]);
            wait_for_the_end(&renewals);
            renewals.remove(id);
        }
    }

    #[test]
    fn nothing_is_renewed_or_told_after_a_removal_or_while_suspended() {
        let renewals = Arc::new(Renewals::new(LIMIT));
        let (reports, told) = mpsc::channel();
        let id = add(&renewals, u32::MAX, &reports, false);
        assert_eq!(told.recv(), Ok("renewed"));
        renewals.suspend(id);
        while told.try_recv().is_ok() {}
        let (others, others_told) = mpsc::channel();
        let other = add(&renewals, u32::MAX, &others, false);
        assert!(others_told.iter().take(10).all(|report| report == "renewed"));
        assert!(told.try_recv().is_err(), "a suspended entry was renewed");
        renewals.resume(id, Instant::now());
        assert_eq!(told.recv(), Ok("renewed"));
        renewals.remove(other);
        renewals.remove(id);
        while told.try_recv().is_ok() {}
        wait_for_the_end(&renewals);
        assert!(told.try_recv().is_err());
    }

    #[test]
    fn closing_tells_everyone_and_leaves_no_thread() {
        let renewals = Arc::new(Renewals::new(LIMIT));
        let (reports, told) = mpsc::channel();
        add(&renewals, u32::MAX, &reports, false);
        add(&renewals, u32::MAX, &reports, true);
        drop(reports);
        renewals.close(None);
        assert!(!renewals.state.lock().is_running);
        assert_eq!(told.iter().filter(|report| *report == "lost").count(), 2);
        let (reports, _told) = mpsc::channel();
        let counted = Counted { renewals: Mutex::new(0), lost_after: 0, reports };
        assert!(renewals.add(Arc::new(counted), Instant::now(), Box::new(drop)).is_err());
    }
}

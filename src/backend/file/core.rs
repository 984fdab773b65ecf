//! Owns the one write path: lock the journal, check, plan, append, publish, wait until the line is durable. Knows
//! nothing of how a store is opened or closed, and of how a compaction works.

use std::mem;
use std::sync::Arc;
use std::thread;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use crate::backend::file::clock::MonotonicClock;
use crate::backend::file::journal::combining::{Combiner, Group};
use crate::backend::file::journal::durability::Durability;
use crate::backend::file::journal::writer::{Journal, JournalState};
use crate::backend::file::layout::Layout;
use crate::backend::file::pacer::{JournalSize, Pacer, PacerDecision};
use crate::backend::local::change::Change;
use crate::backend::local::plan_multi::MultiKeyPlan;
use crate::backend::local::state::LocalState;
use crate::backend::local::table::locked::LockedShards;
use crate::backend::local::table::shards::Table;
use crate::backend::local::wait_list::{available_after, keys_to_wake};
use crate::clock::Now;
use crate::config::SyncPolicy;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{Op, Reply};
use crate::stats::recorder::Measured;
use crate::util::log_later::log_later;
use crate::util::threads;

/// How often a thread tries to lock the journal, yielding in between, before it sleeps.
const TRIES: usize = 50;

/// State shared by the threads of a store.
pub(crate) struct Core {
    pub(crate) layout: Layout,
    pub(crate) state: LocalState,
    pub(crate) clock: MonotonicClock,
    pub(crate) sync: SyncPolicy,
    /// INVARIANT: every mutation happens under this lock. Readers never take it.
    pub(crate) journal: Mutex<Journal>,
    pub(crate) combiner: Combiner,
    pub(crate) durability: Durability,
    pub(crate) pacer: Pacer,
    /// Runs a compaction. A function pointer, because compaction is built on the core.
    pub(crate) compact: fn(&Arc<Self>),
    pub(crate) compaction_thread: Mutex<Option<JoinHandle<()>>>,
    /// INVARIANT: a compaction deletes files under this lock only. A backup holds it while it opens the files, so that
    /// none of them disappears in between; it reads them without the lock.
    pub(crate) deletion: Mutex<()>,
}

/// Changes of one commit.
pub(crate) enum Changes<'k> {
    One([(Key<'k>, Change); 1]),
    Many(Vec<(Key<'k>, Change)>),
}

impl<'k> Changes<'k> {
    fn as_slice(&self) -> &[(Key<'k>, Change)] {
        match self {
            Self::One(one) => one,
            Self::Many(many) => many,
        }
    }
}

impl Core {
    /// Changes the state and waits until the change is as durable as the policy requires. `decide` sees the table in
    /// the state that its changes are applied to.
    pub(crate) fn commit<'k, R>(
        self: &Arc<Self>,
        decide: impl FnOnce(&Table, &Now<'_>) -> Result<(Changes<'k>, R)>,
    ) -> Result<R> {
        let begun = self.waits_for_syncs().then(Instant::now);
        let (reply, sequence) = self.write(decide)?;
        self.wait_durable(sequence)?;
        if let Some(begun) = begun {
            self.durability.recorder().record(Measured::Write, begun.elapsed());
        }
        Ok(reply)
    }

    /// As [`Core::commit`] without the wait: returns the sequence to pass to [`Core::wait_durable`].
    pub(crate) fn write<'k, R>(
        self: &Arc<Self>,
        decide: impl FnOnce(&Table, &Now<'_>) -> Result<(Changes<'k>, R)>,
    ) -> Result<(R, u64)> {
        self.clock.refresh();
        let mut journal = self.lock_journal();
        self.check_open(&journal)?;
        let now = Now::of(&self.clock);
        let (changes, reply) = decide(&self.state.table, &now)?;
        let pause = match self.append(&mut journal, changes.as_slice(), &now)? {
            Some(written) => {
                let freed = self.publish(changes, &now);
                self.check_size(&mut journal, written, freed)
            }
            None => Duration::ZERO,
        };
        // A commit without changes waits too: its reply may rest on a line that is not on the disk yet.
        let sequence = journal.sequence;
        drop(journal);
        throttle(pause);
        Ok((reply, sequence))
    }

    /// Returns whether a write waits for the disk. Only then is its duration measured: a reading of the clock would
    /// make other writes slower by a tenth.
    fn waits_for_syncs(&self) -> bool {
        match self.sync {
            SyncPolicy::Always => true,
            SyncPolicy::Every(_) | SyncPolicy::Never => false,
        }
    }

    /// Returns once a line is as durable as the policy requires.
    pub(crate) fn wait_durable(&self, sequence: u64) -> Result<()> {
        if self.waits_for_syncs() { self.durability.wait_together(sequence) } else { Ok(()) }
    }

    /// Changes several entries at once.
    pub(crate) fn commit_multi(
        self: &Arc<Self>,
        keys: &[Key<'static>],
        plan: impl FnOnce(&LockedShards<'_>, &Now<'_>) -> Result<MultiKeyPlan>,
    ) -> Result<Reply> {
        self.commit(|table, now| {
            let locked = table.lock(keys.iter().map(|key| &**key));
            let (changes, reply) = plan(&locked, now)?;
            Ok((Changes::Many(changes), reply))
        })
    }

    /// Locks the journal once the directory has room.
    fn lock_journal(&self) -> MutexGuard<'_, Journal> {
        loop {
            self.pacer.wait_for_room();
            let journal = self.journal.lock();
            // Other threads may have used up the room before this one got the lock.
            if !self.pacer.is_throttling() {
                return journal;
            }
        }
    }

    pub(crate) fn check_open(&self, journal: &Journal) -> Result<()> {
        self.durability.check()?;
        match journal.state {
            JournalState::Open => Ok(()),
            JournalState::Closed => Err(Error::closed()),
            JournalState::ReadOnly => {
                let what = format!("writing to {}, which was opened to be read", self.layout.dir.display());
                Err(Error::Unsupported { what })
            }
        }
    }

    /// Appends one line with the changes and returns its length; `None`, without a line, if nothing changes. Append
    /// and [`Core::publish`] are the two steps of every mutation, under one lock.
    ///
    /// INVARIANT: the line is in the journal before any reader sees its changes; if the line cannot be written,
    /// nothing changes.
    fn append(
        &self,
        journal: &mut Journal,
        changes: &[(Key<'_>, Change)],
        now: &Now<'_>,
    ) -> Result<Option<u64>> {
        if changes.iter().all(|(_, change)| *change == Change::Nothing) {
            return Ok(None);
        }
        match self.sync {
            // Each sync checks it.
            SyncPolicy::Always => {}
            SyncPolicy::Every(_) | SyncPolicy::Never => {
                journal.check_in_place(&self.durability)?;
            }
        }
        let written = journal.append_commit(changes, now.millis(), &self.durability)?;
        Ok(Some(written))
    }

    /// Makes changes that are in the journal visible and wakes the threads that wait for them. Returns the weight of
    /// the entries that they replaced.
    fn publish(&self, changes: Changes<'_>, now: &Now<'_>) -> u64 {
        match changes {
            Changes::One([(key, change)]) => {
                let available = available_after(&key, &change);
                let freed = self.state.table.apply(&key, change, now);
                if available > 0 {
                    self.state.wait_list.wake(&key, available);
                }
                freed
            }
            Changes::Many(many) => {
                let keys = keys_to_wake(&many);
                let freed = self.state.table.apply_all(many, now);
                self.state.wake(keys);
                freed
            }
        }
    }

    /// Checks the directory's size if the journal has grown enough since the last check, and starts a compaction if
    /// one is due. Call it after a line of `written` bytes that replaced entries of weight `freed`; returns how long
    /// the writer must pause.
    pub(crate) fn check_size(self: &Arc<Self>, journal: &mut Journal, written: u64, freed: u64) -> Duration {
        // A short line may make much of the files superfluous.
        journal.next_size_check = journal.next_size_check.saturating_sub(freed.saturating_sub(written));
        let is_due = self.clock.is_far_ahead();
        if journal.len < journal.next_size_check && !is_due {
            return Duration::ZERO;
        }
        journal.next_size_check = journal.len + self.pacer.step();
        let (len, max_len_after_next) = (journal.len, journal.max_len_after_next());
        let size = JournalSize { len, max_len_after_next, line: written, is_due };
        match self.pacer.check_size(size, self.state.table.bytes()) {
            PacerDecision::Pause(pause) => pause,
            PacerDecision::Compact => {
                self.start_compaction();
                Duration::ZERO
            }
        }
    }

    fn start_compaction(self: &Arc<Self>) {
        // INVARIANT: held from the check for `stop` until the thread is stored, or `stop` could miss the thread.
        let mut thread = self.compaction_thread.lock();
        if !self.pacer.begin() {
            return;
        }
        let core = Arc::clone(self);
        match threads::spawn("millpond-compaction", move || (core.compact)(&core)) {
            Ok(started) => *thread = Some(started),
            Err(error) => {
                if self.pacer.note_not_started() {
                    log_later!(
                        Warn,
                        "no thread can be started to compact {}, so its files grow: {error}",
                        self.layout.dir.display()
                    );
                }
            }
        }
    }

    /// Prevents further compactions and waits for the end of the running one.
    pub(crate) fn stop_compaction(&self) {
        self.pacer.stop();
        let thread = self.compaction_thread.lock().take();
        thread.into_iter().for_each(threads::join);
    }
}

/// Operations on one entry, which share a line with those of other threads when threads meet at the journal.
impl Core {
    pub(crate) fn apply(self: &Arc<Self>, op: Op<'_>) -> Result<Reply> {
        // Operations that wait for a sync share that anyway.
        if !self.waits_for_syncs() && (self.journal.is_locked() || self.combiner.has_requests()) {
            return self.apply_combined(op);
        }
        self.commit(|table, now| {
            let (change, reply) = table.plan(&op.key, op.action, now)?;
            Ok((Changes::One([(op.key, change)]), reply))
        })
    }

    /// As [`Core::apply`]: posts the operation, and runs all posted ones unless another thread does so first.
    pub(crate) fn apply_combined(self: &Arc<Self>, op: Op<'_>) -> Result<Reply> {
        self.clock.refresh();
        let request = self.combiner.post(Op { key: op.key.into_owned(), action: op.action });
        let mut tries = 0;
        loop {
            if let Some(outcome) = request.take_outcome() {
                return outcome;
            }
            tries += 1;
            let journal = if tries <= TRIES {
                self.journal.try_lock()
            } else {
                // Replies are sent before throttling begins: a request without a reply by now runs after it.
                if self.pacer.is_throttling() && !request.is_done() {
                    self.pacer.wait_for_room();
                }
                Some(self.journal.lock())
            };
            match journal {
                // Another thread may have run the request before this one woke up.
                Some(mut journal) if !request.is_done() => {
                    let pause = self.run_requests(&mut journal);
                    drop(journal);
                    throttle(pause);
                }
                Some(_) => {}
                None => thread::yield_now(),
            }
        }
    }

    /// Runs the posted requests until writers must wait for a compaction, and returns how long this one must pause.
    pub(crate) fn run_requests(self: &Arc<Self>, journal: &mut Journal) -> Duration {
        let mut posted = self.combiner.take();
        // The time must not be before the last request was posted.
        let now = Now::of(&self.clock);
        let mut group = Group::default();
        let mut pause = Duration::ZERO;
        while !self.pacer.is_throttling()
            && let Some((op, pending)) = posted.next()
        {
            if group.ends_before(&op, self.pacer.step()) {
                pause += self.commit_group(journal, mem::take(&mut group), &now);
                // The directory may have had room for that line only.
                if self.pacer.is_throttling() {
                    posted.put_back(op, &pending);
                    break;
                }
            }
            let Op { key, action } = op;
            match self.check_open(journal).and_then(|()| self.state.table.plan(&key, action, &now)) {
                Ok((Change::Nothing, reply)) => pending.complete(Ok(reply)),
                Ok((change, reply)) => group.add(key, change, pending, reply),
                Err(error) => pending.complete(Err(error)),
            }
        }
        pause + self.commit_group(journal, group, &now)
    }

    /// Writes the changes of a group in one line, or in one line each if that fails, and sends the replies. Returns
    /// how long the writer must pause.
    fn commit_group(self: &Arc<Self>, journal: &mut Journal, group: Group, now: &Now<'_>) -> Duration {
        let Group { changes, replies, .. } = group;
        let mut replies = replies.into_iter();
        match self.check_open(journal).and_then(|()| self.append(journal, &changes, now)) {
            Ok(None) => Duration::ZERO,
            Ok(Some(written)) => {
                let freed = self.publish(Changes::Many(changes), now);
                // INVARIANT: replies come before the size check, which may make writers wait.
                replies.for_each(|(pending, reply)| pending.complete(Ok(reply)));
                self.check_size(journal, written, freed)
            }
            Err(error) if changes.len() == 1 => {
                if let Some((pending, _)) = replies.next() {
                    pending.complete(Err(error));
                }
                Duration::ZERO
            }
            // There may be room for some of the changes.
            Err(_) => changes.into_iter().zip(replies).fold(Duration::ZERO, |pause, (change, reply)| {
                let single = Group { changes: vec![change], replies: vec![reply], weight: 0 };
                pause + self.commit_group(journal, single, now)
            }),
        }
    }
}

/// Sleeps for the pause that keeps a writer from outrunning the running compaction.
fn throttle(pause: Duration) {
    if !pause.is_zero() {
        thread::sleep(pause);
    }
}

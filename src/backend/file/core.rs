//! Owns the File variant: the local table, behind a journal of facts in a directory. Knows nothing of Rust
//! types and JSON values.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::backend::file::clock::MonotonicClock;
use crate::backend::file::compaction::Compactor;
use crate::backend::file::journal::combining::Combiner;
use crate::backend::file::journal::durability::Durability;
use crate::backend::file::journal::writer::{Journal, JournalState};
use crate::backend::file::layout::Layout;
use crate::backend::file::lock::DirectoryLock;
use crate::backend::local::change::Change;
use crate::backend::local::overlay::Overlay;
use crate::backend::local::plan::plan_write;
use crate::backend::local::plan_multi::{MultiKeyPlan, lease_keys, lock_keys, plan_lease, plan_lock};
use crate::backend::local::read_set::ReadSet;
use crate::backend::local::state::{LocalState, serve_locally};
use crate::backend::local::table::locked::LockedShards;
use crate::backend::local::table::shards::Table;
use crate::backend::local::table_source::TableSource;
use crate::backend::local::wait_list::{POLL_INTERVAL, available_after, keys_to_wake};
use crate::backend::{Backend, TransactionBody};
use crate::bytes::Bytes;
use crate::clock::{Millis, Now, Ttl};
use crate::config::SyncPolicy;
use crate::error::{Error, Result};
use crate::key::{Companion, Key};
use crate::op::{
    Answer, Cursor, End, EntryAction, Grant, LeaseAction, LockAction, Op, Page, Query, Reply, Write,
};

pub(crate) struct File {
    pub(crate) core: Arc<Core>,
    pub(crate) syncer: Mutex<Option<JoinHandle<()>>>,
    pub(crate) lock: Mutex<Option<DirectoryLock>>,
}

/// What the threads of a store share.
pub(crate) struct Core {
    pub(crate) layout: Layout,
    pub(crate) state: LocalState,
    pub(crate) clock: MonotonicClock,
    pub(crate) sync: SyncPolicy,
    /// INVARIANT: every mutation happens under this lock. Readers never take it.
    pub(crate) journal: Mutex<Journal>,
    pub(crate) combiner: Combiner,
    pub(crate) durability: Durability,
    pub(crate) compactor: Compactor,
    /// Set when the thread that syncs at an interval is to end.
    pub(crate) is_ending: Mutex<bool>,
    pub(crate) end: Condvar,
}

/// Lets a writer wait for the compaction that runs, so that it does not outrun that.
pub(crate) fn throttle(pause: Duration) {
    if !pause.is_zero() {
        std::thread::sleep(pause);
    }
}

/// What a commit changes.
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
    /// Changes the state. `decide` sees the table as it will be when its changes are applied to it.
    pub(crate) fn commit<'k, R>(
        self: &Arc<Self>,
        decide: impl FnOnce(&Table, &Now<'_>) -> Result<(Changes<'k>, R)>,
    ) -> Result<R> {
        let (reply, sequence) = self.write(decide)?;
        self.wait_durable(sequence)?;
        Ok(reply)
    }

    /// As [`Core::commit`], for who waits afterwards, and tells for what.
    fn write<'k, R>(
        self: &Arc<Self>,
        decide: impl FnOnce(&Table, &Now<'_>) -> Result<(Changes<'k>, R)>,
    ) -> Result<(R, u64)> {
        let mut journal = self.lock();
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
        // What changed nothing waits too: its answer may rest on a line that is not on the disk yet.
        let sequence = journal.sequence;
        drop(journal);
        throttle(pause);
        Ok((reply, sequence))
    }

    /// Takes the journal's lock, once there is room in the directory.
    fn lock(&self) -> MutexGuard<'_, Journal> {
        loop {
            self.compactor.wait_for_room();
            let journal = self.journal.lock();
            // Others may have written meanwhile.
            if !self.compactor.is_throttling() {
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

    /// Writes a line that says what changes, and tells how long it is; none where nothing does. That and
    /// [`Core::publish`] are the two steps of every change, under one lock.
    ///
    /// INVARIANT: the line is in the journal before anyone sees what it says, and where it cannot be
    /// written nothing is changed.
    pub(crate) fn append(
        &self,
        journal: &mut Journal,
        changes: &[(Key<'_>, Change)],
        now: &Now<'_>,
    ) -> Result<Option<u64>> {
        if changes.iter().all(|(_, change)| *change == Change::Nothing) {
            return Ok(None);
        }
        let written = journal.commit(changes, now.millis(), &self.durability)?;
        self.clock.note_written(now.millis());
        Ok(Some(written))
    }

    /// Lets everybody see changes that are in the journal, wakes who waits for them, and tells the weight of what
    /// they replaced.
    pub(crate) fn publish(&self, changes: Changes<'_>, now: &Now<'_>) -> u64 {
        match changes {
            Changes::One([(key, change)]) => {
                let things = available_after(&key, &change);
                let freed = self.state.table.apply(&key, change, now);
                if things > 0 {
                    self.state.wait_list.wake(&key, things);
                }
                freed
            }
            Changes::Many(many) => {
                let called = keys_to_wake(&many);
                let freed = self.state.table.apply_all(many, now);
                self.state.wake(called);
                freed
            }
        }
    }

    /// Looks now and then at the directory's size, behind a line of `written` bytes, and tells for how long the
    /// writer rests then.
    pub(crate) fn check_size(self: &Arc<Self>, journal: &mut Journal, written: u64, freed: u64) -> Duration {
        // A short line may make much of the files superfluous.
        journal.next_size_check = journal.next_size_check.saturating_sub(freed.saturating_sub(written));
        self.compactor.check_size(self, journal, written)
    }

    /// Returns once a line is as durable as the policy asks for.
    fn wait_durable(&self, sequence: u64) -> Result<()> {
        match self.sync {
            SyncPolicy::Always => self.durability.wait_together(sequence),
            SyncPolicy::Every(_) | SyncPolicy::Never => Ok(()),
        }
    }

    /// Changes several entries at once.
    fn commit_multi(
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

    /// Syncs at an interval until the store ends.
    pub(crate) fn sync_every(&self, interval: Duration) {
        loop {
            let due = Instant::now() + interval;
            let mut ending = self.is_ending.lock();
            while !*ending && !self.end.wait_until(&mut ending, due).timed_out() {}
            if *ending {
                return;
            }
            drop(ending);
            // A failure has poisoned the store and was logged: nobody waits here to be told.
            if self.durability.wait(self.durability.written()).is_err() {
                return;
            }
        }
    }
}

impl File {
    /// Stops the threads, flushes, writes the last line and lets go of the directory.
    ///
    /// A copy that a fork made is its parent's to end: the files are one and the same, and the threads are not
    /// there.
    fn end(&self) -> Result<()> {
        let Some(lock) = self.lock.lock().take() else {
            return Ok(());
        };
        if !lock.is_ours() {
            return Ok(());
        }
        *self.core.is_ending.lock() = true;
        self.core.end.notify_all();
        // A thread that panicked has nothing to tell.
        let _ = self.syncer.lock().take().map(JoinHandle::join);
        self.core.compactor.stop();
        let outcome = self.write_end();
        drop(lock);
        outcome
    }

    fn write_end(&self) -> Result<()> {
        let mut journal = self.core.journal.lock();
        // INVARIANT: whatever fails below, nothing is written once the directory is let go of.
        journal.state = JournalState::Closed;
        self.core.durability.check()?;
        self.core.durability.wait(journal.sequence)?;
        journal.closed(Now::of(&self.core.clock).millis(), &self.core.durability)?;
        self.core.durability.wait(journal.sequence)
    }

    fn now(&self) -> Now<'_> {
        Now::of(&self.core.clock)
    }

    fn state(&self) -> &LocalState {
        &self.core.state
    }

    fn commit_lock(&self, op: &Op<'_, LockAction>) -> Result<Reply> {
        self.core.commit_multi(&lock_keys(&op.key), |locked, now| plan_lock(op, locked, now))
    }
}

/// What a store needs that keeps something in files and orders it itself.
#[cfg(feature = "redis")]
impl File {
    /// Writes as [`Backend::commit`] does, but does not wait for a sync: tells what to wait for.
    pub(crate) fn write(&self, writes: Vec<Op<'_, Write>>) -> Result<u64> {
        let ((), sequence) = self.core.write(|_, now| Ok((plan_writes(writes, now), ())))?;
        Ok(sequence)
    }

    /// Returns once what was written is as durable as the policy asks for.
    pub(crate) fn wait_durable(&self, sequence: u64) -> Result<()> {
        self.core.wait_durable(sequence)
    }
}

fn plan_writes<'k>(writes: Vec<Op<'k, Write>>, now: &Now<'_>) -> Changes<'k> {
    let plan = |Op { key, action }| (key, plan_write(action, now));
    Changes::Many(writes.into_iter().map(plan).collect())
}

impl Backend for File {
    serve_locally!();

    fn apply(&self, op: Op<'_>) -> Result<Reply> {
        self.core.apply(op)
    }

    fn apply_lease(&self, op: Op<'_, LeaseAction>, _end: Option<Instant>) -> Result<Reply> {
        self.core.commit_multi(&lease_keys(&op.key), |locked, now| plan_lease(&op, locked, now))
    }

    fn apply_each(&self, ops: Vec<Op<'_>>) -> Vec<Result<Reply>> {
        let outcomes = self.core.commit(|table, now| {
            let mut base = TableSource { table, now, read_set: None };
            let mut overlay = Overlay::new(&mut base, now);
            let outcomes: Vec<_> = ops.into_iter().map(|op| overlay.apply(op)).collect();
            Ok((Changes::Many(overlay.into_changes()), outcomes))
        });
        outcomes.unwrap_or_else(|error| vec![Err(error)])
    }

    fn commit(&self, writes: Vec<Op<'_, Write>>) -> Result<()> {
        self.core.commit(|_, now| Ok((plan_writes(writes, now), ())))
    }

    fn transact(&self, work: &mut TransactionBody<'_>) -> Result<bool> {
        let mut read = ReadSet::default();
        let now = self.now();
        let table = &self.core.state.table;
        let changes = work(&mut TableSource { table, now: &now, read_set: Some(&mut read) }, &now);
        self.core.commit(|table, now| match read.is_still_valid(|key, query| table.ask(key, query, now)) {
            true => Ok((Changes::Many(changes), true)),
            false => Ok((Changes::Many(Vec::new()), false)),
        })
    }

    fn flush(&self) -> Result<()> {
        self.core.durability.check()?;
        self.core.durability.wait(self.core.durability.written())
    }

    fn close(&self) -> Result<()> {
        self.core.state.wait_list.close();
        self.end()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            log::error!("closing the store at {} failed: {error}", self.core.layout.dir.display());
        }
    }
}

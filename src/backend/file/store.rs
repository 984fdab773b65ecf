//! Owns the File variant: its threads, the lock on its directory and its end. Knows nothing of Rust types and JSON
//! values, and of how a line is written.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::backend::file::closing_note;
use crate::backend::file::core::{Changes, Core};
use crate::backend::file::journal::writer::JournalState;
use crate::backend::file::lock::DirectoryLock;
use crate::backend::file::syncer::Syncer;
use crate::backend::local::overlay::Overlay;
use crate::backend::local::plan::plan_write;
use crate::backend::local::plan_multi::{all_lease_keys, lock_keys, plan_lease, plan_lock};
use crate::backend::local::read_set::ReadSet;
use crate::backend::local::state::{LocalState, serve_locally};
use crate::backend::local::table_source::TableSource;
use crate::backend::local::wait_list::POLL_INTERVAL;
use crate::backend::{Backend, TransactionBody};
use crate::bytes::Bytes;
use crate::clock::{Millis, Now, Ttl};
use crate::error::Result;
use crate::key::{Companion, Key};
use crate::op::{
    Answer, Cursor, End, EntryAction, Grant, LeaseAction, LockAction, Op, Page, Query, Reply, Write,
};
use crate::stats::EntryStats;
use crate::util::log_later::{FlushOnDrop, log_later};

pub(crate) struct File {
    pub(crate) core: Arc<Core>,
    pub(crate) syncer: Mutex<Option<Syncer>>,
    /// `None` once the store is closed, and in a store that was opened read-only.
    pub(crate) lock: Mutex<Option<DirectoryLock>>,
}

impl File {
    /// Returns the directory.
    pub(crate) fn path(&self) -> &Path {
        &self.core.layout.dir
    }

    /// Stops the threads, flushes, writes the last line and unlocks the directory.
    ///
    /// Does nothing in a forked child: the files belong to the parent, and the child has none of the threads.
    fn shut_down(&self) -> Result<()> {
        let Some(lock) = self.lock.lock().take() else {
            return Ok(());
        };
        if !lock.is_ours() {
            return Ok(());
        }
        if let Some(syncer) = self.syncer.lock().take() {
            syncer.stop();
        }
        self.core.stop_compaction();
        // The last line has the time of the closing, by which entries may have expired since the last operation.
        self.core.clock.refresh();
        let outcome = self.write_last_line(&lock);
        drop(lock);
        outcome
    }

    fn write_last_line(&self, lock: &DirectoryLock) -> Result<()> {
        let mut journal = self.core.journal.lock();
        // INVARIANT: whatever fails below, nothing is written once the directory is unlocked.
        journal.state = JournalState::Closed;
        self.core.durability.check()?;
        self.core.durability.wait(journal.sequence)?;
        let (last, time) = (journal.sequence, Now::of(&self.core.clock).millis());
        journal.append_closing(time, &self.core.durability)?;
        self.core.durability.wait(journal.sequence)?;
        if let Err(error) = closing_note::write(lock.file(), last, time) {
            // All lines are on the disk. Without the note, a later loss of the last ones may go unnoticed.
            log_later!(
                Warn,
                "noting how far the journal in {} reached failed, so that a later loss of its last lines can go unnoticed: {error}",
                self.core.layout.dir.display()
            );
        }
        Ok(())
    }

    /// The time of one operation. The caller holds no lock.
    pub(super) fn now(&self) -> Now<'_> {
        self.core.clock.refresh();
        Now::of(&self.core.clock)
    }

    fn state(&self) -> &LocalState {
        &self.core.state
    }

    /// Nothing is evicted from files, so that it does not matter when a key was read.
    #[expect(
        clippy::unused_self,
        reason = "the operations that only read are the same for Memory, which notes it"
    )]
    fn note_read(&self, _key: &Key<'_>) {}

    fn commit_lock(&self, op: &Op<'_, LockAction>) -> Result<Reply> {
        self.core.commit_multi(&lock_keys(op), |locked, now| plan_lock(op, locked, now))
    }
}

/// For a caller that keeps records in files and orders its writes itself.
#[cfg(feature = "redis")]
impl File {
    /// Writes as [`Backend::commit`] does, without the wait: returns the sequence for [`File::wait_durable`].
    pub(crate) fn write(&self, writes: Vec<Op<'_, Write>>) -> Result<u64> {
        let ((), sequence) = self.core.write(|_, now| Ok((plan_writes(writes, now), ())))?;
        Ok(sequence)
    }

    /// Returns once the line is as durable as the policy requires.
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

    fn entry_stats(&self) -> EntryStats {
        self.state().table.entry_stats(&self.now())
    }

    fn apply(&self, op: Op<'_>) -> Result<Reply> {
        self.core.apply(op)
    }

    fn apply_lease(&self, op: Op<'_, LeaseAction>, _end: Option<Instant>) -> Result<Reply> {
        self.core.commit_multi(&all_lease_keys(&op), |locked, now| plan_lease(&op, locked, now))
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
        self.core.commit(|table, now| {
            let is_valid = read.is_still_valid(|key, query| table.ask(key, query, now));
            let changes = if is_valid { changes } else { Vec::new() };
            Ok((Changes::Many(changes), is_valid))
        })
    }

    fn flush(&self) -> Result<()> {
        self.core.durability.check()?;
        self.core.durability.wait(self.core.durability.written())?;
        self.core.durability.check_in_place()
    }

    fn close(&self) -> Result<()> {
        self.core.state.wait_list.close();
        self.shut_down()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _lines = FlushOnDrop;
        if let Err(error) = self.shut_down() {
            log_later!(Error, "closing the store at {} failed: {error:#}", self.core.layout.dir.display());
        }
    }
}

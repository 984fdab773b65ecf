//! Owns the File variant: the local table, behind a journal of facts in a directory. Knows nothing of Rust
//! types and JSON values.

mod compaction;
mod disk;
mod floor;
mod journal;
mod layout;
mod lines;
mod lock;
mod opening;
mod record;
mod recovery;
mod snapshot;
mod sync;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use self::compaction::Compactor;
use self::floor::FloorClock;
use self::journal::Journal;
use self::layout::Layout;
use self::lock::DirectoryLock;
use self::sync::Durability;
use super::Backend;
use super::local::change::{Change, Entry};
use super::local::plan::{is_blind, plan, plan_write};
use super::local::table::Table;
use crate::bytes::Bytes;
use crate::clock::{Now, Ttl};
use crate::config::SyncPolicy;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{Op, Reply};
use crate::page::{Cursor, Page};

pub(crate) struct File {
    core: Arc<Core>,
    syncer: Mutex<Option<JoinHandle<()>>>,
    lock: Mutex<Option<DirectoryLock>>,
}

/// What the threads of a store share.
struct Core {
    layout: Layout,
    table: Table,
    clock: FloorClock,
    sync: SyncPolicy,
    /// INVARIANT: every mutation happens under this lock. Readers never take it.
    journal: Mutex<Journal>,
    durability: Durability,
    compactor: Compactor,
    /// Set when the thread that syncs at an interval is to end.
    ending: Mutex<bool>,
    end: Condvar,
}

/// What a commit changes.
enum Changes<'k> {
    One([(Key<'k>, Change); 1]),
    Many(Vec<(Key<'k>, Change)>),
}

impl Core {
    /// The one way in which the state changes. `decide` sees the table as it will be when its changes are
    /// applied to it.
    ///
    /// INVARIANT: the line is in the journal before anyone sees what it says, and where it cannot be
    /// written nothing is changed.
    fn commit<'k, R>(
        self: &Arc<Self>,
        decide: impl FnOnce(&Table, &Now<'_>) -> Result<(Changes<'k>, R)>,
    ) -> Result<R> {
        let mut journal = loop {
            self.compactor.pace();
            let journal = self.journal.lock();
            // Others may have written meanwhile.
            if !self.compactor.is_pacing() {
                break journal;
            }
        };
        self.durability.check()?;
        if journal.closed {
            return Err(Error::closed());
        }
        let now = Now::of(&self.clock);
        let (changes, reply) = decide(&self.table, &now)?;
        let list = match &changes {
            Changes::One(one) => one.as_slice(),
            Changes::Many(many) => many,
        };
        if list.iter().any(|(_, change)| *change != Change::Nothing) {
            let written = journal.commit(list, now.millis(), &self.durability)?;
            self.clock.wrote(now.millis());
            let freed = match changes {
                Changes::One([(key, change)]) => self.table.apply(&key, change, &now),
                Changes::Many(many) => self.table.apply_all(many, &now),
            };
            // A short line may make much of the files superfluous.
            journal.next_look = journal.next_look.saturating_sub(freed.saturating_sub(written));
            self.compactor.look(self, &mut journal, written);
        }
        let sequence = journal.sequence;
        drop(journal);
        // What changed nothing waits too: its answer may rest on a line that is not on the disk yet.
        match self.sync {
            SyncPolicy::Always => self.durability.wait(sequence)?,
            SyncPolicy::Every(_) | SyncPolicy::Never => {}
        }
        Ok(reply)
    }

    /// Syncs at an interval until the store ends.
    fn sync_every(&self, interval: Duration) {
        loop {
            let due = Instant::now() + interval;
            let mut ending = self.ending.lock();
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
    fn end(&self) -> Result<()> {
        let Some(lock) = self.lock.lock().take() else {
            return Ok(());
        };
        *self.core.ending.lock() = true;
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
        journal.closed = true;
        self.core.durability.check()?;
        self.core.durability.wait(journal.sequence)?;
        journal.closed(Now::of(&self.core.clock).millis(), &self.core.durability)?;
        self.core.durability.wait(journal.sequence)
    }

    fn now(&self) -> Now<'_> {
        Now::of(&self.core.clock)
    }
}

/// Plans ops one after another, each on what those before it leave, and tells what each gets.
fn plan_each<'k>(
    table: &Table,
    ops: Vec<Op<'k>>,
    now: &Now<'_>,
) -> (Vec<(Key<'k>, Change)>, Vec<Result<Reply>>) {
    let mut overlay: HashMap<Key<'k>, Option<Entry>> = HashMap::with_capacity(ops.len());
    let mut changes = Vec::with_capacity(ops.len());
    let mut outcomes = Vec::with_capacity(ops.len());
    for Op { key, action } in ops {
        let found = match overlay.get(&key) {
            Some(found) => found.clone(),
            None => table.read(&key, |found| Some(found?.clone())),
        };
        match plan(&key, action, found.as_ref(), now) {
            Err(error) => outcomes.push(Err(error)),
            Ok((change, reply)) => {
                outcomes.push(Ok(reply));
                if change != Change::Nothing {
                    overlay.insert(key.clone(), change.over(found));
                    changes.push((key, change));
                }
            }
        }
    }
    (changes, outcomes)
}

impl Backend for File {
    fn get(&self, key: &Key<'_>) -> Result<Option<Bytes>> {
        Ok(self.core.table.get(key, &self.now()))
    }

    fn get_many(&self, keys: &[Key<'_>]) -> Vec<Result<Option<Bytes>>> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    fn ttl(&self, key: &Key<'_>) -> Result<Option<Ttl>> {
        Ok(self.core.table.ttl(key, &self.now()))
    }

    fn apply(&self, op: Op<'_>) -> Result<Reply> {
        let Op { key, action } = op;
        self.core.commit(|table, now| {
            let (change, reply) = match is_blind(&action) {
                true => plan(&key, action, None, now)?,
                false => table.read(&key, |found| plan(&key, action, found, now))?,
            };
            Ok((Changes::One([(key, change)]), reply))
        })
    }

    fn apply_each(&self, ops: Vec<Op<'_>>) -> Vec<Result<Reply>> {
        let outcomes = self.core.commit(|table, now| {
            let (changes, outcomes) = plan_each(table, ops, now);
            Ok((Changes::Many(changes), outcomes))
        });
        outcomes.unwrap_or_else(|error| vec![Err(error)])
    }

    fn commit(&self, writes: Vec<Op<'_>>) -> Result<()> {
        self.core.commit(|_, now| {
            let changes = writes
                .into_iter()
                .map(|Op { key, action }| plan_write(&key, action, now).map(|change| (key, change)))
                .collect::<Result<Vec<_>>>()?;
            Ok((Changes::Many(changes), ()))
        })
    }

    fn page(&self, prefix: &str, from: &Cursor) -> Result<Page> {
        Ok(self.core.table.page(prefix, from, &self.now()))
    }

    fn keys(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        Ok(self.core.table.first_keys(prefix, after, limit, &self.now()))
    }

    fn count(&self, prefix: &str) -> Result<u64> {
        Ok(self.core.table.count(prefix, &self.now()))
    }

    fn flush(&self) -> Result<()> {
        self.core.durability.check()?;
        self.core.durability.wait(self.core.durability.written())
    }

    fn close(&self) -> Result<()> {
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

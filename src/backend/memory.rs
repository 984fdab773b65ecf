//! Owns the Memory variant: the local state and a clock. Knows nothing of files and servers.

use std::time::{Duration, Instant};

use crate::backend::inspect::Inspect;
use crate::backend::local::change::Change;
use crate::backend::local::plan::{plan, plan_write};
use crate::backend::local::plan_multi::{MultiKeyPlan, all_lease_keys, lock_keys, plan_lease, plan_lock};
use crate::backend::local::plan_whole::{merge_keys, plan_merge, plan_replace};
use crate::backend::local::read_set::ReadSet;
use crate::backend::local::state::{LocalState, serve_locally};
use crate::backend::local::table::locked::LockedShards;
use crate::backend::local::table_source::TableSource;
use crate::backend::local::view::LiveEntry;
use crate::backend::local::wait_list::{POLL_INTERVAL, keys_to_wake};
use crate::backend::local::whole::WholeEntries;
use crate::backend::transfer::Transfer;
use crate::backend::{Backend, TransactionBody};
use crate::bytes::Bytes;
use crate::clock::{Millis, Now, Ttl};
use crate::error::Result;
use crate::inspection::{Finding, Health, MemoryUsage, ServerInfo};
use crate::key::{Companion, Key};
use crate::op::{
    Answer, Cursor, Cut, End, EntryAction, Grant, Isolation, LeaseAction, LockAction, Op, Page, Query,
    Replaced, Reply, WholeEntry, Write,
};
use crate::stats::EntryStats;
use crate::store_clock::StoreClock;

pub(crate) struct Memory {
    state: LocalState,
    clock: StoreClock,
}

impl Memory {
    pub(crate) fn new(clock: StoreClock) -> Self {
        Self { state: LocalState::default(), clock }
    }

    fn state(&self) -> &LocalState {
        &self.state
    }

    /// The time of one operation. The caller holds no lock.
    fn now(&self) -> Now<'_> {
        self.clock.refresh();
        Now::of(&self.clock)
    }

    fn commit_lock(&self, op: &Op<'_, LockAction>) -> Result<Reply> {
        self.commit_multi(&lock_keys(op), |locked, now| plan_lock(op, locked, now))
    }

    /// Plans and applies changes of several keys in one step.
    fn commit_multi(
        &self,
        keys: &[Key<'static>],
        plan: impl FnOnce(&LockedShards<'_>, &Now<'_>) -> Result<MultiKeyPlan>,
    ) -> Result<Reply> {
        let now = self.now();
        let locked = self.state.table.lock(keys.iter().map(|key| &**key));
        let (changes, reply) = plan(&locked, &now)?;
        self.apply_changes(locked, changes, &now);
        Ok(reply)
    }

    fn apply_changes(
        &self,
        mut locked: LockedShards<'_>,
        changes: Vec<(Key<'static>, Change)>,
        now: &Now<'_>,
    ) {
        let keys = keys_to_wake(&changes);
        locked.apply(changes, now);
        drop(locked);
        self.state.wake(keys);
    }
}

impl Backend for Memory {
    serve_locally!();

    fn apply(&self, op: Op<'_>) -> Result<Reply> {
        let now = self.now();
        let Op { key, action } = op;
        let pushed = if let EntryAction::Push { values, .. } = &action { values.len() } else { 0 };
        let reply = self.state.table.commit(&key, &now, |entry| {
            let mut entry = LiveEntry::new(&key, entry, &now);
            plan(&key, action, &mut entry, &now)
        })?;
        if pushed > 0 {
            self.state.wait_list.wake(&key, pushed);
        }
        Ok(reply)
    }

    fn apply_each(&self, ops: Vec<Op<'_>>) -> Vec<Result<Reply>> {
        ops.into_iter().map(|op| self.apply(op)).collect()
    }

    fn apply_lease(&self, op: Op<'_, LeaseAction>, _end: Option<Instant>) -> Result<Reply> {
        self.commit_multi(&all_lease_keys(&op), |locked, now| plan_lease(&op, locked, now))
    }

    fn commit(&self, writes: Vec<Op<'_, Write>>) -> Result<()> {
        let now = self.now();
        let changes =
            writes.into_iter().map(|Op { key, action }| (key, plan_write(action, &now))).collect::<Vec<_>>();
        self.state.table.apply_all(changes, &now);
        Ok(())
    }

    fn transact(&self, work: &mut TransactionBody<'_>) -> Result<bool> {
        let mut read_set = ReadSet::default();
        let start = self.now();
        let table = &self.state.table;
        let changes = work(&mut TableSource { table, now: &start, read_set: Some(&mut read_set) }, &start);
        let now = self.now();
        let written_keys = changes.iter().map(|(key, _)| &**key);
        let locked = table.lock(written_keys.chain(read_set.keys().map(|key| &**key)));
        if !read_set.is_still_valid(|key, query| locked.ask(key, query, &now)) {
            return Ok(false);
        }
        self.apply_changes(locked, changes, &now);
        Ok(true)
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn close(&self) -> Result<()> {
        self.state.wait_list.close();
        Ok(())
    }
}

impl Transfer for Memory {
    fn cut(&self, prefix: &str) -> Result<Cut<'_>> {
        let cut = self.state.table.open_cut();
        // The time after the instant of the cut, so that nothing is given out that has expired by then.
        let at = self.now().millis();
        let entries = Box::new(WholeEntries::new(cut, prefix, at));
        Ok(Cut { at, isolation: Isolation::Exact, entries })
    }

    fn merge(&self, entries: Vec<WholeEntry>, keep_existing: bool) -> Vec<Result<bool>> {
        let now = self.now();
        let keys = merge_keys(&entries);
        let locked = self.state.table.lock(keys.iter().map(|key| &**key));
        let (changes, written) = plan_merge(entries, keep_existing, &locked, &now);
        self.apply_changes(locked, changes, &now);
        written.into_iter().map(Ok).collect()
    }

    fn replace(
        &self,
        prefix: &str,
        entries: &mut dyn Iterator<Item = Result<WholeEntry>>,
    ) -> Result<Replaced> {
        let entries = entries.collect::<Result<Vec<_>>>()?;
        let now = self.now();
        let locked = self.state.table.lock_all();
        let (changes, replaced) = plan_replace(prefix, entries, &self.state.table, &locked, &now);
        self.apply_changes(locked, changes, &now);
        Ok(replaced)
    }
}

impl Inspect for Memory {
    fn health(&self) -> Result<Health> {
        let details = "the state is in this process".to_owned();
        Ok(Health { healthy: true, latency: Duration::ZERO, role: None, details })
    }

    fn server_info(&self) -> Result<ServerInfo> {
        Ok(ServerInfo { backend: "memory".to_owned(), ..ServerInfo::default() })
    }

    fn memory_usage(&self) -> Result<MemoryUsage> {
        Ok(self.state.table.usage())
    }

    fn memory_usage_of(&self, keys: &[Key<'_>]) -> Result<Vec<Option<(u64, u64)>>> {
        Ok(self.state.table.usage_of(keys, &self.now()))
    }

    fn cleanup_expired(&self) -> u64 {
        self.state.table.reclaim_all(&self.now())
    }

    fn findings(&self) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }
}

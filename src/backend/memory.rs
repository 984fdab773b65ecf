//! Owns the Memory variant: the local state, a clock, and the room that the state may take. Knows nothing of files and
//! servers.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::inspect::Inspect;
use crate::backend::local::change::Change;
use crate::backend::local::plan::{plan, plan_write};
use crate::backend::local::plan_multi::{MultiKeyPlan, all_lease_keys, lock_keys, plan_lease, plan_lock};
use crate::backend::local::plan_whole::{merge_keys, plan_merge, plan_replace};
use crate::backend::local::read_set::ReadSet;
use crate::backend::local::state::{LocalState, serve_locally};
use crate::backend::local::table::bounds::Growth;
use crate::backend::local::table::locked::LockedShards;
use crate::backend::local::table::room::{Admission, Demand, Room, full};
use crate::backend::local::table_source::TableSource;
use crate::backend::local::view::LiveEntry;
use crate::backend::local::wait_list::{POLL_INTERVAL, keys_to_wake};
use crate::backend::local::whole::WholeEntries;
use crate::backend::transfer::Transfer;
use crate::backend::{Backend, TransactionBody};
use crate::bytes::Bytes;
use crate::clock::{Millis, Now, Ttl};
use crate::config::MemoryOptions;
use crate::error::Result;
use crate::event_bus::EventBus;
use crate::inspection::{Finding, Health, MemoryUsage, ServerInfo};
use crate::key::{Companion, Key};
use crate::op::{
    Answer, Cursor, Cut, End, EntryAction, Grant, Isolation, LeaseAction, LockAction, Op, Page, Query,
    Replaced, Reply, WholeEntry, Write,
};
use crate::outage::{Event, ListenerHandle};
use crate::stats::EntryStats;
use crate::store_clock::StoreClock;

pub(crate) struct Memory {
    state: LocalState,
    clock: StoreClock,
    /// `None` if the state has no bounds.
    bounded: Option<Box<Bounded>>,
}

/// What a store with bounds has besides.
struct Bounded {
    room: Room,
    events: Arc<EventBus>,
}

/// Changes that are made, or that must be decided again, because room was made for them.
enum Applied {
    Yes,
    NotYet(Vec<(Key<'static>, Change)>),
}

impl Memory {
    pub(crate) fn new(clock: StoreClock, options: &MemoryOptions) -> Self {
        let events = || Arc::new(EventBus::new("the store in memory".to_owned()));
        let bounded = Room::new(options).map(|room| Box::new(Bounded { room, events: events() }));
        Self { state: LocalState::default(), clock, bounded }
    }

    fn state(&self) -> &LocalState {
        &self.state
    }

    /// The time of one operation. The caller holds no lock.
    fn now(&self) -> Now<'_> {
        self.clock.refresh();
        Now::of(&self.clock)
    }

    #[inline]
    fn note_read(&self, key: &Key<'_>) {
        if let Some(bounded) = &self.bounded {
            bounded.room.note_read(&self.state.table, key);
        }
    }

    fn commit_lock(&self, op: &Op<'_, LockAction>) -> Result<Reply> {
        let demand = match op.action {
            LockAction::Lock { .. } | LockAction::Permit { .. } => Demand::Bounded,
            LockAction::Extend { .. } | LockAction::Unlock { .. } => Demand::Unbounded,
        };
        self.commit_multi(&lock_keys(op), demand, |locked, now| plan_lock(op, locked, now))
    }

    /// Plans and applies changes of several keys in one step.
    fn commit_multi(
        &self,
        keys: &[Key<'static>],
        demand: Demand,
        plan: impl Fn(&LockedShards<'_>, &Now<'_>) -> Result<MultiKeyPlan>,
    ) -> Result<Reply> {
        let now = self.now();
        loop {
            let locked = self.state.table.lock(keys.iter().map(|key| &**key));
            let (changes, reply) = plan(&locked, &now)?;
            if let Applied::Yes = self.apply_changes(locked, changes, demand, &now)? {
                return Ok(reply);
            }
        }
    }

    /// Applies changes of locked keys, if there is room for them. Otherwise room is made, or it is an error.
    fn apply_changes(
        &self,
        mut locked: LockedShards<'_>,
        changes: Vec<(Key<'static>, Change)>,
        demand: Demand,
        now: &Now<'_>,
    ) -> Result<Applied> {
        let keys = keys_to_wake(&changes);
        match &self.bounded {
            None => _ = locked.apply(changes, now),
            Some(bounded) => match bounded.room.admit(&locked, &changes, demand) {
                Admission::Counted(growth) => {
                    bounded.room.apply(&self.state.table, &mut locked, changes, &growth, now);
                }
                Admission::NoRoom(growth) => {
                    drop(locked);
                    self.make_room(bounded, &growth, &changes, now)?;
                    return Ok(Applied::NotYet(changes));
                }
            },
        }
        drop(locked);
        self.state.wake(keys);
        Ok(Applied::Yes)
    }

    /// Makes entries replace what their keys hold, in one step, and returns which of them were written.
    fn merge_together(&self, entries: &[WholeEntry], keep_existing: bool) -> Result<Vec<bool>> {
        let keys = merge_keys(entries);
        loop {
            let now = self.now();
            let locked = self.state.table.lock(keys.iter().map(|key| &**key));
            let (changes, written) = plan_merge(entries, keep_existing, &locked, &now);
            if let Applied::Yes = self.apply_changes(locked, changes, Demand::Bounded, &now)? {
                return Ok(written);
            }
        }
    }

    fn make_room(
        &self,
        bounded: &Bounded,
        growth: &Growth,
        changes: &[(Key<'static>, Change)],
        now: &Now<'_>,
    ) -> Result<()> {
        let kept: Vec<&str> = changes.iter().map(|(key, _)| &**key).collect();
        let made = bounded.room.make_room(&self.state.table, growth, &kept, now);
        bounded.report();
        made.map_err(|exceeded| full(kept.first().unwrap_or(&""), exceeded))
    }

    /// Registers a listener. Without bounds there are no events.
    pub(crate) fn on_event(&self, listener: impl Fn(&Event) + Send + Sync + 'static) -> ListenerHandle {
        let Some(bounded) = &self.bounded else { return ListenerHandle::of_nothing() };
        let number = bounded.events.listen(listener);
        // The handle does not keep the store open.
        let events = AssertUnwindSafe(Arc::downgrade(&bounded.events));
        ListenerHandle::new(move || {
            if let Some(events) = events.upgrade() {
                events.remove(number);
            }
        })
    }
}

impl Bounded {
    /// Reports what was evicted, if a report is due. The caller holds no lock.
    fn report(&self) {
        if let Some(evictions) = self.room.take_report() {
            self.events.push(Event::Evicted { entries: evictions.entries, bytes: evictions.bytes });
            self.events.dispatch();
        }
    }
}

impl Backend for Memory {
    serve_locally!();

    fn apply(&self, op: Op<'_>) -> Result<Reply> {
        let now = self.now();
        let Op { key, action } = op;
        let pushed = if let EntryAction::Push { values, .. } = &action { values.len() } else { 0 };
        let table = &self.state.table;
        let reply = match &self.bounded {
            None => table.commit(&key, &now, |entry| {
                plan(&key, action, &mut LiveEntry::new(&key, entry, &now), &now)
            })?,
            Some(bounded) => {
                let outcome = bounded.room.commit(table, &key, &now, |entry| {
                    plan(&key, action.clone(), &mut LiveEntry::new(&key, entry, &now), &now)
                });
                bounded.report();
                outcome?
            }
        };
        if pushed > 0 {
            self.state.wait_list.wake(&key, pushed);
        }
        Ok(reply)
    }

    fn apply_each(&self, ops: Vec<Op<'_>>) -> Vec<Result<Reply>> {
        ops.into_iter().map(|op| self.apply(op)).collect()
    }

    fn apply_lease(&self, op: Op<'_, LeaseAction>, _end: Option<Instant>) -> Result<Reply> {
        let demand = match op.action {
            LeaseAction::PushDelayed { .. } => Demand::Bounded,
            LeaseAction::Lease { .. } | LeaseAction::EndLease { .. } | LeaseAction::ExtendLease { .. } => {
                Demand::Unbounded
            }
        };
        self.commit_multi(&all_lease_keys(&op), demand, |locked, now| plan_lease(&op, locked, now))
    }

    fn commit(&self, writes: Vec<Op<'_, Write>>) -> Result<()> {
        let now = self.now();
        let changes = writes.into_iter().map(|Op { key, action }| (key, plan_write(action, &now)));
        if self.bounded.is_none() {
            self.state.table.apply_all(changes.collect(), &now);
            return Ok(());
        }
        let mut changes: Vec<_> = changes.map(|(key, change)| (key.into_owned(), change)).collect();
        loop {
            let locked = self.state.table.lock(changes.iter().map(|(key, _)| &**key));
            match self.apply_changes(locked, changes, Demand::Bounded, &now)? {
                Applied::Yes => return Ok(()),
                Applied::NotYet(again) => changes = again,
            }
        }
    }

    fn transact(&self, work: &mut TransactionBody<'_>) -> Result<bool> {
        let mut read_set = ReadSet::default();
        let start = self.now();
        let table = &self.state.table;
        let mut changes =
            work(&mut TableSource { table, now: &start, read_set: Some(&mut read_set) }, &start);
        read_set.keys().for_each(|key| self.note_read(key));
        loop {
            let now = self.now();
            let written_keys = changes.iter().map(|(key, _)| &**key);
            let locked = table.lock(written_keys.chain(read_set.keys().map(|key| &**key)));
            if !read_set.is_still_valid(|key, query| locked.ask(key, query, &now)) {
                return Ok(false);
            }
            match self.apply_changes(locked, changes, Demand::Bounded, &now)? {
                Applied::Yes => return Ok(true),
                Applied::NotYet(again) => changes = again,
            }
        }
    }

    fn entry_stats(&self) -> EntryStats {
        let evicted = self.bounded.as_ref().map_or(0, |bounded| bounded.room.evicted());
        EntryStats { evicted, ..self.state.table.entry_stats(&self.now()) }
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
        if self.bounded.is_none() {
            let written = self.merge_together(&entries, keep_existing);
            return written
                .map_or_else(|error| vec![Err(error)], |written| written.into_iter().map(Ok).collect());
        }
        // There may be room for some of them.
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            let written = self.merge_together(&[entry], keep_existing);
            let has_failed = written.is_err();
            outcomes.push(written.map(|written| written.contains(&true)));
            if has_failed {
                break;
            }
        }
        outcomes
    }

    fn replace(
        &self,
        prefix: &str,
        entries: &mut dyn Iterator<Item = Result<WholeEntry>>,
    ) -> Result<Replaced> {
        let entries = entries.collect::<Result<Vec<_>>>()?;
        loop {
            let now = self.now();
            let locked = self.state.table.lock_all();
            let (changes, replaced) = plan_replace(prefix, &entries, &self.state.table, &locked, &now);
            if let Applied::Yes = self.apply_changes(locked, changes, Demand::Bounded, &now)? {
                return Ok(replaced);
            }
        }
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
        match &self.bounded {
            None => self.state.table.reclaim_all(&self.now()),
            Some(bounded) => bounded.room.reclaim_expired(&self.state.table, &self.now()),
        }
    }

    fn findings(&self) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }
}

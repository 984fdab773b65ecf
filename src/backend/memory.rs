//! Owns the Memory variant: the local table, and nothing else.

use std::sync::Arc;
use std::time::Instant;

use crate::backend::local::overlay::ReadSet;
use crate::backend::local::plan::{plan, plan_write};
use crate::backend::local::plan_multi;
use crate::backend::local::reading::TableSource;
use crate::backend::local::table::shards::Table;
use crate::backend::local::view::LiveEntry;
use crate::backend::local::wait_list;
use crate::backend::local::wait_list::{STEP, WaitList};
use crate::backend::{Backend, TransactionBody};
use crate::bytes::Bytes;
use crate::clock::{Clock, Millis, Now, Ttl};
use crate::error::Result;
use crate::key::{Companion, Key};
use crate::op::{Action, End, Grant, Op, Reply};
use crate::op::{Answer, Query};
use crate::op::{Cursor, Page};

pub(crate) struct Memory {
    table: Table,
    clock: Arc<dyn Clock>,
    wait_list: WaitList,
}

impl Memory {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { table: Table::new(), clock, wait_list: WaitList::default() }
    }

    fn now(&self) -> Now<'_> {
        Now::of(&*self.clock)
    }

    /// Carries out an operation that changes several entries.
    fn apply_multi(&self, op: &Op<'_>, keys: &[Key<'static>]) -> Result<Reply> {
        let now = self.now();
        let mut locked = self.table.lock(keys.iter().map(|key| &**key));
        let (changes, reply) = plan_multi::plan(op, &locked, &now)?;
        let called = wait_list::keys_to_wake(&changes);
        locked.apply(changes, &now);
        drop(locked);
        self.wake(called);
        Ok(reply)
    }

    fn wake(&self, called: Vec<(smol_str::SmolStr, usize)>) {
        for (key, things) in called {
            self.wait_list.wake(&key, things);
        }
    }
}

impl Backend for Memory {
    fn get(&self, key: &Key<'_>) -> Result<Option<Bytes>> {
        self.table.get(key, &self.now())
    }

    fn get_many(&self, keys: &[Key<'_>]) -> Vec<Result<Option<Bytes>>> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    fn ask(&self, key: &Key<'_>, query: &Query) -> Result<Answer> {
        self.table.ask(key, query, &self.now())
    }

    fn ttl(&self, key: &Key<'_>) -> Result<Option<Ttl>> {
        Ok(self.table.ttl(key, &self.now()))
    }

    fn apply(&self, op: Op<'_>) -> Result<Reply> {
        if let Some(keys) = plan_multi::keys_to_lock(&op) {
            if matches!(op.action, Action::Lock { .. }) && self.wait_list.has_queue(&keys[0]) {
                return Ok(Reply::Granted(None));
            }
            return self.apply_multi(&op, &keys);
        }
        let now = self.now();
        let Op { key, action } = op;
        let pushed = if let Action::Push { values, .. } = &action { values.len() } else { 0 };
        let reply = self.table.commit(&key, &now, |found| {
            let mut here = LiveEntry::new(&key, found, &now);
            plan(&key, action, &mut here, &now)
        })?;
        if pushed > 0 {
            self.wait_list.wake(&key, pushed);
        }
        Ok(reply)
    }

    fn apply_each(&self, ops: Vec<Op<'_>>) -> Vec<Result<Reply>> {
        ops.into_iter().map(|op| self.apply(op)).collect()
    }

    fn commit(&self, writes: Vec<Op<'_>>) -> Result<()> {
        let now = self.now();
        let changes = writes
            .into_iter()
            .map(|Op { key, action }| plan_write(action, &now).map(|change| (key, change)))
            .collect::<Result<Vec<_>>>()?;
        self.table.apply_all(changes, &now);
        Ok(())
    }

    fn pop_wait(&self, key: &Key<'_>, end: Instant) -> Result<Option<Bytes>> {
        let pop = || self.apply(Op { key: key.clone(), action: Action::Pop { end: End::Front } })?.found();
        self.wait_list.attempt_until(key, end, None, pop)
    }

    fn attempt_until<R>(
        &self,
        queue: &Key<'_>,
        end: Instant,
        attempt: impl FnMut() -> Result<Option<R>>,
    ) -> Result<Option<R>> {
        self.wait_list.attempt_until(queue, end, Some(STEP), attempt)
    }

    fn lock_wait(&self, name: &Key<'_>, ttl: Millis, end: Instant) -> Result<Option<Grant>> {
        let op = Op { key: name.clone(), action: Action::Lock { ttl } };
        let Some(keys) = plan_multi::keys_to_lock(&op) else { return Ok(None) };
        let lock = name.companion(Companion::Lock);
        self.wait_list.attempt_in_order(&lock, end, || self.apply_multi(&op, &keys)?.granted())
    }

    fn transact(&self, work: &mut TransactionBody<'_>) -> Result<bool> {
        let mut read = ReadSet::default();
        let begun = self.now();
        let changes =
            work(&mut TableSource { table: &self.table, now: &begun, read_set: Some(&mut read) }, &begun);
        let now = self.now();
        let written = changes.iter().map(|(key, _)| &**key);
        let mut locked = self.table.lock(written.chain(read.keys().map(|key| &**key)));
        if !read.is_still_valid(|key, query| locked.ask(key, query, &now)) {
            return Ok(false);
        }
        let called = wait_list::keys_to_wake(&changes);
        locked.apply(changes, &now);
        drop(locked);
        self.wake(called);
        Ok(true)
    }

    fn page(&self, prefix: &str, from: &Cursor) -> Result<Page> {
        Ok(self.table.page(prefix, from, &self.now()))
    }

    fn keys(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        Ok(self.table.first_keys(prefix, after, limit, &self.now()))
    }

    fn count(&self, prefix: &str) -> Result<u64> {
        Ok(self.table.count(prefix, &self.now()))
    }

    fn cleared(&self, prefix: &str) -> Vec<Key<'static>> {
        self.table.cleared_keys(prefix)
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn close(&self) -> Result<()> {
        self.wait_list.close();
        Ok(())
    }
}

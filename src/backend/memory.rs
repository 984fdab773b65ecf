//! Owns the Memory variant: the local table, and nothing else.

use std::sync::Arc;

use super::Backend;
use super::local::plan::{plan, plan_write};
use super::local::table::Table;
use crate::bytes::Bytes;
use crate::clock::{Clock, Now, Ttl};
use crate::error::Result;
use crate::key::Key;
use crate::op::{Op, Reply};
use crate::page::{Cursor, Page};

pub(crate) struct Memory {
    table: Table,
    clock: Arc<dyn Clock>,
}

impl Memory {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { table: Table::new(), clock }
    }

    fn now(&self) -> Now<'_> {
        Now::of(&*self.clock)
    }
}

impl Backend for Memory {
    fn get(&self, key: &Key<'_>) -> Result<Option<Bytes>> {
        Ok(self.table.get(key, &self.now()))
    }

    fn get_many(&self, keys: &[Key<'_>]) -> Vec<Result<Option<Bytes>>> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    fn ttl(&self, key: &Key<'_>) -> Result<Option<Ttl>> {
        Ok(self.table.ttl(key, &self.now()))
    }

    fn apply(&self, op: Op<'_>) -> Result<Reply> {
        let now = self.now();
        let Op { key, action } = op;
        self.table.commit(&key, &now, |found| plan(&key, action, found, &now))
    }

    fn apply_each(&self, ops: Vec<Op<'_>>) -> Vec<Result<Reply>> {
        ops.into_iter().map(|op| self.apply(op)).collect()
    }

    fn commit(&self, writes: Vec<Op<'_>>) -> Result<()> {
        let now = self.now();
        let changes = writes
            .into_iter()
            .map(|Op { key, action }| plan_write(&key, action, &now).map(|change| (key, change)))
            .collect::<Result<Vec<_>>>()?;
        self.table.apply_all(changes, &now);
        Ok(())
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

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }
}

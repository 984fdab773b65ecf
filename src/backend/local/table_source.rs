//! Owns how a transaction reads the table. Knows nothing of what the transaction changes.

use crate::backend::local::read_set::ReadSet;
use crate::backend::local::table::shards::Table;
use crate::clock::Now;
use crate::error::Result;
use crate::key::Key;
use crate::op::{Answer, Query, ReadSource};

/// Reads the table as it is at the moment of each query, and records the answers in the read set, if there is one.
pub(crate) struct TableSource<'t> {
    pub(crate) table: &'t Table,
    pub(crate) now: &'t Now<'t>,
    pub(crate) read_set: Option<&'t mut ReadSet>,
}

impl ReadSource for TableSource<'_> {
    fn ask(&mut self, key: &Key<'_>, query: &Query) -> Result<Answer> {
        let outcome = self.table.ask(key, query, self.now);
        if let Some(read_set) = &mut self.read_set {
            read_set.record(key, query, &outcome);
        }
        outcome
    }
}

//! Owns the state that is kept in this process: the table, and what a mutation does to it. Does no I/O and
//! reads no clock of its own.

use crate::backend::local::overlay::ReadSet;
use crate::backend::local::table::shards::Table;
use crate::clock::Now;
use crate::error::Result;
use crate::key::Key;
use crate::op::{Answer, Query, ReadSource};

/// A table that is read as it is, and what was read, if that is to be remembered.
pub(crate) struct TableSource<'t> {
    pub(crate) table: &'t Table,
    pub(crate) now: &'t Now<'t>,
    pub(crate) read_set: Option<&'t mut ReadSet>,
}

impl ReadSource for TableSource<'_> {
    fn ask(&mut self, key: &Key<'_>, query: &Query) -> Result<Answer> {
        let outcome = self.table.ask(key, query, self.now);
        if let Some(read) = &mut self.read_set {
            read.record(key, query, &outcome);
        }
        outcome
    }
}

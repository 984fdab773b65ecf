//! Owns the state that is kept in this process: the table, and what a mutation does to it. Does no I/O and
//! reads no clock of its own.

pub(crate) mod change;
pub(crate) mod found;
pub(crate) mod joint;
pub(crate) mod loading;
pub(crate) mod overlay;
pub(crate) mod plan;
pub(crate) mod queue;
mod reads;
pub(crate) mod table;
pub(crate) mod waiters;
pub(crate) mod walk;

use self::overlay::Read;
use self::table::Table;
use crate::clock::Now;
use crate::error::Result;
use crate::key::Key;
use crate::query::{Answer, Base, Query};

/// A table that is read as it is, and what was read, if that is to be remembered.
pub(crate) struct Reading<'t> {
    pub(crate) table: &'t Table,
    pub(crate) now: &'t Now<'t>,
    pub(crate) read: Option<&'t mut Read>,
}

impl Base for Reading<'_> {
    fn ask(&mut self, key: &Key<'_>, query: &Query) -> Result<Answer> {
        let outcome = self.table.ask(key, query, self.now);
        if let Some(read) = &mut self.read {
            read.note(key, query, &outcome);
        }
        outcome
    }
}

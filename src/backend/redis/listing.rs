//! Owns listings of the server's keys, page by page. Knows nothing of which keys a listing names.

use std::collections::BTreeSet;

use hashbrown::HashSet;

use crate::backend::redis::client::Redis;
use crate::backend::redis::failure::ErrorContext;
use crate::backend::redis::keys;
use crate::backend::redis::operation_error::OperationError;
use crate::backend::redis::wire::resp::CommandWriter;
use crate::backend::redis::wire::scan;
use crate::error::Error;
use crate::op::{Cursor, Page};

impl Redis {
    /// Reads one page of the keys that begin with `prefix`.
    pub(crate) fn page(&self, prefix: &str, from: &Cursor) -> Result<Page, OperationError> {
        let cursor = match from {
            Cursor::Server(cursor) => *cursor,
            // A listing that was begun locally cannot continue on the server: it starts over.
            Cursor::Start | Cursor::After(_) => 0,
        };
        let (next, keys) = self.scan_page(&self.pattern(prefix), cursor)?;
        let keys = keys.into_iter().filter_map(|key| scan::listed(key, &self.prefix)).collect();
        Ok(Page { keys, next: (next != 0).then_some(Cursor::Server(next)) })
    }

    /// Returns the first `limit` keys, sorted, that begin with `prefix` and come after `after`.
    pub(crate) fn keys(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, OperationError> {
        let mut first = BTreeSet::new();
        if limit == 0 {
            return Ok(Vec::new());
        }
        self.scan_all(prefix, |keys| {
            for key in keys.into_iter().filter_map(|key| scan::listed(key, &self.prefix)) {
                if after.is_none_or(|after| key.as_str() > after) {
                    first.insert(key);
                    if first.len() > limit {
                        first.pop_last();
                    }
                }
            }
            Ok(())
        })?;
        Ok(first.into_iter().collect())
    }

    /// Counts the keys that begin with `prefix`.
    pub(crate) fn count(&self, prefix: &str) -> Result<u64, OperationError> {
        let mut distinct = HashSet::new();
        self.scan_all(prefix, |keys| {
            distinct.extend(keys.into_iter().filter_map(|key| scan::listed(key, &self.prefix)));
            Ok(())
        })?;
        Ok(distinct.len() as u64)
    }

    /// Removes all keys that begin with `prefix`, and returns how many there were.
    pub(crate) fn remove(&self, prefix: &str) -> Result<u64, OperationError> {
        if self.prefix.is_empty() && prefix.is_empty() {
            let what = "clearing a Redis store without a key_prefix: it cannot know which keys are its own";
            return Err(Error::Unsupported { what: what.to_owned() }.into());
        }
        let mut done = 0;
        let wire_prefix = [&self.prefix, prefix.as_bytes()].concat();
        let scanned = self.scan_all(prefix, |keys| {
            let (mut own, keys): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| scan::is_kept(key));
            self.delete_listed(&keys, &mut done)?;
            // The keys that this crate stores beside a user's key are not counted.
            own.retain(|key| keys::is_cleared(key, &wire_prefix));
            self.delete_listed(&own, &mut 0)
        });
        match scanned {
            Ok(()) => Ok(done),
            Err(stop) if matches!(stop.error, Error::Partial { .. }) => Err(stop),
            Err(stop) => Err(OperationError::partial(done, stop)),
        }
    }

    /// Visits all keys that begin with `prefix`, page by page, as the server spells them. A key may come twice.
    pub(crate) fn scan_all(
        &self,
        prefix: &str,
        mut visit: impl FnMut(Vec<Vec<u8>>) -> Result<(), OperationError>,
    ) -> Result<(), OperationError> {
        let pattern = self.pattern(prefix);
        let mut cursor = 0;
        loop {
            let (next, keys) = self.scan_page(&pattern, cursor)?;
            visit(keys)?;
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }

    fn pattern(&self, prefix: &str) -> Vec<u8> {
        scan::pattern(&[&self.prefix, prefix.as_bytes()].concat())
    }

    fn scan_page(&self, pattern: &[u8], cursor: u64) -> Result<(u64, Vec<Vec<u8>>), OperationError> {
        let count = self.options.scan_count as u64;
        let write = |writer: &mut CommandWriter<'_>| {
            writer.command(6, "SCAN").number(cursor).arg(b"MATCH").arg(pattern).arg(b"COUNT").number(count);
        };
        let context = ErrorContext::reading("SCAN", "");
        self.read(&self.budget(), write, scan::page).map_err(|failure| OperationError::new(failure, context))
    }
}

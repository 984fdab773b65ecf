//! Owns listings of the server's keys, page by page. Knows nothing of which keys a listing names.

use std::collections::BTreeSet;

use hashbrown::HashSet;

use crate::backend::redis::client::Redis;
use crate::backend::redis::failure::ErrorContext;
use crate::backend::redis::keys;
use crate::backend::redis::wire::resp::CommandWriter;
use crate::backend::redis::wire::scan;
use crate::error::{Error, Result};
use crate::op::{Cursor, Page};

impl Redis {
    pub(crate) fn listed_page(&self, prefix: &str, from: &Cursor) -> Result<Page> {
        let cursor = match from {
            Cursor::Server(cursor) => *cursor,
            // A listing that was begun locally cannot continue on the server: it starts over.
            Cursor::Start | Cursor::After(_) => 0,
        };
        let (next, keys) = self.scan_page(&self.pattern(prefix), cursor)?;
        let keys = keys.into_iter().filter_map(|key| scan::listed(key, &self.prefix)).collect();
        Ok(Page { keys, next: (next != 0).then_some(Cursor::Server(next)) })
    }

    pub(crate) fn first_keys(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
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

    pub(crate) fn count_keys(&self, prefix: &str) -> Result<u64> {
        let mut distinct = HashSet::new();
        self.scan_all(prefix, |keys| {
            distinct.extend(keys.into_iter().filter_map(|key| scan::listed(key, &self.prefix)));
            Ok(())
        })?;
        Ok(distinct.len() as u64)
    }

    pub(crate) fn remove_keys(&self, prefix: &str) -> Result<u64> {
        if self.prefix.is_empty() && prefix.is_empty() {
            let what = "clearing a Redis store without a key_prefix: it cannot know which keys are its own";
            return Err(Error::Unsupported { what: what.to_owned() });
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
            Err(error @ Error::Partial { .. }) => Err(error),
            Err(error) => Err(Error::partial(done, error)),
        }
    }

    fn scan_all(&self, prefix: &str, mut visit: impl FnMut(Vec<Vec<u8>>) -> Result<()>) -> Result<()> {
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

    fn scan_page(&self, pattern: &[u8], cursor: u64) -> Result<(u64, Vec<Vec<u8>>)> {
        let count = self.options.scan_count as u64;
        let write = |writer: &mut CommandWriter<'_>| {
            writer.command(6, "SCAN").number(cursor).arg(b"MATCH").arg(pattern).arg(b"COUNT").number(count);
        };
        let context = ErrorContext::reading("SCAN", "");
        self.read(&self.budget(), write, scan::page).map_err(|failure| failure.into_error(context, None))
    }
}

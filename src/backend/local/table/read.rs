//! Owns what the reading operations see of the table: live entries only.

use smol_str::SmolStr;

use crate::backend::local::table::shards::Table;
use crate::backend::local::view::{EntryView, LiveEntry};
use crate::bytes::Bytes;
use crate::clock::{Now, Ttl};
use crate::error::Result;
use crate::key::{Key, is_cleared};
use crate::op::{Answer, Cursor, Page, Query};

/// How many keys one step of a walk looks at.
const PAGE: usize = 1000;

impl Table {
    pub(crate) fn get(&self, key: &str, now: &Now<'_>) -> Result<Option<Bytes>> {
        self.read(key, |found| LiveEntry::new(key, found, now).value())
    }

    pub(crate) fn ttl(&self, key: &str, now: &Now<'_>) -> Option<Ttl> {
        self.read(key, |found| LiveEntry::new(key, found, now).ttl(now))
    }

    pub(crate) fn ask(&self, key: &str, query: &Query, now: &Now<'_>) -> Result<Answer> {
        self.read(key, |found| LiveEntry::new(key, found, now).answer(query))
    }

    /// The reserved keys that go when all that begins with `prefix` goes.
    pub(crate) fn cleared_keys(&self, prefix: &str) -> Vec<Key<'static>> {
        let keys = self
            .reserved_keys(prefix)
            .into_iter()
            .filter(|key| is_cleared(key.as_bytes(), prefix.as_bytes()));
        keys.map(|key| Key::listed(key.into())).collect()
    }

    pub(crate) fn page(&self, prefix: &str, from: &Cursor, now: &Now<'_>) -> Page {
        let after = match from {
            Cursor::After(key) => Some(key.as_str()),
            Cursor::Start => None,
            // A walk begun elsewhere cannot go on here; it begins anew.
            #[cfg(feature = "redis")]
            Cursor::Server(_) => None,
        };
        let (keys, more) = self.keys(prefix, after, PAGE, now);
        Page {
            keys: keys.iter().map(ToString::to_string).collect(),
            next: more.map(|key| Cursor::After(key.to_string())),
        }
    }

    pub(crate) fn first_keys(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        now: &Now<'_>,
    ) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        self.fuzzy_scan(prefix, after, now, |keys| {
            let room = limit - found.len();
            found.extend(keys.iter().take(room).map(ToString::to_string));
            found.len() < limit
        });
        found
    }

    pub(crate) fn count(&self, prefix: &str, now: &Now<'_>) -> u64 {
        if prefix.is_empty() {
            return self.len(now);
        }
        let mut count = 0;
        self.fuzzy_scan(prefix, None, now, |keys| {
            count += keys.len() as u64;
            true
        });
        count
    }

    /// Walks the live keys page by page, for as long as `visit` wants more.
    fn fuzzy_scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        now: &Now<'_>,
        mut visit: impl FnMut(&[SmolStr]) -> bool,
    ) {
        let (mut keys, mut more) = self.keys(prefix, after, PAGE, now);
        while visit(&keys)
            && let Some(last) = more
        {
            (keys, more) = self.keys(prefix, Some(&last), PAGE, now);
        }
    }
}

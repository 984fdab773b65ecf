//! Owns what reads and plans see of the table: live entries only. Knows nothing of how the entries are stored.

use smol_str::SmolStr;

use crate::backend::local::change::Change;
use crate::backend::local::entry::Entry;
use crate::backend::local::plan::{is_blind, plan};
use crate::backend::local::table::shards::Table;
use crate::backend::local::view::{EntryView, LiveEntry};
use crate::bytes::Bytes;
use crate::clock::{Now, Ttl};
use crate::error::Result;
use crate::key::{Key, is_cleared};
use crate::op::{Answer, Cursor, EntryAction, Page, Query, Reply};

/// How many keys are listed in one step.
const PAGE: usize = 1000;

impl Table {
    pub(crate) fn get(&self, key: &str, now: &Now<'_>) -> Result<Option<Bytes>> {
        self.read(key, |entry| LiveEntry::new(key, entry, now).value())
    }

    pub(crate) fn ttl(&self, key: &str, now: &Now<'_>) -> Option<Ttl> {
        self.read(key, |entry| LiveEntry::new(key, entry, now).ttl(now))
    }

    pub(crate) fn ask(&self, key: &str, query: &Query, now: &Now<'_>) -> Result<Answer> {
        self.read(key, |entry| LiveEntry::new(key, entry, now).answer(query))
    }

    /// Decides what an action changes under a key. The caller makes sure that nobody else changes the entry before the
    /// change is applied.
    pub(crate) fn plan(&self, key: &Key<'_>, action: EntryAction, now: &Now<'_>) -> Result<(Change, Reply)> {
        let blind = is_blind(&action);
        let plan = |entry: Option<&Entry>| plan(key, action, &mut LiveEntry::new(key, entry, now), now);
        if blind { plan(None) } else { self.read(key, plan) }
    }

    /// Returns the reserved keys to remove together with all keys that begin with `prefix`.
    pub(crate) fn keys_to_clear(&self, prefix: &str) -> Vec<Key<'static>> {
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
            // A scan that began on the server cannot continue locally; it starts from the beginning.
            #[cfg(feature = "redis")]
            Cursor::Server(_) => None,
        };
        let (keys, last) = self.keys(prefix, after, PAGE, now);
        Page {
            keys: keys.iter().map(ToString::to_string).collect(),
            next: last.map(|key| Cursor::After(key.to_string())),
        }
    }

    pub(crate) fn first_keys(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        now: &Now<'_>,
    ) -> Vec<String> {
        let mut first: Vec<String> = Vec::new();
        self.visit_keys(prefix, after, now, |keys| {
            let missing = limit - first.len();
            first.extend(keys.iter().take(missing).map(ToString::to_string));
            first.len() < limit
        });
        first
    }

    pub(crate) fn count(&self, prefix: &str, now: &Now<'_>) -> u64 {
        if prefix.is_empty() {
            return self.len(now);
        }
        let mut count = 0;
        self.visit_keys(prefix, None, now, |keys| {
            count += keys.len() as u64;
            true
        });
        count
    }

    /// Passes the live keys to `visit`, page by page, until it returns `false`.
    fn visit_keys(
        &self,
        prefix: &str,
        after: Option<&str>,
        now: &Now<'_>,
        mut visit: impl FnMut(&[SmolStr]) -> bool,
    ) {
        let (mut keys, mut next) = self.keys(prefix, after, PAGE, now);
        while visit(&keys)
            && let Some(last) = next
        {
            (keys, next) = self.keys(prefix, Some(&last), PAGE, now);
        }
    }
}

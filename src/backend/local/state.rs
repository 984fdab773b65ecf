//! Owns the local state of a store: the table, and the threads that wait for it to change. Knows nothing of how a
//! change is made durable.

use smol_str::SmolStr;

use crate::backend::local::table::shards::Table;
use crate::backend::local::wait_list::WaitList;

/// The table, and the threads that wait for a push or a lock.
#[derive(Default)]
pub(crate) struct LocalState {
    pub(crate) table: Table,
    pub(crate) wait_list: WaitList,
}

impl LocalState {
    /// Wakes threads that wait for these keys, each with the number of values or locks that became available.
    pub(crate) fn wake(&self, keys: Vec<(SmolStr, usize)>) {
        for (key, available) in keys {
            self.wait_list.wake(&key, available);
        }
    }
}

/// Writes the operations of a [`Backend`](crate::backend::Backend) that only read its local state or wait for it to
/// change. The type must have the methods `state`, `now`, `note_read` and `commit_lock`, and its file must import the types that
/// the signatures name.
macro_rules! serve_locally {
    () => {
        fn get(&self, key: &Key<'_>) -> Result<Option<Bytes>> {
            self.note_read(key);
            self.state().table.get(key, &self.now())
        }

        fn get_many(&self, keys: &[Key<'_>]) -> Vec<Result<Option<Bytes>>> {
            keys.iter().map(|key| self.get(key)).collect()
        }

        fn ask(&self, key: &Key<'_>, query: &Query) -> Result<Answer> {
            if *query != Query::Presence {
                self.note_read(key);
            }
            self.state().table.ask(key, query, &self.now())
        }

        fn window_sum(&self, key: &Key<'_>, width: Millis) -> Result<i64> {
            let fields = self.ask(key, &Query::Map)?.map()?;
            $crate::backend::window_sum(key, width, &self.now(), &fields)
        }

        fn ttl(&self, key: &Key<'_>) -> Result<Option<Ttl>> {
            Ok(self.state().table.ttl(key, &self.now()))
        }

        fn page(&self, prefix: &str, from: &Cursor) -> Result<Page> {
            Ok(self.state().table.page(prefix, from, &self.now()))
        }

        fn keys(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
            Ok(self.state().table.first_keys(prefix, after, limit, &self.now()))
        }

        fn count(&self, prefix: &str) -> Result<u64> {
            Ok(self.state().table.count(prefix, &self.now()))
        }

        fn keys_to_clear(&self, prefix: &str) -> Vec<Key<'static>> {
            self.state().table.keys_to_clear(prefix)
        }

        fn apply_lock(&self, op: Op<'_, LockAction>) -> Result<Reply> {
            let is_contended =
                || self.state().wait_list.has_ordered_waiter(&op.key.companion(Companion::Lock));
            if matches!(op.action, LockAction::Lock { .. }) && is_contended() {
                return Ok(Reply::Granted(None));
            }
            self.commit_lock(&op)
        }

        fn lock_wait(&self, name: &Key<'_>, ttl: Millis, end: Instant) -> Result<Option<Grant>> {
            let op = Op { key: name.clone(), action: LockAction::Lock { ttl } };
            let lock = name.companion(Companion::Lock);
            self.state().wait_list.attempt_in_order(&lock, end, || self.commit_lock(&op)?.granted())
        }

        fn pop_wait(&self, key: &Key<'_>, end: Instant) -> Result<Option<Bytes>> {
            let pop =
                || self.apply(Op { key: key.clone(), action: EntryAction::Pop { end: End::Front } })?.found();
            self.state().wait_list.attempt_until(key, end, None, pop)
        }

        fn attempt_until<R>(
            &self,
            queue: &Key<'_>,
            end: Instant,
            attempt: impl FnMut() -> Result<Option<R>>,
        ) -> Result<Option<R>> {
            self.state().wait_list.attempt_until(queue, end, Some(POLL_INTERVAL), attempt)
        }
    };
}
pub(crate) use serve_locally;

//! Owns how an operation is counted and, if it is slow, logged: every operation that reaches a backend passes here once.
//! Knows nothing of how it is carried out.

use std::time::Instant;

use crate::error::Result;
use crate::op::{EntryAction, Query};
use crate::stats::attempts::retries;
use crate::stats::counter::{Counter, Operation};
use crate::stats::recorder::Recorder;
use crate::store::slow_log::SlowOperation;
use crate::store::state_store::StateStore;

/// What is known of an operation that may be slow. Boxed, because most stores log no slow operations.
pub(crate) struct Watch(Box<WatchedOperation>);

struct WatchedOperation {
    name: &'static str,
    key: String,
    begun: Instant,
    retries_before: u64,
}

impl StateStore {
    /// Counts one operation, and logs it if it is slow. The key is empty if it has not one.
    #[inline]
    pub(crate) fn counted<T>(
        &self,
        operation: Operation,
        (name, key): (&'static str, &str),
        run: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let watch = self.watch(|| (name, key));
        self.end(operation, run(), |_| false, watch)
    }

    /// As [`StateStore::counted`], for an operation that may wait, for a value or a lock: it is never slow.
    pub(crate) fn counted_wait<T>(&self, operation: Operation, run: impl FnOnce() -> Result<T>) -> Result<T> {
        self.end(operation, run(), |_| false, None)
    }

    /// Begins an operation that may be slow.
    #[inline]
    pub(crate) fn watch<'k>(&self, describe: impl FnOnce() -> (&'static str, &'k str)) -> Option<Watch> {
        self.context().shared.slow_log.is_some().then(|| Watch::new(describe()))
    }

    /// Counts an operation that has ended, and returns its outcome. `is_hit`: whether it found something, if it is a
    /// read.
    // Taking the outcome apart copies less of it than a look at it through a reference does.
    #[inline]
    pub(crate) fn end<T>(
        &self,
        operation: Operation,
        outcome: Result<T>,
        is_hit: impl FnOnce(&T) -> bool,
        watch: Option<Watch>,
    ) -> Result<T> {
        match outcome {
            Ok(found) => {
                let counter = if is_hit(&found) { Counter::Hits } else { operation.done() };
                self.recorder().add(counter, 1);
                self.log_if_slow(watch);
                Ok(found)
            }
            Err(error) => {
                self.recorder().count_failed(operation, &error);
                self.log_if_slow(watch);
                Err(error)
            }
        }
    }

    #[inline]
    fn log_if_slow(&self, watch: Option<Watch>) {
        if let Some(watch) = watch {
            self.log_watched(&watch);
        }
    }

    #[cold]
    fn log_watched(&self, Watch(operation): &Watch) {
        if let Some(log) = &self.context().shared.slow_log {
            log.note(&SlowOperation {
                name: operation.name,
                key: &operation.key,
                took: operation.begun.elapsed(),
                attempts: 1 + retries().wrapping_sub(operation.retries_before),
            });
        }
    }

    #[inline]
    pub(crate) fn recorder(&self) -> &Recorder {
        &self.context().shared.recorder
    }
}

impl Watch {
    #[cold]
    fn new((name, key): (&'static str, &str)) -> Self {
        let (key, begun, retries_before) = (key.to_owned(), Instant::now(), retries());
        Self(Box::new(WatchedOperation { name, key, begun, retries_before }))
    }
}

/// Returns as what a mutation of an entry counts.
#[inline]
pub(crate) fn operation_of(action: &EntryAction) -> Operation {
    match action {
        EntryAction::Put { .. }
        | EntryAction::PutIfAbsent { .. }
        | EntryAction::PutIfPresent { .. }
        | EntryAction::GetAndPut { .. }
        | EntryAction::Swap { .. }
        | EntryAction::MapPut { .. }
        | EntryAction::Push { .. } => Operation::Put,
        EntryAction::Delete
        | EntryAction::GetAndDelete
        | EntryAction::MapDelete { .. }
        | EntryAction::Pop { .. }
        | EntryAction::Trim { .. } => Operation::Delete,
        EntryAction::Incr { .. } | EntryAction::MapIncr { .. } | EntryAction::WindowAdd(_) => {
            Operation::Increment
        }
        EntryAction::Touch { .. } | EntryAction::Renew { .. } => Operation::Get,
        EntryAction::Expire { .. } | EntryAction::Persist => Operation::Other,
    }
}

/// Returns what the log calls a mutation of an entry.
pub(crate) fn name_of(action: &EntryAction) -> &'static str {
    match action {
        EntryAction::Put { .. } => "put",
        EntryAction::PutIfAbsent { .. } => "set_if_not_exists",
        EntryAction::PutIfPresent { .. } => "update",
        EntryAction::GetAndPut { .. } => "get_and_put",
        EntryAction::Swap { .. } => "compare_and_set",
        EntryAction::MapPut { .. } => "map_put",
        EntryAction::Push { .. } => "push",
        EntryAction::Delete => "delete",
        EntryAction::GetAndDelete => "get_and_delete",
        EntryAction::MapDelete { .. } => "map_delete",
        EntryAction::Pop { .. } => "pop",
        EntryAction::Trim { .. } => "queue_trim",
        EntryAction::Incr { .. } => "incr",
        EntryAction::MapIncr { .. } => "map_incr",
        EntryAction::WindowAdd(_) => "window_add",
        EntryAction::Touch { .. } => "get_and_touch",
        EntryAction::Renew { .. } => "get",
        EntryAction::Expire { .. } => "expire",
        EntryAction::Persist => "persist",
    }
}

/// Returns as what a question about an entry counts.
#[inline]
pub(crate) fn operation_of_question(query: &Query) -> Operation {
    match query {
        Query::Value | Query::Field(_) => Operation::Get,
        Query::Fields(_)
        | Query::Map
        | Query::Names
        | Query::MapLength
        | Query::Bounds
        | Query::Items { .. }
        | Query::Presence
        | Query::Lease { .. } => Operation::Other,
    }
}

/// Returns what the log calls a question about an entry.
pub(crate) fn name_of_question(query: &Query) -> &'static str {
    match query {
        Query::Value => "get",
        Query::Field(_) => "map_get",
        Query::Fields(_) => "map_get_many",
        Query::Map => "map_entries",
        Query::Names => "map_keys",
        Query::MapLength => "map_len",
        Query::Bounds => "queue_len",
        Query::Items { .. } => "queue_range",
        Query::Presence => "kind",
        Query::Lease { .. } => "lease",
    }
}

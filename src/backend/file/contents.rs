//! Owns what the entries of a directory are, how its files are marked with that, and the error for a directory that
//! holds something else than what it is opened as. Knows nothing of lines.

use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::{Error, Result};

/// What the entries of a directory are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contents {
    /// The entries of a File store.
    Store,
    /// The operations that a Redis store has queued.
    ReplayQueue,
}

impl Contents {
    /// The mark in the header of a file. The files of a store have none, since earlier ones have none.
    pub(crate) fn mark(self) -> Option<&'static str> {
        match self {
            Self::Store => None,
            Self::ReplayQueue => Some("queue"),
        }
    }

    /// What a file with this mark holds; `None` for an unknown mark.
    pub(crate) fn from_mark(mark: Option<&str>) -> Option<Self> {
        [Self::Store, Self::ReplayQueue].into_iter().find(|contents| contents.mark() == mark)
    }

    /// What a directory holds whose files have no mark: the queues of earlier versions have none either, but they have
    /// an entry `header`, and beside it only entries `queued:…` and `outcome:…`. `header` is the value of that entry.
    pub(crate) fn of_unmarked<'k>(header: Option<&[u8]>, keys: impl IntoIterator<Item = &'k str>) -> Self {
        let is_header = header.is_some_and(|text| serde_json::from_slice::<QueueHeader>(text).is_ok());
        let is_queue = |key: &str| key == QUEUE_HEADER || key.starts_with(QUEUED) || key.starts_with(OUTCOME);
        if is_header && keys.into_iter().all(is_queue) { Self::ReplayQueue } else { Self::Store }
    }

    /// Fails unless the directory holds what it is opened as.
    pub(crate) fn check(self, opened_as: Self, dir: &Path) -> Result<()> {
        let dir = dir.display();
        match (self, opened_as) {
            (Self::Store, Self::Store) | (Self::ReplayQueue, Self::ReplayQueue) => Ok(()),
            (Self::ReplayQueue, Self::Store) => Err(Error::invalid_config(
                "path",
                format!(
                    "{dir} holds the replay queue of a Redis store, and not a File store: open it with \
                     redis://…?fallback=file:{dir}, or name another directory"
                ),
            )),
            (Self::Store, Self::ReplayQueue) => Err(Error::invalid_config(
                "redis.fallback",
                format!(
                    "{dir} holds a File store, and not a replay queue: open it with file:{dir}, and name another \
                     directory for the queue"
                ),
            )),
        }
    }
}

/// The entry of a replay queue that describes it.
pub(crate) const QUEUE_HEADER: &str = "header";

/// What the keys of the queued operations begin with.
const QUEUED: &str = "queued:";

/// What the keys of the outcomes begin with that the program has not asked for yet.
const OUTCOME: &str = "outcome:";

/// What the header of a queue has in every version.
#[derive(Deserialize)]
#[expect(dead_code, reason = "the fields must only be there")]
struct QueueHeader {
    format: u32,
    prefix: String,
    identity: String,
    done: u64,
    sent: IgnoredAny,
}

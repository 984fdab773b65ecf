//! Owns which numbers are counted, and as what an operation and its error count. Knows nothing of how a number is
//! stored.

use crate::error::Error;

/// A number that only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counter {
    // In the order of `Operation`, so that nothing is computed to get from one to the other.
    Misses,
    Puts,
    Deletes,
    Increments,
    Batches,
    Transactions,
    Other,
    Hits,
    /// The keys of batches that were found, and those that were not.
    BatchHits,
    BatchMisses,
    BytesRead,
    BytesWritten,
    CheckedOut,
    Returned,
    Pipelines,
    Scripts,
    FailedGets,
    FailedPuts,
    FailedDeletes,
    FailedIncrements,
    FailedBatches,
    FailedTransactions,
    FailedOther,
    Unavailable,
    Denied,
    WrongType,
    Conflicts,
    OtherErrors,
    Retries,
    Opened,
    Closed,
    Waited,
    LocksAcquired,
    LocksRefused,
    LocksLost,
    LocksEnded,
}

/// How many counters there are.
pub(crate) const COUNTERS: usize = Counter::LocksEnded as usize + 1;

/// As what an operation counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// A read that finds something or does not.
    Get,
    Put,
    Delete,
    Increment,
    Batch,
    Transaction,
    Other,
}

impl Operation {
    /// What counts one that succeeded and found nothing, if it is a read.
    #[inline]
    pub(crate) fn done(self) -> Counter {
        match self {
            Self::Get => Counter::Misses,
            Self::Put => Counter::Puts,
            Self::Delete => Counter::Deletes,
            Self::Increment => Counter::Increments,
            Self::Batch => Counter::Batches,
            Self::Transaction => Counter::Transactions,
            Self::Other => Counter::Other,
        }
    }

    /// What counts one that failed.
    pub(crate) fn failed(self) -> Counter {
        match self {
            Self::Get => Counter::FailedGets,
            Self::Put => Counter::FailedPuts,
            Self::Delete => Counter::FailedDeletes,
            Self::Increment => Counter::FailedIncrements,
            Self::Batch => Counter::FailedBatches,
            Self::Transaction => Counter::FailedTransactions,
            Self::Other => Counter::FailedOther,
        }
    }
}

/// What counts an error; `None` for one that is the program's own: the closure of a transaction has given up, or an
/// argument is refused, or a value is not of the type that was asked for.
pub(crate) fn counter_of(error: &Error) -> Option<Counter> {
    match error {
        Error::Unavailable { .. } => Some(Counter::Unavailable),
        Error::Denied { .. } => Some(Counter::Denied),
        Error::WrongType { .. } => Some(Counter::WrongType),
        Error::Conflict { .. } => Some(Counter::Conflicts),
        Error::Partial { source, .. } => counter_of(source),
        Error::NotAnInteger { .. }
        | Error::Overflow { .. }
        | Error::Io { .. }
        | Error::StorageFull { .. }
        | Error::Full { .. }
        | Error::Corrupt { .. }
        | Error::Locked { .. }
        | Error::Poisoned { .. }
        | Error::Busy { .. }
        | Error::LockLost { .. }
        | Error::Server { .. }
        | Error::Unsupported { .. } => Some(Counter::OtherErrors),
        Error::InvalidKey { .. }
        | Error::InvalidTtl { .. }
        | Error::InvalidConfig { .. }
        | Error::TooLarge { .. }
        | Error::Encode { .. }
        | Error::Decode { .. }
        | Error::InvalidExport { .. }
        | Error::Stream { .. }
        | Error::Aborted(_) => None,
    }
}

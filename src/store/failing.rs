//! Owns the store whose every operation fails, for tests of a program's own handling of errors. Knows nothing of the
//! backends.

use std::io;
use std::path::PathBuf;

use crate::error::Error;

/// The error of a store that always fails: see [`StateStore::failing`](crate::StateStore::failing).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// [`Error::Unavailable`]: the server cannot be reached, and nothing was applied.
    Unavailable,
    /// [`Error::Unavailable`] with `maybe_applied`: the reply of the server was lost.
    MaybeApplied,
    /// [`Error::Denied`].
    Denied,
    /// [`Error::Conflict`].
    Conflict,
    /// [`Error::StorageFull`].
    StorageFull,
    /// [`Error::Full`]: a store in memory has reached one of its bounds.
    Full,
    /// [`Error::Poisoned`].
    Poisoned,
}

const CAUSE: &str = "this store fails on purpose";

impl ErrorKind {
    pub(crate) fn error(self) -> Error {
        let path = || PathBuf::from("failing");
        match self {
            Self::Unavailable => {
                Error::Unavailable { maybe_applied: false, permanent: false, source: CAUSE.into() }
            }
            Self::MaybeApplied => Error::in_doubt(CAUSE),
            Self::Denied => Error::Denied { source: CAUSE.into() },
            Self::Conflict => Error::Conflict { key: "failing".to_owned() },
            Self::StorageFull => Error::StorageFull { path: path(), source: io::Error::other(CAUSE) },
            Self::Full => Error::Full { key: "failing".to_owned(), option: "max_entries", limit: 0 },
            Self::Poisoned => Error::Poisoned { path: path() },
        }
    }
}

//! Owns how this crate makes errors. Knows nothing of their texts.

use crate::error::{Cause, Error, StoreClosed};

impl Error {
    pub(crate) fn invalid_config(field: impl Into<String>, reason: impl Into<String>) -> Self {
        // An error of serde quotes the text that it cannot read. That text may be a misplaced URL with a
        // password.
        let mask = |text: String, instead: &str| if text.contains('@') { instead.to_owned() } else { text };
        Self::InvalidConfig {
            field: mask(field.into(), "an option"),
            reason: mask(reason.into(), "it cannot be read, and is not shown since it may hold a password"),
        }
    }

    /// Wraps the error that stopped an operation over many entries; if none was done, returns the error itself.
    pub(crate) fn partial(done: u64, source: Self) -> Self {
        match done {
            0 => source,
            _ => Self::Partial { done, source: Box::new(source) },
        }
    }

    /// The store cannot serve now, and the operation was not applied.
    pub(crate) fn unavailable(source: impl Into<Cause>) -> Self {
        Self::Unavailable { maybe_applied: false, permanent: false, source: source.into() }
    }

    /// Nobody knows whether the operation was applied.
    pub(crate) fn in_doubt(source: impl Into<Cause>) -> Self {
        Self::Unavailable { maybe_applied: true, permanent: false, source: source.into() }
    }

    fn permanently_unavailable(source: impl Into<Cause>) -> Self {
        Self::Unavailable { maybe_applied: false, permanent: true, source: source.into() }
    }

    /// Another process opened the store.
    pub(crate) fn forked() -> Self {
        Self::permanently_unavailable(
            "the store was opened by another process: fork before a store is opened, not after",
        )
    }

    /// The store was closed while operations were queued for its server. The text says how many are lost.
    #[cfg(feature = "redis")]
    pub(crate) fn abandoned(text: String) -> Self {
        Self::permanently_unavailable(text)
    }

    /// The store was closed by its owner.
    pub(crate) fn closed() -> Self {
        Self::permanently_unavailable(StoreClosed)
    }

    /// Marks the error `maybe_applied`: this attempt failed, but an earlier one may have been applied.
    #[cfg(feature = "redis")]
    pub(crate) fn after_lost_reply(self) -> Self {
        if let Self::Unavailable { permanent, source, .. } = self {
            Self::Unavailable { maybe_applied: true, permanent, source }
        } else {
            Self::in_doubt(self)
        }
    }
}

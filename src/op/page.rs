//! Owns how a scan of the keys is divided into pages. Knows nothing of how keys are stored.

/// Where a scan of the keys continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cursor {
    /// At the beginning.
    Start,
    /// After this key, in the order of keys.
    After(String),
    /// At this cursor of the server's `SCAN`.
    #[cfg(feature = "redis")]
    Server(u64),
}

/// One page of a scan; it may be empty.
#[derive(Debug)]
pub(crate) struct Page {
    /// Full keys.
    pub(crate) keys: Vec<String>,
    /// Where to continue; `None` at the end.
    pub(crate) next: Option<Cursor>,
}

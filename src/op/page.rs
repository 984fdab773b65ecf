//! Owns how a walk over the keys is cut into steps. Knows nothing of who walks.

/// Where a walk over the keys goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cursor {
    /// At the beginning.
    Start,
    /// Behind this key, in the order of keys.
    After(String),
    /// Where the server said.
    #[cfg(feature = "redis")]
    Server(u64),
}

/// One step of a walk over the keys, which may hold none.
#[derive(Debug)]
pub(crate) struct Page {
    /// Full keys.
    pub(crate) keys: Vec<String>,
    /// Where to go on; `None` at the end.
    pub(crate) next: Option<Cursor>,
}

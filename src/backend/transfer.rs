//! Owns the contract of how entries are taken out of a backend and brought in, each as a whole. Knows nothing of how they
//! are written down.

use crate::backend::Backend;
use crate::error::Result;
use crate::op::{Cut, Replaced, WholeEntry};

/// What each variant can do with entries as a whole. Entries with a receipt's key are entries like others.
pub(crate) trait Transfer: Backend {
    /// Returns all entries whose keys begin with `prefix`, as of one instant.
    fn cut(&self, prefix: &str) -> Result<Cut<'_>>;

    /// Makes entries replace what their keys hold, each in one step. If `keep_existing`, entries of present keys are left
    /// out. The outcome of each says whether it was written: one that has expired is not. If the backend had to stop
    /// early, the list is shorter and ends with the error.
    fn merge(&self, entries: Vec<WholeEntry>, keep_existing: bool) -> Vec<Result<bool>>;

    /// Makes the entries, sorted by key, all that is stored under keys that begin with `prefix`, in one step. After an
    /// error, nothing has changed, unless [`maybe_applied`](crate::Error::maybe_applied) holds.
    fn replace(
        &self,
        prefix: &str,
        entries: &mut dyn Iterator<Item = Result<WholeEntry>>,
    ) -> Result<Replaced>;
}

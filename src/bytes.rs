//! Owns [`Bytes`], the shared byte string that values are handed around in. Knows nothing of what the
//! bytes mean.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// An immutable, shared string of bytes: cloning it copies a pointer, not the bytes.
///
/// It dereferences to `[u8]` and turns into a `Vec<u8>` where an owned copy is needed.
///
/// ```
/// use millpond::Bytes;
/// let bytes = Bytes::from("ledger");
/// assert_eq!(bytes.len(), 6);
/// assert_eq!(bytes, b"ledger"[..]);
/// assert_eq!(Vec::from(bytes), b"ledger");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bytes(Arc<[u8]>);

/// How many bytes `Debug` shows before it only counts the rest.
const SHOWN: usize = 64;

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Self(Arc::new([]))
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(Arc::from(bytes))
    }
}

impl From<&str> for Bytes {
    fn from(text: &str) -> Self {
        Self(Arc::from(text.as_bytes()))
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::from(bytes))
    }
}

impl From<Bytes> for Vec<u8> {
    fn from(bytes: Bytes) -> Self {
        bytes.0.to_vec()
    }
}

impl PartialEq<[u8]> for Bytes {
    fn eq(&self, other: &[u8]) -> bool {
        *self.0 == *other
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(SHOWN)];
        write!(f, "b\"{}\"", shown.escape_ascii())?;
        match self.0.len() - shown.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more bytes"),
        }
    }
}

//! Owns [`Bytes`], the shared byte string that values are passed around in. Knows nothing of the meaning of the
//! bytes.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use triomphe::ThinArc;

/// An immutable, shared string of bytes: cloning it copies a pointer, not the bytes.
///
/// It dereferences to `[u8]`, and converts into a `Vec<u8>` if an owned copy is needed.
///
/// ```
/// use millpond::Bytes;
/// let bytes = Bytes::from("ledger");
/// assert_eq!(bytes.len(), 6);
/// assert_eq!(bytes, "ledger");
/// assert_eq!(bytes, *b"ledger");
/// assert_eq!(Vec::from(bytes), b"ledger");
/// ```
///
/// # As a value
///
/// A store keeps a value of this type as the bytes that it is, whatever they are, and without JSON around them. Every
/// operation that takes or returns values does so: `put` and `get`, batches, fields of maps, values of queues,
/// transactions, handles. [`put_bytes`](crate::StateStore::put_bytes) and
/// [`get_bytes`](crate::StateStore::get_bytes) are the same for single values; `get_bytes` also saves a copy of the
/// bytes. Reading as `Bytes` never fails to decode: of a value that was put as another type, it returns the JSON text.
///
/// ```
/// use millpond::{Bytes, StateStore};
///
/// let store = StateStore::memory();
/// store.push_back("frames", Bytes::from([0xff, 0x00]))?;
/// store.map_put("pages", "/", Bytes::from("<h1>hello</h1>"))?;
/// assert_eq!(store.pop_front::<Bytes>("frames")?.unwrap(), [0xff, 0x00]);
/// assert_eq!(store.map_get::<Bytes>("pages", "/")?.unwrap(), "<h1>hello</h1>");
///
/// let (old, new) = (Bytes::from([1, 2]), Bytes::from([3]));
/// assert!(store.compare_and_set("blob", None, &old)?);
/// assert!(store.compare_and_set("blob", Some(&old), &new)?); // compared byte by byte
/// # Ok::<(), millpond::Error>(())
/// ```
///
/// References, `Box`, `Cow` and newtype structs around it are stored as the bytes too. Inside a larger value it is a
/// JSON string in Base64, and so it is for other crates that write JSON. An `Option<Bytes>` is such a larger value: its
/// `None` is the JSON text `null`, which some bytes are as well.
///
/// ```
/// # use millpond::{Bytes, StateStore};
/// # let store = StateStore::memory();
/// store.put("mail", ("report.pdf", Bytes::from("%PDF")))?;
/// assert_eq!(store.get_bytes("mail")?.unwrap(), r#"["report.pdf","JVBERg=="]"#);
/// assert_eq!(store.get::<(String, Bytes)>("mail")?.unwrap().1, "%PDF");
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Clone)]
pub struct Bytes(ThinArc<(), u8>);

/// `Debug` shows at most this many bytes and counts the rest.
const SHOWN: usize = 64;

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0.slice
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0.slice
    }
}

impl Borrow<[u8]> for Bytes {
    fn borrow(&self) -> &[u8] {
        &self.0.slice
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Self::from(&[][..])
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(ThinArc::from_header_and_slice((), bytes))
    }
}

impl<const N: usize> From<&[u8; N]> for Bytes {
    fn from(bytes: &[u8; N]) -> Self {
        Self::from(&bytes[..])
    }
}

impl<const N: usize> From<[u8; N]> for Bytes {
    fn from(bytes: [u8; N]) -> Self {
        Self::from(&bytes[..])
    }
}

impl From<&str> for Bytes {
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes())
    }
}

impl From<String> for Bytes {
    fn from(text: String) -> Self {
        Self::from(text.as_bytes())
    }
}

impl From<Box<[u8]>> for Bytes {
    fn from(bytes: Box<[u8]>) -> Self {
        Self::from(&bytes[..])
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from(&bytes[..])
    }
}

impl From<Bytes> for Vec<u8> {
    fn from(bytes: Bytes) -> Self {
        bytes.to_vec()
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Bytes {}

impl Hash for Bytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl PartialOrd for Bytes {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bytes {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

/// Compares with everything else that holds bytes or text, in both directions. Before each type are its parameters.
macro_rules! compare_with {
    ($([$($parameter:tt)*] $other:ty),+ $(,)?) => {$(
        impl<$($parameter)*> PartialEq<$other> for Bytes {
            fn eq(&self, other: &$other) -> bool {
                **self == *<$other as AsRef<[u8]>>::as_ref(other)
            }
        }

        impl<$($parameter)*> PartialEq<Bytes> for $other {
            fn eq(&self, other: &Bytes) -> bool {
                *other == *self
            }
        }
    )+};
}

compare_with!([] [u8], [] &[u8], [] Vec<u8>, [] str, [] &str, [] String);
compare_with!([const N: usize] [u8; N], [const N: usize] &[u8; N]);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self[..self.len().min(SHOWN)];
        write!(f, "b\"{}\"", shown.escape_ascii())?;
        match self.len() - shown.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more bytes"),
        }
    }
}

//! The byte string that values are passed around in, and how serde sees it.

mod serialization;
mod shared_bytes;

pub(crate) use self::serialization::NEWTYPE;
pub use self::shared_bytes::Bytes;

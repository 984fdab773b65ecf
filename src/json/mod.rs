//! JSON as this crate writes, reads and compares it.

mod encode;
mod equality;
mod finite;
mod readable;
mod value_deserializer;
mod value_serializer;

pub(crate) use self::encode::{decode, decode_found, encode};
pub(crate) use self::equality::eq;
#[cfg(feature = "redis")]
pub(crate) use self::readable::is_text;

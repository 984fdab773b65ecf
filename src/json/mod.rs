//! JSON as this crate reads, writes and compares it.

mod encode;
mod finite;

pub(crate) use self::encode::{decode, decode_found, encode, eq};

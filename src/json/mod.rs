//! JSON as this crate writes, reads and compares it.

mod encode;
mod equality;
mod finite;
mod readable;

pub(crate) use self::encode::{decode, decode_found, encode};
pub(crate) use self::equality::eq;

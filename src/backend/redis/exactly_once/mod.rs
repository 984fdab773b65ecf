//! Calls that the server recognises as duplicates.

pub(crate) mod call;
pub(crate) mod slots;

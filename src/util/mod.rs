//! Small tools that every module may use. They know nothing of stores.

pub(crate) mod backoff;
pub(crate) mod hex;
#[cfg(feature = "redis")]
pub(crate) mod unique_id;

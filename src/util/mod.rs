//! Small tools that any room may use. They know nothing of stores.

pub(crate) mod backoff;
#[cfg(feature = "redis")]
pub(crate) mod unique_id;

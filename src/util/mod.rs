//! Small tools that every module may use. They know nothing of stores.

pub(crate) mod backoff;
pub(crate) mod foreign;
pub(crate) mod hex;
pub(crate) mod log_later;
pub(crate) mod sortable_id;
pub(crate) mod threads;
#[cfg(feature = "redis")]
pub(crate) mod unique_id;

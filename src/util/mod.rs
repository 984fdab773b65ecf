//! Small tools that any room may use. They know nothing of stores.

#[cfg(feature = "redis")]
pub(crate) mod hex;
#[cfg(feature = "redis")]
pub(crate) mod unique_id;

//! The shadow: the last value of each key that this process saw while connected.

pub(crate) mod after_write;
pub(crate) mod batch;
pub(crate) mod cache;
mod in_doubt;
pub(crate) mod in_flight;
mod stripe;

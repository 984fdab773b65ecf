//! What a program can learn about outages: counts, pending operations, events, data loss.

pub(crate) mod counts;
mod data_loss;
pub(crate) mod events;
pub(crate) mod kept;
pub(crate) mod log_throttle;
mod questions;

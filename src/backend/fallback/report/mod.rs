//! What a program can learn about outages: counts, pending operations, events, data loss.

pub(crate) mod counts;
mod data_loss;
mod outcomes;
mod questions;

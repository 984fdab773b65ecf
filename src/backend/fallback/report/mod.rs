//! What is kept for a program that asks about outages: counts and outcomes.

pub(crate) mod counts;
pub(crate) mod kept;
pub(crate) mod log_throttle;
pub(crate) mod outcomes;

//! How a store is configured.
//!
//! - `environment`: the URL in the environment;
//! - `never_meant`: texts that nobody can mean are refused;
//! - `notations`: JSON, TOML and YAML, in every spelling;
//! - `opening`: the ways to open a store, and that a URL and a `StateConfig` can say the same;
//! - `refusals`: what is refused, by a text that shows the right form;
//! - `urls`: wrong URLs and configurations are errors, never a panic, and no error shows a password.

mod bounds;
mod environment;
#[cfg(feature = "redis")]
mod never_meant;
mod notations;
mod opening;
mod refusals;
mod urls;

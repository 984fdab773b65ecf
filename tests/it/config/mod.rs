//! How a store is configured.
//!
//! - `never_meant`: texts that nobody can mean are refused;
//! - `notations`: JSON, TOML and YAML, in every spelling;
//! - `opening`: the ways to open a store, and that a URL and a `StateConfig` can say the same;
//! - `urls`: wrong URLs and configurations are errors, never a panic, and no error shows a password.

#[cfg(feature = "redis")]
mod never_meant;
mod notations;
mod opening;
mod urls;

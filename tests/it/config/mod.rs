//! How a store is configured.
//!
//! - `opening`: the ways to open a store, and that a URL and a `StateConfig` can say the same;
//! - `urls`: wrong URLs and configurations are errors, never a panic, and no error shows a password.

mod opening;
mod urls;

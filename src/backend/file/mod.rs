//! The File variant: the local table behind a journal of changes in a directory.

mod clock;
mod compaction;
pub(crate) mod core;
mod format;
mod fs;
mod journal;
mod layout;
mod lock;
mod open;
mod read;
mod repair;
pub(crate) mod report;
mod snapshot;

#[cfg(test)]
mod tests;

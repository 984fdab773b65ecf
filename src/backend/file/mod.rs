//! The File variant: the local table behind a journal of changes in a directory.

mod clock;
mod closing_note;
mod compaction;
pub(crate) mod contents;
mod core;
mod format;
mod fs;
mod journal;
mod layout;
mod lock;
mod open;
mod pacer;
mod read;
mod recovery;
mod repair;
pub(crate) mod report;
mod snapshot;
pub(crate) mod store;
mod syncer;

#[cfg(test)]
mod tests;

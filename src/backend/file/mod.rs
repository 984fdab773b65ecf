//! The File variant: the local table behind a journal of changes in a directory.

mod backup;
mod backup_target;
mod clock;
mod closing_note;
mod compaction;
pub(crate) mod contents;
mod copying;
mod core;
mod examination;
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
mod table_files;
mod transfer;

#[cfg(test)]
mod tests;

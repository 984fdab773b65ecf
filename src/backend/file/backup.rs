//! Owns what a backup of a running store consists of. Knows nothing of how the directory for it is made.

use std::path::{Path, PathBuf};

use crate::backend::file::backup_target::BackupTarget;
use crate::backend::file::copying::copy_range;
use crate::backend::file::core::Core;
use crate::backend::file::format::stamp::LineStamp;
use crate::backend::file::fs::{FileSystem, OsFileSystem, ReadableFile};
use crate::backend::file::journal::writer::JournalState;
use crate::backend::file::layout::{Layout, failed, unfinished_path};
use crate::backend::file::store::File;
use crate::backend::file::table_files;
use crate::clock::Now;
use crate::error::Result;

/// A copy is synced every this many bytes: one large sync at the end would delay the syncs of the journal.
const SYNC_INTERVAL: u64 = 8 << 20;

/// The number of the files that are written from a table. A journal of number 1 would count without its snapshot.
const TABLE_NUMBER: u64 = 2;

impl File {
    /// Copies the store as it is now into a directory, which must be missing or empty.
    pub(crate) fn back_up(&self, dir: &Path) -> Result<()> {
        self.back_up_in(dir, &OsFileSystem::default())
    }

    pub(crate) fn back_up_in(&self, dir: &Path, fs: &dyn FileSystem) -> Result<()> {
        let core = &*self.core;
        core.clock.refresh();
        core.durability.check()?;
        core.durability.check_in_place()?;
        let (source, sequence) = Source::open(core)?;
        let time = Now::of(&core.clock).millis();
        let target = BackupTarget::create(dir, fs, &core.layout, (sequence, time))?;
        match source {
            Source::Files(files) => copy(files, &target.layout)?,
            Source::Table => {
                let stamp = LineStamp { sequence, synced: sequence, time };
                table_files::write(&core.state.table, stamp, &target.layout, TABLE_NUMBER)?;
            }
        }
        // After a failed sync, the system may return other bytes than those that were written.
        core.durability.check()?;
        target.finish()
    }
}

/// What a backup is made of.
enum Source {
    /// The files of a store that this process writes: snapshots first, each kind by its numbers.
    Files(Vec<SourceFile>),
    /// The table of a store that is open read-only: another process may change its files.
    Table,
}

/// An open file, which can be read to the end even if a compaction deletes it.
struct SourceFile {
    path: PathBuf,
    file: Box<dyn ReadableFile>,
    /// How much of it belongs to the backup.
    len: u64,
}

impl Source {
    /// Opens what makes up the store now, and returns the sequence of its last line.
    fn open(core: &Core) -> Result<(Self, u64)> {
        let _no_file_is_deleted = core.deletion.lock();
        // INVARIANT: listed before the journal is looked at, so that the journal has the lines that a snapshot needs.
        let mut listing = core.layout.list()?;
        let journal = core.journal.lock();
        match journal.state {
            JournalState::Open | JournalState::Closed => core.check_open(&journal)?,
            JournalState::ReadOnly => return Ok((Self::Table, journal.sequence)),
        }
        // A line is written whole and never changes, and so do all bytes before this length.
        let (number, len, sequence) = (journal.number, journal.len, journal.sequence);
        drop(journal);
        // A rotation creates its file before it is sure to succeed.
        listing.journals.retain(|listed| *listed <= number);
        let next = listing.journals.last().map_or(number, |last| last + 1);
        listing.journals.extend(next..=number);

        let last = core.layout.journal_path(number);
        let open = |path: PathBuf| {
            let opening_failed = |error| failed("opening", &path, error);
            let file = core.layout.fs.read(&path).map_err(opening_failed)?;
            let len = if path == last { len } else { core.layout.fs.len(&path).map_err(opening_failed)? };
            Ok(SourceFile { path, file, len })
        };
        let files = core.layout.paths(&listing, ..).map(open).collect::<Result<_>>()?;
        Ok((Self::Files(files), sequence))
    }
}

/// Copies the files, and gives them their names once all of them are on the disk.
fn copy(files: Vec<SourceFile>, target: &Layout) -> Result<()> {
    let mut copies = Vec::new();
    for SourceFile { path, mut file, len } in files {
        let finished = target.dir.join(path.file_name().unwrap_or_default());
        let unfinished = unfinished_path(&finished);
        let creating_failed = |error| failed("creating", &unfinished, error);
        let disk = target.fs.create_new(&unfinished).map_err(creating_failed)?;
        let syncing_failed = |error| failed("syncing", &unfinished, error);
        let mut at = 0;
        while at < len {
            let end = len.min(at + SYNC_INTERVAL);
            copy_range((&mut *file, &path), (&*disk, &unfinished), at..end)?;
            if end < len {
                disk.sync_data().map_err(syncing_failed)?;
            }
            at = end;
        }
        disk.sync_data_and_len().map_err(syncing_failed)?;
        copies.push((unfinished, finished));
    }
    // A journal is of no use without the snapshot or the journals before it, so no part of these is a store.
    copies.iter().rev().try_for_each(|(unfinished, finished)| target.rename(unfinished, finished))
}

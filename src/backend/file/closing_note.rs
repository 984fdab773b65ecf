//! Owns the note of how far the journal reached when the store was closed. Knows nothing of journals.
//!
//! A journal that lost whole lines at its end looks like a shorter one. The note is in the lock file, so that such a
//! loss is noticed at the next opening. It is never deleted: lines that were on the disk when the store was closed
//! belong to its state for ever, whatever is written later, so that an old note is not wrong but only says less.

use std::io;
use std::io::Read as _;

use crate::backend::file::format::line;
use crate::backend::file::format::line::Line;
use crate::backend::file::format::stamp::LineStamp;
use crate::backend::file::fs::WritableFile;
use crate::backend::file::layout::{Layout, failed};
use crate::error::Result;

/// Any note is shorter.
const MAX_LEN: u64 = 512;

/// Notes in the lock file that the store was closed, with all lines up to `sequence` on the disk.
pub(crate) fn write(lock_file: &dyn WritableFile, sequence: u64, time: u64) -> io::Result<()> {
    let mut text = Vec::new();
    let stamp = LineStamp { sequence: sequence.saturating_add(1), synced: sequence, time };
    line::encode_closed(&mut text, stamp);
    lock_file.write_all_at(0, &text)?;
    lock_file.truncate(text.len() as u64)?;
    lock_file.sync_data_and_len()
}

/// Returns the sequence of the last line when the store was last closed; 0 if that is not known. A crash may have left
/// a part of a note, which says nothing.
pub(crate) fn read(layout: &Layout) -> Result<u64> {
    let path = layout.lock_path();
    layout.check_regular_file(&path)?;
    let mut text = Vec::new();
    let read = layout.fs.read(&path).and_then(|file| file.take(MAX_LEN).read_to_end(&mut text));
    match read {
        Ok(_) => {}
        // The lock file of somebody else need not be readable; on Windows no locked file is.
        Err(error)
            if cfg!(not(unix))
                || matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) =>
        {
            return Ok(0);
        }
        Err(error) => return Err(failed("reading", &path, error)),
    }
    Ok(match line::decode(&text) {
        Ok(Line::Closed { stamp }) => stamp.synced,
        Ok(
            Line::Header { .. }
            | Line::Opened { .. }
            | Line::Commit { .. }
            | Line::Entries { .. }
            | Line::Footer { .. },
        )
        | Err(_) => 0,
    })
}

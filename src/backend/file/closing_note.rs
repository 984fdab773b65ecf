//! Owns what the lock file says: how far the journal reached when the store was closed, and which process has it open.
//! Knows nothing of journals.
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

/// Any note is shorter, with what follows it.
const MAX_LEN: u64 = 512;

/// What follows the note in the lock file while a process has the directory open: then the number of the process.
const OPEN_BY: &str = "open by process ";

/// Notes in the lock file that the store was closed, with all lines up to `sequence` on the disk.
pub(crate) fn write(lock_file: &dyn WritableFile, sequence: u64, time: u64) -> io::Result<()> {
    let mut text = Vec::new();
    let stamp = LineStamp { sequence: sequence.saturating_add(1), synced: sequence, time };
    line::encode_closed(&mut text, stamp);
    lock_file.write_all_at(0, &text)?;
    lock_file.truncate(text.len() as u64)?;
    lock_file.sync_data_and_len()
}

/// Adds to the lock file which process has the directory open. It is not synced: only a running process is of interest.
pub(crate) fn write_holder(lock_file: &dyn WritableFile, layout: &Layout, process: u32) -> io::Result<()> {
    let note = note_of(&text(layout)?).len();
    // All numbers take the same room, so that a longer one from a program that was killed leaves nothing behind.
    lock_file.write_all_at(note as u64, format!("{OPEN_BY}{process:<10}\n").as_bytes())
}

/// Returns the process that has the directory open, if the lock file says so and can be read.
pub(crate) fn holder(layout: &Layout) -> Option<u32> {
    let text = text(layout).ok()?;
    let holder = text.strip_prefix(note_of(&text))?.strip_prefix(OPEN_BY.as_bytes())?;
    std::str::from_utf8(holder).ok()?.trim_end().parse().ok()
}

fn text(layout: &Layout) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    layout.fs.read(&layout.lock_path())?.take(MAX_LEN).read_to_end(&mut text)?;
    Ok(text)
}

/// Returns the note at the beginning of the lock file; nothing if it is not whole.
fn note_of(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let line = &text[..end];
    if line::decode(line).is_ok() { line } else { &[] }
}

/// Returns the sequence of the last line when the store was last closed; 0 if that is not known. A crash may have left
/// a part of a note, which says nothing.
pub(crate) fn read(layout: &Layout) -> Result<u64> {
    let path = layout.lock_path();
    layout.check_regular_file(&path)?;
    let text = match text(layout) {
        Ok(text) => text,
        // The lock file of somebody else need not be readable; on Windows no locked file is.
        Err(error)
            if cfg!(not(unix))
                || matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) =>
        {
            return Ok(0);
        }
        Err(error) => return Err(failed("reading", &path, error)),
    };
    Ok(match line::decode(note_of(&text)) {
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

//! Owns copying a range of bytes from one file to another. Knows nothing of what the files are.

use std::io::Read;
use std::ops::Range;
use std::path::Path;

use crate::backend::file::fs::WritableFile;
use crate::backend::file::layout::failed;
use crate::error::Result;

/// Copies a range of bytes to the same place in another file. The source has been read up to the range. Each file comes
/// with its path, which an error shows.
pub(crate) fn copy_range<R: Read + ?Sized>(
    (source, from): (&mut R, &Path),
    (copy, to): (&dyn WritableFile, &Path),
    range: Range<u64>,
) -> Result<()> {
    let mut chunk = vec![0; 1 << 16];
    let mut at = range.start;
    while at < range.end {
        let wanted = usize::try_from(range.end - at).unwrap_or(chunk.len()).min(chunk.len());
        source.read_exact(&mut chunk[..wanted]).map_err(|error| failed("reading", from, error))?;
        copy.write_all_at(at, &chunk[..wanted]).map_err(|error| failed("writing", to, error))?;
        at += wanted as u64;
    }
    Ok(())
}

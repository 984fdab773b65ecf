//! Owns what the journal asks of a file, so that tests can let it fail. Knows nothing of lines.

use std::fs::File;
use std::io::{self, Write};

/// A file that grows at its end.
pub(super) trait Disk: Send + Sync {
    /// Appends all the bytes: in one write(2) where the system takes them.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file to this length.
    fn cut(&self, len: u64) -> io::Result<()>;

    /// Brings what was written, and the length, to the disk.
    fn sync(&self) -> io::Result<()>;
}

impl Disk for File {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        (&mut &*self).write_all(bytes)
    }

    fn cut(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

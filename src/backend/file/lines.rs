//! Owns reading a file line by line, with where each line stands. Knows nothing of what the lines mean for
//! the state.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::layout::{Layout, failed};
use super::record::{self, Fault, Line};
use crate::error::{Error, Result};

/// At how many places in a damaged line another one is looked for: any bytes may be in it.
const MOST_JOINED: usize = 64;

/// The lines of one file.
pub(super) struct Lines {
    path: PathBuf,
    reader: BufReader<Box<dyn Read + Send>>,
    line: Vec<u8>,
    /// Where the line that was read last begins, and which it is, counted from one.
    pub(super) at: Place,
    /// Where the next one begins.
    pub(super) offset: u64,
    /// How many zero bytes the file ends with: it was filled ahead, or what stood there was lost.
    pub(super) blank: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) offset: u64,
}

impl Lines {
    pub(super) fn open(layout: &Layout, path: &Path) -> Result<Self> {
        let file = layout.storage.read(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => corrupt(path, START, "the file is missing"),
            _ => failed("opening", path, error),
        })?;
        let reader = BufReader::with_capacity(1 << 16, file);
        let path = path.to_path_buf();
        Ok(Self { path, reader, line: Vec::new(), at: Place::default(), offset: 0, blank: 0 })
    }

    /// Reads the next line; `None` at the end of the file, or of what is in it besides zeros.
    pub(super) fn next(&mut self) -> Result<Option<Result<Line, Fault>>> {
        self.line.clear();
        let read = self.reader.read_until(b'\n', &mut self.line);
        let mut read = read.map_err(|error| failed("reading", &self.path, error))?;
        if self.line.last() == Some(&0) {
            // The last line, since it has no end.
            let text = self.line.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            self.blank = (read - text) as u64;
            self.line.truncate(text);
            read = text;
        }
        self.at = Place { line: self.at.line + 1, offset: self.offset };
        self.offset += read as u64;
        Ok((read > 0).then(|| record::decode(&self.line)))
    }

    /// A whole line at the end of the damaged one that was read last: a line break that is damaged joins
    /// two.
    pub(super) fn joined(&self) -> Option<Line> {
        memchr::memmem::find_iter(&self.line, record::START)
            .filter(|at| *at > 0)
            .take(MOST_JOINED)
            .find_map(|at| record::decode(&self.line[at..]).ok())
    }

    /// The bytes of the line that was read last.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.line
    }

    /// Says that the line that was read last is damaged.
    pub(super) fn corrupt(&self, reason: impl Into<String>) -> Error {
        corrupt(&self.path, self.at, reason)
    }

    /// The error for a line that was not taken.
    pub(super) fn refuse(&self, fault: Fault) -> Error {
        match fault {
            Fault::Damaged(reason) => self.corrupt(reason),
            Fault::Meaningless(reason) => self.corrupt(reason),
            Fault::Version(version) => Error::Unsupported {
                what: format!("version {version} of the format, in {}", self.path.display()),
            },
        }
    }
}

/// The beginning of a file.
pub(super) const START: Place = Place { line: 1, offset: 0 };

pub(super) fn corrupt(path: &Path, at: Place, reason: impl Into<String>) -> Error {
    Error::Corrupt { path: path.to_path_buf(), line: at.line, offset: at.offset, reason: reason.into() }
}

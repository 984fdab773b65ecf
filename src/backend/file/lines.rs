//! Owns reading a file line by line, with where each line stands. Knows nothing of what the lines mean for
//! the state.

use std::io::{self, BufRead, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::input::Input;
use super::layout::failed;
use super::record::{self, Fault, Line};
use super::storage::Reader;
use crate::error::{Error, Result};

/// At how many places in a damaged line another one is looked for: any bytes may be in it.
const MOST_JOINED: usize = 64;

/// How often a line is read again that may just be written, and the pause before the first time, which doubles.
const LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(1);

/// The lines of one file.
pub(super) struct Lines<'l, 'i> {
    input: &'l Input<'i>,
    path: PathBuf,
    reader: BufReader<Box<dyn Reader>>,
    /// Whether a damaged line may be one that is just written.
    live: bool,
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

impl<'l, 'i> Lines<'l, 'i> {
    pub(super) fn open(input: &'l Input<'i>, path: &Path) -> Result<Self> {
        let file = input.layout.storage.read(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => corrupt(path, START, "the file is missing"),
            _ => failed("opening", path, error),
        })?;
        let reader = BufReader::with_capacity(1 << 16, file);
        let path = path.to_path_buf();
        let live = input.live;
        Ok(Self { input, path, reader, live, line: Vec::new(), at: Place::default(), offset: 0, blank: 0 })
    }

    /// Reads the next line; `None` at the end of the file, or of what is in it besides zeros.
    pub(super) fn next(&mut self) -> Result<Option<Result<Line, Fault>>> {
        let reading = |error| failed("reading", &self.path, error);
        let mut blank = read_line(&mut self.reader, &mut self.line).map_err(reading)?;
        self.at = Place { line: self.at.line + 1, offset: self.offset };
        let mut line = record::decode(&self.line);
        for look in 0..LOOKS {
            if !self.live || self.line.is_empty() || !matches!(line, Err(Fault::Damaged(_))) {
                break;
            }
            thread::sleep(PAUSE * (1 << look));
            self.reader.seek(SeekFrom::Start(self.offset)).map_err(reading)?;
            blank = read_line(&mut self.reader, &mut self.line).map_err(reading)?;
            line = record::decode(&self.line);
            // From the first on that stays damaged, none is waited for.
            self.live = look + 1 < LOOKS;
        }
        let read = self.line.len() as u64;
        self.blank = blank;
        self.offset += read;
        self.input.advance(read + blank);
        Ok((read > 0).then_some(line))
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

/// Reads a line. At the end of the file it leaves out the zeros that this ends with, and tells how many.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<u64> {
    line.clear();
    let read = reader.read_until(b'\n', line)?;
    if line.last() == Some(&0) {
        // The last line, since it has no end.
        line.truncate(line.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
    }
    Ok((read - line.len()) as u64)
}

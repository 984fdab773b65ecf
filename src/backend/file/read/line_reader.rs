//! Owns reading a file line by line, with the position of each line. Knows nothing of what the lines mean for the
//! state.

use std::io::{self, BufRead, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::backend::file::format::line;
use crate::backend::file::format::line::{Line, LineFault};
use crate::backend::file::fs::ReadableFile;
use crate::backend::file::layout::failed;
use crate::backend::file::read::context::ReadContext;
use crate::error::{Error, Result};

/// A damaged line is searched for another line at no more places than this: its bytes may be arbitrary.
const MAX_EMBEDDED: usize = 64;

/// How often a damaged line is read again because a writer may not have finished it, and the pause before the first
/// retry, which doubles each time.
const RETRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(1);

/// Size of the read buffer.
const CHUNK: usize = 1 << 16;
static ZEROS: [u8; CHUNK] = [0; CHUNK];

/// At most this many zeros in the middle of a line are kept: no valid line has any, and a hole in a file, which takes
/// no space on the disk, would take memory.
const MAX_ZEROS: u64 = CHUNK as u64;

/// The lines of one file.
pub(crate) struct LineReader<'l, 'i> {
    context: &'l ReadContext<'i>,
    path: PathBuf,
    reader: BufReader<Box<dyn ReadableFile>>,
    /// Whether a damaged line may be one that a writer has not finished.
    writer_is_live: bool,
    line: Vec<u8>,
    /// Length of the line in the file: more than is kept of it if it contains many zeros.
    len: u64,
    /// Position of the last line that was read.
    pub(crate) at: LinePosition,
    /// Offset of the next line.
    pub(crate) offset: u64,
    /// Number of zeros at the end of the file: it was filled ahead, or the bytes there were lost.
    pub(crate) trailing_zeros: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LinePosition {
    /// Counted from one.
    pub(crate) line: u64,
    pub(crate) offset: u64,
}

impl<'l, 'i> LineReader<'l, 'i> {
    pub(crate) fn open(context: &'l ReadContext<'i>, path: &Path) -> Result<Self> {
        let file = context.layout.fs.read(path).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                corrupt(path, START, "the file is missing")
            } else {
                failed("opening", path, error)
            }
        })?;
        Ok(Self {
            context,
            path: path.to_path_buf(),
            reader: BufReader::with_capacity(CHUNK, file),
            writer_is_live: context.writer_is_live,
            line: Vec::new(),
            len: 0,
            at: LinePosition::default(),
            offset: 0,
            trailing_zeros: 0,
        })
    }

    /// Reads the next line; `None` at the end of the file, or if only zeros follow.
    pub(crate) fn next(&mut self) -> Result<Option<Result<Line, LineFault>>> {
        let reading_failed = |error| failed("reading", &self.path, error);
        let mut read = read_line(&mut self.reader, &mut self.line).map_err(reading_failed)?;
        self.at = LinePosition { line: self.at.line + 1, offset: self.offset };
        let mut line = line::decode(&self.line);
        for retry in 0..RETRIES {
            if !self.writer_is_live || self.line.is_empty() || !matches!(line, Err(LineFault::Damaged(_))) {
                break;
            }
            thread::sleep(PAUSE * (1 << retry));
            self.reader.seek(SeekFrom::Start(self.offset)).map_err(reading_failed)?;
            read = read_line(&mut self.reader, &mut self.line).map_err(reading_failed)?;
            line = line::decode(&self.line);
            // Once a line stays damaged, no later line is retried.
            self.writer_is_live = retry + 1 < RETRIES || line.is_ok();
        }
        (self.len, self.trailing_zeros) = (read.len, read.trailing_zeros);
        self.offset += read.len;
        self.context.advance(read.len + read.trailing_zeros);
        Ok((read.len > 0).then_some(line))
    }

    /// A valid line at the end of the last line, which is damaged: a damaged line break joins two lines.
    pub(crate) fn embedded_line(&self) -> Option<Line> {
        memchr::memmem::find_iter(&self.line, line::START)
            .filter(|at| *at > 0 && line::is_begun(&self.line[*at..]))
            .take(MAX_EMBEDDED)
            .find_map(|at| line::decode(&self.line[at..]).ok())
    }

    /// The bytes of the last line, which is not damaged.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.line
    }

    /// Length of the last line in the file.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The error for damage in the last line.
    pub(crate) fn corrupt(&self, reason: impl Into<String>) -> Error {
        corrupt(&self.path, self.at, reason)
    }

    /// The error for a fault of the last line.
    pub(crate) fn refuse(&self, fault: LineFault) -> Error {
        match fault {
            LineFault::Damaged(reason) => self.corrupt(reason),
            LineFault::Malformed(reason) => self.corrupt(reason),
            LineFault::Version(version) => Error::Unsupported {
                what: format!("version {version} of the format, in {}", self.path.display()),
            },
        }
    }
}

/// Position of the first line.
pub(crate) const START: LinePosition = LinePosition { line: 1, offset: 0 };

pub(crate) fn corrupt(path: &Path, at: LinePosition, reason: impl Into<String>) -> Error {
    Error::Corrupt { path: path.to_path_buf(), line: at.line, offset: at.offset, reason: reason.into() }
}

/// Number of bytes read for one line.
#[derive(Debug, Default, PartialEq, Eq)]
struct RawLine {
    /// In the line itself.
    len: u64,
    /// Zeros behind the line, at the end of the file.
    trailing_zeros: u64,
}

/// Reads a line into `line`. Zeros at the end of the file are counted but not kept; of zeros within a line at most
/// [`MAX_ZEROS`] are kept.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<RawLine> {
    line.clear();
    let mut read = RawLine::default();
    loop {
        let chunk = match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            chunk => chunk?,
        };
        if chunk.is_empty() {
            return Ok(read);
        }
        if ZEROS.get(..chunk.len()).is_some_and(|zeros| zeros == chunk) {
            let len = chunk.len();
            reader.consume(len);
            read.trailing_zeros += len as u64;
            continue;
        }
        let end = memchr::memchr(b'\n', chunk).map(|at| at + 1);
        let part = &chunk[..end.unwrap_or(chunk.len())];
        let text = &part[..part.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)];
        if !text.is_empty() {
            let kept = usize::try_from(read.trailing_zeros.min(MAX_ZEROS)).unwrap_or(CHUNK);
            line.resize(line.len() + kept, 0);
            line.extend_from_slice(text);
            read.len += read.trailing_zeros + text.len() as u64;
            read.trailing_zeros = 0;
        }
        read.trailing_zeros += (part.len() - text.len()) as u64;
        let len = part.len();
        reader.consume(len);
        if end.is_some() {
            return Ok(read);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read as _};

    use super::*;

    /// Reads a line and counts the zeros behind it in the obvious way.
    fn read_line_plainly(reader: &mut impl BufRead) -> (Vec<u8>, RawLine) {
        let mut line = Vec::new();
        let read = reader.read_until(b'\n', &mut line).unwrap();
        if line.last() == Some(&0) {
            line.truncate(line.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        }
        let len = line.len();
        (line, RawLine { len: len as u64, trailing_zeros: (read - len) as u64 })
    }

    #[test]
    fn lines_are_read_correctly_wherever_buffers_end() {
        for seed in 0..3000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let text: Vec<u8> =
                (0..random.usize(..60)).map(|_| *random.choice(b"\0\0\0\0ab\n").unwrap()).collect();
            let capacity = random.usize(1..9);
            let mut reader = BufReader::with_capacity(capacity, &text[..]);
            let mut plain = &text[..];
            let mut line = Vec::new();
            loop {
                let read = read_line(&mut reader, &mut line).unwrap();
                assert_eq!((line.clone(), read), read_line_plainly(&mut plain), "seed {seed}");
                if line.is_empty() {
                    break;
                }
            }
        }
    }

    #[test]
    fn few_of_many_zeros_are_kept() {
        const MANY: u64 = 1 << 28;
        let zeros = || io::repeat(0).take(MANY);
        let (first, last) = (Cursor::new(b"valid\ntorn"), Cursor::new(b"next\n"));
        let mut reader = BufReader::with_capacity(CHUNK, first.chain(zeros()).chain(last).chain(zeros()));
        let mut line = Vec::new();
        assert_eq!(read_line(&mut reader, &mut line).unwrap(), RawLine { len: 6, trailing_zeros: 0 });
        assert_eq!(line, b"valid\n");
        assert_eq!(
            read_line(&mut reader, &mut line).unwrap(),
            RawLine { len: 4 + MANY + 5, trailing_zeros: 0 }
        );
        assert!(line.starts_with(b"torn\0") && line.ends_with(b"\0next\n"));
        assert_eq!(read_line(&mut reader, &mut line).unwrap(), RawLine { len: 0, trailing_zeros: MANY });
        assert!(line.is_empty() && line.capacity() < 1 << 20, "{}", line.capacity());
    }
}

//! Owns reading a file line by line, with where each line stands. Knows nothing of what the lines mean for
//! the state.

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

/// At how many places in a damaged line another one is looked for: any bytes may be in it.
const MAX_EMBEDDED: usize = 64;

/// How often a line is read again that may just be written, and the pause before the first time, which doubles.
const RETRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(1);

/// How much of a file is looked at at once.
const CHUNK: usize = 1 << 16;
static ZEROS: [u8; CHUNK] = [0; CHUNK];

/// Of zeros in the middle of a line so many are kept: no whole line has any, and a hole in a file takes no room on
/// the disk but would take memory.
const MAX_ZEROS: u64 = CHUNK as u64;

/// The lines of one file.
pub(crate) struct LineReader<'l, 'i> {
    context: &'l ReadContext<'i>,
    path: PathBuf,
    reader: BufReader<Box<dyn ReadableFile>>,
    /// Whether a damaged line may be one that is just written.
    writer_is_live: bool,
    line: Vec<u8>,
    /// How long the line is in the file: longer than what is kept of it where it holds many zeros.
    len: u64,
    /// Where the line that was read last begins, and which it is, counted from one.
    pub(crate) at: LinePosition,
    /// Where the next one begins.
    pub(crate) offset: u64,
    /// How many zero bytes the file ends with: it was filled ahead, or what stood there was lost.
    pub(crate) trailing_zeros: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LinePosition {
    pub(crate) line: u64,
    pub(crate) offset: u64,
}

impl<'l, 'i> LineReader<'l, 'i> {
    pub(crate) fn open(input: &'l ReadContext<'i>, path: &Path) -> Result<Self> {
        let file = input.layout.fs.read(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => corrupt(path, START, "the file is missing"),
            _ => failed("opening", path, error),
        })?;
        let reader = BufReader::with_capacity(CHUNK, file);
        let path = path.to_path_buf();
        let (live, at) = (input.writer_is_live, LinePosition::default());
        Ok(Self {
            context: input,
            path,
            reader,
            writer_is_live: live,
            line: Vec::new(),
            len: 0,
            at,
            offset: 0,
            trailing_zeros: 0,
        })
    }

    /// Reads the next line; `None` at the end of the file, or of what is in it besides zeros.
    pub(crate) fn next(&mut self) -> Result<Option<Result<Line, LineFault>>> {
        let reading = |error| failed("reading", &self.path, error);
        let mut read = read_line(&mut self.reader, &mut self.line).map_err(reading)?;
        self.at = LinePosition { line: self.at.line + 1, offset: self.offset };
        let mut line = line::decode(&self.line);
        for look in 0..RETRIES {
            if !self.writer_is_live || self.line.is_empty() || !matches!(line, Err(LineFault::Damaged(_))) {
                break;
            }
            thread::sleep(PAUSE * (1 << look));
            self.reader.seek(SeekFrom::Start(self.offset)).map_err(reading)?;
            read = read_line(&mut self.reader, &mut self.line).map_err(reading)?;
            line = line::decode(&self.line);
            // From the first on that stays damaged, none is waited for.
            self.writer_is_live = look + 1 < RETRIES || line.is_ok();
        }
        (self.len, self.trailing_zeros) = (read.len, read.trailing_zeros);
        self.offset += read.len;
        self.context.advance(read.len + read.trailing_zeros);
        Ok((read.len > 0).then_some(line))
    }

    /// A whole line at the end of the damaged one that was read last: a line break that is damaged joins
    /// two.
    pub(crate) fn embedded_line(&self) -> Option<Line> {
        memchr::memmem::find_iter(&self.line, line::START)
            .filter(|at| *at > 0 && line::is_begun(&self.line[*at..]))
            .take(MAX_EMBEDDED)
            .find_map(|at| line::decode(&self.line[at..]).ok())
    }

    /// The bytes of the line that was read last, which is whole.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.line
    }

    /// How many bytes of the file the line that was read last takes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Says that the line that was read last is damaged.
    pub(crate) fn corrupt(&self, reason: impl Into<String>) -> Error {
        corrupt(&self.path, self.at, reason)
    }

    /// The error for a line that was not taken.
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

/// The beginning of a file.
pub(crate) const START: LinePosition = LinePosition { line: 1, offset: 0 };

pub(crate) fn corrupt(path: &Path, at: LinePosition, reason: impl Into<String>) -> Error {
    Error::Corrupt { path: path.to_path_buf(), line: at.line, offset: at.offset, reason: reason.into() }
}

/// How much of a file was read for one line.
#[derive(Debug, Default, PartialEq, Eq)]
struct RawLine {
    /// The line itself.
    len: u64,
    /// The zeros behind it, which the file ends with.
    trailing_zeros: u64,
}

/// Reads a line. At the end of the file it leaves out the zeros that this ends with, and tells how many. However
/// many zeros there are, it keeps few.
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
        let piece = &chunk[..end.unwrap_or(chunk.len())];
        let text = &piece[..piece.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)];
        if !text.is_empty() {
            let kept = usize::try_from(read.trailing_zeros.min(MAX_ZEROS)).unwrap_or(CHUNK);
            line.resize(line.len() + kept, 0);
            line.extend_from_slice(text);
            read.len += read.trailing_zeros + text.len() as u64;
            read.trailing_zeros = 0;
        }
        read.trailing_zeros += (piece.len() - text.len()) as u64;
        let len = piece.len();
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

    /// What a line and the zeros behind it were before any were left out.
    fn plainly(reader: &mut impl BufRead) -> (Vec<u8>, RawLine) {
        let mut line = Vec::new();
        let read = reader.read_until(b'\n', &mut line).unwrap();
        if line.last() == Some(&0) {
            line.truncate(line.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        }
        let len = line.len();
        (line, RawLine { len: len as u64, trailing_zeros: (read - len) as u64 })
    }

    #[test]
    fn lines_are_read_as_they_are_wherever_chunks_end() {
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
                assert_eq!((line.clone(), read), plainly(&mut plain), "seed {seed}");
                if line.is_empty() {
                    break;
                }
            }
        }
    }

    #[test]
    fn however_many_zeros_there_are_few_are_kept() {
        const MANY: u64 = 1 << 28;
        let zeros = || io::repeat(0).take(MANY);
        let (first, last) = (Cursor::new(b"whole\ntorn"), Cursor::new(b"next\n"));
        let mut reader = BufReader::with_capacity(CHUNK, first.chain(zeros()).chain(last).chain(zeros()));
        let mut line = Vec::new();
        assert_eq!(read_line(&mut reader, &mut line).unwrap(), RawLine { len: 6, trailing_zeros: 0 });
        assert_eq!(line, b"whole\n");
        assert_eq!(
            read_line(&mut reader, &mut line).unwrap(),
            RawLine { len: 4 + MANY + 5, trailing_zeros: 0 }
        );
        assert!(line.starts_with(b"torn\0") && line.ends_with(b"\0next\n"));
        assert_eq!(read_line(&mut reader, &mut line).unwrap(), RawLine { len: 0, trailing_zeros: MANY });
        assert!(line.is_empty() && line.capacity() < 1 << 20, "{}", line.capacity());
    }
}

//! Owns how replies are read off a stream (RESP2, and of RESP3 what this crate asks for): every length is checked before
//! the bytes are read, and a reply that has arrived in part is continued by the next read. Knows nothing of what the
//! replies mean.
//!
//! The protocol is specified at <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

use std::io::{self, ErrorKind};
use std::time::Instant;

use memchr::memchr;
use redis::Value;

use crate::backend::redis::connect::read_error::ReadError;
use crate::backend::redis::connect::reply_line::{error_reply, integer, length, number, push};
use crate::backend::redis::connect::stream::Stream;
use crate::backend::redis::connect::whole_replies;

/// How many bytes are read at once.
const BUFFER: usize = 64 << 10;
/// A buffer that grew beyond this is not kept.
const KEPT_BUFFER: usize = 256 << 10;
/// The longest line: a simple string, an error, or a length.
const LONGEST_LINE: usize = 64 << 10;
/// How deep arrays may nest. The replies of this crate's scripts nest four deep.
const DEEPEST: usize = 16;
/// Memory for so many elements or bytes is taken before any of them has arrived.
const FIRST_ELEMENTS: usize = 1 << 10;
const FIRST_BYTES: usize = 64 << 10;

/// Reads replies, one after another.
pub(crate) struct ReplyReader {
    buffer: Vec<u8>,
    /// What was received and not yet used: `buffer[start..end]`.
    start: usize,
    end: usize,
    /// The arrays that are not yet complete, the outermost first.
    arrays: Vec<PartialArray>,
    string: Option<PartialString>,
    longest_string: u64,
    /// Whether the server was told to speak RESP3.
    is_resp3: bool,
}

struct PartialArray {
    elements: Vec<Value>,
    missing: usize,
    is_push: bool,
}

struct PartialString {
    bytes: Vec<u8>,
    missing: usize,
}

/// One step of reading a reply.
enum Step {
    Value(Value),
    BeginArray { length: usize, is_push: bool },
    BeginString(usize),
}

impl ReplyReader {
    /// `longest_string`: how many bytes a string may have.
    pub(crate) fn new(longest_string: u64) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            end: 0,
            arrays: Vec::new(),
            string: None,
            longest_string,
            is_resp3: false,
        }
    }

    /// From now on, the server may send what RESP3 adds. A map is read as an array of names and values in turn.
    pub(crate) fn expect_resp3(&mut self) {
        self.is_resp3 = true;
    }

    /// Returns whether bytes were received that belong to no reply that was returned.
    pub(crate) fn has_received(&self) -> bool {
        self.start < self.end || self.is_within_reply()
    }

    /// Takes the next reply if it is `OK` and has arrived. As [`ReplyReader::next`], only faster.
    #[inline]
    pub(crate) fn take_ok(&mut self) -> bool {
        let received = self.buffer.get(self.start..self.end).unwrap_or_default();
        let is_ok = !self.is_within_reply() && received.starts_with(whole_replies::OK);
        if is_ok {
            self.start += whole_replies::OK.len();
        }
        is_ok
    }

    /// Takes the next reply if it is a string that has arrived whole. As [`ReplyReader::next`], without a copy.
    pub(crate) fn take_string(&mut self) -> Option<&[u8]> {
        if self.is_within_reply() {
            return None;
        }
        let received = self.buffer.get(self.start..self.end)?;
        let (string, length) = whole_replies::string(received, self.longest_string)?;
        self.start += length;
        Some(string)
    }

    fn is_within_reply(&self) -> bool {
        self.string.is_some() || !self.arrays.is_empty()
    }

    /// Reads the next reply until `end`. After a timeout, the next call continues where this one stopped.
    pub(crate) fn next(&mut self, stream: &mut Stream, end: Instant) -> Result<Value, ReadError> {
        loop {
            let value = match self.string.take() {
                Some(string) => self.continue_string(string, stream, end)?,
                None => match self.step(stream, end)? {
                    Step::Value(value) => value,
                    Step::BeginArray { length: 0, .. } => Value::Array(Vec::new()),
                    Step::BeginArray { length, is_push } => {
                        self.begin_array(length, is_push)?;
                        continue;
                    }
                    Step::BeginString(length) => {
                        let bytes = Vec::with_capacity(length.min(FIRST_BYTES));
                        self.string = Some(PartialString { bytes, missing: length });
                        continue;
                    }
                },
            };
            if let Some(value) = self.complete(value) {
                if self.start == self.end && self.buffer.len() > KEPT_BUFFER {
                    self.buffer = Vec::new();
                    (self.start, self.end) = (0, 0);
                }
                return Ok(value);
            }
        }
    }

    fn begin_array(&mut self, length: usize, is_push: bool) -> Result<(), ReadError> {
        if self.arrays.len() == DEEPEST {
            return Err(ReadError::Malformed);
        }
        let elements = Vec::with_capacity(length.min(FIRST_ELEMENTS));
        self.arrays.push(PartialArray { elements, missing: length, is_push });
        Ok(())
    }

    /// Adds a value to the innermost array that is not complete. Returns the reply once all of it was read.
    fn complete(&mut self, mut value: Value) -> Option<Value> {
        while let Some(mut array) = self.arrays.pop() {
            array.elements.push(value);
            array.missing -= 1;
            if array.missing > 0 {
                self.arrays.push(array);
                return None;
            }
            value = if array.is_push { push(array.elements) } else { Value::Array(array.elements) };
        }
        Some(value)
    }

    /// Reads a line, and the string behind it if that has arrived already.
    fn step(&mut self, stream: &mut Stream, end: Instant) -> Result<Step, ReadError> {
        let mut searched = 0;
        let line_end = loop {
            let received = self.buffer.get(self.start + searched..self.end).unwrap_or_default();
            if let Some(at) = memchr(b'\n', received) {
                break self.start + searched + at;
            }
            searched += received.len();
            if searched > LONGEST_LINE {
                return Err(ReadError::Malformed);
            }
            self.fill(stream, end)?;
        };
        let line = self.buffer.get(self.start..line_end).and_then(|line| line.strip_suffix(b"\r"));
        let Some((kind, text)) = line.and_then(<[u8]>::split_first) else {
            return Err(ReadError::Malformed);
        };
        let behind = line_end + 1;
        let step = match kind {
            b'$' => match length(text)? {
                None => Step::Value(Value::Nil),
                Some(length) if length > self.longest_string => {
                    return Err(ReadError::TooLarge { bytes: length, limit: self.longest_string });
                }
                Some(length) => {
                    let length = usize::try_from(length).map_err(|_| ReadError::Malformed)?;
                    let rest = self.buffer.get(behind..self.end).unwrap_or_default();
                    if rest.len() < length + 2 {
                        Step::BeginString(length)
                    } else {
                        let (string, rest) = rest.split_at(length);
                        if !rest.starts_with(b"\r\n") {
                            return Err(ReadError::Malformed);
                        }
                        let value = Value::BulkString(string.to_vec());
                        self.start = behind + length + 2;
                        return Ok(Step::Value(value));
                    }
                }
            },
            b'*' => match length(text)? {
                None => Step::Value(Value::Nil),
                Some(length) => {
                    let length = usize::try_from(length).map_err(|_| ReadError::Malformed)?;
                    Step::BeginArray { length, is_push: false }
                }
            },
            b':' => Step::Value(Value::Int(integer(text).ok_or(ReadError::Malformed)?)),
            b'+' if text == b"OK" => Step::Value(Value::Okay),
            b'+' => match std::str::from_utf8(text) {
                Ok(text) => Step::Value(Value::SimpleString(text.to_owned())),
                Err(_) => return Err(ReadError::Malformed),
            },
            b'-' => Step::Value(error_reply(text).ok_or(ReadError::Malformed)?),
            // Nil, as later versions of the protocol spell it.
            b'_' if text.is_empty() => Step::Value(Value::Nil),
            b',' if self.is_resp3 => Step::Value(Value::Double(number(text).ok_or(ReadError::Malformed)?)),
            b'%' if self.is_resp3 => {
                let pairs = number::<usize>(text).ok_or(ReadError::Malformed)?;
                let length = pairs.checked_mul(2).ok_or(ReadError::Malformed)?;
                Step::BeginArray { length, is_push: false }
            }
            // What the server tells without being asked comes between replies, never inside one.
            b'>' if self.is_resp3 && self.arrays.is_empty() => match number(text) {
                Some(0) | None => return Err(ReadError::Malformed),
                Some(length) => Step::BeginArray { length, is_push: true },
            },
            _ => return Err(ReadError::Malformed),
        };
        self.start = behind;
        Ok(step)
    }

    /// Reads the rest of a string.
    fn continue_string(
        &mut self,
        mut string: PartialString,
        stream: &mut Stream,
        end: Instant,
    ) -> Result<Value, ReadError> {
        let received = self.buffer.get(self.start..self.end).unwrap_or_default();
        let taken = received.get(..string.missing).unwrap_or(received);
        string.bytes.extend_from_slice(taken);
        string.missing -= taken.len();
        self.start += taken.len();
        while string.missing > 0 {
            // As much memory as was received so far: a server that sends nothing costs nothing.
            let piece = string.missing.min(string.bytes.len().max(FIRST_BYTES));
            let before = string.bytes.len();
            string.bytes.resize(before + piece, 0);
            let count = read_some(stream, string.bytes.get_mut(before..).unwrap_or_default(), end);
            string.bytes.truncate(before + count.as_ref().map_or(0, |count| *count));
            match count {
                Ok(count) => string.missing -= count,
                Err(error) => {
                    self.string = Some(string);
                    return Err(error.into());
                }
            }
        }
        while self.end - self.start < 2 {
            if let Err(error) = self.fill(stream, end) {
                self.string = Some(string);
                return Err(error.into());
            }
        }
        if self.buffer.get(self.start..self.start + 2) != Some(b"\r\n") {
            return Err(ReadError::Malformed);
        }
        self.start += 2;
        Ok(Value::BulkString(string.bytes))
    }

    /// Receives more bytes.
    fn fill(&mut self, stream: &mut Stream, end: Instant) -> io::Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 && self.buffer.len() - self.end < BUFFER / 2 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.buffer.len() - self.end < BUFFER / 2 {
            self.buffer.resize((self.end * 2).max(BUFFER), 0);
        }
        let free = self.buffer.get_mut(self.end..).unwrap_or_default();
        self.end += read_some(stream, free, end)?;
        Ok(())
    }
}

/// Reads at least one byte.
fn read_some(stream: &mut Stream, buffer: &mut [u8], end: Instant) -> io::Result<usize> {
    match stream.read(buffer, end)? {
        0 => Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection")),
        count => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::time::Duration;

    use redis::PushKind;

    use super::*;
    use crate::backend::redis::connect::peer::PeerAddress;
    use crate::backend::redis::connect::timed_socket::{Arrived, TimedSocket};

    const LONGEST: u64 = 1 << 20;

    /// Returns both ends of a connection.
    fn connected() -> (TcpStream, Stream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let second = Duration::from_secs(1);
        let near = TimedSocket::connect(
            &PeerAddress::Tcp(listener.local_addr().unwrap()),
            second,
            second,
            Arc::default(),
        )
        .unwrap();
        (listener.accept().unwrap().0, Stream::Plain(near))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    /// Sends bytes, closes the connection, and reads until an error.
    fn read_all(bytes: &[u8]) -> (Vec<Value>, ReadError) {
        read_all_with(ReplyReader::new(LONGEST), bytes)
    }

    fn read_all_with(mut reader: ReplyReader, bytes: &[u8]) -> (Vec<Value>, ReadError) {
        let (mut far, mut stream) = connected();
        let bytes = bytes.to_vec();
        let sender = std::thread::spawn(move || _ = far.write_all(&bytes));
        let mut values = Vec::new();
        let error = loop {
            match reader.next(&mut stream, soon()) {
                Ok(value) => values.push(value),
                Err(error) => break error,
            }
        };
        drop(stream);
        sender.join().unwrap();
        (values, error)
    }

    #[test]
    fn replies_are_what_the_library_reads() {
        let large = [b"$100000\r\n", vec![b'x'; 100_000].as_slice(), b"\r\n"].concat();
        for text in [
            &b"+OK\r\n"[..],
            b"+PONG\r\n",
            b":42\r\n",
            b":-9223372036854775808\r\n",
            b"$3\r\na\r\n\r\n",
            b"$0\r\n\r\n",
            b"$-1\r\n",
            b"*-1\r\n",
            b"_\r\n",
            b"*0\r\n",
            b"*3\r\n:1\r\n*2\r\n$1\r\nx\r\n$-1\r\n+OK\r\n",
            b"*1\r\n*1\r\n*1\r\n*0\r\n",
            b"-ERR wrong\r\n",
            b"-WRONGTYPE Operation against a key\r\n",
            &large,
        ] {
            let expected = redis::parse_redis_value(text).unwrap();
            let twice = [text, text].concat();
            let (values, error) = read_all(&twice);
            assert_eq!(values, [expected.clone(), expected], "{:?}", String::from_utf8_lossy(text));
            assert!(matches!(error, ReadError::Io(error) if error.kind() == ErrorKind::UnexpectedEof));
        }
    }

    #[test]
    fn other_bytes_are_malformed() {
        let deep = b"*1\r\n".repeat(DEEPEST + 1);
        let endless = vec![b'+'; 2 * LONGEST_LINE];
        for text in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"\r\n",
            b"+OK\n",
            b"$-2\r\n",
            b"*-2\r\n",
            b"$1x\r\n",
            b"$\r\n",
            b"$99999999999999999999\r\n",
            b"$1\r\nab\r\n",
            b":\r\n",
            b":1.5\r\n",
            b":+1\r\n",
            b"*-\r\n",
            b"%1\r\n",
            b"+\xff\r\n",
            &deep,
            &endless,
        ] {
            let (values, error) = read_all(text);
            let shown = String::from_utf8_lossy(text.get(..text.len().min(40)).unwrap()).into_owned();
            assert!(values.is_empty(), "{shown:?} {values:?}");
            assert!(matches!(error, ReadError::Malformed), "{shown:?} {error:?}");
        }
    }

    /// The lengths lie: nothing follows them.
    #[test]
    fn what_resp3_adds_is_read_only_if_it_is_expected() {
        let resp3 = |bytes: &str| {
            let mut reader = ReplyReader::new(LONGEST);
            reader.expect_resp3();
            read_all_with(reader, bytes.as_bytes())
        };
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let told = |data| Value::Push { kind: PushKind::Invalidate, data: vec![data] };
        for (bytes, value) in [
            ("%1\r\n$1\r\na\r\n:1\r\n", Value::Array(vec![bulk("a"), Value::Int(1)])),
            (",1.5\r\n", Value::Double(1.5)),
            (">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n", told(Value::Array(vec![bulk("k")]))),
            (">2\r\n$10\r\ninvalidate\r\n_\r\n", told(Value::Nil)),
        ] {
            assert_eq!(resp3(bytes).0, [value], "{bytes}");
            assert!(matches!(read_all(bytes.as_bytes()).1, ReadError::Malformed), "{bytes}");
        }
        for bytes in [">0\r\n", ">-1\r\n", "%-1\r\n", "%9223372036854775808\r\n", ",x\r\n", "*1\r\n>1\r\n"] {
            assert!(matches!(resp3(bytes).1, ReadError::Malformed), "{bytes}");
        }
    }

    #[test]
    fn a_length_costs_no_memory_before_the_bytes_come() {
        let (_, error) = read_all(b"$1048577\r\n");
        assert!(matches!(error, ReadError::TooLarge { bytes: 1_048_577, limit: LONGEST }), "{error:?}");
        for text in [&b"$1048576\r\n"[..], b"*9223372036854775807\r\n"] {
            let (mut far, mut stream) = connected();
            far.write_all(text).unwrap();
            drop(far);
            let mut reader = ReplyReader::new(LONGEST);
            let error = reader.next(&mut stream, soon()).unwrap_err();
            assert!(matches!(error, ReadError::Io(_)), "{error:?}");
            let strings = reader.string.iter().map(|string| string.bytes.capacity());
            let arrays = reader.arrays.iter().map(|array| array.elements.capacity());
            assert!(strings.chain(arrays).all(|capacity| capacity <= 2 * FIRST_BYTES));
        }
    }

    #[test]
    fn a_reply_that_stops_in_the_middle_is_continued() {
        let text = b"*2\r\n$5\r\nhello\r\n*1\r\n-ERR x\r\n+behind\r\n";
        let expected = redis::parse_redis_value(text).unwrap();
        for cut in 0..text.len() {
            let (mut far, mut stream) = connected();
            let mut reader = ReplyReader::new(LONGEST);
            far.write_all(&text[..cut]).unwrap();
            let first = reader.next(&mut stream, Instant::now() + Duration::from_millis(2));
            let is_late = |error: &ReadError| matches!(error, ReadError::Io(error) if error.kind() == ErrorKind::TimedOut);
            // All of the first reply may be there.
            assert!(first.is_ok() || first.as_ref().is_err_and(is_late), "{cut} {first:?}");
            far.write_all(&text[cut..]).unwrap();
            let first = first.or_else(|_| reader.next(&mut stream, soon())).unwrap();
            assert_eq!(first, expected, "{cut}");
            assert_eq!(
                reader.next(&mut stream, soon()).unwrap(),
                Value::SimpleString("behind".to_owned()),
                "{cut}"
            );
            assert!(!reader.has_received());
        }
    }

    #[test]
    fn surplus_bytes_are_seen() {
        let (mut far, mut stream) = connected();
        let mut reader = ReplyReader::new(LONGEST);
        assert_eq!(stream.arrived(), Arrived::Nothing);
        far.write_all(b"+OK\r\n+OK\r\n").unwrap();
        reader.next(&mut stream, soon()).unwrap();
        while stream.arrived() == Arrived::Nothing && !reader.has_received() {
            std::thread::yield_now();
        }
        reader.next(&mut stream, soon()).unwrap();
        assert!(!reader.has_received());
        drop(far);
        while stream.arrived() == Arrived::Nothing {
            std::thread::yield_now();
        }
        assert_eq!(stream.arrived(), Arrived::End);
    }
}

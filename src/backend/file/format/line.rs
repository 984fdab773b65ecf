//! Owns the bytes of a line: what stands around facts, and how it is read back. Does no I/O and knows nothing
//! of files.
//!
//! Every line is one JSON object that begins with the CRC-32 of all that follows the CRC's own digits.
//! INVARIANT: the format is frozen as [`VERSION`]; what would be read differently needs a new one.

use serde::Deserialize;
use smol_str::SmolStr;

use crate::backend::file::format::change_text;
use crate::backend::file::format::change_text::ChangeRecord;
use crate::backend::file::format::fast_path;
use crate::backend::local::change::Change;
use crate::config::SyncPolicy;

/// The version of the format that this crate writes, and the only one it reads.
pub(crate) const VERSION: u64 = 1;

/// What every line begins with, before the eight digits of its CRC.
pub(crate) const START: &[u8] = b"{\"c\":\"";
const CRC_END: usize = START.len() + 8;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Which kind of file a header stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Journal,
    Snapshot,
}

/// What a line says of the journal around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LineStamp {
    /// Its place in the sequence of all lines; of a header, the place of the last line before the file.
    pub(crate) sequence: u64,
    /// The highest sequence that was known to be on the disk when the line was written.
    pub(crate) durable: u64,
    /// When it was written; 0 where that is the time of the line before, which is not written down again.
    pub(crate) time: u64,
}

/// One whole line.
#[derive(Debug)]
pub(crate) enum Line {
    /// The first line of a file.
    Header { kind: FileKind, number: u64, mark: LineStamp, vouched: bool },
    /// A store was opened and goes on here. `vouched` is false where nothing syncs the lines to come.
    Opened { mark: LineStamp, vouched: bool },
    /// One atomic commit.
    Commit { mark: LineStamp, changes: Vec<(SmolStr, Change)> },
    /// The store was closed: all before is on the disk.
    Closed { mark: LineStamp },
    /// Entries of a snapshot.
    Entries { changes: Vec<(SmolStr, Change)> },
    /// The end of a snapshot.
    Footer { count: u64, sum: u32, mark: LineStamp },
}

/// What a line says of the journal around it, if it does.
pub(crate) fn parse_stamp(line: &Line) -> Option<LineStamp> {
    match line {
        Line::Header { mark, .. }
        | Line::Opened { mark, .. }
        | Line::Commit { mark, .. }
        | Line::Closed { mark }
        | Line::Footer { mark, .. } => Some(*mark),
        Line::Entries { .. } => None,
    }
}

/// Why a line was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LineFault {
    /// These are not the bytes that were written.
    Damaged(&'static str),
    /// They are, but they mean nothing to us.
    Malformed(String),
    /// They are of another version of the format.
    Version(u64),
}

/// Writes lines, each into the same buffer.
pub(crate) struct Encoder<'a> {
    line: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Encoder<'a> {
    /// Begins a line behind what is in the buffer.
    fn new(line: &'a mut Vec<u8>) -> Self {
        let start = line.len();
        line.extend_from_slice(b"{\"c\":\"00000000\"");
        Self { line, start }
    }

    fn text(self, text: &str) -> Self {
        self.line.extend_from_slice(text.as_bytes());
        self
    }

    fn number(self, name: &str, number: u64) -> Self {
        self.line.extend_from_slice(name.as_bytes());
        change_text::push_number(self.line, number);
        self
    }

    fn stamp(self, mark: LineStamp) -> Self {
        let encoder = self.number(",\"s\":", mark.sequence).number(",\"d\":", mark.durable);
        match mark.time {
            0 => encoder,
            time => encoder.number(",\"t\":", time),
        }
    }

    fn changes<'c, K: AsRef<str> + 'c>(self, changes: impl IntoIterator<Item = (K, &'c Change)>) -> Self {
        self.line.extend_from_slice(b",\"w\":[");
        let first = self.line.len();
        for (key, change) in changes {
            let before = self.line.len();
            if before > first {
                self.line.push(b',');
            }
            if !change_text::push(self.line, key.as_ref(), change) {
                self.line.truncate(before);
            }
        }
        self.line.push(b']');
        self
    }

    fn finish(self) {
        self.line.push(b'}');
        let crc = crc32fast::hash(&self.line[self.start + CRC_END..]);
        for (digit, shift) in self.line[self.start + START.len()..].iter_mut().zip((0..8).rev()) {
            *digit = HEX[(crc >> (4 * shift)) as usize & 15];
        }
        self.line.push(b'\n');
    }
}

/// Writes the first line of a file.
pub(crate) fn header(line: &mut Vec<u8>, kind: FileKind, number: u64, mark: LineStamp, sync: SyncPolicy) {
    let name = match kind {
        FileKind::Journal => "journal",
        FileKind::Snapshot => "snapshot",
    };
    Encoder::new(line)
        .text(&format!(",\"millpond\":\"{name}\",\"version\":{VERSION},\"n\":{number}"))
        .stamp(mark)
        .text(&format!(",\"sync\":\"{sync}\""))
        .finish();
}

pub(crate) fn opened(line: &mut Vec<u8>, mark: LineStamp, sync: SyncPolicy) {
    Encoder::new(line).stamp(mark).text(&format!(",\"sync\":\"{sync}\"")).finish();
}

pub(crate) fn commit<'c, K: AsRef<str> + 'c>(
    line: &mut Vec<u8>,
    mark: LineStamp,
    changes: impl IntoIterator<Item = (K, &'c Change)>,
) {
    Encoder::new(line).stamp(mark).changes(changes).finish();
}

pub(crate) fn closed(line: &mut Vec<u8>, mark: LineStamp) {
    Encoder::new(line).stamp(mark).text(",\"closed\":true").finish();
}

pub(crate) fn entries<'c, K: AsRef<str> + 'c>(
    line: &mut Vec<u8>,
    changes: impl IntoIterator<Item = (K, &'c Change)>,
) {
    Encoder::new(line).changes(changes).finish();
}

/// Writes the end of a snapshot: how many entries it holds, and the CRC of all lines before.
pub(crate) fn footer(line: &mut Vec<u8>, count: u64, sum: u32, mark: LineStamp) {
    Encoder::new(line).stamp(mark).number(",\"end\":", count).number(",\"sum\":", u64::from(sum)).finish();
}

/// Whether these bytes begin as every line does.
pub(crate) fn is_begun(bytes: &[u8]) -> bool {
    let digits = bytes.strip_prefix(START).and_then(|rest| rest.split_at_checked(8));
    digits.is_some_and(|(crc, rest)| crc.iter().all(|digit| HEX.contains(digit)) && rest.starts_with(b"\","))
}

/// Reads a line with its line break, the CRC first.
pub(crate) fn decode(line: &[u8]) -> Result<Line, LineFault> {
    let text = check(line)?;
    let behind = text[CRC_END..].strip_prefix(b"\"").unwrap_or_default();
    if let Some((mark, changes)) = fast_path::commit(behind) {
        Ok(Line::Commit { mark, changes })
    } else if let Some(changes) = fast_path::entries(behind) {
        Ok(Line::Entries { changes })
    } else {
        parse(text)
    }
}

/// Reads a line that is whole, whatever it says.
fn parse(text: &[u8]) -> Result<Line, LineFault> {
    let meaningless = |error: serde_json::Error| LineFault::Malformed(error.to_string());
    let wire: LineRecord<'_> = match serde_json::from_slice(text) {
        Ok(wire) => wire,
        Err(error) => {
            // Another version may have fields that this one does not know.
            let other: Option<Version> = serde_json::from_slice(text).ok();
            let version = other.map(|other| other.version).filter(|version| *version != VERSION);
            return Err(version.map_or_else(|| meaningless(error), LineFault::Version));
        }
    };
    wire.line()
}

/// Reads a line as [`decode`] would without its quick way, and without its CRC.
#[cfg(test)]
pub(crate) fn decode_slowly(line: &[u8]) -> Result<Line, LineFault> {
    parse(&line[..line.len() - 1])
}

/// Checks that these are the bytes that were written, and takes the line break off.
fn check(line: &[u8]) -> Result<&[u8], LineFault> {
    let text = line.strip_suffix(b"\n").ok_or(LineFault::Damaged("the line has no end"))?;
    let digits = text.strip_prefix(START).and_then(|rest| rest.get(..8));
    let digits = digits.ok_or(LineFault::Damaged("this is not the beginning of a line"))?;
    let crc = digits.iter().try_fold(0, |crc: u32, digit| {
        HEX.iter()
            .position(|hex| hex == digit)
            .and_then(|value| u32::try_from(value).ok())
            .map(|v| crc << 4 | v)
    });
    if crc == Some(crc32fast::hash(&text[CRC_END..])) {
        Ok(text)
    } else {
        Err(LineFault::Damaged("the checksum does not match"))
    }
}

#[derive(Deserialize)]
struct Version {
    version: u64,
}

/// All fields that a line can have.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineRecord<'a> {
    #[serde(rename = "c")]
    _crc: serde::de::IgnoredAny,
    s: Option<u64>,
    d: Option<u64>,
    t: Option<u64>,
    #[serde(borrow)]
    w: Option<Vec<ChangeRecord<'a>>>,
    millpond: Option<String>,
    version: Option<u64>,
    n: Option<u64>,
    sync: Option<String>,
    closed: Option<bool>,
    end: Option<u64>,
    sum: Option<u32>,
}

impl LineRecord<'_> {
    fn line(self) -> Result<Line, LineFault> {
        let time = self.t.unwrap_or(0);
        let mark = match (self.s, self.d) {
            (Some(sequence), Some(durable)) => Some(LineStamp { sequence, durable, time }),
            _ => None,
        };
        let vouched = self.sync.as_ref().map(|sync| sync != "never");
        let changes = self.w.map(|w| w.into_iter().map(ChangeRecord::change).collect()).transpose();
        let changes = changes.map_err(LineFault::Malformed)?;
        match (self.version, self.n, mark, vouched, changes, self.closed, self.end.zip(self.sum)) {
            (Some(version), ..) if version != VERSION => Err(LineFault::Version(version)),
            (Some(_), Some(number), Some(mark), Some(vouched), None, None, None) => {
                let kind = match self.millpond.as_deref() {
                    Some("journal") => FileKind::Journal,
                    Some("snapshot") => FileKind::Snapshot,
                    _ => return Err(LineFault::Malformed("it is the header of another kind of file".into())),
                };
                Ok(Line::Header { kind, number, mark, vouched })
            }
            (None, None, Some(mark), Some(vouched), None, None, None) => Ok(Line::Opened { mark, vouched }),
            (None, None, Some(mark), None, Some(changes), None, None) => Ok(Line::Commit { mark, changes }),
            (None, None, None, None, Some(changes), None, None) => Ok(Line::Entries { changes }),
            (None, None, Some(mark), None, None, Some(true), None) => Ok(Line::Closed { mark }),
            (None, None, Some(mark), None, None, None, Some((count, sum))) => {
                Ok(Line::Footer { count, sum, mark })
            }
            _ => Err(LineFault::Malformed("its fields fit no kind of line".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::file::format::change_text::{tests::facts, tests::set};
    use crate::value::Value;

    const MARK: LineStamp = LineStamp { sequence: 17, durable: 12, time: 1_760_000_000_000 };

    fn line(changes: &[(SmolStr, Change)]) -> Vec<u8> {
        let mut line = Vec::new();
        commit(&mut line, MARK, changes.iter().map(|(key, change)| (key, change)));
        line
    }

    #[test]
    fn every_fact_comes_back_as_it_was() {
        match decode(&line(&facts())) {
            Ok(Line::Commit { mark, changes }) => {
                assert_eq!(mark, MARK);
                assert_eq!(changes, facts());
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_line_is_one_json_object_and_its_bytes_are_frozen() {
        let line = line(&[
            ("a".into(), set(Value::json(b"1"), Some(7))),
            ("b".into(), Change::Nothing),
            ("c".into(), Change::Remove),
        ]);
        let text = std::str::from_utf8(&line).unwrap();
        let rest = r#"","s":17,"d":12,"t":1760000000000,"w":[{"k":"a","v":1,"x":7},{"k":"c","r":1}]}"#;
        assert_eq!(text, format!("{{\"c\":\"{:08x}{rest}\n", crc32fast::hash(rest.as_bytes())));
        serde_json::from_str::<serde_json::Value>(text).unwrap();
    }

    #[test]
    fn the_other_lines_come_back() {
        let mut text = Vec::new();
        header(&mut text, FileKind::Journal, 3, MARK, SyncPolicy::Never);
        match decode(&text) {
            Ok(Line::Header { kind: FileKind::Journal, number: 3, mark: MARK, vouched: false }) => {}
            other => panic!("{other:?}"),
        }
        text.clear();
        opened(&mut text, MARK, SyncPolicy::Always);
        assert!(matches!(decode(&text), Ok(Line::Opened { mark: MARK, vouched: true })));
        text.clear();
        closed(&mut text, MARK);
        assert!(matches!(decode(&text), Ok(Line::Closed { mark: MARK })));
        text.clear();
        footer(&mut text, 5, 6, MARK);
        assert!(matches!(decode(&text), Ok(Line::Footer { count: 5, sum: 6, mark: MARK })));
        text.clear();
        Encoder::new(&mut text).text(",\"millpond\":\"journal\",\"version\":2,\"new\":1").finish();
        assert_eq!(decode(&text).unwrap_err(), LineFault::Version(2));
    }

    #[test]
    fn no_flipped_bit_and_no_cut_goes_unseen() {
        let whole = line(&facts());
        for at in 0..whole.len() {
            assert!(matches!(decode(&whole[..at]), Err(LineFault::Damaged(_))), "cut at {at}");
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                assert!(matches!(decode(&flipped), Err(LineFault::Damaged(_))), "bit {bit} of byte {at}");
            }
        }
    }
}

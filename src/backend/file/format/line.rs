//! Owns the bytes of a line: how the fields around its changes are written and read back. Does no I/O and knows
//! nothing of files.
//!
//! Every line is one JSON object that begins with the CRC-32 of all bytes behind the CRC's own digits.
//! INVARIANT: the format is frozen as [`VERSION`]; a line that would be read differently needs a new version.

use serde::Deserialize;
use smol_str::SmolStr;

use crate::backend::file::contents::Contents;
use crate::backend::file::format::change_text;
use crate::backend::file::format::change_text::ChangeRecord;
use crate::backend::file::format::fast_path;
use crate::backend::file::format::stamp::LineStamp;
use crate::backend::local::change::Change;
use crate::config::SyncPolicy;
use crate::util::hex;
use crate::value_text::push_number;

/// The version of the format that this crate writes, and the only one it reads.
pub(crate) const VERSION: u64 = 1;

/// First bytes of every line, before the eight digits of its CRC.
pub(crate) const START: &[u8] = b"{\"c\":\"";
const CRC_END: usize = START.len() + 8;

/// The kind of file that a header begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Journal,
    Snapshot,
}

/// One decoded line.
#[derive(Debug)]
pub(crate) enum Line {
    /// The first line of a file.
    Header { kind: FileKind, contents: Contents, number: u64, stamp: LineStamp, is_synced: bool },
    /// A store was opened and continues behind this line. `is_synced` is false if the sync policy is never.
    Opened { stamp: LineStamp, is_synced: bool },
    /// One atomic commit.
    Commit { stamp: LineStamp, changes: Vec<(SmolStr, Change)> },
    /// The store was closed: all lines before are on the disk.
    Closed { stamp: LineStamp },
    /// Entries of a snapshot.
    Entries { changes: Vec<(SmolStr, Change)> },
    /// The end of a snapshot: the number of its entries, and the CRC of all lines before.
    Footer { count: u64, sum: u32, stamp: LineStamp },
}

impl Line {
    pub(crate) fn stamp(&self) -> Option<LineStamp> {
        match self {
            Self::Header { stamp, .. }
            | Self::Opened { stamp, .. }
            | Self::Commit { stamp, .. }
            | Self::Closed { stamp }
            | Self::Footer { stamp, .. } => Some(*stamp),
            Self::Entries { .. } => None,
        }
    }
}

/// Why a line could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LineFault {
    /// The bytes are not those that were written.
    Damaged(&'static str),
    /// The checksum matches, but the fields make no sense.
    Malformed(String),
    /// The line is of this other version of the format.
    Version(u64),
}

/// Writes one line behind the bytes in a buffer.
struct Encoder<'a> {
    line: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Encoder<'a> {
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
        push_number(self.line, number);
        self
    }

    fn stamp(self, stamp: LineStamp) -> Self {
        let encoder = self.number(",\"s\":", stamp.sequence).number(",\"d\":", stamp.synced);
        match stamp.time {
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
            if !change_text::push_change(self.line, key.as_ref(), change) {
                self.line.truncate(before);
            }
        }
        self.line.push(b']');
        self
    }

    fn finish(self) {
        self.line.push(b'}');
        let crc = crc32fast::hash(&self.line[self.start + CRC_END..]);
        let digits = hex::encode(&crc.to_be_bytes());
        for (place, digit) in self.line[self.start + START.len()..].iter_mut().zip(digits.as_flattened()) {
            *place = *digit;
        }
        self.line.push(b'\n');
    }
}

/// Writes the first line of a file.
pub(crate) fn encode_header(
    line: &mut Vec<u8>,
    (kind, contents): (FileKind, Contents),
    number: u64,
    stamp: LineStamp,
    sync: SyncPolicy,
) {
    let name = match kind {
        FileKind::Journal => "journal",
        FileKind::Snapshot => "snapshot",
    };
    let mark = contents.mark().map(|mark| format!(",\"holds\":\"{mark}\"")).unwrap_or_default();
    Encoder::new(line)
        .text(&format!(",\"millpond\":\"{name}\",\"version\":{VERSION}{mark},\"n\":{number}"))
        .stamp(stamp)
        .text(&format!(",\"sync\":\"{sync}\""))
        .finish();
}

pub(crate) fn encode_opened(line: &mut Vec<u8>, stamp: LineStamp, sync: SyncPolicy) {
    Encoder::new(line).stamp(stamp).text(&format!(",\"sync\":\"{sync}\"")).finish();
}

pub(crate) fn encode_commit<'c, K: AsRef<str> + 'c>(
    line: &mut Vec<u8>,
    stamp: LineStamp,
    changes: impl IntoIterator<Item = (K, &'c Change)>,
) {
    Encoder::new(line).stamp(stamp).changes(changes).finish();
}

pub(crate) fn encode_closed(line: &mut Vec<u8>, stamp: LineStamp) {
    Encoder::new(line).stamp(stamp).text(",\"closed\":true").finish();
}

pub(crate) fn encode_entries<'c, K: AsRef<str> + 'c>(
    line: &mut Vec<u8>,
    changes: impl IntoIterator<Item = (K, &'c Change)>,
) {
    Encoder::new(line).changes(changes).finish();
}

pub(crate) fn encode_footer(line: &mut Vec<u8>, count: u64, sum: u32, stamp: LineStamp) {
    Encoder::new(line).stamp(stamp).number(",\"end\":", count).number(",\"sum\":", u64::from(sum)).finish();
}

/// Whether these bytes begin like a line.
pub(crate) fn is_begun(bytes: &[u8]) -> bool {
    let split = bytes.strip_prefix(START).and_then(|rest| rest.split_at_checked(8));
    split.is_some_and(|(crc, rest)| {
        crc.iter().all(|digit| hex::DIGITS.contains(digit)) && rest.starts_with(b"\",")
    })
}

/// Reads a line, including its line break, after a check of its CRC.
pub(crate) fn decode(line: &[u8]) -> Result<Line, LineFault> {
    let text = check_crc(line)?;
    let fields = text[CRC_END..].strip_prefix(b"\"").unwrap_or_default();
    if let Some((stamp, changes)) = fast_path::decode_commit(fields) {
        Ok(Line::Commit { stamp, changes })
    } else if let Some(changes) = fast_path::decode_entries(fields) {
        Ok(Line::Entries { changes })
    } else {
        parse(text)
    }
}

/// Reads a line of any kind, without its line break.
fn parse(text: &[u8]) -> Result<Line, LineFault> {
    let malformed = |error: serde_json::Error| LineFault::Malformed(error.to_string());
    let record: LineRecord<'_> = match serde_json::from_slice(text) {
        Ok(record) => record,
        Err(error) => {
            // Another version may have fields that are unknown to this one.
            let other: Option<VersionField> = serde_json::from_slice(text).ok();
            let version = other.map(|other| other.version).filter(|version| *version != VERSION);
            return Err(version.map_or_else(|| malformed(error), LineFault::Version));
        }
    };
    record.into_line()
}

/// Reads a line as [`decode`] does, but without the fast path and the check of the CRC.
#[cfg(test)]
pub(crate) fn decode_slowly(line: &[u8]) -> Result<Line, LineFault> {
    parse(&line[..line.len() - 1])
}

/// Checks the CRC of a line, and removes the line break.
fn check_crc(line: &[u8]) -> Result<&[u8], LineFault> {
    let text = line.strip_suffix(b"\n").ok_or(LineFault::Damaged("the line has no end"))?;
    let digits = text.strip_prefix(START).and_then(|rest| rest.get(..8));
    let digits = digits.ok_or(LineFault::Damaged("this is not the beginning of a line"))?;
    let crc = digits.iter().try_fold(0, |crc: u32, digit| {
        hex::DIGITS
            .iter()
            .position(|known| known == digit)
            .and_then(|value| u32::try_from(value).ok())
            .map(|value| crc << 4 | value)
    });
    if crc == Some(crc32fast::hash(&text[CRC_END..])) {
        Ok(text)
    } else {
        Err(LineFault::Damaged("the checksum does not match"))
    }
}

#[derive(Deserialize)]
struct VersionField {
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
    holds: Option<String>,
    n: Option<u64>,
    sync: Option<String>,
    closed: Option<bool>,
    end: Option<u64>,
    sum: Option<u32>,
}

impl LineRecord<'_> {
    fn into_line(self) -> Result<Line, LineFault> {
        let time = self.t.unwrap_or(0);
        let stamp = match (self.s, self.d) {
            (Some(sequence), Some(synced)) => Some(LineStamp { sequence, synced, time }),
            _ => None,
        };
        let is_synced = self.sync.as_ref().map(|sync| sync != "never");
        let changes = self.w.map(|w| w.into_iter().map(ChangeRecord::into_change).collect()).transpose();
        let changes = changes.map_err(LineFault::Malformed)?;
        if self.holds.is_some() && self.version.is_none() {
            return Err(LineFault::Malformed("its fields fit no kind of line".into()));
        }
        match (self.version, self.n, stamp, is_synced, changes, self.closed, self.end.zip(self.sum)) {
            (Some(version), ..) if version != VERSION => Err(LineFault::Version(version)),
            (Some(_), Some(number), Some(stamp), Some(is_synced), None, None, None) => {
                let kind = match self.millpond.as_deref() {
                    Some("journal") => FileKind::Journal,
                    Some("snapshot") => FileKind::Snapshot,
                    _ => return Err(LineFault::Malformed("it is the header of another kind of file".into())),
                };
                let contents = Contents::from_mark(self.holds.as_deref())
                    .ok_or_else(|| LineFault::Malformed("it holds something unknown".into()))?;
                Ok(Line::Header { kind, contents, number, stamp, is_synced })
            }
            (None, None, Some(stamp), Some(is_synced), None, None, None) => {
                Ok(Line::Opened { stamp, is_synced })
            }
            (None, None, Some(stamp), None, Some(changes), None, None) => Ok(Line::Commit { stamp, changes }),
            (None, None, None, None, Some(changes), None, None) => Ok(Line::Entries { changes }),
            (None, None, Some(stamp), None, None, Some(true), None) => Ok(Line::Closed { stamp }),
            (None, None, Some(stamp), None, None, None, Some((count, sum))) => {
                Ok(Line::Footer { count, sum, stamp })
            }
            _ => Err(LineFault::Malformed("its fields fit no kind of line".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::file::format::change_text::tests::{changes, set};
    use crate::value::Value;

    const STAMP: LineStamp = LineStamp { sequence: 17, synced: 12, time: 1_760_000_000_000 };

    fn line(changes: &[(SmolStr, Change)]) -> Vec<u8> {
        let mut line = Vec::new();
        encode_commit(&mut line, STAMP, changes.iter().map(|(key, change)| (key, change)));
        line
    }

    #[test]
    fn every_change_is_read_back_as_it_was_written() {
        match decode(&line(&changes())) {
            Ok(Line::Commit { stamp, changes: decoded }) => {
                assert_eq!(stamp, STAMP);
                assert_eq!(decoded, changes());
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
    fn every_other_line_is_read_back_as_it_was_written() {
        let mut text = Vec::new();
        for written in [Contents::Store, Contents::ReplayQueue] {
            encode_header(&mut text, (FileKind::Journal, written), 3, STAMP, SyncPolicy::Never);
            match decode(&text) {
                Ok(Line::Header {
                    kind: FileKind::Journal,
                    contents,
                    number: 3,
                    stamp: STAMP,
                    is_synced: false,
                }) => {
                    assert_eq!(contents, written);
                }
                other => panic!("{other:?}"),
            }
            text.clear();
        }
        encode_opened(&mut text, STAMP, SyncPolicy::Always);
        assert!(matches!(decode(&text), Ok(Line::Opened { stamp: STAMP, is_synced: true })));
        text.clear();
        encode_closed(&mut text, STAMP);
        assert!(matches!(decode(&text), Ok(Line::Closed { stamp: STAMP })));
        text.clear();
        encode_footer(&mut text, 5, 6, STAMP);
        assert!(matches!(decode(&text), Ok(Line::Footer { count: 5, sum: 6, stamp: STAMP })));
        text.clear();
        Encoder::new(&mut text).text(",\"millpond\":\"journal\",\"version\":2,\"new\":1").finish();
        assert_eq!(decode(&text).unwrap_err(), LineFault::Version(2));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_detected() {
        let line = line(&changes());
        for at in 0..line.len() {
            assert!(matches!(decode(&line[..at]), Err(LineFault::Damaged(_))), "cut at {at}");
            for bit in 0..8 {
                let mut flipped = line.clone();
                flipped[at] ^= 1 << bit;
                assert!(matches!(decode(&flipped), Err(LineFault::Damaged(_))), "bit {bit} of byte {at}");
            }
        }
    }
}

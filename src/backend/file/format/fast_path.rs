//! Owns a fast decoder for the most frequent lines: those that only set values, in exactly the bytes that this crate
//! writes. Knows nothing of other lines, for which it returns `None`.

use serde::Deserialize as _;
use serde_json::value::RawValue;
use smol_str::SmolStr;

use crate::backend::file::format::stamp::LineStamp;
use crate::backend::local::change::Change;
use crate::backend::local::entry::Entry;
use crate::clock::Deadline;
use crate::value::Value;

/// Reads a commit, given the text of its line behind the checksum.
pub(crate) fn decode_commit(text: &[u8]) -> Option<(LineStamp, Vec<(SmolStr, Change)>)> {
    let mut reader = TextReader(text);
    let sequence = reader.read_number(b",\"s\":")?;
    let synced = reader.read_number(b",\"d\":")?;
    let time = if reader.0.starts_with(b",\"t\":") { reader.read_number(b",\"t\":")? } else { 0 };
    Some((LineStamp { sequence, synced, time }, reader.read_sets(1)?))
}

/// Reads a line of entries, given its text behind the checksum.
pub(crate) fn decode_entries(text: &[u8]) -> Option<Vec<(SmolStr, Change)>> {
    TextReader(text).read_sets(text.len() / 64)
}

struct TextReader<'t>(&'t [u8]);

impl<'t> TextReader<'t> {
    fn skip(&mut self, text: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    /// Reads a name, and a number without leading zeros.
    fn read_number(&mut self, name: &[u8]) -> Option<u64> {
        self.skip(name)?;
        let digits = self.0.iter().position(|byte| !byte.is_ascii_digit())?;
        let (number, rest) = self.0.split_at(digits);
        if number.is_empty() || number[0] == b'0' && number.len() > 1 {
            return None;
        }
        self.0 = rest;
        number.iter().try_fold(0_u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
    }

    /// Reads all changes of the line, to its end. `capacity` is an estimate of their number.
    fn read_sets(&mut self, capacity: usize) -> Option<Vec<(SmolStr, Change)>> {
        self.skip(b",\"w\":[")?;
        let mut changes = Vec::with_capacity(capacity);
        loop {
            changes.push(self.read_set()?);
            if self.skip(b",").is_none() {
                return (self.0 == b"]}").then_some(changes);
            }
        }
    }

    /// Reads `{"k":"…","v":…}`, with or without a deadline.
    fn read_set(&mut self) -> Option<(SmolStr, Change)> {
        self.skip(b"{\"k\":\"")?;
        let end = self.0.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
        // An empty key is refused by the other path.
        let key = std::str::from_utf8(&self.0[..end]).ok().filter(|key| !key.is_empty()).map(SmolStr::new)?;
        self.0 = &self.0[end..];
        self.skip(b"\",\"v\":")?;
        let value = Value::json(self.read_json()?);
        let deadline = if self.0.starts_with(b",") { Some(self.read_number(b",\"x\":")?) } else { None };
        self.skip(b"}")?;
        let entry = Entry::value(value, deadline.and_then(Deadline::from_millis));
        Some((key, Change::Set(entry)))
    }

    /// Reads one valid JSON value.
    fn read_json(&mut self) -> Option<&'t [u8]> {
        let mut reader = serde_json::Deserializer::from_slice(self.0);
        let json = <&'t RawValue>::deserialize(&mut reader).ok()?.get().as_bytes();
        self.0 = self.0.get(json.len()..)?;
        Some(json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::file::format::change_text::tests::set;
    use crate::backend::file::format::line;
    use crate::backend::file::format::line::Line;

    const STAMP: LineStamp = LineStamp { sequence: 17, synced: 0, time: 1_760_000_000_000 };

    /// The text of a line behind the checksum.
    fn text(line: &[u8]) -> &[u8] {
        &line[b"{\"c\":\"00000000\"".len()..line.len() - 1]
    }

    #[test]
    fn the_fast_path_reads_sets_of_values_and_no_other_lines() {
        let values = [&b"1"[..], b"null", b"\"a\\\"}]\"", b"{\"x\":[1,{\"v\":2}],\"k\":\"\"}"];
        for (json, deadline) in values.into_iter().flat_map(|json| [(json, None), (json, Some(7))]) {
            for (key, is_plain) in [("a", true), ("ключ, }", true), ("quo\"te", false)] {
                for stamp in [STAMP, LineStamp { time: 0, ..STAMP }] {
                    let mut line = Vec::new();
                    let change = set(Value::json(json), deadline);
                    line::encode_commit(&mut line, stamp, [(key, &change)]);
                    let expected = is_plain.then(|| (stamp, vec![(SmolStr::new(key), change)]));
                    assert_eq!(decode_commit(text(&line)), expected, "{}", line.escape_ascii());
                    assert_eq!(decode_entries(text(&line)), None);
                }
            }
        }
        let several = [("a", set(Value::json(b"1"), None)), ("b", set(Value::json(b"[]"), Some(3)))];
        let mut line = Vec::new();
        line::encode_entries(&mut line, several.iter().map(|(key, change)| (key, change)));
        let expected = several.clone().map(|(key, change)| (SmolStr::new(key), change)).to_vec();
        assert_eq!(decode_entries(text(&line)), Some(expected.clone()));
        let mut line = Vec::new();
        line::encode_commit(&mut line, STAMP, several.iter().map(|(key, change)| (*key, change)));
        assert_eq!(decode_commit(text(&line)), Some((STAMP, expected)));
        for other in [set(Value::raw(b"x"), None), Change::Remove, Change::SetDeadline(None)] {
            let mut line = Vec::new();
            line::encode_commit(&mut line, STAMP, [("a", &other)]);
            assert_eq!(decode_commit(text(&line)), None);
        }
    }

    /// Every byte of a line is replaced by every other one.
    #[test]
    fn the_fast_path_reads_nothing_that_the_slow_path_does_not() {
        let mut original = Vec::new();
        let sets = [set(Value::json(b"{\"a\":[1,2.5,\"x\"]}"), Some(9)), set(Value::json(b"7"), None)];
        line::encode_commit(&mut original, STAMP, [("key", &sets[0]), ("other", &sets[1])]);
        let mut read = 0;
        for at in 15..original.len() - 1 {
            for byte in 0..=u8::MAX {
                let mut line = original.clone();
                line[at] = byte;
                let Some(fast) = decode_commit(text(&line)) else { continue };
                read += 1;
                match line::decode_slowly(&line) {
                    Ok(Line::Commit { stamp, changes }) => {
                        assert_eq!((stamp, changes), fast, "{}", line.escape_ascii());
                    }
                    other => panic!("{}: {other:?}", line.escape_ascii()),
                }
            }
        }
        assert!(read > 500, "{read}");
    }
}

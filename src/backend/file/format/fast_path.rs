//! Owns the quick way to read the lines that are most of a journal: those that set values and do nothing else, in
//! the very bytes that this crate writes. Whatever it does not know is read by [`crate::backend::file::format::line`].

use serde::Deserialize as _;
use serde_json::value::RawValue;
use smol_str::SmolStr;

use crate::backend::file::format::line::LineStamp;
use crate::backend::local::change::Change;
use crate::backend::local::entry::Entry;
use crate::clock::Deadline;
use crate::value::Value;

/// Reads the text of a line, whose checksum was right, behind that.
pub(crate) fn commit(text: &[u8]) -> Option<(LineStamp, Vec<(SmolStr, Change)>)> {
    let mut rest = TextReader(text);
    let sequence = rest.number(b",\"s\":")?;
    let durable = rest.number(b",\"d\":")?;
    let time = if rest.0.starts_with(b",\"t\":") { rest.number(b",\"t\":")? } else { 0 };
    Some((LineStamp { sequence, durable, time }, rest.sets(1)?))
}

/// Reads the text of a line that is a part of a snapshot, behind its checksum; `None` unless it sets values alone.
pub(crate) fn entries(text: &[u8]) -> Option<Vec<(SmolStr, Change)>> {
    TextReader(text).sets(text.len() / 64)
}

struct TextReader<'t>(&'t [u8]);

impl<'t> TextReader<'t> {
    fn skip(&mut self, text: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    /// A number as this crate writes it, behind a name.
    fn number(&mut self, name: &[u8]) -> Option<u64> {
        self.skip(name)?;
        let digits = self.0.iter().position(|byte| !byte.is_ascii_digit())?;
        let (number, rest) = self.0.split_at(digits);
        if number.is_empty() || number[0] == b'0' && number.len() > 1 {
            return None;
        }
        self.0 = rest;
        number.iter().try_fold(0_u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
    }

    /// The rest of the line: about so many sets.
    fn sets(&mut self, about: usize) -> Option<Vec<(SmolStr, Change)>> {
        self.skip(b",\"w\":[")?;
        let mut changes = Vec::with_capacity(about);
        loop {
            changes.push(self.set()?);
            if self.skip(b",").is_none() {
                return (self.0 == b"]}").then_some(changes);
            }
        }
    }

    /// `{"k":"…","v":…}`, with a deadline or without.
    fn set(&mut self) -> Option<(SmolStr, Change)> {
        self.skip(b"{\"k\":\"")?;
        let end = self.0.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
        let key = SmolStr::new(std::str::from_utf8(&self.0[..end]).ok()?);
        self.0 = &self.0[end..];
        self.skip(b"\",\"v\":")?;
        let value = Value::json(self.json()?);
        let deadline = if self.0.starts_with(b",") { Some(self.number(b",\"x\":")?) } else { None };
        self.skip(b"}")?;
        let entry = Entry::value(value, deadline.and_then(Deadline::from_millis));
        Some((key, Change::Set(entry)))
    }

    /// One JSON value, checked.
    fn json(&mut self) -> Option<&'t [u8]> {
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

    const MARK: LineStamp = LineStamp { sequence: 17, durable: 0, time: 1_760_000_000_000 };

    /// Behind the checksum.
    fn text(line: &[u8]) -> &[u8] {
        &line[b"{\"c\":\"00000000\"".len()..line.len() - 1]
    }

    #[test]
    fn it_reads_what_is_written_and_leaves_the_rest_to_others() {
        let values = [&b"1"[..], b"null", b"\"a\\\"}]\"", b"{\"x\":[1,{\"v\":2}],\"k\":\"\"}"];
        for (json, deadline) in values.into_iter().flat_map(|json| [(json, None), (json, Some(7))]) {
            for (key, is_plain) in [("a", true), ("ключ, }", true), ("quo\"te", false)] {
                for mark in [MARK, LineStamp { time: 0, ..MARK }] {
                    let mut line = Vec::new();
                    let change = set(Value::json(json), deadline);
                    line::commit(&mut line, mark, [(key, &change)]);
                    let expected = is_plain.then(|| (mark, vec![(SmolStr::new(key), change)]));
                    assert_eq!(commit(text(&line)), expected, "{}", line.escape_ascii());
                    assert_eq!(entries(text(&line)), None);
                }
            }
        }
        let several = [("a", set(Value::json(b"1"), None)), ("b", set(Value::json(b"[]"), Some(3)))];
        let mut line = Vec::new();
        line::entries(&mut line, several.iter().map(|(key, change)| (key, change)));
        let expected = several.clone().map(|(key, change)| (SmolStr::new(key), change)).to_vec();
        assert_eq!(entries(text(&line)), Some(expected.clone()));
        let mut line = Vec::new();
        line::commit(&mut line, MARK, several.iter().map(|(key, change)| (*key, change)));
        assert_eq!(commit(text(&line)), Some((MARK, expected)));
        for other in [set(Value::raw(b"x"), None), Change::Remove, Change::SetDeadline(None)] {
            let mut line = Vec::new();
            line::commit(&mut line, MARK, [("a", &other)]);
            assert_eq!(commit(text(&line)), None);
        }
    }

    /// Whatever bytes stand there: if it reads them, the long way reads the same.
    #[test]
    fn it_takes_nothing_that_the_long_way_would_not() {
        let mut whole = Vec::new();
        let sets = [set(Value::json(b"{\"a\":[1,2.5,\"x\"]}"), Some(9)), set(Value::json(b"7"), None)];
        line::commit(&mut whole, MARK, [("key", &sets[0]), ("other", &sets[1])]);
        let mut taken = 0;
        for at in 15..whole.len() - 1 {
            for byte in 0..=u8::MAX {
                let mut line = whole.clone();
                line[at] = byte;
                let Some(quick) = commit(text(&line)) else { continue };
                taken += 1;
                match line::decode_slowly(&line) {
                    Ok(Line::Commit { mark: slow, changes }) => {
                        assert_eq!((slow, changes), quick, "{}", line.escape_ascii());
                    }
                    other => panic!("{}: {other:?}", line.escape_ascii()),
                }
            }
        }
        assert!(taken > 500, "{taken}");
    }
}

//! Owns the bytes of one key's change: how they are written and read back. Knows nothing of the line around them.
//!
//! INVARIANT: the bytes are frozen together with those of the lines, as `line::VERSION` of the format.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use serde::Deserialize;
use serde_json::value::RawValue;
use smol_str::SmolStr;

use crate::backend::local::change::Change;
use crate::backend::local::entry::{Content, Entry, MapValue};
use crate::backend::local::queue::QueueValue;
use crate::clock::Deadline;
use crate::op::End;
use crate::value_text::{
    FieldRecord, ItemRecord, pairs, present, push_fields, push_items, push_number, push_text, push_value,
    value, values,
};

/// The indexes that a queue can reach. An index beyond was not written by this crate, and adding to it could
/// overflow.
const QUEUE_INDEXES: RangeInclusive<i64> = -(1 << 62)..=1 << 62;

/// Writes one change. Returns `false` for [`Change::Nothing`]: the caller must then discard the bytes pushed so far.
pub(crate) fn push_change(line: &mut Vec<u8>, key: &str, change: &Change) -> bool {
    line.extend_from_slice(b"{\"k\":");
    push_text(line, key);
    match change {
        Change::Nothing => return false,
        Change::Remove => line.extend_from_slice(b",\"r\":1"),
        Change::SetDeadline(deadline) => {
            line.extend_from_slice(b",\"e\":");
            push_number(line, deadline.map_or(0, Deadline::millis));
        }
        Change::Set(Entry { content, deadline }) => {
            match content {
                Content::Value(value) => {
                    line.push(b',');
                    push_value(line, value);
                }
                Content::Map(map) => push_fields(line, ",\"m\":[", map.fields()),
                Content::Queue(queue) => {
                    push_index(line, ",\"at\":", queue.begin());
                    push_items(line, ",\"q\":[", queue.range(queue.begin(), queue.end()));
                }
            }
            if let Some(deadline) = deadline {
                line.extend_from_slice(b",\"x\":");
                push_number(line, deadline.millis());
            }
        }
        Change::SetFields(fields) => {
            push_fields(line, ",\"f\":[", fields.iter().map(|(name, value)| (name, value)));
        }
        Change::RemoveField(name) => {
            line.extend_from_slice(b",\"fr\":");
            push_text(line, name);
        }
        // The end is not stored: the resulting state does not depend on it.
        Change::SetItems { at, values, end: End::Front | End::Back } => {
            push_index(line, ",\"at\":", *at);
            push_items(line, ",\"i\":[", values);
        }
        Change::DropBefore(begin) => push_index(line, ",\"lo\":", *begin),
        Change::DropFrom(end) => push_index(line, ",\"hi\":", *end),
    }
    line.push(b'}');
    true
}

fn push_index(line: &mut Vec<u8>, name: &str, index: i64) {
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(itoa::Buffer::new().format(index).as_bytes());
}

/// All fields that a change can have.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeRecord<'a> {
    #[serde(borrow)]
    k: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    v: Option<&'a RawValue>,
    #[serde(borrow)]
    b: Option<&'a str>,
    #[serde(borrow)]
    j: Option<&'a str>,
    x: Option<u64>,
    e: Option<u64>,
    r: Option<u64>,
    #[serde(borrow)]
    m: Option<Vec<FieldRecord<'a>>>,
    #[serde(borrow)]
    f: Option<Vec<FieldRecord<'a>>>,
    #[serde(borrow)]
    fr: Option<Cow<'a, str>>,
    at: Option<i64>,
    #[serde(borrow)]
    q: Option<Vec<ItemRecord<'a>>>,
    #[serde(borrow)]
    i: Option<Vec<ItemRecord<'a>>>,
    lo: Option<i64>,
    hi: Option<i64>,
}

impl ChangeRecord<'_> {
    /// Returns the key and its change, or why the fields are malformed.
    pub(crate) fn into_change(self) -> Result<(SmolStr, Change), String> {
        if let Some(fault) = self.fault() {
            return Err(fault.into());
        }
        let deadline = self.x.and_then(Deadline::from_millis);
        let set = |content| Change::Set(Entry { content, deadline });
        let at = self.at.unwrap_or(0);
        let change = if let Some(value) = value(self.v, self.b, self.j)? {
            set(Content::Value(value))
        } else if let Some(fields) = self.m {
            set(Content::Map(Box::new(MapValue::new(pairs(fields)?))))
        } else if let Some(items) = self.q {
            set(Content::Queue(Box::new(QueueValue::new(at, values(items)?))))
        } else if let Some(fields) = self.f {
            Change::SetFields(pairs(fields)?)
        } else if let Some(name) = self.fr {
            Change::RemoveField(SmolStr::new(name))
        } else if let Some(items) = self.i {
            Change::SetItems { at, values: values(items)?, end: End::Back }
        } else if let Some(begin) = self.lo {
            Change::DropBefore(begin)
        } else if let Some(end) = self.hi {
            Change::DropFrom(end)
        } else if let Some(millis) = self.e {
            Change::SetDeadline(Deadline::from_millis(millis))
        } else {
            Change::Remove
        };
        Ok((SmolStr::new(self.k), change))
    }

    /// Returns why the fields are malformed, if they are.
    fn fault(&self) -> Option<&'static str> {
        if self.k.is_empty() {
            return Some("a key is never empty");
        }
        let value = self.v.is_some() || self.b.is_some() || self.j.is_some();
        let (map, queue, items) = (self.m.is_some(), self.q.is_some(), self.i.is_some());
        let kinds = [
            value,
            map,
            queue,
            items,
            self.f.is_some(),
            self.fr.is_some(),
            self.lo.is_some(),
            self.hi.is_some(),
            self.e.is_some(),
            self.r.is_some(),
        ];
        let is_one = kinds.into_iter().filter(|is_present| *is_present).count() == 1;
        let index_fits = self.at.is_some() == (queue || items);
        let deadline_fits = self.x.is_none() || value || map || queue;
        if !is_one || !index_fits || !deadline_fits || self.r.is_some_and(|r| r != 1) {
            return Some("its fields fit no kind of change");
        }
        if self.m.as_ref().is_some_and(Vec::is_empty) || self.q.as_ref().is_some_and(Vec::is_empty) {
            return Some("a map or a queue is never empty");
        }
        let mut indexes = [self.at, self.lo, self.hi].into_iter().flatten();
        indexes.any(|index| !QUEUE_INDEXES.contains(&index)).then_some("an index in a queue is out of reach")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::value::Value;

    pub(crate) fn set(value: Value, deadline: Option<u64>) -> Change {
        Change::Set(Entry::value(value, deadline.and_then(Deadline::from_millis)))
    }

    fn values() -> Vec<Value> {
        let returned = Value { returns: u32::MAX, ..Value::json(b"7") };
        vec![Value::json(b"null"), Value::raw(b"\xff").returned(), Value::json(b"[\n1 ]"), returned]
    }

    fn fields() -> Vec<(SmolStr, Value)> {
        ["", "f", "q\"uo\\\u{0}te", "ключ"].into_iter().map(SmolStr::new).zip(values()).collect()
    }

    fn map(fields: Vec<(SmolStr, Value)>, deadline: Option<u64>) -> Change {
        let content = Content::Map(Box::new(MapValue::new(fields)));
        Change::Set(Entry { content, deadline: deadline.and_then(Deadline::from_millis) })
    }

    fn queue(at: i64, values: Vec<Value>, deadline: Option<u64>) -> Change {
        let content = Content::Queue(Box::new(QueueValue::new(at, values)));
        Change::Set(Entry { content, deadline: deadline.and_then(Deadline::from_millis) })
    }

    fn items(at: i64, values: Vec<Value>) -> Change {
        Change::SetItems { at, values, end: End::Back }
    }

    /// Changes of every kind, with the extreme values of each.
    pub(crate) fn changes() -> Vec<(SmolStr, Change)> {
        let changes = [
            ("a", set(Value::json(b"{\"x\":[1,null]}"), None)),
            ("q\"uo\\te", set(Value::json(b"null"), Some(1))),
            ("empty", set(Value::raw(b""), None)),
            ("raw", set(Value::raw(b"\x00\xff\n"), Some(u64::MAX))),
            ("json", set(Value::json(b"[\n1 ]"), None)),
            ("edge", set(Value::json(b" 1"), None)),
            ("ключ", Change::Remove),
            ("e", Change::SetDeadline(Deadline::from_millis(5))),
            ("never", Change::SetDeadline(None)),
            ("m", map(fields(), None)),
            ("m", map(fields()[..1].to_vec(), Some(7))),
            ("m", Change::SetFields(fields())),
            ("m", Change::SetFields(Vec::new())),
            ("m", Change::RemoveField("".into())),
            ("m", Change::RemoveField("q\"uo\\\nte".into())),
            ("q", queue(-2, values(), None)),
            ("q", queue(*QUEUE_INDEXES.start(), values()[..1].to_vec(), Some(7))),
            ("q", items(*QUEUE_INDEXES.end(), values())),
            ("q", items(-1, Vec::new())),
            ("q", Change::DropBefore(0)),
            ("q", Change::DropBefore(*QUEUE_INDEXES.start())),
            ("q", Change::DropFrom(-7)),
            ("q", Change::DropFrom(*QUEUE_INDEXES.end())),
        ];
        changes.map(|(key, change)| (key.into(), change)).into()
    }

    fn write(change: &Change) -> String {
        let mut text = Vec::new();
        assert!(push_change(&mut text, "k", change));
        String::from_utf8(text).unwrap()
    }

    fn read(text: &str) -> Result<Change, String> {
        let record: ChangeRecord<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        record.into_change().map(|(_, change)| change)
    }

    #[test]
    fn the_bytes_of_a_change_are_frozen() {
        let three = || vec![Value::json(b"1"), Value::raw(b"\x00"), Value::json(b"\n")];
        let pairs = || ["a", "b\"", "c"].into_iter().map(SmolStr::new).zip(three()).collect::<Vec<_>>();
        for (change, text) in [
            (set(Value::json(b"1"), Some(7)), r#"{"k":"k","v":1,"x":7}"#),
            (Change::Remove, r#"{"k":"k","r":1}"#),
            (Change::SetDeadline(None), r#"{"k":"k","e":0}"#),
            (
                map(pairs(), None),
                r#"{"k":"k","m":[{"f":"a","v":1},{"f":"b\"","b":"AA=="},{"f":"c","j":"Cg=="}]}"#,
            ),
            (map(pairs()[..1].to_vec(), Some(7)), r#"{"k":"k","m":[{"f":"a","v":1}],"x":7}"#),
            (Change::SetFields(pairs()[..1].to_vec()), r#"{"k":"k","f":[{"f":"a","v":1}]}"#),
            (Change::RemoveField("a".into()), r#"{"k":"k","fr":"a"}"#),
            (
                queue(-1, three(), Some(7)),
                r#"{"k":"k","at":-1,"q":[{"v":1},{"b":"AA=="},{"j":"Cg=="}],"x":7}"#,
            ),
            (items(12, three()[..2].to_vec()), r#"{"k":"k","at":12,"i":[{"v":1},{"b":"AA=="}]}"#),
            (
                items(12, vec![Value::json(b"1").returned().returned(), Value::raw(b"\x00").returned()]),
                r#"{"k":"k","at":12,"i":[{"v":1,"n":2},{"b":"AA==","n":1}]}"#,
            ),
            (
                Change::SetFields(vec![("a".into(), Value::json(b"1").returned())]),
                r#"{"k":"k","f":[{"f":"a","v":1,"n":1}]}"#,
            ),
            (Change::DropBefore(-3), r#"{"k":"k","lo":-3}"#),
            (Change::DropFrom(0), r#"{"k":"k","hi":0}"#),
        ] {
            assert_eq!(write(&change), text);
            assert_eq!(read(text), Ok(change));
        }
    }

    #[test]
    fn the_end_that_values_were_pushed_to_is_not_stored() {
        let front = Change::SetItems { at: 3, values: values(), end: End::Front };
        assert_eq!(read(&write(&front)), Ok(items(3, values())));
    }

    #[test]
    fn a_malformed_change_is_refused() {
        for fields in [
            "",
            r#","x":1"#,
            r#","at":1"#,
            r#","r":0"#,
            r#","v":1,"b":"""#,
            r#","b":"?""#,
            r#","v":1,"r":1"#,
            r#","v":1,"at":1"#,
            r#","r":1,"x":1"#,
            r#","m":[]"#,
            r#","m":{}"#,
            r#","m":[{"v":1}]"#,
            r#","m":[{"f":"a"}]"#,
            r#","m":[{"f":"a","v":1,"b":""}]"#,
            r#","m":[{"f":"a","v":1,"x":1}]"#,
            r#","m":[{"f":"a","v":1,"n":0}]"#,
            r#","m":[{"f":"a","v":1,"n":4294967296}]"#,
            r#","v":1,"n":1"#,
            r#","m":[{"f":"a","v":1}],"f":[]"#,
            r#","m":[{"f":"a","v":1}],"at":1"#,
            r#","f":[{"f":"a","v":1}],"x":1"#,
            r#","fr":1"#,
            r#","at":1,"q":[]"#,
            r#","q":[{"v":1}]"#,
            r#","i":[{"v":1}]"#,
            r#","at":1,"i":[{"f":"a","v":1}]"#,
            r#","at":1,"i":[{"v":1}],"x":1"#,
            r#","at":1,"i":[{"v":1}],"q":[{"v":1}]"#,
            r#","at":1.5,"i":[{"v":1}]"#,
            r#","lo":1,"hi":2"#,
            r#","lo":1,"at":2"#,
            r#","lo":null"#,
        ] {
            assert!(read(&format!("{{\"k\":\"k\"{fields}}}")).is_err(), "{fields}");
        }
    }

    #[test]
    fn an_empty_key_is_refused() {
        assert!(read(r#"{"k":"","v":1}"#).is_err());
        let set = r#"{"k":"k","v":1}"#;
        assert!(read(set).is_ok());
    }

    #[test]
    fn an_index_that_no_queue_can_reach_is_refused() {
        let beyond = [
            i64::MIN,
            i64::MIN + 1,
            QUEUE_INDEXES.start() - 1,
            QUEUE_INDEXES.end() + 1,
            i64::MAX - 1,
            i64::MAX,
        ];
        for index in beyond {
            for change in [
                Change::DropBefore(index),
                Change::DropFrom(index),
                items(index, Vec::new()),
                queue(index, values(), None),
            ] {
                assert!(read(&write(&change)).is_err(), "{change:?}");
            }
        }
        assert!(read(r#"{"k":"k","lo":9223372036854775808}"#).is_err());
    }

    #[test]
    fn numbers_are_written_as_digits() {
        for number in [0, 9, 10, 1_760_000_000_000, u64::MAX] {
            let mut text = Vec::new();
            push_number(&mut text, number);
            assert_eq!(text, number.to_string().as_bytes());
        }
        for index in [i64::MIN, -1, 0, 1, i64::MAX] {
            let mut text = Vec::new();
            push_index(&mut text, "", index);
            assert_eq!(text, index.to_string().as_bytes());
        }
    }
}

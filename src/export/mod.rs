//! Exports: entries as a whole in lines of JSON, the same from every backend. `format` shows the lines.

mod format;
mod reader;
mod writer;

pub(crate) use self::reader::ExportReader;
pub(crate) use self::writer::ExportWriter;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Deadline;
    use crate::op::{WholeContent, WholeEntry, WholeQueue};
    use crate::value::Value;

    fn entry(key: &str, content: WholeContent, deadline: Option<u64>) -> WholeEntry {
        WholeEntry { key: key.into(), content, deadline: deadline.and_then(Deadline::from_millis) }
    }

    /// Entries of every kind and form.
    fn entries() -> Vec<WholeEntry> {
        let (json, raw) = (Value::json(b"[1,null]"), Value::raw(b"\xff"));
        let fields =
            vec![("".into(), json.clone()), ("f\"".into(), raw.clone()), ("x".into(), Value::json(b"\n1"))];
        let queue = |values, delayed| WholeContent::Queue(WholeQueue { values, delayed });
        let returned = raw.clone().returned().returned();
        vec![
            entry("a", WholeContent::Value(json.clone()), Some(1_760_000_060_000)),
            entry("b", WholeContent::Value(raw.clone()), None),
            entry("m", WholeContent::Map(fields), Some(7)),
            entry("q", queue(vec![json.clone(), returned], vec![(5, json.clone()), (5, raw)]), Some(8)),
            entry("q-delayed", queue(Vec::new(), vec![(u64::MAX, json)]), None),
        ]
    }

    fn write(entries: &[WholeEntry]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = ExportWriter::begin(&mut bytes, 1_760_000_000_000, "orders:");
        for entry in entries {
            writer.add(&entry.key, entry).unwrap();
        }
        writer.finish().unwrap();
        bytes
    }

    #[test]
    fn the_bytes_of_an_export_are_frozen() {
        let text = String::from_utf8(write(&entries())).unwrap();
        let frozen = r#"{"millpond":"export","version":1,"created":1760000000000,"scope":"orders:","parent":null,"sorted":true}
{"k":"a","v":[1,null],"x":1760000060000}
{"k":"b","b":"/w=="}
{"k":"m","m":[{"f":"","v":[1,null]},{"f":"f\"","b":"/w=="},{"f":"x","j":"CjE="}],"x":7}
{"k":"q","q":[{"v":[1,null]},{"b":"/w==","n":2}],"x":8}
{"k":"q","d":[{"at":5,"v":[1,null]},{"at":5,"b":"/w=="}],"+":true}
{"k":"q-delayed","d":[{"at":18446744073709551615,"v":[1,null]}]}
"#;
        let sum = crc32fast::hash(frozen.as_bytes());
        assert_eq!(text, format!("{frozen}{{\"end\":6,\"sum\":{sum}}}\n"));
    }

    #[test]
    fn every_entry_is_read_back_as_it_was_written() {
        let bytes = write(&entries());
        let read: Vec<_> = ExportReader::begin(&bytes[..], 100).unwrap().map(Result::unwrap).collect();
        assert_eq!(read, entries());
    }
}

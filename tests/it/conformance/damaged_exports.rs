//! Exports that are damaged, hostile or broken off: an import of them changes nothing.

use millpond::{Error, ExportOptions, Import, StateStore};

use super::MINUTE;
use super::exports::export;
use crate::support::backends::Context;

super::promises_that_need_the_server![
    a_damaged_export_changes_nothing,
    what_an_import_refuses_changes_nothing,
    a_failing_stream_is_reported,
];

/// Returns how an import was refused, after a check that it has changed nothing.
fn refused(store: &StateStore, export: &[u8], mode: Import) -> Error {
    let error = store.import(export, mode).unwrap_err();
    assert_eq!(store.get::<i32>("a").unwrap(), Some(1), "{error}");
    assert_eq!(store.count("").unwrap(), 1, "{error}");
    error
}

fn a_damaged_export_changes_nothing(cx: &Context) {
    let store = cx.store();
    let source = StateStore::memory();
    source.put("b", "text").unwrap();
    source.put_bytes("c", b"\xff").unwrap();
    source.map_put("m", "f", 1).unwrap();
    source.push_back_many("q", [1, 2]).unwrap();
    source.push_after("q", 3, MINUTE).unwrap();
    let saved = export(&source);
    store.put("a", 1).unwrap();
    let is_memory = matches!(store, StateStore::Memory(_));
    for length in (0..saved.len()).step_by(if is_memory { 1 } else { 17 }) {
        for mode in [Import::Replace, Import::Merge, Import::KeepExisting] {
            let error = refused(&store, &saved[..length], mode);
            assert!(matches!(error, Error::InvalidExport { .. }), "{length}: {error}");
        }
    }
    for at in (0..saved.len()).step_by(if is_memory { 1 } else { 29 }) {
        for bit in 0..8 {
            let mut flipped = saved.clone();
            flipped[at] ^= 1 << bit;
            let error = refused(&store, &flipped, Import::Replace);
            assert!(matches!(error, Error::InvalidExport { .. } | Error::InvalidKey { .. }), "{at}: {error}");
        }
    }
    let mut longer = saved.clone();
    longer.extend_from_slice(b"\n");
    refused(&store, &longer, Import::Merge);
}

fn what_an_import_refuses_changes_nothing(cx: &Context) {
    let cx = cx.open_another(|config| config.max_value_bytes(1000));
    let store = cx.store();
    store.put("a", 1).unwrap();
    let header = r#"{"millpond":"export","version":1,"created":1,"scope":"","parent":null,"sorted":true}"#;
    let whole = |lines: &[&str]| {
        let text: String = [header].iter().chain(lines).flat_map(|line| [*line, "\n"]).collect();
        let sum = crc32fast::hash(text.as_bytes());
        format!("{text}{{\"end\":{},\"sum\":{sum}}}\n", lines.len()).into_bytes()
    };
    let long_key = format!(r#"{{"k":"{}","v":1}}"#, "k".repeat(513));
    let large = format!(r#"{{"k":"b","v":"{}"}}"#, "x".repeat(1000));
    for (lines, word) in [
        (&[r#"{"k":"b","v":1}"#, r#"{"k":"b","v":2}"#][..], "line 3"),
        (&[r#"{"k":"c","v":1}"#, r#"{"k":"b","v":2}"#], "line 3"),
        (&[r#"{"k":"b","v":1,"b":"AA=="}"#], "value"),
        (&[r#"{"k":"b","v":1,"m":[]}"#], "kind of line"),
        (&[r#"{"k":"b","m":[]}"#], "never empty"),
        (&[r#"{"k":"b","q":[]}"#], "never empty"),
        (&[r#"{"k":"b","m":[{"f":"y","v":1},{"f":"x","v":1}]}"#], "sorted"),
        (&[r#"{"k":"b","m":[{"f":"y","v":1}]}"#, r#"{"k":"b","m":[{"f":"x","v":1}],"+":true}"#], "sorted"),
        (&[r#"{"k":"b","q":[{"v":1}]}"#, r#"{"k":"b","m":[{"f":"x","v":1}],"+":true}"#], "another kind"),
        (&[r#"{"k":"b","v":1,"+":true}"#], "line before"),
        (&[r#"{"k":"b","v":1}"#, r#"{"k":"b","v":1,"+":true}"#], "another kind"),
        (&[r#"{"k":"b","d":[{"at":5,"v":1},{"at":4,"v":1}]}"#], "order"),
        (&[r#"{"k":"b","v":1,"x":0}"#], "time 0"),
        (&[r#"{"k":"b","v":1,"z":0}"#], "unknown field"),
        (&[r#"{"k":"b","v":1} "#, "x"], "line 3"),
        (&[r#"{"k":"","v":1}"#], "empty"),
        (&[r#"{"k":"a\nb","v":1}"#], "control"),
        (&[r#"{"k":"__millpond:fence","v":1}"#], "reserved"),
        (&[r#"{"k":"b:__millpond:leases","v":1}"#], "reserved"),
        (&[r#"{"k":"__millpond:receipt:","v":1}"#], "empty"),
        (&[&long_key], "512"),
        (&[&large], "1000"),
    ] {
        for mode in [Import::Replace, Import::Merge] {
            let error = refused(&store, &whole(lines), mode);
            assert!(error.to_string().contains(word), "{lines:?}: {error}");
        }
    }
    for (from, to, word) in [
        ("\"version\":1", "\"version\":2", "version 2"),
        ("\"parent\":null", "\"parent\":\"x\"", "changed since"),
        ("\"sorted\":true", "\"sorted\":false", "not sorted"),
        ("\"export\"", "\"journal\"", "begin like an export"),
        ("\"end\":0", "\"end\":7", "7 lines"),
    ] {
        let text = String::from_utf8(whole(&[])).unwrap();
        let error = refused(&store, text.replace(from, to).as_bytes(), Import::Replace);
        assert!(error.to_string().contains(word), "{from}: {error}");
    }
    // A line without an end is given up long before it is read to its end.
    let endless = std::io::Read::chain(header.as_bytes(), std::io::repeat(b' '));
    let error = store.import(endless, Import::Replace).unwrap_err();
    assert!(matches!(error, Error::InvalidExport { .. }), "{error}");
    // The key is too long for this namespace.
    let key = "k".repeat(500);
    let source = StateStore::memory();
    source.put(&key, 1).unwrap();
    let error = store.namespace("a-long-namespace").import(&export(&source)[..], Import::Merge).unwrap_err();
    assert!(matches!(error, Error::InvalidKey { .. }), "{error}");
}

/// Fails after some bytes.
struct Failing(usize);

impl std::io::Write for Failing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let taken = self.0.min(bytes.len());
        self.0 -= taken;
        if taken == 0 { Err(std::io::Error::other("the pipe is closed")) } else { Ok(taken) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl std::io::Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("the pipe is closed"))
    }
}

fn a_failing_stream_is_reported(cx: &Context) {
    let store = cx.store();
    store.put("a", 1).unwrap();
    let error = store.export(Failing(10), &ExportOptions::new()).unwrap_err();
    assert!(error.to_string().contains("the pipe is closed"), "{error}");
    let saved = export(&store);
    for length in [0, 10, saved.len() - 5] {
        let cut_off = std::io::Read::chain(&saved[..length], Failing(0));
        let error = store.import(cut_off, Import::Replace).unwrap_err();
        assert!(matches!(error, Error::Stream { .. }), "{error}");
        assert_eq!(store.get::<i32>("a").unwrap(), Some(1));
    }
}

//! Every log line and error text of the crate, listed in `texts.txt`: a new or changed one must be looked at by its
//! author, beside the others.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::source::{code, files, is_test};

/// What writes a log line or makes the text of an error. What follows in parentheses is searched for texts.
const MAKERS: &[&str] = &[
    "log_later!(",
    "Error::unavailable(",
    "Error::in_doubt(",
    "Self::permanently_unavailable(",
    "Error::abandoned(",
    "Error::invalid_config(",
    "Error::Unsupported {",
    "Error::Corrupt {",
    "Failure::new(",
    "Self::new(kind, stage,",
    "ReconnectError::new(",
];

/// The texts of an error itself, and of an event.
const DISPLAYS: &[&str] = &["error/display.rs", "outage.rs"];

/// Returns the texts between the parenthesis or brace that was just opened and its end.
fn texts_in(source: &str) -> (Vec<String>, &str) {
    let (mut depth, mut texts, mut rest) = (1, Vec::new(), source);
    while let Some(at) = rest.find(['(', ')', '{', '}', '"', '\'']) {
        let (found, behind) = (rest.as_bytes()[at], &rest[at + 1..]);
        rest = behind;
        match found {
            b'(' | b'{' => depth += 1,
            b')' | b'}' => depth -= 1,
            b'"' => {
                let mut end = 0;
                while !behind[end..].starts_with('"') {
                    end += if behind[end..].starts_with('\\') { 2 } else { 1 };
                    while !behind.is_char_boundary(end) {
                        end += 1;
                    }
                }
                // A line that ends with a backslash continues with the next word.
                let words: Vec<&str> = behind[..end].split("\\\n").collect();
                let joined = words
                    .iter()
                    .enumerate()
                    .map(|(number, line)| if number == 0 { *line } else { line.trim_start() });
                texts.push(joined.collect::<String>());
                rest = &behind[end + 1..];
            }
            // A character such as '(' or '"'.
            _ if behind.as_bytes().get(1) == Some(&b'\'') => rest = &behind[2..],
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    (texts, rest)
}

/// Returns the texts of a file, each with what makes it.
fn texts_of(path: &str, source: &str) -> BTreeSet<String> {
    let source = code(source).collect::<Vec<_>>().join("\n");
    let displays = ["write!(", "write_str("];
    let more = if DISPLAYS.contains(&path) { &displays[..] } else { &[] };
    let mut found = BTreeSet::new();
    for maker in MAKERS.iter().chain(more) {
        for (at, _) in source.match_indices(maker) {
            let (texts, _) = texts_in(&source[at + maker.len()..]);
            let level = source[at + maker.len()..].trim_start().split(',').next().unwrap_or_default();
            let kind = if *maker == "log_later!(" { level } else { "error" };
            found.extend(
                texts
                    .iter()
                    .filter(|text| text.contains(' ') && text.chars().any(char::is_alphabetic))
                    .map(|text| format!("{path}: {kind}: {text}")),
            );
        }
    }
    found
}

fn all_texts() -> BTreeSet<String> {
    let sources = files("src");
    let library = sources.iter().filter(|(path, _)| !is_test(path));
    library.flat_map(|(path, source)| texts_of(path, source)).collect()
}

#[test]
fn every_text_is_listed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/tidy/texts.txt");
    let (texts, listed) = (all_texts(), fs::read_to_string(&path).unwrap_or_default());
    let listed: BTreeSet<String> = listed.lines().map(str::to_owned).collect();
    if std::env::var_os("MILLPOND_LIST_TEXTS").is_some() {
        let all: Vec<String> = texts.into_iter().collect();
        return fs::write(path, all.join("\n") + "\n").expect("the list can be written");
    }
    let new: Vec<_> = texts.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&texts).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "look at each text: does it name the server or the path, say what serves and what is at risk, and is it enough \
         to act on? Then run this test with MILLPOND_LIST_TEXTS=1.\nnew: {new:#?}\ngone: {gone:#?}"
    );
}

#[test]
fn every_log_line_about_a_server_names_it() {
    for text in all_texts().iter().filter(|text| !text.contains(": error: ")) {
        let is_of_server = ["backend/redis", "backend/fallback"].iter().any(|room| text.starts_with(room));
        // The files of a queue are named by their directory.
        let names_it = text.contains("Redis {") || text.contains(" in {path}");
        assert!(!is_of_server || names_it, "it names no server: {text}");
    }
}

#[test]
fn numbers_and_durations_are_for_people() {
    for text in all_texts() {
        for raw in ["elapsed:?", "waited:?", "timeout:?", "duration:?", ":.0?"] {
            assert!(!text.contains(raw), "a duration as the debugger shows it: {text}");
        }
        for raw in [" 1 operations", "} operations", "} writes", "} bytes (", "1 entries"] {
            let is_counted = text.contains("{count} queued operations") || text.contains("entries were done");
            assert!(is_counted || !text.contains(raw), "a number of things that may be one: {text}");
        }
    }
}

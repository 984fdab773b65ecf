//! One name for one thing, and plain sentences: what `docs/glossary.md` asks for.

use std::collections::BTreeMap;

use super::source::{code, files, is_test};

/// Names that two types may share, and why.
const SHARED_NAMES: [(&str, &str); 1] = [(
    "Value",
    "the public handle on a value and the value that is stored are one word for users and for backends",
)];

/// Phrases that a reader must read twice, or that name nothing.
const BANNED: [&str; 8] =
    ["who finds", "whoever", "what waits", " is to be ", " are to be ", " anew", "what lies", "is told"];

/// Returns the name of the type that a line declares.
fn declared_type(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub ")).unwrap_or(line);
    let rest = ["struct ", "enum ", "trait ", "type "].iter().find_map(|word| line.strip_prefix(word))?;
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    Some(&rest[..end])
}

#[test]
fn no_type_name_is_declared_twice() {
    let mut declared: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, source) in files("src").iter().filter(|(path, _)| !is_test(path)) {
        // Types inside a function or an implementation have its name before theirs. Macros that declare types are
        // called at the top level, so that one level of indentation counts if the line is public.
        let is_declaration =
            |line: &&str| !line.starts_with([' ', '/']) || line.starts_with("    pub struct ");
        let top_level: Vec<&str> = source.lines().filter(is_declaration).map(str::trim_start).collect();
        let top_level = top_level.join("\n");
        for name in code(&top_level).filter_map(declared_type) {
            declared.entry(name.to_owned()).or_default().push(path.clone());
        }
    }
    for (name, paths) in declared {
        let is_allowed = SHARED_NAMES.iter().any(|(shared, _)| *shared == name);
        assert!(paths.len() == 1 || is_allowed, "{name} is declared in {paths:?}");
    }
}

#[test]
fn comments_name_the_noun() {
    for directory in ["src", "tests", "benches/src", "examples"] {
        for (path, source) in files(directory).iter().filter(|(path, _)| !path.ends_with("tidy/words.rs")) {
            for (number, line) in source.lines().enumerate() {
                let comment = line.find("//").map_or("", |at| &line[at..]).to_lowercase();
                for phrase in BANNED {
                    let at = number + 1;
                    assert!(!comment.contains(phrase), "{directory}/{path}:{at} says {phrase:?}: {line}");
                }
            }
        }
    }
}

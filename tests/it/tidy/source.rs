//! Reads the source of this package, and finds what a file imports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Returns the Rust files below a directory of this package, by their path in it.
pub(super) fn files(directory: &str) -> BTreeMap<String, String> {
    fn collect(directory: &Path, root: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(directory).expect("a directory of this package") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_dir() {
                collect(&path, root, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
                found.insert(name, fs::read_to_string(&path).expect("a source file"));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut found = BTreeMap::new();
    collect(&root, &root, &mut found);
    assert!(!found.is_empty(), "no files in {directory}");
    found
}

/// Returns whether a file holds unit tests only.
pub(super) fn is_test(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs")
}

/// Returns the source without its unit tests, which may import what they like.
fn without_tests(source: &str) -> &str {
    source.split_once("\n#[cfg(test)]\nmod tests").map_or(source, |(library, _)| library)
}

/// Returns the lines of code: no comments, no documentation, no unit tests.
pub(super) fn code(source: &str) -> impl Iterator<Item = &str> {
    without_tests(source).lines().map(str::trim_start).filter(|line| !line.starts_with("//"))
}

/// Returns the module of a file: `backend/mod.rs` is `backend`, `key.rs` is `key`, and `lib.rs` is empty.
pub(super) fn module(path: &str) -> &str {
    let module = path.trim_end_matches(".rs");
    match module.strip_suffix("/mod").unwrap_or(module) {
        "lib" => "",
        module => module,
    }
}

/// Returns the modules of this crate that the file of a module imports, by `use` or by a path in its code.
pub(super) fn imports(own: &str, source: &str, modules: &BTreeSet<String>) -> BTreeSet<String> {
    let text = code(source).collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in text.match_indices(start) {
            let is_whole =
                !text[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | ':'));
            if is_whole {
                for path in paths(&text[at..]) {
                    found.extend(resolve(own, &path, modules));
                }
            }
        }
    }
    found.remove(own);
    found
}

/// Returns the paths that a text begins with: `a::{b::C, d}` is `[a, b, C]` and `[a, d]`.
fn paths(text: &str) -> Vec<Vec<String>> {
    let text = text.trim_start();
    if let Some(group) = text.strip_prefix('{') {
        return group_members(group).into_iter().flat_map(paths).collect();
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return Vec::new();
    }
    let behind = rest.strip_prefix("::").map(paths).unwrap_or_default();
    if behind.is_empty() {
        return vec![vec![name.to_owned()]];
    }
    behind.into_iter().map(|path| [vec![name.to_owned()], path].concat()).collect()
}

/// Splits what follows a `{` at the commas of that group.
fn group_members(text: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut members) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            ',' if depth == 0 => {
                members.push(&text[begin..at]);
                begin = at + 1;
            }
            '}' if depth == 0 => {
                members.push(&text[begin..at]);
                break;
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    members
}

/// Returns the module that a path names, or in which it names something.
fn resolve(own: &str, path: &[String], modules: &BTreeSet<String>) -> Option<String> {
    let mut base: Vec<&str> = own.split('/').filter(|part| !part.is_empty()).collect();
    let mut rest = path.iter().map(String::as_str).peekable();
    match rest.next()? {
        "crate" => base.clear(),
        "super" => drop(base.pop()),
        _ => {}
    }
    while rest.next_if_eq(&"super").is_some() {
        base.pop();
    }
    base.extend(rest);
    (1..=base.len()).rev().map(|length| base[..length].join("/")).find(|name| modules.contains(name))
}

#[test]
fn imports_are_found_in_every_spelling() {
    let modules = ["a", "a/b", "a/b/c", "d", "e"].map(str::to_owned).into();
    let source = "//! crate::e\nuse crate::a::b::{self, c::C, D};\n// crate::e\nlet x = super::b::c::f(crate::d::G);\n\
                  use super::super::{d, e::{F, G}};\n$crate::e";
    assert_eq!(imports("a/b", source, &modules), ["a/b/c", "d", "e"].map(str::to_owned).into());
    assert_eq!(imports("d", "use crate::d::X;\nuse crate::unknown;", &modules), BTreeSet::new());
}

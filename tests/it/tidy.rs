//! What the source itself has to hold: layers, sizes, and where the world is touched.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers from the lowest up. A file imports only from lower ones; equals never import each other,
/// unless one is the parent of the other or they lie under one directory that is a single layer.
const LAYERS: [&[&str]; 11] = [
    &["bytes"],
    &["error"],
    &["key", "value", "clock", "util"],
    &["json", "op"],
    &["config", "outage"],
    &["backend/local"],
    &["backend"],
    &["backend/memory", "backend/file", "backend/redis"],
    &["backend/fallback"],
    &["store"],
    &["lib"],
];

const MOST_LINES: usize = 500;

fn files(directory: &str) -> BTreeMap<String, String> {
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

/// The source without its unit tests, which may use what they like.
fn without_tests(source: &str) -> &str {
    source.split_once("\n#[cfg(test)]\nmod tests").map_or(source, |(library, _)| library)
}

/// The lines of code: no comments, no documentation.
fn code(source: &str) -> impl Iterator<Item = &str> {
    without_tests(source).lines().map(str::trim_start).filter(|line| !line.starts_with("//"))
}

/// The module that a file belongs to for its layer, and how high that lies.
fn layer(path: &str) -> Option<(usize, &'static str)> {
    let layers = LAYERS.iter().enumerate();
    let named = layers.flat_map(|(height, names)| names.iter().map(move |name| (height, *name)));
    named
        .filter(|(_, name)| {
            path == *name || path.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'))
        })
        .max_by_key(|(_, name)| name.len())
}

/// The modules of this crate that a file imports, as paths: `crate::backend::local::plan` is
/// `backend/local/plan`.
fn imports(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in code(source) {
        for (at, _) in line.match_indices("crate::") {
            if line[..at].ends_with(['$', '_']) {
                continue;
            }
            let rest = &line[at + "crate::".len()..];
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
            let module: Vec<&str> = rest[..end]
                .split("::")
                .take_while(|part| part.starts_with(|first: char| first.is_lowercase()))
                .collect();
            if rest[end..].starts_with('{') && module.iter().all(|part| part.is_empty()) {
                found.push("use crate::{…}: name one module a line".to_owned());
            }
            found.push(module.join("/").trim_end_matches('/').to_owned());
        }
    }
    found.retain(|module| !module.is_empty());
    found
}

#[test]
fn every_file_imports_from_lower_layers_only() {
    for (path, source) in files("src") {
        let module = path.trim_end_matches(".rs").trim_end_matches("/mod");
        let (height, name) = layer(module).unwrap_or_else(|| panic!("{path} belongs to no layer"));
        for import in imports(&source) {
            let (below, imported) = layer(&import).unwrap_or_else(|| panic!("{path} imports {import}"));
            assert!(below < height || imported == name, "{path} imports {import}, which is not below it");
        }
    }
}

#[test]
fn no_file_is_too_long() {
    for directory in ["src", "tests"] {
        for (path, source) in files(directory) {
            let lines = source.lines().count();
            assert!(lines <= MOST_LINES, "{directory}/{path} has {lines} lines");
        }
    }
}

#[test]
fn every_file_says_at_its_head_what_it_is() {
    for directory in ["src", "tests"] {
        for (path, source) in files(directory) {
            assert!(source.starts_with("//! "), "{directory}/{path} has no head");
        }
    }
}

/// Asserts that no file outside `allowed` names any of `words`.
fn only_in(words: &[&str], allowed: impl Fn(&str) -> bool) {
    for (path, source) in files("src").iter().filter(|(path, _)| !allowed(path)) {
        for line in code(source) {
            for word in words {
                let named = line.match_indices(word).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':'))
                });
                assert!(!named, "{path} names {word}: {line}");
            }
        }
    }
}

#[test]
fn redis_is_named_only_by_its_backend() {
    // `config/mod.rs` has a module of its own by that name.
    for (path, source) in files("src").iter().filter(|(path, _)| !path.starts_with("backend/redis")) {
        for line in code(source).filter(|line| !path.starts_with("config/") || line.starts_with("use ")) {
            let foreign = ["use redis::", "use r2d2::", "::redis::Client", "r2d2::", " redis::cmd"];
            assert!(!foreign.iter().any(|word| line.contains(word)), "{path}: {line}");
        }
    }
}

#[test]
fn files_are_touched_only_by_the_file_backend() {
    only_in(&["std::fs", "fs::", "OpenOptions"], |path| {
        path.starts_with("backend/file") || path == "backend/redis/connect/tls.rs"
    });
}

#[test]
fn the_system_clock_is_read_in_one_place() {
    only_in(&["SystemTime::now", "std::time::SystemTime::now"], |path| path == "clock.rs");
}

#[test]
fn nothing_is_left_to_do_and_no_test_is_skipped() {
    let words = ["TODO", "FIXME", "XXX", "HACK"].map(|word| format!("{word}:"));
    let bare = [["TO", "DO"].concat(), ["FIX", "ME"].concat()];
    let ignored = ["#[ign", "ore"].concat();
    for directory in ["src", "tests"] {
        for (path, source) in files(directory).iter().filter(|(path, _)| !path.ends_with("tidy.rs")) {
            for word in words.iter().chain(&bare).chain([&ignored]) {
                assert!(!source.contains(word.as_str()), "{directory}/{path} holds {word}");
            }
        }
    }
}

#[test]
fn the_rules_of_this_file_see_what_they_are_to_see() {
    let source =
        "//! x\nuse crate::backend::local::plan::plan;\n// crate::store\nlet x = crate::json::eq(a);\n";
    assert_eq!(imports(source), ["backend/local/plan/plan", "json/eq"]);
    assert_eq!(layer("backend/local/plan").map(|(_, name)| name), Some("backend/local"));
    assert_eq!(layer("backend").map(|(_, name)| name), Some("backend"));
    assert_eq!(layer("nothing"), None);
}

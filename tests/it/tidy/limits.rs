//! Sizes, heads of files, and where the outside world is touched.

use super::source::{code, files};

const MAX_LINES: usize = 500;

#[test]
fn no_file_is_too_long() {
    for directory in ["src", "tests"] {
        for (path, source) in files(directory) {
            let lines = source.lines().count();
            assert!(lines <= MAX_LINES, "{directory}/{path} has {lines} lines");
        }
    }
}

/// A reader should see in one page what this is; the guides have the rest.
#[test]
fn the_readme_is_one_page() {
    let lines = include_str!("../../../README.md").lines().count();
    assert!(lines <= 150, "the README has {lines} lines");
}

#[test]
fn every_file_begins_with_its_purpose() {
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
            let foreign = ["use redis::", "::redis::Client", " redis::cmd"];
            assert!(!foreign.iter().any(|word| line.contains(word)), "{path}: {line}");
        }
    }
}

#[test]
fn files_are_touched_only_by_the_file_backend() {
    only_in(&["std::fs", "fs::", "File::options"], |path| {
        path.starts_with("backend/file")
            || matches!(path, "backend/redis/connect/tls.rs" | "backend/redis/connect/credential_file.rs")
    });
}

#[test]
fn log_lines_are_written_in_one_place() {
    // The logger may use the store: `log_later!` notes a line until its thread holds no lock.
    let words = ["trace", "debug", "info", "warn", "error", "log"].map(|level| format!("log::{level}!"));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    only_in(&[&words[..], &["log::logger"]].concat(), |path| path == "util/log_later.rs");
}

#[test]
fn threads_are_started_in_one_place() {
    only_in(&["thread::spawn", "thread::Builder"], |path| path == "util/threads.rs");
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
        for (path, source) in files(directory).iter().filter(|(path, _)| !path.starts_with("it/tidy")) {
            for word in words.iter().chain(&bare).chain([&ignored]) {
                assert!(!source.contains(word.as_str()), "{directory}/{path} holds {word}");
            }
        }
    }
}

//! What the guides say is missing, and what the library offers.

use std::fs;
use std::path::Path;

use super::source::{code, files};

/// Returns the names in backticks of a text.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn what_the_guide_to_migrating_calls_missing_is_missing() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide/migrating.md");
    let guide = fs::read_to_string(path).expect("the guide");
    let store = files("src/store");
    let is_offered = |name: &str| {
        let method = format!("pub fn {name}");
        let declares =
            |line: &str| line.strip_prefix(method.as_str()).is_some_and(|rest| rest.starts_with(['(', '<']));
        store.values().any(|source| code(source).any(declares))
    };
    let mut missing = 0;
    for line in guide.lines() {
        let Some(list) = line.strip_prefix("- **Missing here**: ") else { continue };
        // Behind its first sentence it says what there is instead.
        let list = list.split(". ").next().expect("a sentence");
        for name in names(list) {
            missing += 1;
            assert!(!is_offered(name), "the guide to migrating calls {name} missing");
        }
    }
    assert!(missing > 0 && is_offered("put") && is_offered("export"), "the search finds what there is");
}

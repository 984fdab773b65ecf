//! The bounds of a store in memory, and why other variants refuse them.

use millpond::inspection::Severity;
use millpond::{Error, MemoryOptions, StateBackend, StateConfig, StateStore, WhenFull};

#[test]
fn bounds_are_refused_for_other_variants_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    for backend in [StateBackend::file(dir.path()), StateBackend::redis("redis://127.0.0.1:1")] {
        for (options, field) in [
            (MemoryOptions::default().max_entries(5), "memory.max_entries"),
            (MemoryOptions::default().max_bytes(4096), "memory.max_bytes"),
            (MemoryOptions::default().when_full(WhenFull::Evict), "memory.when_full"),
        ] {
            let config = StateConfig::default().backend(backend.clone()).memory(options);
            let error = StateStore::with_config(config.clone()).unwrap_err();
            let Error::InvalidConfig { field: named, reason, .. } = &error else { panic!("{error:?}") };
            assert_eq!(named, field);
            assert!(reason.contains("only a store in memory") && reason.contains("maxmemory"), "{reason}");
            assert!(config.lint().iter().any(|finding| finding.severity == Severity::Critical));
        }
    }
    let error = StateConfig::from_url("file:./x?max_entries=5").unwrap_err();
    assert!(error.to_string().contains("only a store in memory"), "{error}");
    assert!(dir.path().read_dir().unwrap().next().is_none(), "nothing was opened");
}

#[test]
fn bounds_that_hold_nothing_are_refused() {
    for (options, field) in [
        (MemoryOptions::default().max_entries(0), "memory.max_entries"),
        (MemoryOptions::default().max_bytes(1023), "memory.max_bytes"),
    ] {
        let error = StateStore::with_config(StateConfig::default().memory(options)).unwrap_err();
        assert!(matches!(&error, Error::InvalidConfig { field: named, .. } if named == field), "{error}");
    }
}

#[test]
fn the_lint_warns_of_eviction_and_of_eviction_without_a_bound() {
    let lint = |url: &str| {
        let findings = StateConfig::from_url(url).unwrap().lint();
        findings.into_iter().map(|finding| (finding.severity, finding.topic)).collect::<Vec<_>>()
    };
    assert_eq!(lint("memory:?max_entries=9"), []);
    assert_eq!(lint("memory:?max_entries=9&when_full=evict"), [(Severity::Warning, "eviction")]);
    assert_eq!(lint("memory:?when_full=evict"), [(Severity::Info, "eviction")]);
}

//! What a store tells about itself: health, server, memory, findings.

use std::time::Duration;

use millpond::Severity;

use crate::support::backends::{Backend, Context};

promises![memory_usage_of_a_prefix_counts_its_entries, cleanup_expired_frees_what_has_expired,];

mod with_the_server {
    use super::*;

    crate::conformance::promises_that_need_the_server![
        a_working_store_is_healthy,
        a_health_check_that_writes_leaves_nothing,
        server_info_names_the_backend,
        memory_usage_grows_with_the_entries,
        the_doctor_finds_nothing_critical,
        after_close_nothing_is_told,
    ];
}

fn backend_of(cx: &Context) -> &'static str {
    match cx.case().backend {
        Backend::Memory => "memory",
        Backend::File | Backend::FileReopened => "file",
        #[cfg(feature = "redis")]
        Backend::Redis | Backend::RedisOnce | Backend::Away => "redis",
    }
}

fn a_working_store_is_healthy(cx: &Context) {
    let health = cx.store().health_check().unwrap();
    assert!(health.healthy, "{health}");
    assert_eq!(health.role.as_deref(), (backend_of(cx) == "redis").then_some("master"));
    assert!(health.to_string().starts_with("healthy: "), "{health}");
}

fn a_health_check_that_writes_leaves_nothing(cx: &Context) {
    let store = cx.store();
    store.put("k", 1).unwrap();
    let before = store.memory_usage().unwrap();
    let health = store.health_check_write().unwrap();
    assert!(health.healthy, "{health}");
    assert_eq!(store.keys("").unwrap(), ["k"]);
    if backend_of(cx) != "redis" {
        let after = store.memory_usage().unwrap();
        assert_eq!((after.entries, after.bytes, after.overhead), (1, before.bytes, before.overhead));
    }
}

fn server_info_names_the_backend(cx: &Context) {
    let info = cx.store().server_info().unwrap();
    assert_eq!(info.backend, backend_of(cx));
    match backend_of(cx) {
        "memory" => assert!(info.fields.is_empty() && info.version.is_none()),
        "file" => {
            assert_eq!(info.version.as_deref(), Some("1"));
            let names: Vec<_> = info.fields.keys().map(String::as_str).collect();
            assert_eq!(names, ["directory", "format", "journal_bytes", "snapshot_bytes", "sync"]);
            assert_eq!(info.address.as_ref(), info.fields.get("directory"));
            assert_ne!(info.fields["journal_bytes"], "0");
        }
        _ => {
            assert!(info.version.is_some() && info.clients.is_some_and(|clients| clients > 0), "{info:?}");
            assert_eq!((info.role.as_deref(), info.replicas), (Some("master"), Some(0)));
            assert!(info.uptime.is_some() && info.used_memory > Some(0) && info.aof.is_some());
            assert_eq!(info.last_save_ok, Some(true));
            assert_eq!(info.eviction_policy.as_ref(), info.fields.get("maxmemory_policy"));
        }
    }
}

fn memory_usage_grows_with_the_entries(cx: &Context) {
    let store = cx.store();
    let before = store.memory_usage().unwrap();
    let values: Vec<_> = (0..100).map(|n| (format!("k{n:03}"), "x".repeat(1000))).collect();
    store.batch_put(values).unwrap();
    let store = cx.store();
    let after = store.memory_usage().unwrap();
    // With `exactly_once` the first write also makes the reply cache, which is a key of the server.
    let own = u64::from(backend_of(cx) == "redis");
    assert!((100..=100 + own).contains(&(after.entries - before.entries)), "{before:?} {after:?}");
    assert!(after.to_string().contains("entries, "), "{after}");
    if backend_of(cx) == "redis" {
        let server = after.server.unwrap();
        // A server that other tests use too grows and shrinks.
        assert!(server.used > 0 && server.peak >= server.used && server.max.is_none(), "{server:?}");
        return;
    }
    // Each entry is its key, its value in quotes, and what a line of the files needs beside them.
    let grown = after.bytes - before.bytes;
    assert!((100 * 1006..100 * 1100).contains(&grown), "{grown}");
    assert!(after.overhead > before.overhead);
    assert_eq!((after.disk > 100_000, after.server), (backend_of(cx) == "file", None));
    let all = store.memory_usage_of("").unwrap();
    assert_eq!((all.entries, all.bytes, all.overhead), (after.entries, after.bytes, after.overhead));
    store.clear().unwrap();
    assert_eq!(store.memory_usage().unwrap().bytes, before.bytes);
}

fn memory_usage_of_a_prefix_counts_its_entries(cx: &Context) {
    let store = cx.store();
    store.put("a:value", "x".repeat(10_000)).unwrap();
    store.map_put("a:map", "field", "x".repeat(1000)).unwrap();
    store.push_back("a:queue", 1).unwrap();
    store.put_bytes("b", &[0; 10]).unwrap();
    store.namespace("n").put("a:inner", 1).unwrap();
    let store = cx.store();
    let value = store.memory_usage_of("a:value").unwrap();
    assert!(value.entries == 1 && (10_000..12_000).contains(&value.bytes), "{value:?}");
    let all = store.memory_usage_of("a:").unwrap();
    assert!(all.entries == 3 && all.bytes > value.bytes + 1000, "{all:?}");
    assert_eq!(store.memory_usage_of("absent").unwrap().entries, 0);
    assert_eq!(store.namespace("n").memory_usage_of("").unwrap().entries, 1);
}

fn cleanup_expired_frees_what_has_expired(cx: &Context) {
    let store = cx.store();
    for n in 0..1000 {
        store.put_with_ttl(format!("short:{n}"), n, Duration::from_secs(60)).unwrap();
    }
    store.put("kept", 1).unwrap();
    drop(store);
    cx.advance(Duration::from_secs(61));
    let store = cx.store();
    let on_server = !cx.clock_is_manual();
    let removed = store.cleanup_expired().unwrap();
    // A File store that was just opened has no expired entries any more, and a server frees them by itself.
    let expected = if on_server || cx.case().backend == Backend::FileReopened { 0 } else { 1000 };
    assert_eq!(removed, expected);
    assert_eq!(store.cleanup_expired().unwrap(), 0);
    assert_eq!(store.keys("").unwrap(), ["kept"]);
    if !on_server {
        assert_eq!(store.memory_usage().unwrap().entries, 1);
    }
}

fn the_doctor_finds_nothing_critical(cx: &Context) {
    let findings = cx.store().doctor().unwrap();
    assert!(findings.iter().all(|finding| finding.severity < Severity::Critical), "{findings:?}");
    if backend_of(cx) != "redis" {
        assert!(findings.is_empty(), "{findings:?}");
    }
}

fn after_close_nothing_is_told(cx: &Context) {
    let store = cx.store();
    store.close().unwrap();
    assert!(store.health_check().unwrap_err().is_closed());
    assert!(store.health_check_write().unwrap_err().is_closed());
    assert!(store.server_info().unwrap_err().is_closed());
    assert!(store.memory_usage().unwrap_err().is_closed());
    assert!(store.memory_usage_of("").unwrap_err().is_closed());
    assert!(store.cleanup_expired().unwrap_err().is_closed());
    assert!(store.doctor().unwrap_err().is_closed());
}

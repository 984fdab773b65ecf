//! Entries that take the place of others on a server, while other clients write and when the server refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use millpond::{Error, ExportOptions, Import, StateStore};

use crate::support::backends::HOUR;
use crate::support::proxied_server::ProxiedServer;
use crate::support::proxy::{Mode, Way};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{memory, open, options, patient, wait_for};

fn exported(store: &StateStore) -> Vec<u8> {
    let mut text = Vec::new();
    store.export(&mut text, &ExportOptions::new()).unwrap();
    text
}

/// Returns the lines of the entries, without the times of the exports.
fn entries(text: &[u8]) -> Vec<String> {
    let lines = std::str::from_utf8(text).unwrap().lines();
    lines.filter(|line| line.starts_with("{\"k\"")).map(ToOwned::to_owned).collect()
}

/// Fills a store with every kind of entry.
fn fill(store: &StateStore) {
    for n in 0..50 {
        store.put(format!("value:{n}"), n).unwrap();
        store.map_put(format!("map:{n}"), "field", n).unwrap();
    }
    store.put_with_ttl("expires", "x", HOUR).unwrap();
    store.push_back_many("queue", 0..5).unwrap();
    let lease = store.lease::<i64>("queue", HOUR).unwrap().unwrap();
    assert!(lease.nack().unwrap());
    drop(lease);
    let lease = store.lease::<i64>("queue", HOUR).unwrap().unwrap();
    assert_eq!((*lease.value(), lease.attempts()), (0, 2));
    std::mem::forget(lease);
    store.push_after("queue", "later", HOUR).unwrap();
    store.push_after("delayed", "later", HOUR).unwrap();
    store.push_back("large", "x".repeat(3 << 20)).unwrap();
    for _ in 0..3 {
        store.push_back("large", "y".repeat(300_000)).unwrap();
    }
    let large: BTreeMap<String, String> = (0..3000).map(|n| (format!("{n}"), "z".repeat(500))).collect();
    store.map_put_many("large map", &large).unwrap();
}

/// The keys under which entries are staged, and what is kept of calls.
fn staged(raw: &RawClient) -> Vec<String> {
    raw.run("KEYS", &["*:staged:*"])
}

#[test]
fn an_export_that_is_imported_is_exported_the_same() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let store = open(&server.url(0), patient(options())).unwrap();
    let (from, to) = (store.namespace("from"), store.namespace("to"));
    fill(&from);
    let text = exported(&from);
    let all = entries(&text);
    let keys: BTreeSet<&str> = all.iter().filter_map(|line| line.split('"').nth(3)).collect();
    assert_eq!(keys.len(), 105, "a large entry has several lines");
    for mode in [Import::Replace, Import::Merge, Import::KeepExisting] {
        to.put("old", 1).unwrap();
        let imported = to.import(&text[..], mode).unwrap();
        let (written, skipped) = if mode == Import::KeepExisting { (0, 105) } else { (105, 0) };
        assert_eq!((imported.entries, imported.skipped), (written, skipped), "{mode:?}");
        assert_eq!(to.delete("old").unwrap(), mode != Import::Replace, "{mode:?}");
        assert_eq!(entries(&exported(&to)), all, "{mode:?}");
        assert_eq!(staged(&raw), [""; 0], "{mode:?}");
    }
    let lease = to.lease::<i64>("queue", HOUR).unwrap().unwrap();
    assert_eq!((*lease.value(), lease.attempts()), (0, 3), "as if its lease had ended");
    assert_eq!(to.lease::<i64>("queue", HOUR).unwrap().unwrap().attempts(), 1);
    assert!(to.ttl("expires").unwrap().is_some());
    assert_eq!(entries(&exported(&from)), all, "another namespace is as it was");
}

#[test]
fn nothing_survives_a_replacement_however_other_clients_write() {
    let server = RedisServer::start();
    let store = open(&server.url(0), patient(options())).unwrap();
    let saved = StateStore::memory();
    for n in 0..300 {
        saved.put(format!("new:{n}"), n).unwrap();
    }
    let text = exported(&saved);
    for round in 0..10 {
        store.namespace("scope").put("state", "old").unwrap();
        store.put("outside", round).unwrap();
        let begun = AtomicBool::new(false);
        thread::scope(|scope| {
            for writer in 0..8 {
                let (begun, url) = (&begun, server.url(0));
                scope.spawn(move || {
                    // It writes new keys until it sees the new state, and none afterwards.
                    const SCRIPT: &str = "
                        if redis.call('EXISTS', 't:scope:state') == 0 then return 0 end
                        redis.call('SET', KEYS[1], 1)
                        redis.call('RPUSH', KEYS[1] .. ':__millpond:leased', 1)
                        return 1";
                    let client = redis::Client::open(url).unwrap();
                    let mut connection = client.get_connection().unwrap();
                    for n in 0.. {
                        let mut write = redis::cmd("EVAL");
                        write.arg(SCRIPT).arg(1).arg(format!("t:scope:junk:{writer}:{n}"));
                        if write.query::<i64>(&mut connection).unwrap() == 0 {
                            return;
                        }
                        begun.store(n > 20 || begun.load(Ordering::Relaxed), Ordering::Relaxed);
                    }
                });
            }
            while !begun.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            let imported = store.namespace("scope").import(&text[..], Import::Replace).unwrap();
            assert!(imported.removed > 20 && imported.entries == 300, "{imported:?}");
        });
        assert_eq!(entries(&exported(&store.namespace("scope"))), entries(&text), "round {round}");
        assert_eq!(store.get::<i32>("outside").unwrap(), Some(round));
    }
    let raw = RawClient::connect(&server.url(0));
    assert_eq!(raw.run::<_, Vec<String>>("KEYS", &["t:scope:*__millpond*"]), [""; 0]);
}

#[test]
fn a_server_that_refuses_is_as_it_was() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let saved = StateStore::memory();
    saved.put("a", "new").unwrap();
    saved.push_back("q", 1).unwrap();
    saved.push_after("q", 2, HOUR).unwrap();
    let text = exported(&saved);
    for denied in [
        "-unlink",
        "-rename",
        "-persist",
        "-pexpireat",
        "-multi",
        "-scan",
        "-evalsha",
        "-eval -evalsha",
        "-rpush",
        "-zadd",
    ] {
        raw.flush();
        let mut rules = vec!["SETUSER", "app", "reset", "on", ">secret", "~*", "&*", "+@all"];
        rules.extend(denied.split(' '));
        raw.run::<_, ()>("ACL", &rules);
        let url = format!("redis://app:secret@127.0.0.1:{}", server.port());
        let Ok(store) = open(&url, patient(options())) else { continue };
        raw.set("t:n:a", "1");
        raw.set("t:n:old", "2");
        for mode in [Import::Replace, Import::Merge] {
            let outcome = store.namespace("n").import(&text[..], mode);
            if denied == "-evalsha" || (denied == "-scan" && mode == Import::Merge) {
                continue;
            }
            assert!(outcome.is_err(), "{denied} {mode:?}: {outcome:?}");
            let kept = (raw.get("t:n:a"), raw.get("t:n:old"), raw.exists("t:n:q"));
            assert_eq!(kept, (Some(b"1".to_vec()), Some(b"2".to_vec()), false), "{denied} {mode:?}");
        }
    }
    // A user that may not write all of the keys changes none.
    raw.flush();
    raw.run::<_, ()>(
        "ACL",
        &["SETUSER", "app", "reset", "on", ">secret", "~t:__millpond*", "~t:n:a", "+@all"],
    );
    let store = open(&format!("redis://app:secret@127.0.0.1:{}", server.port()), patient(options()));
    if let Ok(store) = store {
        raw.set("t:n:a", "1");
        for mode in [Import::Replace, Import::Merge] {
            let outcome = store.namespace("n").import(&text[..], mode);
            assert!(matches!(outcome, Err(Error::Denied { .. } | Error::Partial { .. })), "{outcome:?}");
            assert_eq!((raw.get("t:n:a"), raw.exists("t:n:q")), (Some(b"1".to_vec()), false));
            assert_eq!(staged(&raw), [""; 0]);
        }
    }
}

#[test]
fn a_full_server_is_as_it_was() {
    let server = RedisServer::start_with(&["--maxmemory-policy", "noeviction"]);
    let raw = RawClient::connect(&server.url(0));
    let store = open(&server.url(0), patient(options())).unwrap();
    store.namespace("n").put("a", "old").unwrap();
    let saved = StateStore::memory();
    saved.put("a", "new").unwrap();
    let text = exported(&saved);
    raw.run::<_, ()>("CONFIG", &["SET", "maxmemory", "1"]);
    for mode in [Import::Replace, Import::Merge] {
        let error = store.namespace("n").import(&text[..], mode).unwrap_err();
        assert!(matches!(error, Error::Server { .. }), "{error:?}");
        assert_eq!(raw.get("t:n:a"), Some(b"\"old\"".to_vec()));
    }
}

#[test]
fn more_than_one_step_can_hold_is_refused_before_anything_changes() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let store = open(&server.url(0), patient(options())).unwrap();
    let saved = StateStore::memory();
    saved.put("a", 1).unwrap();
    let text = exported(&saved);
    let fill = "for n = 1, tonumber(ARGV[1]) do redis.call('SET', 't:n:' .. n, n) end";
    raw.run::<_, ()>("EVAL", &[fill, "0", "19999"]);
    assert_eq!(store.namespace("n").import(&text[..], Import::Replace).unwrap().removed, 19_999);
    raw.run::<_, ()>("EVAL", &[fill, "0", "20000"]);
    let error = store.namespace("n").import(&text[..], Import::Replace).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }) && error.to_string().contains("20000"), "{error}");
    assert_eq!(store.namespace("n").count("").unwrap(), 20_001);
    assert_eq!(staged(&raw), [""; 0]);
    let whole = StateStore::open(format!("{}?key_prefix=", server.url(0)));
    if let Ok(whole) = whole {
        let error = whole.import(&text[..], Import::Replace).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    }
}

#[test]
fn a_server_killed_in_the_middle_holds_the_old_or_the_new_state() {
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let (old, new) = (StateStore::memory(), StateStore::memory());
    for n in 0..500 {
        old.put(format!("{n}"), "old").unwrap();
        new.put(format!("{}", n + 250), "new").unwrap();
    }
    let (old, new) = (exported(&old), exported(&new));
    let mut rounds = 0;
    // When the server dies is left to chance; it dies later each time, until a replacement has come to its end.
    loop {
        let store = open(&server.url(0), patient(memory())).unwrap();
        let begun = Instant::now();
        store.namespace("n").import(&old[..], Import::Replace).unwrap();
        let lasts = begun.elapsed();
        let outcome = thread::scope(|scope| {
            let importing = scope.spawn(|| store.namespace("n").import(&new[..], Import::Replace));
            thread::sleep(lasts * rounds / 4);
            server.kill();
            importing.join().unwrap()
        });
        drop(store);
        server.restart();
        let store = open(&server.url(0), patient(options())).unwrap();
        let found = entries(&exported(&store.namespace("n")));
        let is_new = found == entries(&new);
        assert!(is_new || found == entries(&old), "neither whole: {} entries", found.len());
        assert!(is_new || outcome.is_err(), "{outcome:?}");
        if outcome.is_ok() {
            return;
        }
        rounds += 1;
    }
}

#[test]
fn a_replacement_removes_what_clear_removes() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let store = open(&server.url(0), patient(options())).unwrap();
    let scope = store.namespace("n");
    let empty = exported(&StateStore::memory());
    let names = [
        ("t:n:a", false),
        ("t:n", true),
        ("t:nn:a", true),
        ("t:n:jobs:__millpond:leases", false),
        ("t:n:jobs:__millpond:leased", false),
        ("t:n:jobs:__millpond:returned", false),
        ("t:n:jobs:__millpond:delayed", false),
        ("t:n:__millpond:leases", true),
        ("t:n:jobs:__millpond:lock", true),
        ("t:n:jobs:__millpond:lock_queue", true),
        ("t:n:__millpond:receipt:17", false),
        ("t:n:b:__millpond:receipt:17", false),
        ("t:__millpond:receipt:n:17", true),
        ("t:n:x__millpond:receipt:__millpond:lock", true),
        ("t:n:x__millpond", false),
        ("t:n:*", false),
    ];
    let cleared = |clear: &dyn Fn()| {
        raw.flush();
        for (name, _) in names {
            raw.set(name, "1");
        }
        raw.run::<_, ()>("SET", &[&b"t:n:\xff"[..], b"1"]);
        raw.run::<_, ()>("ZADD", &["t:n:foreign", "1", "1"]);
        clear();
        raw.all_keys()
    };
    let by_clear = cleared(&|| assert_eq!(scope.clear().unwrap(), 5));
    let by_replacement =
        cleared(&|| assert_eq!(scope.import(&empty[..], Import::Replace).unwrap().removed, 5));
    assert_eq!(by_clear, by_replacement);
    let mut left: Vec<_> =
        names.iter().filter(|(_, stays)| *stays).map(|(name, _)| name.as_bytes().to_vec()).collect();
    left.sort();
    assert_eq!(by_replacement, left);
}

/// The reply to a replacement is lost, and another client writes before it is asked for again.
#[test]
fn a_replacement_whose_reply_was_lost_is_not_made_over_the_write_of_another_client() {
    let ProxiedServer { proxy, raw, .. } = &ProxiedServer::new();
    let saved = StateStore::memory();
    saved.put("a", "new").unwrap();
    let text = exported(&saved);
    let store = open(&proxy.url(), patient(options()).max_retries(100)).unwrap();
    let scope = store.namespace("n");
    let (mut lost, mut failed) = (0, 0);
    for mode in [Import::Replace, Import::Merge] {
        for bytes in (0..).step_by(5) {
            raw.set("t:n:a", "old");
            assert_eq!(scope.count("").unwrap(), 1);
            proxy.cut_and_set(Way::Answer, bytes, Mode::Down);
            let (outcome, was_new) = thread::scope(|scoped| {
                let importing = scoped.spawn(|| scope.import(&text[..], mode));
                wait_for("the cut, or the end", || proxy.is_cut() || importing.is_finished());
                let was_new = proxy.is_cut().then(|| raw.get("t:n:a") == Some(b"\"new\"".to_vec()));
                if was_new.is_some() {
                    raw.set("t:n:a", "foreign");
                }
                proxy.set(Mode::Pass);
                (importing.join().unwrap(), was_new)
            });
            let found = raw.get("t:n:a").unwrap();
            match was_new {
                None => {
                    proxy.cancel_cut();
                    outcome.unwrap();
                    break;
                }
                Some(true) => {
                    assert_eq!(outcome.unwrap().entries, 1, "{mode:?} {bytes}");
                    assert_eq!(found, b"foreign", "{mode:?} {bytes}");
                    lost += 1;
                }
                Some(false) => {
                    let expected: &[u8] = if outcome.is_ok() { b"\"new\"" } else { b"foreign" };
                    assert_eq!(found, expected, "{mode:?} {bytes}: {outcome:?}");
                    failed += 1;
                }
            }
        }
    }
    assert!(lost > 0 && failed > 0, "{lost} {failed}");
}

//! Other programs that write while this process is disconnected: which write wins, and what is reported.

use millpond::{Error, OnConflict, OnUnknownKey, RedisOptions, StateStore};

use crate::support::proxied_server::ProxiedServer;
use crate::support::proxy::{Mode, Way};
use crate::support::raw_client::RawClient;
use crate::support::redis_stores::{memory, patient, wait_until_connected};

struct Setup {
    server: ProxiedServer,
    store: StateStore,
}

impl Setup {
    fn with(options: RedisOptions) -> Self {
        let server = ProxiedServer::new();
        let store = server.store(options);
        Self { server, store }
    }

    /// Does `mine` while this process is disconnected, and `theirs` during that time.
    fn write_on_both_sides(&self, mine: impl FnOnce(&StateStore), theirs: impl FnOnce(&RawClient)) {
        self.server.proxy.set(Mode::Down);
        mine(&self.store);
        theirs(&self.server.raw);
        self.server.proxy.set(Mode::Pass);
        wait_until_connected(&self.store);
    }

    fn get(&self, key: &str) -> Option<String> {
        self.server.raw.get(key).map(|value| String::from_utf8(value).unwrap())
    }

    /// The reported conflicts: key, mine, theirs, applied.
    fn conflicts(&self) -> Vec<(String, Option<String>, Option<String>, bool)> {
        let text =
            |bytes: Option<millpond::Bytes>| bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
        let mut told: Vec<_> = (self.store.take_conflicts().into_iter())
            .map(|told| (told.key, text(told.local), text(told.remote), told.applied))
            .collect();
        told.sort();
        told
    }
}

#[expect(clippy::unnecessary_wraps, reason = "a conflict holds such an option")]
fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Another program wrote or deleted the value.
#[test]
fn a_conflict_is_reported_and_the_policy_decides() {
    for (policy, local) in [(OnConflict::LocalWins, true), (OnConflict::RemoteWins, false)] {
        let setup = Setup::with(memory().on_conflict(policy));
        for key in ["put", "gone", "delete", "same", "both", "quiet", "n"] {
            setup.store.put(key, 1).unwrap();
        }
        let mine = |store: &StateStore| {
            for key in ["put", "gone", "same", "quiet"] {
                store.put(key, 2).unwrap();
            }
            store.delete("delete").unwrap();
            store.delete("both").unwrap();
            store.incr("n", 5).unwrap();
            store.put("new", 2).unwrap();
        };
        setup.write_on_both_sides(mine, |raw| {
            for key in ["t:put", "t:delete", "t:new"] {
                raw.set(key, "9");
            }
            raw.set("t:same", "2");
            raw.run::<_, ()>("DEL", &["t:gone", "t:both"]);
            raw.run::<_, ()>("INCRBY", &["t:n", "100"]);
        });
        assert_eq!(
            setup.conflicts(),
            [
                ("delete".to_owned(), None, some("9"), local),
                ("gone".to_owned(), some("2"), None, local),
                ("new".to_owned(), some("2"), some("9"), local),
                ("put".to_owned(), some("2"), some("9"), local),
            ]
        );
        assert_eq!(setup.store.stats().outages.conflicts, 4);
        let expected = |mine: Option<&str>, theirs: Option<&str>| {
            if local { mine.map(str::to_owned) } else { theirs.map(str::to_owned) }
        };
        assert_eq!(setup.get("t:put"), expected(Some("2"), Some("9")));
        assert_eq!(setup.get("t:new"), expected(Some("2"), Some("9")));
        assert_eq!(setup.get("t:gone"), expected(Some("2"), None));
        assert_eq!(setup.get("t:delete"), expected(None, Some("9")));
        assert_eq!((setup.get("t:same"), setup.get("t:quiet")), (some("2"), some("2")));
        assert_eq!(setup.get("t:n"), some("106"), "increments add under both policies");
        assert_eq!(setup.store.get::<i64>("put").unwrap(), Some(if local { 2 } else { 9 }));
    }
}

/// Later writes of a key depend on the first one: if that was dropped, they are dropped too.
#[test]
fn a_later_write_does_not_restore_a_dropped_one() {
    let setup = Setup::with(memory().on_conflict(OnConflict::RemoteWins));
    setup.store.put("a", 1).unwrap();
    setup.store.put("b", 1).unwrap();
    let mine = |store: &StateStore| {
        for n in 2..5 {
            store.batch_put([("a", n), ("b", n)]).unwrap();
            let mut batch = millpond::WriteBatch::new();
            batch.put("a", n + 10).unwrap().put("b", n + 10).unwrap();
            store.write(&batch).unwrap();
        }
    };
    setup.write_on_both_sides(mine, |raw| raw.set("t:a", "9"));
    assert_eq!((setup.get("t:a"), setup.get("t:b")), (some("9"), some("14")));
    assert!(setup.conflicts().iter().all(|told| told.0 == "a" && !told.3));
}

#[test]
fn a_put_after_a_read_of_an_unknown_key_does_not_overwrite() {
    for policy in [OnConflict::LocalWins, OnConflict::RemoteWins] {
        let setup = Setup::with(memory().on_conflict(policy).on_unknown_key(OnUnknownKey::Absent));
        for key in ["t:limit", "t:deleted"] {
            setup.server.raw.set(key, "100");
        }
        let mine = |store: &StateStore| {
            for key in ["limit", "deleted", "free"] {
                assert_eq!(store.get::<i64>(key).unwrap(), None);
                store.put(key, 5).unwrap();
                store.put(key, 6).unwrap();
            }
            assert_eq!(store.get::<i64>("limit").unwrap(), Some(6));
        };
        setup.write_on_both_sides(mine, |raw| raw.run::<_, ()>("DEL", &["t:deleted"]));
        assert_eq!(setup.get("t:limit"), some("100"));
        assert_eq!((setup.get("t:deleted"), setup.get("t:free")), (some("6"), some("6")));
        assert_eq!(setup.conflicts(), [("limit".to_owned(), some("6"), some("100"), false)]);
        assert_eq!(setup.store.get::<i64>("limit").unwrap(), Some(100));
    }
}

/// A value that this process wrote in one outage is known in the next one: it is not a conflict.
#[test]
fn own_writes_are_no_conflict_in_repeated_outages() {
    for policy in [OnConflict::LocalWins, OnConflict::RemoteWins] {
        let setup = Setup::with(memory().on_conflict(policy));
        setup.store.put("seen", 0).unwrap();
        for n in 1..6 {
            let mine = |store: &StateStore| {
                assert_eq!(store.get::<i32>("seen").unwrap(), Some(n - 1));
                store.put("seen", n).unwrap();
                store.put(format!("new{n}"), n).unwrap();
                if n > 1 {
                    store.delete(format!("new{}", n - 1)).unwrap();
                }
            };
            setup.write_on_both_sides(mine, |_| ());
            assert_eq!(setup.get("t:seen"), Some(n.to_string()));
        }
        assert_eq!(setup.conflicts(), []);
        assert_eq!((setup.get("t:new4"), setup.get("t:new5")), (None, some("5")));
        let stats = setup.store.stats().outages;
        assert_eq!((stats.outages, stats.conflicts, stats.rejected, stats.uncertain), (5, 0, 0, 0));
    }
}

#[test]
fn another_kind_in_place_of_a_value_is_a_conflict_too() {
    let setup = Setup::with(memory());
    setup.store.put("a", 1).unwrap();
    setup.write_on_both_sides(
        |store| store.put("a", 2).unwrap(),
        |raw| {
            raw.run::<_, ()>("DEL", &["t:a"]);
            raw.run::<_, ()>("RPUSH", &["t:a", "x"]);
        },
    );
    assert_eq!(setup.conflicts(), [("a".to_owned(), some("2"), None, true)]);
    assert_eq!(setup.get("t:a"), some("2"));
}

#[test]
fn an_entry_last_changed_by_this_process_is_no_conflict() {
    for policy in [OnConflict::LocalWins, OnConflict::RemoteWins] {
        let setup = Setup::with(memory().on_conflict(policy));
        let store = &setup.store;
        let long = "x".repeat(100_000);
        store.put("long", &long).unwrap();
        store.push_back("queue", 1).unwrap();
        store.push_back("emptied", 1).unwrap();
        store.pop_front::<i64>("emptied").unwrap();
        store.map_put("map", "f", 1).unwrap();
        setup.server.raw.run::<_, ()>("HSET", &["t:read", "f", "1"]);
        assert_eq!(store.map_len("read").unwrap(), 1);
        setup.server.raw.set("t:batch", "1");
        assert_eq!(store.batch_get::<i64>(["batch"]).unwrap(), [Some(1)]);
        store.put("updated", 1).unwrap();
        store.update("updated", 2).unwrap();
        store.expire("updated", std::time::Duration::from_secs(100)).unwrap();
        store
            .transaction(|tx| {
                tx.put("tx", 1)?;
                tx.push_back("tx queue", 1)?;
                tx.push_back("tx queue", 2).map(drop)
            })
            .unwrap();
        let keys = ["long", "queue", "emptied", "map", "read", "batch", "updated", "tx", "tx queue"];
        setup.write_on_both_sides(
            |store| {
                assert_eq!(store.get::<String>("long").unwrap().as_deref(), Some(&*long));
                assert_eq!(store.get::<i64>("updated").unwrap(), Some(2));
                assert_eq!(store.get::<i64>("tx").unwrap(), Some(1));
                store.batch_put(keys.map(|key| (key, "mine"))).unwrap();
            },
            |_| {},
        );
        assert_eq!(setup.conflicts(), []);
        for key in keys {
            assert_eq!(setup.get(&format!("t:{key}")), some("\"mine\""), "{key}");
        }
    }
}

/// Of a put only the reply was lost. The writes after it found its value on the server and treated it as a
/// value of another program. With `RemoteWins` that dropped acknowledged writes.
#[test]
fn a_put_with_a_lost_reply_is_no_conflict_with_later_writes() {
    type Write = fn(&StateStore) -> millpond::Result<()>;
    let lost: [(&str, Write); 5] = [
        ("2", |store| store.put("a", 2)),
        ("3", |store| store.incr("a", 2).map(drop)),
        ("2", |store| store.batch_put([("a", 2)])),
        ("2", |store| match store.batch_put([("first", 1), ("a", 2)]) {
            Err(Error::Partial { done: 1, source, .. }) => Err(*source),
            other => panic!("{other:?}"),
        }),
        ("2", |store| store.write(millpond::WriteBatch::new().put("a", 2)?)),
    ];
    for policy in [OnConflict::LocalWins, OnConflict::RemoteWins] {
        for known in [true, false] {
            for (number, (left, write)) in lost.into_iter().enumerate() {
                let setup = Setup::with(patient(memory().on_conflict(policy).max_retries(0)));
                if known {
                    setup.store.put("a", 1).unwrap();
                } else {
                    setup.server.raw.set("t:a", "1");
                    setup.store.put("connected", 1).unwrap();
                }
                // If the next connection works, there is no outage.
                // The reply to the first of two commands arrives.
                setup.server.proxy.cut(Way::Answer, if number == 3 { 5 } else { 0 });
                assert_error!(write(&setup.store), Error::Unavailable { maybe_applied: true, .. });
                assert_eq!(
                    (setup.get("t:a").as_deref(), setup.store.stats().outages.outages),
                    (Some(left), 0)
                );
                setup.write_on_both_sides(|store| store.put("a", 9).unwrap(), |_| ());
                assert_eq!(setup.conflicts(), [], "{policy:?}, known: {known}");
                assert_eq!(setup.get("t:a").as_deref(), Some("9"), "{policy:?}, known: {known}");
            }
        }
    }
}

#[test]
fn an_update_that_meets_a_write_of_another_program_is_a_conflict() {
    for (policy, local) in [(OnConflict::LocalWins, true), (OnConflict::RemoteWins, false)] {
        let setup = Setup::with(memory().on_conflict(policy));
        for key in ["theirs", "gone", "quiet"] {
            setup.store.put(key, 1).unwrap();
        }
        setup.server.raw.set("t:unseen", "8");
        let mine = |store: &StateStore| {
            for key in ["theirs", "gone", "quiet"] {
                assert!(store.update(key, 2).unwrap());
            }
            store.update("unseen", 2).unwrap();
            store.update("absent", 2).unwrap();
        };
        setup.write_on_both_sides(mine, |raw| {
            raw.set("t:theirs", "9");
            raw.run::<_, ()>("DEL", &["t:gone"]);
        });
        let expected = ["theirs", "unseen"].map(|key| {
            let theirs = if key == "theirs" { "9" } else { "8" };
            (key.to_owned(), some("2"), some(theirs), local)
        });
        assert_eq!(setup.conflicts(), expected, "{policy:?}");
        assert_eq!(setup.store.stats().outages.conflicts, 2);
        let (theirs, unseen) = if local { ("2", "2") } else { ("9", "8") };
        assert_eq!((setup.get("t:theirs"), setup.get("t:unseen")), (some(theirs), some(unseen)));
        assert_eq!(
            (setup.get("t:quiet"), setup.get("t:gone"), setup.get("t:absent")),
            (some("2"), None, None)
        );
    }
}

/// What an update of an earlier outage left is known in the next one.
#[test]
fn updates_in_two_outages_are_no_conflict_with_each_other() {
    let setup = Setup::with(memory());
    for key in ["present", "gone"] {
        setup.store.put(key, 1).unwrap();
    }
    let update = |value: u8| {
        move |store: &StateStore| {
            assert!(store.update("present", value).unwrap());
            store.update("gone", value).unwrap();
        }
    };
    setup.write_on_both_sides(update(2), |raw| raw.run::<_, ()>("DEL", &["t:gone"]));
    setup.write_on_both_sides(
        |store| {
            assert_eq!(store.get::<u8>("present").unwrap(), Some(2));
            assert_eq!(store.get::<u8>("gone").unwrap(), None);
            update(3)(store);
        },
        |_| (),
    );
    assert_eq!(setup.conflicts(), []);
    assert_eq!((setup.get("t:present"), setup.get("t:gone")), (some("3"), None));
}

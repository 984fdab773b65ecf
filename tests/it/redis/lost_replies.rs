//! Writes whose reply was lost, while another client writes: such a write is never made again over a newer one.

use std::thread;
use std::time::Duration;

use millpond::{Error, Fallback, RedisOptions, Result, StateStore, WriteBatch};

use crate::support::backends::HOUR;
use crate::support::proxy::{Mode, Proxy, Way};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{open, options, wait_for};

/// A write, and what another client does between the write and the moment at which its loss is noticed.
struct Case {
    name: &'static str,
    before: &'static [&'static str],
    write: fn(&StateStore) -> Result<()>,
    other: &'static [&'static str],
    /// Commands that show what the other client has left.
    left: &'static [(&'static str, &'static str)],
}

const CASES: &[Case] = &[
    Case {
        name: "a put that was taken",
        before: &[],
        write: |store| store.put("k", "queued"),
        other: &["GETDEL t:k"],
        left: &[("EXISTS t:k", "0")],
    },
    Case {
        name: "a put that another client has undone",
        before: &["SET t:k 1"],
        write: |store| store.put("k", 2),
        other: &["SET t:k 1"],
        left: &[("GET t:k", "1")],
    },
    Case {
        name: "a put with a TTL",
        before: &[],
        write: |store| store.put_with_ttl("k", 2, HOUR),
        other: &["PERSIST t:k"],
        left: &[("PTTL t:k", "-1")],
    },
    Case {
        name: "an update",
        before: &["SET t:k 1"],
        write: |store| store.update("k", 2).map(drop),
        other: &["SET t:k 3"],
        left: &[("GET t:k", "3")],
    },
    Case {
        name: "a delete",
        before: &["SET t:k 1"],
        write: |store| store.delete("k").map(drop),
        other: &["SET t:k 2"],
        left: &[("GET t:k", "2")],
    },
    Case {
        name: "an expiry",
        before: &["SET t:k 1"],
        write: |store| store.expire("k", HOUR).map(drop),
        other: &["PERSIST t:k"],
        left: &[("PTTL t:k", "-1")],
    },
    Case {
        name: "a persist",
        before: &["SET t:k 1 EX 1000"],
        write: |store| store.persist("k").map(drop),
        other: &["EXPIREAT t:k 33000000000"],
        left: &[("PERSIST t:k", "1")],
    },
    Case {
        name: "a touch",
        before: &["SET t:k 1"],
        write: |store| store.get_and_touch::<i64>("k", HOUR).map(drop),
        other: &["PERSIST t:k"],
        left: &[("PTTL t:k", "-1")],
    },
    Case {
        name: "a field that is put",
        before: &["HSET t:k f 1 g 1"],
        write: |store| store.map_put("k", "f", 2).map(drop),
        other: &["HDEL t:k f"],
        left: &[("HEXISTS t:k f", "0")],
    },
    Case {
        name: "a field that is removed",
        before: &["HSET t:k f 1 g 1"],
        write: |store| store.map_delete("k", "f").map(drop),
        other: &["HSET t:k f 2"],
        left: &[("HGET t:k f", "2")],
    },
    Case {
        name: "a trim",
        before: &["RPUSH t:k 1 2 3"],
        write: |store| store.queue_trim("k", 1).map(drop),
        other: &["RPUSH t:k 4"],
        left: &[("LLEN t:k", "2")],
    },
    Case {
        name: "an increment",
        before: &["SET t:k 1"],
        write: |store| store.incr("k", 1).map(drop),
        other: &["SET t:k 1"],
        left: &[("GET t:k", "1")],
    },
    Case {
        name: "a removal",
        before: &["SET t:k 1"],
        write: |store| store.get_and_delete::<i64>("k").map(drop),
        other: &["SET t:k 2"],
        left: &[("GET t:k", "2")],
    },
    Case {
        name: "a pop",
        before: &["RPUSH t:k 1 2"],
        write: |store| store.pop_front::<i64>("k").map(drop),
        other: &["RPUSH t:k 3"],
        left: &[("LLEN t:k", "2")],
    },
    Case {
        name: "a swap",
        before: &["SET t:k 1"],
        write: |store| store.compare_and_set("k", Some(&1), &2).map(drop),
        other: &["SET t:k 1"],
        left: &[("GET t:k", "1")],
    },
    Case {
        name: "a value for an absent key",
        before: &[],
        write: |store| store.set_if_not_exists("k", 1, None).map(drop),
        other: &["DEL t:k"],
        left: &[("EXISTS t:k", "0")],
    },
    Case {
        name: "a batch of puts",
        before: &[],
        write: |store| store.batch_put([("k", 1), ("l", 2)]),
        other: &["GETDEL t:k"],
        left: &[("EXISTS t:k", "0")],
    },
    Case {
        name: "a batch of deletes",
        before: &["SET t:k 1", "SET t:l 1"],
        write: |store| store.batch_delete(["k", "l"]).map(drop),
        other: &["SET t:l 2"],
        left: &[("GET t:l", "2")],
    },
    Case {
        name: "an atomic batch",
        before: &["SET t:l 1"],
        write: |store| store.write(WriteBatch::new().put("k", 1)?.delete("l")?),
        other: &["SET t:l 2"],
        left: &[("GET t:l", "2")],
    },
    Case {
        name: "a transaction",
        before: &[],
        write: |store| store.transaction(|tx| tx.put("k", 1)),
        other: &["DEL t:k"],
        left: &[("EXISTS t:k", "0")],
    },
    Case {
        name: "a transaction that reads",
        before: &["SET t:k 1"],
        write: |store| {
            store.transaction(|tx| {
                let held: Option<i64> = tx.get("k")?;
                tx.put("k", held.unwrap_or(0) + 1)
            })
        },
        other: &["SET t:k 1"],
        left: &[("GET t:k", "1")],
    },
    Case {
        name: "a prefix that is deleted",
        before: &["SET t:k 1"],
        write: |store| store.delete_prefix("k").map(drop),
        other: &["SET t:k 2"],
        left: &[("GET t:k", "2")],
    },
];

/// A proxied server, and a store that has enough time for an attempt after the loss.
struct Setup {
    raw: RawClient,
    proxy: Proxy,
    store: StateStore,
}

impl Setup {
    fn new(options: RedisOptions) -> Self {
        let (server, database) = RedisServer::shared();
        let proxy = Proxy::to(server.port());
        let options = options.pool_size(1).retry_delay(Duration::from_millis(1));
        let options = options.timeout(Duration::from_secs(8)).connect_timeout(Duration::from_secs(4));
        let store = open(&format!("{}/{database}", proxy.url()), options).unwrap();
        store.put("warm", 1).unwrap();
        Self { raw: RawClient::connect(&server.url(database)), proxy, store }
    }

    fn run_all(&self, commands: &[&str]) {
        for command in commands {
            self.show(command);
        }
    }

    /// The reply to a command, as text.
    fn show(&self, command: &str) -> String {
        let words: Vec<&str> = command.split(' ').collect();
        match self.raw.run::<_, redis::Value>(words[0], &words[1..]) {
            redis::Value::BulkString(bytes) => String::from_utf8(bytes).unwrap(),
            redis::Value::Int(number) => number.to_string(),
            other => format!("{other:?}"),
        }
    }

    /// Makes a write whose reply is lost, while another client runs commands before the loss is noticed.
    fn lose(&self, case: &Case, other: &[&str]) -> Result<()> {
        // Once undisturbed, so that the server knows all scripts.
        self.run_all(case.before);
        (case.write)(&self.store).unwrap();
        self.run_all(&["DEL t:k t:l"]);
        self.run_all(case.before);
        self.proxy.cut_and_set(Way::Answer, bytes_before_the_cut(case.name), Mode::Hold);
        thread::scope(|scope| {
            // Nothing passes from the cut on, so that no further attempt is answered before the other client is done.
            let write = scope.spawn(|| (case.write)(&self.store));
            wait_for(&format!("the reply to {} is lost", case.name), || self.proxy.is_cut());
            self.run_all(other);
            self.proxy.set(Mode::Pass);
            write.join().unwrap()
        })
    }

    fn clear(&self) {
        self.run_all(&["DEL t:k t:l"]);
        wait_for("the store works again", || self.store.put("warm", 1).is_ok());
    }
}

/// How many bytes of replies pass, so that the reply to the change is cut.
fn bytes_before_the_cut(name: &str) -> usize {
    match name {
        // The replies to WATCH, PTTL and GET, and one byte more: "+OK\r\n:-1\r\n$1\r\n1\r\n".
        "a transaction that reads" => 5 + 5 + 7 + 1,
        // The reply to SCAN: "*2\r\n$1\r\n0\r\n*1\r\n$3\r\nt:k\r\n".
        "a prefix that is deleted" => 4 + 7 + 4 + 9 + 1,
        _ => 0,
    }
}

#[test]
fn a_write_whose_reply_was_lost_is_not_made_again_over_a_newer_one() {
    for fallback in [Fallback::None, Fallback::Memory] {
        let setup = Setup::new(options().fallback(fallback.clone()));
        for case in CASES {
            let outcome = setup.lose(case, case.other);
            let name = case.name;
            assert!(
                matches!(&outcome, Err(Error::Unavailable { maybe_applied: true, .. })),
                "{name} with {fallback:?}: {outcome:?}"
            );
            for (command, expected) in case.left {
                assert_eq!(setup.show(command), *expected, "{name} with {fallback:?}: {command}");
            }
            assert_eq!(
                setup.store.stats().outages.outages,
                0,
                "{name}: the server was reachable all the time"
            );
            setup.clear();
        }
    }
}

/// A put is done if the server holds what it has written.
#[test]
fn a_write_whose_reply_was_lost_is_done_if_the_server_holds_it() {
    let setup = Setup::new(options());
    let is_proven = |name: &str| {
        let proven =
            ["a put that was taken", "a put with a TTL", "an update", "a batch of puts", "an atomic batch"];
        proven.contains(&name)
    };
    for case in CASES {
        let outcome = setup.lose(case, &[]);
        match outcome {
            Ok(()) => assert!(is_proven(case.name) || case.name.starts_with("a put"), "{}", case.name),
            Err(Error::Unavailable { maybe_applied: true, .. }) => {
                assert!(!is_proven(case.name), "{}", case.name);
            }
            Err(other) => panic!("{}: {other:?}", case.name),
        }
        setup.clear();
    }
}

/// With `exactly_once` the server is asked for the reply.
#[test]
fn with_exactly_once_a_write_is_applied_once_and_gets_its_reply() {
    for fallback in [Fallback::None, Fallback::Memory] {
        let setup = Setup::new(options().fallback(fallback.clone()).exactly_once(true));
        for case in CASES {
            let outcome = setup.lose(case, case.other);
            let name = case.name;
            assert!(outcome.is_ok(), "{name} with {fallback:?}: {outcome:?}");
            for (command, expected) in case.left {
                assert_eq!(setup.show(command), *expected, "{name} with {fallback:?}: {command}");
            }
            assert_eq!(setup.store.stats().outages.outages, 0, "{name}");
            setup.clear();
        }
    }
}

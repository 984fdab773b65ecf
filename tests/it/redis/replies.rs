//! Replies that come twice, in pieces, too large or malformed.

use std::time::Duration;

use millpond::{Error, StateStore, Status};

use crate::support::proxy::{Mode, Proxy};
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{LIMIT, config, open, options, run_within, wait_for};
use crate::support::scripted_server::ScriptedServer;

const KEYS: [&str; 4] = ["a", "b", "c", "d"];

/// A store behind a proxy, with a value under each key that is the key itself.
fn setup() -> (RedisServer, Proxy, StateStore) {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), options()).unwrap();
    for key in KEYS {
        store.put(key, key).unwrap();
    }
    (server, proxy, store)
}

fn assert_each_key_has_its_own_value(store: &StateStore) {
    for key in KEYS {
        assert_eq!(store.get::<String>(key).unwrap().as_deref(), Some(key));
    }
    assert_eq!(store.get::<String>("nothing").unwrap(), None);
    assert_eq!(store.batch_get::<String>(KEYS).unwrap(), KEYS.map(|key| Some(key.to_owned())));
}

#[test]
fn a_reply_that_comes_twice_shifts_no_other() {
    let (_server, proxy, store) = setup();
    for n in 1..=20 {
        proxy.set(Mode::Twice(None));
        let read = store.get::<String>("a");
        let count = store.incr("n", 1);
        proxy.set(Mode::Pass);
        // Nobody can tell the copy from the reply, so neither is trusted.
        assert!(read.is_err() || read.as_ref().is_ok_and(|value| value.as_deref() == Some("a")), "{read:?}");
        assert!(count.is_err() || count.as_ref().is_ok_and(|count| *count == n), "{count:?}");
        assert_each_key_has_its_own_value(&store);
        store.put("n", n).unwrap();
    }
}

#[test]
fn a_copy_that_comes_later_is_the_reply_to_no_other_command() {
    let (_server, proxy, store) = setup();
    let late = Mode::Twice(Some(Duration::from_millis(5)));
    let after_a_copy = |run: &dyn Fn()| {
        let before = proxy.copies();
        proxy.set(late);
        run();
        wait_for("the copy was delivered", || proxy.copies() > before);
        proxy.set(Mode::Pass);
    };
    for n in 0..5_u32 {
        after_a_copy(&|| assert_eq!(store.get::<String>("a").unwrap().as_deref(), Some("a")));
        assert_each_key_has_its_own_value(&store);
        after_a_copy(&|| store.put("b", "b").unwrap());
        assert_eq!(store.incr("n", 1).unwrap(), i64::from(n) + 1, "it was sent to the server");
        assert_each_key_has_its_own_value(&store);
        after_a_copy(&|| assert_eq!(store.push_back("q", n).unwrap(), u64::from(n) + 1));
        store
            .transaction(|tx| {
                let count = tx.get::<i64>("n")?;
                tx.put("t", count)
            })
            .unwrap();
        assert_eq!(store.get::<i64>("t").unwrap(), Some(i64::from(n) + 1));
    }
}

/// Each byte comes in time, and the reply does not.
#[test]
fn a_reply_in_pieces_ends_with_the_limit() {
    let (_server, proxy, store) = setup();
    store.put("long", "x".repeat(200)).unwrap();
    proxy.set(Mode::Drip(Duration::from_millis(20)));
    run_within(LIMIT, || {
        assert_error!(store.get::<String>("long"), Error::Unavailable { maybe_applied: false, .. })
    });
    run_within(LIMIT, || assert_error!(store.batch_get::<String>(KEYS), _));
    // The handshake of a new connection too.
    run_within(LIMIT, || assert_error!(open(&proxy.url(), options()), Error::Unavailable { .. }));
    proxy.set(Mode::Pass);
    wait_for("the store is connected again", || store.status() == Status::Connected);
    assert_each_key_has_its_own_value(&store);
}

#[test]
fn a_value_beyond_the_limit_is_not_read() {
    let server = ScriptedServer::start(|words, client| match words[0].as_str() {
        "GET" => {
            client.write_all(b"$536870912\r\n")?;
            (0..512).try_for_each(|_| client.write_all(&vec![b'x'; 1 << 20]))
        }
        _ => client.write_all(b"+OK\r\n"),
    });
    let limited = config(&server.url(), options()).max_value_bytes(1 << 20);
    let store = StateStore::with_config(limited).unwrap();
    for _ in 0..3 {
        let error = store.get_bytes("huge").unwrap_err();
        assert!(matches!(error, Error::TooLarge { bytes: 536_870_912, .. }), "{error:?}");
        assert!(!error.is_transient());
        let error = store.batch_get::<i64>(["huge", "other"]).unwrap_err();
        assert!(matches!(&error, Error::TooLarge { key, .. } if key == "huge"), "{error:?}");
    }
    assert_eq!(store.status(), Status::Connected);
    store.put("a", 1).unwrap();
    // What the sockets' buffers hold.
    assert!(server.written() < 64 << 20, "{} bytes were taken", server.written());
}

#[test]
fn a_malformed_reply_is_an_error_and_no_value() {
    for reply in [
        "$-2\r\n",
        "*-2\r\n",
        "$1\r\nxyz",
        ":x\r\n",
        "hello\r\n",
        "%1\r\n+a\r\n+b\r\n",
        "*1\r\n*1\r\n$5\r\nab\r\n\r\n\r\n",
    ] {
        let server = ScriptedServer::start(move |_, client| client.write_all(reply.as_bytes()));
        let store = open(&server.url(), options().max_retries(1)).unwrap();
        assert_error!(store.get::<String>("a"), _);
        assert_error!(store.map_entries::<String>("a"), _);
        assert_error!(store.incr("a", 1), Error::Unavailable { maybe_applied: true, .. });
    }
}

/// The server closes the connection while the value is still being sent.
#[test]
fn a_value_that_the_server_does_not_take_is_refused_in_its_words() {
    let server = RedisServer::start_with(&["--proto-max-bulk-len", "1mb"]);
    for options in [options(), options().fallback(millpond::Fallback::Memory)] {
        let store = open(&server.url(0), options.timeout(Duration::from_secs(5))).unwrap();
        for mib in [2, 20] {
            let error = assert_error!(store.put_bytes("large", &vec![b'x'; mib << 20]), Error::Server { .. });
            let source = std::error::Error::source(&error).unwrap().to_string();
            assert!(source.contains("invalid bulk length"), "{source}");
        }
        assert_eq!(store.status(), Status::Connected);
        store.put("small", 1).unwrap();
        assert_eq!(store.get::<i64>("small").unwrap(), Some(1));
    }
}

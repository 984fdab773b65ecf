//! One outage, from its beginning until the server is back.

use millpond::{Error, Status};

use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{memory, open, pending, wait_until_connected};

#[test]
fn writes_during_an_outage_are_applied_on_the_server_once() {
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = open(&server.url(0), memory()).unwrap();
    store.put("seen", "before").unwrap();
    store.incr("counter", 1).unwrap();
    server.kill();

    store.put("a", 1).unwrap();
    assert!(matches!(store.status(), Status::Disconnected { .. }));
    assert_eq!(store.get::<String>("seen").unwrap().as_deref(), Some("before"));
    assert_eq!(store.incr("counter", 2).unwrap(), 3);
    assert_eq!(store.incr("counter", 3).unwrap(), 6);
    store.put("a", 2).unwrap();
    assert!(store.delete("seen").unwrap());
    store.map_put("map", "x", 1).unwrap();
    store.push_back("queue", 1).unwrap();
    store.push_back("queue", 2).unwrap();
    assert_eq!(store.get::<i64>("a").unwrap(), Some(2));
    assert_error!(store.get::<i64>("never seen"), Error::Unavailable { .. });
    assert_error!(store.set_if_not_exists("b", 1, None), Error::Unavailable { maybe_applied: false, .. });
    assert_error!(store.without_fallback().get::<i64>("a"), Error::Unavailable { .. });
    assert_eq!(pending(&store), Some(6));

    server.restart();
    wait_until_connected(&store);
    let raw = RawClient::connect(&server.url(0));
    assert_eq!(raw.get("t:a").as_deref(), Some(&b"2"[..]));
    assert_eq!(raw.get("t:counter").as_deref(), Some(&b"6"[..]));
    assert!(!raw.exists("t:seen"));
    assert_eq!(store.queue_range::<i64>("queue", ..).unwrap(), [1, 2]);
    assert_eq!(store.map_get::<i64>("map", "x").unwrap(), Some(1));
    let stats = store.stats().outages;
    assert_eq!((stats.outages, stats.pending, stats.replayed), (1, 0, 6));
    assert_eq!((stats.conflicts, stats.rejected, stats.uncertain), (0, 0, 0));
    store.close().unwrap();
}

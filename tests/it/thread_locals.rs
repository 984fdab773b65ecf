//! A store may be used in the destructor of a thread-local, when the thread's other thread-locals are gone, those of
//! the store included.

use std::cell::RefCell;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use millpond::{StateStore, WriteBatch};

/// Uses a store when it is dropped, and sends the outcome.
struct AtTheEnd {
    store: StateStore,
    outcome: Sender<millpond::Result<()>>,
}

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        let _ = self.outcome.send(use_all(&self.store));
    }
}

thread_local! {
    static AT_THE_END: RefCell<Option<AtTheEnd>> = const { RefCell::new(None) };
}

fn use_all(store: &StateStore) -> millpond::Result<()> {
    store.put("value", "x")?;
    assert_eq!(store.get::<String>("value")?.as_deref(), Some("x"));
    store.incr("counter", 1)?;
    store.compare_and_set("value", Some("x"), "y")?;
    store.modify("value", |value: Option<String>| value)?;
    store.push_back("queue", 1)?;
    store.pop_front_wait::<i64>("queue", Duration::from_millis(20))?;
    store.pop_front_wait::<i64>("queue", Duration::from_millis(1))?;
    store.map_put("map", "field", 1)?;
    let mut batch = WriteBatch::new();
    batch.put("batch", 1)?;
    store.write(&batch)?;
    store.batch_get::<i64>(["batch", "counter"])?;
    store.transaction(|tx| {
        let counter: Option<i64> = tx.get("counter")?;
        // The closure may use the store, though the pool has one connection only.
        assert_eq!(store.get::<i64>("counter")?, counter);
        tx.put("copy", counter)
    })?;
    store.try_lock("lock", Duration::from_secs(5))?.expect("a free lock").release()?;
    store.push_back("jobs", 1)?;
    drop(store.lease::<i64>("jobs", Duration::from_secs(5))?);
    store.keys("")?;
    store.flush()
}

/// Thread-locals are destroyed in the reverse order of their first use.
fn use_in_a_destructor(store: &StateStore) {
    for is_used_first in [false, true] {
        let (outcome, received) = channel();
        let at_the_end = AtTheEnd { store: store.clone(), outcome };
        let ended = thread::spawn(move || {
            if is_used_first {
                use_all(&at_the_end.store).unwrap();
            }
            AT_THE_END.with_borrow_mut(|place| *place = Some(at_the_end));
            AT_THE_END.with_borrow(|place| use_all(&place.as_ref().unwrap().store)).unwrap();
        });
        ended.join().unwrap();
        received.recv().expect("the destructor has run").unwrap();
        assert!(store.get::<i64>("counter").unwrap() >= Some(2));
    }
}

#[test]
fn memory_works_in_the_destructor_of_a_thread_local() {
    use_in_a_destructor(&StateStore::memory());
}

#[test]
fn files_work_in_the_destructor_of_a_thread_local() {
    for sync in ["always", "1ms", "never"] {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file:{}?sync={sync}&compact_min_bytes=4096", dir.path().join("state").display());
        use_in_a_destructor(&StateStore::open(&url).unwrap());
    }
}

#[cfg(feature = "redis")]
#[test]
fn a_server_works_in_the_destructor_of_a_thread_local() {
    let server = crate::support::redis_server::RedisServer::start();
    for options in ["", "&exactly_once=true", "&fallback=none"] {
        let url = format!("{}?key_prefix=t&pool_size=1&wait_connections=1{options}", server.url(0));
        use_in_a_destructor(&StateStore::open(&url).unwrap());
    }
}

/// Puts a value when it is dropped.
#[cfg(feature = "redis")]
struct Puts(StateStore, Sender<millpond::Result<()>>);

#[cfg(feature = "redis")]
impl Drop for Puts {
    fn drop(&mut self) {
        let _ = self.1.send(self.0.put("k", 7));
    }
}

#[cfg(feature = "redis")]
thread_local! {
    static PUTS: RefCell<Option<Puts>> = const { RefCell::new(None) };
}

#[cfg(feature = "redis")]
#[test]
fn an_outage_is_served_in_the_destructor_of_a_thread_local() {
    let port = crate::support::ports::free_port();
    let store = StateStore::open(format!("redis://127.0.0.1:{port}?key_prefix=t")).unwrap();
    let (outcome, received) = channel::<millpond::Result<()>>();
    let clone = store.clone();
    thread::spawn(move || {
        PUTS.with_borrow_mut(|place| *place = Some(Puts(clone.clone(), outcome)));
        clone.put("before", 1).unwrap();
    })
    .join()
    .unwrap();
    received.recv().unwrap().unwrap();
    assert_eq!(store.get("k").unwrap(), Some(7));
}

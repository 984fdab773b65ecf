//! Operations in doubt: after an outage the store asks the server whether they were applied, and acts
//! accordingly if the server does not know.

use std::thread;

use millpond::{Error, Fallback};

use crate::support::proxied_server::{ProxiedServer, call_script, exactly_once, without_retries};
use crate::support::proxy::{Mode, Way};
use crate::support::redis_stores::{wait_for, wait_until_connected};

/// The reply cache is gone, so the server cannot know whether the call was applied. The store reports that.
#[test]
fn without_the_reply_cache_a_lost_call_is_uncertain() {
    let setup = ProxiedServer::new();
    let store = setup.store(without_retries());
    store.incr("n", 1).unwrap();
    store.push_back("q", 1).unwrap();
    setup.proxy.cut_and_set(Way::Answer, 0, Mode::Refuse);
    store.incr("n", 1).unwrap();
    store.incr("n", 1).unwrap();
    let notes: Vec<String> = setup.raw.run("KEYS", &["t:__millpond:replies:*"]);
    assert_eq!(notes.len(), 1);
    setup.raw.run::<_, ()>("DEL", &notes);
    setup.proxy.set(Mode::Pass);
    wait_until_connected(&store);
    assert_eq!(setup.raw.run::<_, i64>("GET", &["t:n"]), 3, "the second increment was not in doubt");
    let told = store.pending(100);
    assert_eq!(
        told.iter().map(|told| (told.key.as_str(), told.command)).collect::<Vec<_>>(),
        [("n", "INCRBY")]
    );
    assert_eq!(store.stats().outages.uncertain, 1);
    assert_eq!(store.incr("n", 1).unwrap(), 4, "the counter still counts");
}

/// The reply cache is gone, and so are the data that it was about: the calls are applied again.
#[test]
fn after_data_loss_later_acknowledged_calls_are_applied() {
    let setup = ProxiedServer::new();
    let store = setup.store(without_retries());
    for is_pop in [true, false] {
        store.push_back("q", 1).unwrap();
        store.incr("n", 1).unwrap();
        setup.proxy.cut_and_set(Way::Answer, 0, Mode::Refuse);
        if is_pop {
            assert_error!(store.pop_front::<i64>("q"), Error::Unavailable { maybe_applied: false, .. });
        }
        store.incr("n", 1).unwrap();
        setup.raw.flush();
        setup.proxy.set(Mode::Pass);
        wait_until_connected(&store);
        assert_eq!(setup.raw.get("t:n").as_deref(), Some(&b"1"[..]));
        assert!(!setup.raw.exists("t:q"));
        // Without an outage: the next attempt notices the loss.
        let patient = setup.store(exactly_once());
        patient.incr("n", 1).unwrap();
        thread::scope(|scope| {
            setup.proxy.cut_and_set(Way::Answer, 0, Mode::Hold);
            let call = scope.spawn(|| patient.incr("n", 1));
            wait_for("the reply is lost", || setup.proxy.is_cut());
            setup.raw.flush();
            setup.proxy.set(Mode::Pass);
            call.join().unwrap().unwrap();
        });
        wait_until_connected(&patient);
        assert_eq!(setup.raw.get("t:n").as_deref(), Some(&b"1"[..]));
        assert_eq!((store.stats().outages.uncertain, patient.stats().outages.uncertain), (0, 0));
    }
}

/// The command never arrived, and was applied by the replay; or it was a pop, and its caller got an error
/// saying that it was not applied.
#[test]
fn a_late_command_is_refused_if_the_replay_has_settled_it() {
    let setup = ProxiedServer::new();
    let store = setup.store(without_retries());
    store.push_back("q", 1).unwrap();
    let notes: Vec<String> = setup.raw.run("KEYS", &["t:__millpond:replies:*"]);
    let born: String = setup.raw.run("HGET", &[notes[0].as_str(), "cache_id"]);
    let late = |number: &str, key: &str, words: &[&str]| -> redis::RedisResult<Vec<i64>> {
        let script = call_script();
        setup.raw.ask("EVAL", &[&[&script, "2", &notes[0], key, &born, "1", number, "1", ""], words].concat())
    };
    setup.proxy.cut_and_set(Way::Request, 3, Mode::Refuse);
    assert_error!(store.pop_front::<i64>("q"), Error::Unavailable { maybe_applied: false, .. });
    setup.proxy.set(Mode::Pass);
    wait_until_connected(&store);
    assert!(late("2", "t:q", &["LPOP", "", "0"]).is_err());
    assert_eq!(setup.queue(), [1]);
    store.get_bytes("lets there be a connection").unwrap();
    setup.proxy.cut_and_set(Way::Request, 3, Mode::Refuse);
    store.incr("n", 1).unwrap();
    setup.proxy.set(Mode::Pass);
    wait_until_connected(&store);
    assert!(late("3", "t:n", &["INCRBY", "", "1", "1"]).is_err());
    assert_eq!(setup.raw.run::<_, i64>("GET", &["t:n"]), 1);
    assert_eq!(store.incr("n", 1).unwrap(), 2);
}

/// The program is killed before it can ask, and the next one asks in its place.
#[test]
fn the_next_program_asks_about_calls_in_doubt_in_the_files() {
    let setup = ProxiedServer::new();
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("queue");
    let durable = || without_retries().fallback(Fallback::file(&path));
    setup.raw.run::<_, ()>("RPUSH", &["t:jobs", "1", "2"]);
    for (way, at) in [(Way::Answer, 0), (Way::Request, 3)] {
        let [n, q]: [i64; 2] = [setup.raw.run("INCRBY", &["t:n", "0"]), setup.raw.run("LLEN", &["t:q"])];
        for call in 0..3 {
            let store = setup.store(durable());
            store.incr("other", 1).unwrap();
            setup.proxy.cut_and_set(way, at, Mode::Refuse);
            match call {
                0 => drop(store.batch_incr([("n", 1), ("n", 1)]).unwrap()),
                1 => drop(store.push_back("q", 7).unwrap()),
                _ => {
                    assert_error!(
                        store.pop_front::<i64>("jobs"),
                        Error::Unavailable { maybe_applied: false, .. }
                    );
                }
            }
            store.incr("n", 1).unwrap();
            drop(store);
            setup.proxy.set(Mode::Pass);
            let store = setup.store(durable());
            wait_until_connected(&store);
            assert_eq!(store.stats().outages.uncertain, 0);
            store.close().unwrap();
        }
        assert_eq!(setup.raw.run::<_, i64>("GET", &["t:n"]), n + 5, "{way:?}");
        assert_eq!(setup.raw.run::<_, i64>("LLEN", &["t:q"]), q + 1, "{way:?}");
        assert_eq!(setup.raw.run::<_, Vec<i64>>("LRANGE", &["t:jobs", "0", "-1"]), [1, 2], "{way:?}");
    }
}

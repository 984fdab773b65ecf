//! Revisions that several processes save, and revisions that are saved during an outage.

use std::collections::BTreeSet;

use millpond::StateStore;

use crate::support::child_process::{Process, job, report};
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{
    memory, notice_disconnect, open, options, patient, pending, wait_until_connected,
};

const THIS: &str = "redis::revisions::two_processes_save_different_revisions";

/// How many revisions each process saves.
const SAVED: u32 = 200;

fn child(url: &str) {
    let store = open(url, patient(options())).unwrap();
    let revisions = store.revisions::<u32>("app");
    let ids: Vec<String> = (0..SAVED).map(|n| revisions.save(&n).unwrap()).collect();
    assert!(ids.is_sorted());
    for id in &ids {
        report(id);
    }
}

#[test]
fn two_processes_save_different_revisions() {
    if let Some((_, url)) = job() {
        return child(url.to_str().unwrap());
    }
    let server = RedisServer::start();
    let url = server.url(0);
    let processes = [(); 2].map(|()| Process::start_test(THIS, "save", &url));
    let reports: Vec<Vec<String>> = processes.into_iter().map(Process::read_all_reports).collect();
    let ids: BTreeSet<String> = reports.iter().flatten().cloned().collect();
    assert_eq!(ids.len(), 2 * SAVED as usize);
    let store = open(&url, patient(options())).unwrap();
    let revisions = store.revisions::<u32>("app");
    assert!(revisions.list().unwrap().iter().eq(&ids));
    let (last, state) = revisions.last().unwrap().unwrap();
    assert!(state == SAVED - 1 && reports.iter().any(|ids| ids.last() == Some(&last)), "{last}: {state}");
    assert_eq!(revisions.keep(10).unwrap(), 2 * u64::from(SAVED) - 10);
    assert!(revisions.list().unwrap().contains(&last));
}

#[test]
fn a_revision_that_is_saved_during_an_outage_reaches_the_server_whole() {
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = open(&server.url(0), memory()).unwrap();
    let revisions = store.revisions::<u32>("app");
    let before = revisions.save(&1).unwrap();
    server.kill();
    notice_disconnect(&store);
    let during = revisions.save(&2).unwrap();
    assert!(during > before && pending(&store).is_some());
    assert_eq!(revisions.last().unwrap(), Some((during.clone(), 2)));
    server.restart();
    wait_until_connected(&store);
    let other: StateStore = open(&server.url(0), patient(options())).unwrap();
    let revisions = other.revisions::<u32>("app");
    assert_eq!(revisions.list().unwrap(), [before, during.clone()]);
    assert_eq!(revisions.last().unwrap(), Some((during, 2)));
}

/// Without a fallback nothing is stored, and that is an error.
#[test]
fn a_revision_that_cannot_be_stored_is_an_error() {
    let mut server = RedisServer::start();
    let store = open(&server.url(0), options()).unwrap();
    let revisions = store.revisions::<u32>("app");
    server.kill();
    assert!(revisions.save(&1).unwrap_err().is_transient());
    server.restart();
    wait_until_connected(&store);
    assert_eq!((revisions.last().unwrap(), revisions.list().unwrap().len()), (None, 0));
}

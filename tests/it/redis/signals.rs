//! Signals that arrive while a store waits for its server. The kernel interrupts such a wait whatever the program has
//! asked for, since the socket has a timeout.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::child_process::{Process, job, report};
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{open, options};

const TEST: &str = "redis::signals::a_signal_is_not_taken_for_a_lost_reply";

/// In a process of its own, whose main thread runs the test: the kernel gives it the signals of the process.
#[test]
fn a_signal_is_not_taken_for_a_lost_reply() {
    match job() {
        Some((job, url)) if job == "signals" => interrupted(url.to_str().unwrap()),
        _ => {
            let server = RedisServer::start();
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.env("RUST_TEST_THREADS", "1");
            let child = Process::run_test(command, TEST, "signals", Path::new(&server.url(0)));
            assert_eq!(child.read_all_reports(), ["all done"]);
        }
    }
}

fn interrupted(url: &str) {
    let signals = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&signals);
    signal_hook::flag::register_usize(signal_hook::consts::SIGALRM, counted, 1).unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let is_ended = Arc::clone(&ended);
    let sender = thread::spawn(move || {
        while !is_ended.load(Ordering::SeqCst) {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::ALARM).unwrap();
            thread::sleep(Duration::from_micros(500));
        }
    });
    let options = options().connect_timeout(Duration::from_secs(10)).timeout(Duration::from_secs(10));
    let store = open(url, options.clone()).unwrap();
    for _ in 0..3 {
        assert_eq!(store.pop_front_wait::<i64>("empty", Duration::from_millis(300)).unwrap(), None);
    }
    for n in 1..=3000 {
        assert_eq!(store.incr("n", 1).unwrap(), n);
    }
    let large = vec![7; 8 << 20];
    for _ in 0..5 {
        store.put_bytes("large", &large).unwrap();
        assert!(store.get_bytes("large").unwrap().unwrap() == large[..]);
        assert_eq!(open(url, options.clone()).unwrap().get::<i64>("n").unwrap(), Some(3000));
    }
    ended.store(true, Ordering::SeqCst);
    sender.join().unwrap();
    assert_eq!(signals.load(Ordering::SeqCst), 1, "a signal was handled");
    report("all done");
}

//! The rule engine of the examples is killed at random moments and started again, and its server goes away: in the end
//! each order is counted once, and in its order.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::examples::example;
#[cfg(feature = "redis")]
use crate::support::redis_server::RedisServer;
use crate::support::seeds::any_seeds;

/// How often the program is killed while it works.
const KILLS: u32 = 50;

/// On a busy machine there are fewer kills than that.
const PATIENCE: Duration = Duration::from_secs(40);

/// The longest time that a run has before it is killed.
const LONGEST_RUN: Duration = Duration::from_millis(400);

fn start(url: &str) -> Child {
    let mut command = Command::new(example("rule_engine"));
    command.arg(url).env_remove("MILLPOND_URL").stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("starting the example")
}

/// Waits for the end of a run, which must have found the totals of its recount.
fn finish(child: Child) -> String {
    let output = child.wait_with_output().expect("the end of the example");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    out.into_owned()
}

/// Kills a run after a time. Returns what it printed if it had ended before.
fn kill_after(mut child: Child, time: Duration) -> Option<String> {
    let begun = Instant::now();
    while begun.elapsed() < time {
        if child.try_wait().expect("the state of the example").is_some() {
            return Some(finish(child));
        }
        thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("killing the example");
    child.wait().expect("the end of the example");
    None
}

/// Kills runs over a state until there were enough kills. `url` names a state of its own for each number. A state of
/// which a run has come to its end is finished, and the next one begins.
fn kill_and_compare(url: impl Fn(u32) -> String, fault: impl Fn(u32)) {
    for seed in any_seeds(1) {
        let mut random = fastrand::Rng::with_seed(seed);
        let expected = finish(start("memory:"));
        // How long a whole run takes here.
        let begun = Instant::now();
        assert_eq!(finish(start(&url(0))), expected);
        let longest = begun.elapsed().mul_f64(0.6).min(LONGEST_RUN);
        let deadline = Instant::now() + PATIENCE;
        let (mut state, mut kills) = (1, 0);
        while kills < KILLS && Instant::now() < deadline {
            let child = start(&url(state));
            fault(kills);
            match kill_after(child, longest.mul_f64(random.f64())) {
                None => kills += 1,
                Some(printed) => {
                    assert_eq!(printed, expected);
                    state += 1;
                }
            }
        }
        assert!(kills >= KILLS / 5, "{kills} kills of {state} states in {PATIENCE:?}");
        assert_eq!(finish(start(&url(state))), expected, "after the last kill");
    }
}

fn file_url(dir: &Path, state: u32) -> String {
    format!("file:{}?sync=never", dir.join(state.to_string()).display())
}

#[test]
fn a_rule_engine_that_is_killed_counts_each_order_once_on_file() {
    let dir = tempfile::tempdir().unwrap();
    kill_and_compare(|state| file_url(dir.path(), state), |_| ());
}

#[cfg(feature = "redis")]
#[test]
fn a_rule_engine_that_is_killed_counts_each_order_once_on_redis() {
    let server = RedisServer::start();
    kill_and_compare(|state| format!("{}?fallback=none&key_prefix=s{state}", server.url(0)), |_| ());
}

// A server that is killed keeps what it has handed to the system, and it hands over each write before it replies,
// unless the policy is `everysec`.

/// The queue is in files, and orders are also processed without the server, as far as their receipts are known.
#[cfg(feature = "redis")]
#[test]
fn an_outage_between_the_kills_changes_no_total() {
    let dir = tempfile::tempdir().unwrap();
    let server =
        std::cell::RefCell::new(RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "no"]));
    let url = |state| {
        let server = server.borrow().url(0);
        let queue = dir.path().join(format!("queue{state}"));
        let fallback = format!("fallback=file:{}&exclusive=true&on_unknown_key=error", queue.display());
        format!("{server}?key_prefix=s{state}&timeout=500ms&{fallback}")
    };
    kill_and_compare(url, |kills| {
        if kills % 8 == 7 {
            thread::sleep(Duration::from_millis(30));
            server.borrow_mut().restart();
        }
    });
}

/// Whatever the program knows nothing of counts as absent: it goes on while the server is away.
#[cfg(feature = "redis")]
#[test]
fn a_rule_engine_goes_on_while_its_server_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let expected = finish(start("memory:"));
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "no"]);
    for round in 0..5 {
        let queue = dir.path().join(format!("queue{round}"));
        let fallback = format!("fallback=file:{}&exclusive=true&on_unknown_key=absent", queue.display());
        let url = format!("{}?key_prefix=s{round}&timeout=500ms&{fallback}", server.url(0));
        let child = start(&url);
        thread::sleep(Duration::from_millis(20 + 30 * round));
        server.kill();
        thread::sleep(Duration::from_millis(50));
        server.restart();
        assert_eq!(finish(child), expected);
    }
}

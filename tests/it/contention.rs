//! Many threads at once, and on Redis also two processes: counters, transfers between accounts, and passing
//! on a hundred thousand items.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use millpond::{FileOptions, StateBackend, StateConfig, StateStore, SyncPolicy};

use crate::support::child_process;
#[cfg(feature = "redis")]
use crate::support::child_process::Process;
#[cfg(feature = "redis")]
use crate::support::redis_server::RedisServer;

const THREADS: usize = 8;
const ITEMS: usize = 100_000;
const ACCOUNTS: u32 = 10;
const MONEY: i64 = 100;
/// The total amount of money in all accounts.
const SUM: i64 = 1000;
const LEASE: Duration = Duration::from_secs(60);

/// Runs the function in every thread at the same time, and returns the results.
fn run_in_threads<R: Send>(run: impl Fn(usize) -> R + Sync) -> Vec<R> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                let run = &run;
                scope.spawn(move || run(number))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    })
}

/// Does the job of one process, and returns the lines that it reports.
fn work(job: &str, store: &StateStore) -> Vec<String> {
    match job {
        "count" => {
            run_in_threads(|_| count_up(store));
            Vec::new()
        }
        "transfer" => {
            run_in_threads(|number| transfer(store, number as u64));
            Vec::new()
        }
        "pop" => run_in_threads(|_| pop(store)).concat(),
        "take" => run_in_threads(|_| take(store)).concat(),
        "stop" => hold_a_lock(store),
        other => panic!("no job is called {other}"),
    }
}

const COUNTED: usize = 100;

fn count_up(store: &StateStore) {
    for _ in 0..COUNTED {
        store.incr("counter", 1).unwrap();
        store.map_incr("map", "counter", 1).unwrap();
        store
            .transaction(|tx| {
                let number: i64 = tx.get("transacted")?.unwrap_or(0);
                tx.put("transacted", number + 1)
            })
            .unwrap();
    }
}

fn account(number: u32) -> String {
    format!("account:{}", number % ACCOUNTS)
}

fn transfer(store: &StateStore, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..COUNTED {
        let (from, to, amount) = (account(random.u32(..)), account(random.u32(..)), random.i64(1..20));
        store
            .transaction(|tx| {
                let left = tx.decr(&from, amount)?;
                if left < 0 {
                    return tx.incr(&from, amount).map(drop);
                }
                tx.incr(&to, amount).map(drop)
            })
            .unwrap();
        assert_eq!(sum(store), SUM);
    }
}

/// The total of all accounts at one moment.
fn sum(store: &StateStore) -> i64 {
    let all = (0..ACCOUNTS).map(account);
    let read = |tx: &mut millpond::Transaction<'_>| {
        all.clone().map(|account| Ok(tx.get::<i64>(&account)?.unwrap_or(0))).sum()
    };
    store.transaction(read).unwrap()
}

fn pop(store: &StateStore) -> Vec<String> {
    std::iter::from_fn(|| store.pop_front::<usize>("queue").unwrap()).map(|item| item.to_string()).collect()
}

/// Takes items until there are none left, and abandons one in a hundred, which another thread takes after its
/// lease.
fn take(store: &StateStore) -> Vec<String> {
    let mut done = Vec::new();
    while let Some(item) = store.lease::<usize>("queue", LEASE).unwrap() {
        if fastrand::usize(..100) == 0 {
            assert!(item.nack().unwrap());
        } else {
            done.push(item.value().to_string());
            assert!(item.ack().unwrap());
        }
    }
    done
}

/// Acquires a lock for a short time, and is stopped before it expires.
fn hold_a_lock(store: &StateStore) -> Vec<String> {
    let guard = store.try_lock("lock", Duration::from_millis(200)).unwrap().expect("the lock is free");
    child_process::report(&guard.token().to_string());
    std::io::stdin().read_line(&mut String::new()).unwrap();
    vec![format!("{:?}", guard.release())]
}

fn fill(store: &StateStore) {
    for items in (0..ITEMS).collect::<Vec<_>>().chunks(10_000) {
        store.push_back_many("queue", items).unwrap();
    }
}

/// Asserts that each item occurs once.
fn assert_all(mut items: Vec<String>) {
    assert_eq!(items.len(), ITEMS);
    items.sort_unstable();
    items.dedup();
    assert_eq!(items.len(), ITEMS, "an item came twice");
}

fn prepare_accounts(store: &StateStore) {
    store.batch_put((0..ACCOUNTS).map(|number| (account(number), MONEY))).unwrap();
}

fn assert_counted(store: &StateStore, processes: usize) {
    let expected = i64::try_from(processes * THREADS * COUNTED).ok();
    assert_eq!(store.get::<i64>("counter").unwrap(), expected);
    assert_eq!(store.get::<i64>("transacted").unwrap(), expected);
    assert_eq!(store.map_get::<i64>("map", "counter").unwrap(), expected);
}

/// Runs all jobs in one process, on a store of its own.
fn run_all_jobs(store: &StateStore) {
    work("count", store);
    assert_counted(store, 1);
    prepare_accounts(store);
    work("transfer", store);
    assert_eq!(sum(store), SUM);
    for job in ["pop", "take"] {
        fill(store);
        assert_all(work(job, store));
        assert!(!store.contains("queue").unwrap());
    }
    pass_on_during_pushes(store);
}

/// Checks that waiting threads get the items that are pushed meanwhile, each once.
fn pass_on_during_pushes(store: &StateStore) {
    let left = AtomicUsize::new(ITEMS / 10);
    let got = run_in_threads(|number| {
        if number == 0 {
            (0..ITEMS / 10).for_each(|item| _ = store.push_back("late", item).unwrap());
        }
        let mut got = Vec::new();
        while left.load(Ordering::SeqCst) > 0 {
            if let Some(item) = store.pop_front_wait::<usize>("late", Duration::from_millis(20)).unwrap() {
                left.fetch_sub(1, Ordering::SeqCst);
                got.push(item);
            }
        }
        got
    });
    let mut got = got.concat();
    got.sort_unstable();
    assert!(got.into_iter().eq(0..ITEMS / 10));
}

#[test]
fn threads_neither_lose_nor_duplicate_anything_on_memory() {
    run_all_jobs(&StateStore::memory());
}

#[test]
fn threads_neither_lose_nor_duplicate_anything_on_file() {
    let dir = tempfile::tempdir().unwrap();
    let config = StateConfig::default()
        .backend(StateBackend::file(dir.path().join("state")))
        .file(FileOptions::default().sync(SyncPolicy::Never));
    let store = StateStore::with_config(config.clone()).unwrap();
    run_all_jobs(&store);
    drop(store);
    let store = StateStore::with_config(config).unwrap();
    assert_counted(&store, 1);
    assert_eq!(sum(&store), SUM);
    assert_eq!(store.queue_len("queue").unwrap(), 0);
}

/// The test that a child process runs: it does the job from its environment.
#[cfg(feature = "redis")]
const CHILD: &str = "contention::two_processes_count_together";

#[cfg(feature = "redis")]
fn open(url: &str) -> StateStore {
    StateStore::open(format!("{url}?fallback=none&timeout=20s")).unwrap()
}

/// Makes two processes do the same job, and returns the lines that they report.
#[cfg(feature = "redis")]
fn two_processes(job: &str, url: &str) -> Vec<String> {
    let processes = [(), ()].map(|()| Process::start_test(CHILD, job, url));
    processes.into_iter().flat_map(Process::read_all_reports).collect()
}

#[cfg(feature = "redis")]
fn shared() -> (String, StateStore) {
    let (server, database) = RedisServer::shared();
    let url = server.url(database);
    let store = open(&url);
    (url, store)
}

#[cfg(feature = "redis")]
#[test]
fn two_processes_count_together() {
    if let Some((job, url)) = child_process::job() {
        let told = work(&job, &open(&url.to_string_lossy()));
        return told.chunks(1000).for_each(|told| child_process::report(&told.join(",")));
    }
    let (url, store) = shared();
    assert_eq!(two_processes("count", &url), [""; 0]);
    assert_counted(&store, 2);
}

#[cfg(feature = "redis")]
#[test]
fn transfers_of_two_processes_never_change_the_sum() {
    let (url, store) = shared();
    prepare_accounts(&store);
    assert_eq!(two_processes("transfer", &url), [""; 0]);
    assert_eq!(sum(&store), SUM);
}

#[cfg(feature = "redis")]
#[test]
fn two_processes_pass_on_a_hundred_thousand_items() {
    let (url, store) = shared();
    for job in ["pop", "take"] {
        fill(&store);
        let told = two_processes(job, &url).join(",");
        assert_all(told.split(',').map(ToOwned::to_owned).collect());
        assert!(!store.contains("queue").unwrap());
    }
}

#[cfg(feature = "redis")]
#[test]
fn items_that_a_killed_process_had_taken_come_back() {
    let (url, store) = shared();
    fill(&store);
    let short = Duration::from_millis(100);
    let mut process = Process::start_test(CHILD, "take", &url);
    crate::support::wait_until("the process takes items", Duration::from_secs(20), || {
        store.queue_len("queue").unwrap() < (ITEMS as u64 * 9) / 10
    });
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    // Only the server knows which items it had taken; they come back when their leases run out.
    let raw = crate::support::raw_client::RawClient::connect(&url);
    let (mut left, mut leases) = (0, Vec::<String>::new());
    crate::support::wait_until(
        "no late command of the killed process arrives",
        Duration::from_secs(20),
        || {
            let before = (left, std::mem::take(&mut leases));
            left = store.queue_len("queue").unwrap();
            leases = raw.run("ZRANGE", &["millpond:queue:__millpond:leases", "0", "-1"]);
            before == (left, leases.clone())
        },
    );
    assert!(leases.len() <= THREADS, "{leases:?}");
    for lease in &leases {
        raw.run::<_, ()>("ZADD", &["millpond:queue:__millpond:leases", "XX", "0", lease]);
    }
    let mut taken = 0;
    while let Some(item) = store.lease::<usize>("queue", short).unwrap() {
        taken += 1;
        assert!(item.ack().unwrap());
    }
    assert_eq!(taken, left + leases.len() as u64);
}

#[cfg(all(feature = "redis", unix))]
#[test]
fn a_stopped_holder_finds_that_it_lost_its_lock() {
    use std::io::Write;
    use std::process::Command;

    let (url, store) = shared();
    let mut holder = Process::start_test(CHILD, "stop", &url);
    let token: u64 = holder.read_report().expect("a token").parse().unwrap();
    let signal = |signal: &str| {
        let id = holder.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    };
    signal("-STOP");
    let minute = Duration::from_secs(60);
    let guard = store.lock("lock", minute, minute).unwrap();
    assert!(guard.token() > token);
    signal("-CONT");
    holder.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let told = holder.read_all_reports();
    assert!(matches!(&told[..], [said] if said.contains("TakenByAnother")), "{told:?}");
    assert!(guard.is_held().unwrap(), "the stopped holder has not freed it");
    guard.release().unwrap();
}

//! A process of the File variant that ends without warning: every acknowledged write survives, and no commit
//! survives only in part.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use millpond::{Error, Leased, ManualClock, OpenOptions, StateConfig, StateStore, SyncPolicy, WriteBatch};

use crate::support::child_process::{self, Process};
use crate::support::files::{config, crashed_copy, journal, open};

/// Continues counting with one batch for each number, and reports each.
fn count(store: &StateStore, most: i64, mut report: impl FnMut(String)) {
    let from: i64 = store.get("last").unwrap().unwrap_or(0);
    for n in from + 1..=from.saturating_add(most) {
        let mut batch = WriteBatch::new();
        batch.put("last", n).unwrap().put(format!("k{}", n % 50), n).unwrap();
        match n % 3 {
            0 => batch.delete("flicker").unwrap(),
            _ => batch.put("flicker", "x".repeat(200)).unwrap(),
        };
        if let Err(error) = store.write(&batch) {
            report(format!("failed {error:?}"));
            assert!(matches!(error, Error::StorageFull { .. }));
            assert_eq!(store.get::<i64>("last").unwrap().unwrap_or(0), n - 1);
            return;
        }
        report(format!("ack {n}"));
    }
}

/// Writes two entries with the same value in one batch, from four threads, until the process is killed.
fn write_pairs(store: &StateStore) {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for n in 0_u64.. {
                    // Some lines take several pages, so that a kill can happen during a write.
                    let value = (n, "x".repeat(if n % 4 == 0 { 300_000 } else { 20 }));
                    let mut batch = WriteBatch::new();
                    batch.put(format!("left{thread}"), &value).unwrap();
                    batch.put(format!("right{thread}"), &value).unwrap();
                    store.write(&batch).unwrap();
                    child_process::report(&format!("wrote {n} {thread}"));
                }
            });
        }
    });
}

/// How many steps a thread of [`count_together`] takes before it reports them.
const STEPS: u64 = 20;

/// Counts in four threads that share the journal, until the process is killed: each step is one operation on
/// a counter of all threads, then one on an entry of the thread itself.
fn count_together(store: &StateStore) {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                let own = format!("own{thread}");
                let done: u64 = store.get(&own).unwrap().unwrap_or(0);
                for n in done + 1.. {
                    store.incr("all", 1).unwrap();
                    store.put(&own, n).unwrap();
                    if n % STEPS == 0 {
                        child_process::report(&format!("wrote {n} {thread}"));
                    }
                }
            });
        }
    });
}

/// Stores a result, and ends the lease of its value.
fn store_result(store: &StateStore, n: u64, taken: &Leased<serde_json::Value>) {
    let stored = store.transaction(|tx| {
        tx.map_put("results", n.to_string(), taken.value())?;
        if tx.ack(taken)? { Ok(()) } else { Err(Error::abort("the lease has ended")) }
    });
    assert!(matches!(stored, Ok(()) | Err(Error::Aborted(_))), "{stored:?}");
}

/// A store whose clock follows the steps of a history. Each step is one operation, so it is either done or
/// not.
struct History {
    store: StateStore,
    clock: Arc<ManualClock>,
    /// The last taken value; a killed process forgets it.
    taken: RefCell<Option<Leased<serde_json::Value>>>,
}

impl History {
    fn open(config: StateConfig, step: u64) -> Self {
        let clock = Arc::new(ManualClock::default());
        set_time(&clock, step);
        let store = OpenOptions::new().clock(clock.clone()).with_config(config).unwrap();
        Self { store, clock, taken: RefCell::default() }
    }

    /// Does the operation that belongs to this step.
    fn step(&self, n: u64) {
        let Self { store, clock, taken } = self;
        set_time(clock, n);
        let mut random = fastrand::Rng::with_seed(n);
        let (field, second) = (random.u32(..600).to_string(), Duration::from_secs(1));
        match n % 18 {
            _ if n == 1 => fill(store),
            0 | 1 => step_together(store, n, &field),
            2 => drop(store.push_back("queue", n).unwrap()),
            3 => drop(store.push_front("queue", ("front", n)).unwrap()),
            4 => drop(store.push_back_many("queue", n..n + 20).unwrap()),
            5 => drop(store.pop_front::<serde_json::Value>("queue").unwrap()),
            6 => drop(store.pop_back::<serde_json::Value>("queue").unwrap()),
            7 => drop(store.queue_trim("queue", random.u64(400..1200)).unwrap()),
            8 => drop(store.map_put("map", &field, (n, "x".repeat(50))).unwrap()),
            9 => drop(store.map_delete("map", &field).unwrap()),
            10 => drop(store.map_incr("counts", (n % 3).to_string(), 1).unwrap()),
            11 => drop(store.map_put_many("map", (0..20).map(|at| (format!("{field} {at}"), n))).unwrap()),
            12 => match random.u32(..5) {
                0 => store.put("any", n).unwrap(),
                1 => drop(store.delete("any").unwrap()),
                2 => drop(store.expire("any", 40 * second).unwrap()),
                _ if n % 36 == 12 => drop(store.map_put("any", &field, n)),
                _ => drop(store.push_front("any", n)),
            },
            13 => {
                // The lock is never released: it expires.
                let guard = store.try_lock("lock", 20 * second).unwrap();
                std::mem::forget(guard);
            }
            14 => *taken.borrow_mut() = store.lease("queue", random.u32(1..100) * second).unwrap(),
            15 | 16 => {
                let ended = if random.bool() { taken.take() } else { None };
                if let Some(taken) = ended {
                    match (n % 18, random.bool()) {
                        (15, true) => drop(taken.ack().unwrap()),
                        (15, false) => store_result(store, n, &taken),
                        _ => drop(taken.nack().unwrap()),
                    }
                }
            }
            _ => {
                store
                    .transaction(|tx| {
                        let many = tx.queue_len("queue")?;
                        tx.map_put("map", "length", many)?;
                        tx.pop_back::<serde_json::Value>("queue")?;
                        tx.queue_trim("steps", 500)
                    })
                    .unwrap();
            }
        }
    }

    /// Everything that a reader can see.
    fn state(&self) -> Vec<String> {
        let store = &self.store;
        let all = store.keys("").unwrap().into_iter().map(|key| {
            let value = store.get::<serde_json::Value>(&key).ok();
            let map = store.map_entries::<serde_json::Value>(&key).ok();
            let queue = store.queue_range::<serde_json::Value>(&key, ..).ok();
            format!("{key} {:?} {value:?} {map:?} {queue:?}", store.ttl(&key).unwrap())
        });
        all.collect()
    }

    /// The expected state after so many steps, if processes were killed after the steps in `ends`; at each
    /// kill, all taken values are forgotten.
    fn after(ends: &[u64], steps: u64) -> Self {
        let history = Self::open(StateConfig::default(), 0);
        for n in 1..=steps {
            if ends.contains(&(n - 1)) {
                history.taken.take();
            }
            history.step(n);
        }
        history
    }

    /// Whether the files of a killed process hold the state after so many steps, including leases.
    fn is_left_in(dir: &Path, ends: &[u64], steps: u64) -> bool {
        let reference = Self::after(ends, steps);
        let copy = crashed_copy(dir);
        let found = Self::open(config(copy.path(), SyncPolicy::Never), steps);
        // A compaction may already have recorded the time of the next step.
        let is_alike = (steps..=steps + 1).any(|now| {
            set_time(&found.clock, now);
            set_time(&reference.clock, now);
            found.state() == reference.state()
        });
        // If the lease of a value has run out, the value may just have been taken again; then it does not
        // come at once.
        is_alike
            && [1, 1000].into_iter().all(|later| found.drain(steps + later) == reference.drain(steps + later))
    }

    /// Pops all values of the queue at the time of a step, with those that leases held back.
    fn drain(&self, n: u64) -> Vec<serde_json::Value> {
        set_time(&self.clock, n);
        let second = Duration::from_secs(1);
        let take = || self.store.lease::<serde_json::Value>("queue", second).unwrap();
        std::iter::from_fn(|| {
            take().map(|item| {
                assert!(item.ack().unwrap());
                item.into_inner()
            })
        })
        .collect()
    }
}

fn set_time(clock: &ManualClock, step: u64) {
    clock.set(UNIX_EPOCH + Duration::from_secs(1_704_067_200 + step));
}

/// Stores more than fits in one piece of a snapshot.
fn fill(store: &StateStore) {
    store
        .transaction(|tx| {
            tx.push_back_many("queue", 0..1000)?;
            tx.map_put_many("map", (0..600).map(|field| (field.to_string(), field)))
        })
        .unwrap();
}

/// Changes two maps and a queue in step.
fn step_together(store: &StateStore, n: u64, field: &str) {
    store
        .transaction(|tx| {
            tx.map_put("left", field, n)?;
            tx.push_back("steps", n)?;
            tx.map_put("right", field, n)?;
            if n.is_multiple_of(5) {
                let gone: Option<u64> = tx.pop_front("steps")?;
                tx.map_put("right", "gone", gone)?;
                tx.map_put("left", "gone", gone)?;
            }
            Ok(())
        })
        .unwrap();
}

/// Continues a history until the process is killed.
fn continue_history(dir: &Path, sync: SyncPolicy, done: u64) {
    let history = History::open(config(dir, sync), done);
    for n in done + 1.. {
        history.step(n);
        child_process::report(&format!("ack {n}"));
    }
}

fn work(job: &str, dir: &Path) {
    if let Some((sync, done)) = job.strip_prefix("history ").and_then(|rest| rest.split_once(' ')) {
        let sync = if sync == "always" { SyncPolicy::Always } else { SyncPolicy::Never };
        return continue_history(dir, sync, done.parse().unwrap());
    }
    if let Some(sync) = job.strip_prefix("together ") {
        let sync =
            if sync == "never" { SyncPolicy::Never } else { SyncPolicy::Every(Duration::from_millis(1)) };
        return count_together(&open(dir, sync).unwrap());
    }
    match job {
        "count" => {
            count(&open(dir, SyncPolicy::Always).unwrap(), i64::MAX, |said| child_process::report(&said));
        }
        "pairs" => write_pairs(&open(dir, SyncPolicy::Never).unwrap()),
        "hold" => {
            let store = open(dir, SyncPolicy::Always).unwrap();
            child_process::report("open");
            // Until the parent ends, if it does not kill this process first.
            std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
            store.close().unwrap();
        }
        "open" => match open(dir, SyncPolicy::Always) {
            Ok(_) => child_process::report("opened"),
            Err(error) => child_process::report(&format!("{error:?}")),
        },
        #[cfg(unix)]
        "outgrow" => super::compaction::outgrow(dir),
        other => panic!("no job is called {other}"),
    }
}

fn parse_ack(said: &str) -> Option<i64> {
    said.strip_prefix("ack ")?.parse().ok()
}

#[test]
fn a_reopened_writer_continues_where_it_stopped() {
    if let Some((job, dir)) = child_process::job() {
        return work(&job, &dir);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut told = Vec::new();
    for _ in 0..3 {
        count(&open(dir.path(), SyncPolicy::Always).unwrap(), 20, |said| told.extend(parse_ack(&said)));
    }
    assert_eq!(told, (1..=60).collect::<Vec<_>>());
    assert_eq!(open(dir.path(), SyncPolicy::Always).unwrap().get::<i64>("last").unwrap(), Some(60));
}

#[test]
fn kill_9_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut acked = 0;
    for round in 0..20 {
        let mut process = Process::start("count", dir.path());
        let mut left = 1 + round * 17 % 120;
        while left > 0 {
            let said = process.read_report().expect("the child ended");
            acked = parse_ack(&said).expect("a number");
            left -= 1;
        }
        for said in process.kill() {
            acked = parse_ack(&said).unwrap_or(acked);
        }
        let store = open(dir.path(), SyncPolicy::Always).unwrap();
        let last: i64 = store.get("last").unwrap().unwrap();
        assert!((acked..=acked + 1).contains(&last), "{acked} steps were acknowledged, {last} were found");
        assert_eq!(store.get::<i64>(&format!("k{}", last % 50)).unwrap(), Some(last));
        assert_eq!(store.contains("flicker").unwrap(), last % 3 != 0);
    }
}

#[test]
fn kill_9_leaves_both_entries_of_a_batch_or_none() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..8 {
        let mut process = Process::start("pairs", dir.path());
        let mut wrote = [None::<u64>; 4];
        let mut note = |said: &str| {
            let (n, thread) = said.strip_prefix("wrote ").and_then(|rest| rest.split_once(' ')).unwrap();
            wrote[thread.parse::<usize>().unwrap()] = n.parse().ok();
        };
        for _ in 0..4 + round * 5 {
            note(&process.read_report().expect("the child ended"));
        }
        let rest = process.kill();
        // The last line may be cut off in the middle.
        rest.iter().rev().skip(1).rev().for_each(|said| note(said));
        let store = open(dir.path(), SyncPolicy::Never).unwrap();
        for (thread, wrote) in wrote.into_iter().enumerate() {
            let left: Option<(u64, String)> = store.get(format!("left{thread}")).unwrap();
            let right: Option<(u64, String)> = store.get(format!("right{thread}")).unwrap();
            assert!(left == right, "round {round}: only half of a batch survived");
            if let Some(wrote) = wrote {
                assert!(left.is_some_and(|(n, _)| n >= wrote), "round {round}: {wrote} was acknowledged");
            }
        }
    }
}

#[test]
fn kill_9_loses_nothing_that_threads_wrote_together() {
    for sync in ["never", "in the background"] {
        let dir = tempfile::tempdir().unwrap();
        // Each thread may have been killed between its two operations.
        let mut halves = 0;
        for round in 0..8 {
            let mut process = Process::start(&format!("together {sync}"), dir.path());
            let mut said: Vec<_> =
                (0..2 + round * 7).map(|_| process.read_report().expect("the child ended")).collect();
            let rest = process.kill();
            // The last line may be cut off in the middle.
            said.extend(rest.into_iter().rev().skip(1));
            let store = open(dir.path(), SyncPolicy::Never).unwrap();
            let mut sum = 0;
            for thread in 0..4 {
                let own: u64 = store.get(format!("own{thread}")).unwrap().unwrap_or(0);
                let told = said.iter().filter_map(|said| {
                    let (n, who) = said.strip_prefix("wrote ")?.split_once(' ')?;
                    (who == thread.to_string()).then(|| n.parse::<u64>().unwrap())
                });
                let told = told.max().unwrap_or(0);
                assert!(
                    own >= told,
                    "{sync}, round {round}: thread {thread}: {told} acknowledged, {own} found"
                );
                sum += own;
            }
            let all: u64 = store.get("all").unwrap().unwrap_or(0);
            let torn = all.checked_sub(sum + halves);
            assert!(
                torn.is_some_and(|torn| torn <= 4),
                "{sync}, round {round}: counted {all}, the threads {sum} and {halves}"
            );
            halves += torn.unwrap_or(0);
        }
    }
}

#[test]
fn kill_9_loses_nothing_of_maps_queues_leases_and_transactions() {
    let dir = tempfile::tempdir().unwrap();
    // The step after which each process was killed.
    let mut ends = vec![0];
    for round in 0..24 {
        let sync = if round % 3 == 0 { "always" } else { "never" };
        let done = ends[ends.len() - 1];
        let mut process = Process::start(&format!("history {sync} {done}"), dir.path());
        let mut acked = done;
        for _ in 0..=round * 37 % 150 {
            acked = process.read_report().as_deref().and_then(parse_ack).expect("a number").unsigned_abs();
        }
        // The last line may be cut off in the middle.
        let rest = process.kill();
        acked += rest.iter().filter(|said| parse_ack(said) > Some(0)).count().saturating_sub(1) as u64;

        // Only copies are opened: the next process finds the files exactly as this one left them.
        let end = (acked..=acked + 2).find(|end| History::is_left_in(dir.path(), &ends, *end));
        let Some(end) = end else {
            let copy = crashed_copy(dir.path());
            let found = History::open(config(copy.path(), SyncPolicy::Never), acked);
            let reference = History::after(&ends, acked);
            assert_eq!(found.state(), reference.state(), "round {round}, {acked} steps were acknowledged");
            panic!("round {round}, {acked} steps were acknowledged: the leases differ");
        };
        ends.push(end);
    }
    assert!(!journal(dir.path(), 1).exists(), "nothing was compacted");
}

#[cfg(unix)]
#[test]
fn a_file_that_cannot_grow_is_storage_full_and_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let told = Process::start_limited("count", dir.path(), 8).read_all_reports();
    assert!(told.last().is_some_and(|said| said.starts_with("failed StorageFull")), "{told:?}");
    let acked = told.iter().filter_map(|said| parse_ack(said)).max();
    let store = open(dir.path(), SyncPolicy::Always).unwrap();
    assert_eq!(store.get::<i64>("last").unwrap(), acked);
    store.put("more", 1).unwrap();
}

#[test]
fn a_directory_is_locked_until_its_process_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start("hold", dir.path());
    assert_eq!(process.read_report().as_deref(), Some("open"));
    let error =
        assert_error!(open(dir.path(), SyncPolicy::Always), Error::Locked { path, .. } if path == dir.path());
    assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
    process.kill();
    open(dir.path(), SyncPolicy::Always).unwrap().put("a", 1).unwrap();
}

#[test]
fn a_second_process_is_refused_while_the_first_has_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Always).unwrap();
    let told = Process::start("open", dir.path()).read_all_reports();
    assert!(matches!(&told[..], [said] if said.starts_with("Locked")), "{told:?}");
    store.close().unwrap();
    assert_eq!(Process::start("open", dir.path()).read_all_reports(), ["opened"]);
}

/// If this process is root, which may write everywhere, the child runs as another user.
#[cfg(unix)]
#[test]
fn a_directory_without_write_permission_is_named_in_the_error() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    use std::{fs, process::Command};

    const NOBODY: u32 = 65534;
    let dir = tempfile::tempdir().unwrap();
    let read_only = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o555)).unwrap();
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    read_only(&state);
    let is_root = fs::write(state.join("probe"), "x").is_ok();
    let mut exe = std::env::current_exe().unwrap();
    if is_root {
        fs::remove_file(state.join("probe")).unwrap();
        // Another user may not be allowed to read the directory of this binary.
        let copy = dir.path().join("exe");
        fs::copy(&exe, &copy).unwrap();
        exe = copy;
    }
    read_only(dir.path());
    for path in [state.clone(), state.join("deeper")] {
        let mut command = Command::new(&exe);
        if is_root {
            command.uid(NOBODY).gid(NOBODY).current_dir("/");
        }
        let told = Process::run(command, "open", &path).read_all_reports();
        let [said] = &told[..] else { panic!("{told:?}") };
        assert!(said.starts_with("Io") && said.contains("PermissionDenied"), "{said}");
        assert!(said.contains(&path.display().to_string()), "{said}");
    }
    assert!(fs::read_dir(&state).unwrap().next().is_none(), "a file was created");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

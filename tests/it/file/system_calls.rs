//! The File variant at every system call: a reply follows the sync that it depends on, and the data is
//! correct after a call that failed or was the last one. The calls are observed and changed with strace.
//!
//! Without strace, the tests cut the power of a disk instead. `MILLPOND_TEST_TRACES=1` requires strace, `0`
//! forces the disk.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fastrand::Rng;
use millpond::{FileOptions, SyncPolicy};

use super::power_loss::{JOBS, start_writer};
use crate::support::child_process::{self, Process};
use crate::support::disk::{Disk, stop};
use crate::support::files::{config, journal, open};
use crate::support::history::{self, History, acked};
use crate::support::seeds::any_seeds;

/// Whether processes can be traced on this machine.
fn is_traced() -> bool {
    let asked = std::env::var("MILLPOND_TEST_TRACES").ok();
    let cause = if asked.as_deref() == Some("0") {
        "it is disabled".to_owned()
    } else {
        let tried = Command::new("strace")
            .args(["-f", "-o", "/dev/null", "-e", "inject=fdatasync:error=EIO:when=1", "true"])
            .stdin(Stdio::null())
            .output();
        match tried {
            Ok(outcome) if outcome.status.success() => return true,
            Ok(outcome) => String::from_utf8_lossy(&outcome.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        }
    };
    assert_ne!(asked.as_deref(), Some("1"), "no strace: {cause}");
    println!("no strace: the power of a disk is cut instead: {cause}");
    false
}

/// Starts a process under strace, which observes calls or injects errors.
fn start_traced(args: &[&str], log: &Path, job: &str, dir: &Path) -> Process {
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-s", "65536", "-o"]).arg(log).args(args);
    command.arg(std::env::current_exe().unwrap());
    Process::run_test(command, JOBS, job, dir)
}

/// Writes entries from several threads, and reports each.
pub(crate) fn write_marks(job: &str, dir: &Path) {
    let words: Vec<u64> = job.split(' ').skip(1).map(|word| word.parse().unwrap()).collect();
    let [threads, count] = words[..] else { panic!("no job is called {job}") };
    let store = &open(dir, SyncPolicy::Always).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for n in 0..count {
                    let mark = format!("mark{thread}-{n}");
                    // Entries that are deleted later, so that there is something to compact.
                    if n > 3 {
                        store.delete(format!("mark{thread}-{}", n - 4)).unwrap();
                    }
                    store.put(&mark, "x".repeat(100)).unwrap();
                    child_process::report(&format!("ack {mark}"));
                }
            });
        }
    });
}

/// A system call: its arguments, and the log lines of its beginning and end.
#[derive(Default)]
struct Call {
    text: String,
    end: Option<usize>,
    begin: usize,
}

impl Call {
    fn is(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.text.strip_prefix(name).is_some_and(|rest| rest.starts_with('(')))
    }

    /// The file of its first argument.
    fn file(&self) -> &str {
        let from = self.text.find('<').map_or(0, |at| at + 1);
        self.text[from..].split('>').next().unwrap_or_default()
    }

    fn succeeded(&self) -> bool {
        self.text.rsplit_once(" = ").is_some_and(|(_, result)| !result.starts_with('-'))
    }
}

/// The calls of a log, in the order in which they began.
fn calls(log: &Path) -> Vec<Call> {
    let text = fs::read_to_string(log).unwrap();
    let mut calls: Vec<Call> = Vec::new();
    let mut open: HashMap<&str, usize> = HashMap::new();
    for (at, line) in text.lines().enumerate() {
        let Some((process, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if rest.starts_with("<... ") {
            if let Some(call) = open.remove(process).map(|index| &mut calls[index]) {
                call.text.push_str(rest);
                call.end = Some(at);
            }
            continue;
        }
        let is_unfinished = rest.ends_with("<unfinished ...>");
        if is_unfinished {
            open.insert(process, calls.len());
        }
        calls.push(Call { text: rest.to_owned(), begin: at, end: (!is_unfinished).then_some(at) });
    }
    calls
}

/// The number of steps before the store is opened again.
const BEGUN: u64 = 10;

/// The number of steps until the store was compacted twice.
const STEPS: u64 = 300;

const WRITES: [&str; 5] = ["write", "pwrite64", "writev", "pwritev", "pwritev2"];
const SYNCS: [&str; 2] = ["fdatasync", "fsync"];

#[test]
fn every_reply_follows_a_sync_that_began_after_its_write() {
    if !is_traced() {
        return assert_replies_survive_a_power_failure();
    }
    for threads in [1, 4] {
        let dir = tempfile::tempdir().unwrap();
        let (log, state) = (dir.path().join("log"), dir.path().join("state"));
        let filter = format!("trace={},{}", WRITES.join(","), SYNCS.join(","));
        let told =
            start_traced(&["-e", &filter], &log, &format!("marks {threads} 120"), &state).read_all_reports();
        let calls = calls(&log);
        let writes: Vec<&Call> =
            calls.iter().filter(|call| call.is(&WRITES) && call.file().contains("/journal-")).collect();
        let syncs: Vec<&Call> = calls.iter().filter(|call| call.is(&SYNCS) && call.succeeded()).collect();
        let mut answers = 0;
        for answer in calls.iter().filter(|call| call.is(&WRITES) && call.text.contains("child: ack mark")) {
            let mark =
                answer.text.split("child: ack ").nth(1).and_then(|rest| rest.split('\\').next()).unwrap();
            let says = |call: &&&Call| call.text.contains(&format!("\\\"{mark}\\\",\\\"v\\\""));
            let write = writes.iter().find(says).unwrap_or_else(|| panic!("{mark} was not written"));
            let written = write.end.expect("a write that ended");
            let is_covered = syncs.iter().any(|sync| {
                sync.file() == write.file()
                    && sync.begin > written
                    && sync.end.is_some_and(|end| end < answer.begin)
            });
            assert!(is_covered, "{mark} was acknowledged before it was synced; {threads} threads");
            answers += 1;
        }
        assert_eq!(answers, usize::try_from(threads * 120).unwrap(), "{told:?}");
        assert!(!journal(&state, 1).exists(), "nothing was compacted");
    }
}

/// The same check without strace: a power failure after the replies.
fn assert_replies_survive_a_power_failure() {
    for threads in [1, 4] {
        let disk = Disk::ext4(threads);
        let mut process = start_writer(&format!("marks {threads} 100000"), &disk.state());
        let mut last = HashMap::new();
        let mut note = |said: &str| {
            let (thread, n) = said.strip_prefix("ack mark").and_then(|rest| rest.split_once('-')).unwrap();
            last.insert(thread.to_owned(), n.parse::<u64>().unwrap());
        };
        for _ in 0..fastrand::u32(100..300) {
            note(&process.read_report().expect("the process ended"));
        }
        stop(&process);
        let left = disk.cut();
        process.kill().iter().for_each(|said| note(said));
        let found = left.mount();
        let store = open(&found.state(), SyncPolicy::Always).unwrap();
        for (thread, n) in last {
            let is_there = |n| store.contains(format!("mark{thread}-{n}")).unwrap();
            assert!(is_there(n), "{n} of thread {thread} was acknowledged");
            assert!(n < 4 || !is_there(n - 4), "{} of thread {thread} was deleted", n - 4);
        }
    }
}

/// Runs a history while strace injects something into calls, only into those on `paths` if there are any, and
/// returns the reports of the process. strace counts the calls of each thread separately.
fn run_with_injection(what: &str, paths: &[PathBuf], job: &str, dir: &Path, log: &Path) -> Vec<String> {
    let (filter, inject) = (format!("trace={}", what.split(':').next().unwrap()), format!("inject={what}"));
    let mut args: Vec<&str> = vec!["-e", &filter, "-e", &inject];
    args.extend(paths.iter().flat_map(|path| ["-P", path.to_str().unwrap()]));
    let mut process = start_traced(&args, log, job, dir);
    let told = std::iter::from_fn(|| process.read_report()).collect();
    process.child.wait().unwrap();
    told
}

/// A file of the store by its path, and by its name alone, under which the store opens it in its directory.
fn both_paths(state: &Path, name: &str) -> Vec<PathBuf> {
    [state.join(name), name.into()].into_iter().filter(|path| !path.as_os_str().is_empty()).collect()
}

/// The files into which the first compactions write their snapshots.
fn unfinished_snapshots(state: &Path) -> Vec<PathBuf> {
    (2..60).flat_map(|number| both_paths(state, &format!("snapshot-{number}.jsonl.tmp"))).collect()
}

/// Begins a history, without a compaction.
fn begin(state: &Path, seed: u64) {
    let history =
        History::open(config(state, SyncPolicy::Always).file(FileOptions::default()), seed, 0).unwrap();
    (1..=BEGUN).for_each(|n| history.step(n).unwrap());
    drop(history);
    assert!(journal(state, 1).exists());
}

#[track_caller]
fn assert_no_leftovers(state: &Path, what: &str) {
    let mut left = fs::read_dir(state).unwrap().map(|item| item.unwrap().path());
    assert_eq!(left.find(|path| path.extension().is_some_and(|end| end == "tmp")), None, "{what}");
}

fn last_acked(told: &[String]) -> u64 {
    told.iter().filter_map(|said| acked(said)).max().unwrap_or(0)
}

/// Reads still work.
#[test]
fn a_failed_sync_poisons_the_store_until_it_is_opened_again() {
    if !is_traced() {
        return super::full_disk::fail_a_sync(1);
    }
    for seed in any_seeds(1) {
        // The beginning of a journal is synced twice, since it makes the journal longer; so is its first
        // line.
        for at in [1, 2, 3, 4, 7, 20, 60] {
            let dir = tempfile::tempdir().unwrap();
            let (log, state) = (dir.path().join("log"), dir.path().join("state"));
            let job = history::job(SyncPolicy::Always, seed, 0, 400);
            let told = run_with_injection(&format!("fdatasync:error=EIO:when={at}"), &[], &job, &state, &log);
            assert!(fs::read_to_string(&log).unwrap().contains("(INJECTED)"), "{told:?}");
            let done = last_acked(&told);
            if at <= 2 {
                assert!(matches!(&told[..], [said] if said.starts_with("refused Io")), "{told:?}");
            } else {
                let [.., failed, reads, next] = &told[..] else { panic!("{told:?}") };
                assert!(failed.starts_with(&format!("failed {} Poisoned", done + 1)), "{told:?}");
                assert!(reads.starts_with("reads "), "{told:?}");
                assert!(next.starts_with("next Err(\"Poisoned"), "{told:?}");
            }
            let history = History::in_directory(&state, SyncPolicy::Always, seed, done).unwrap();
            let found = history.assert_after(done..=done + 1, &format!("seed {seed}, sync {at} failed"));
            history.step(found + 1).unwrap();
        }
    }
}

/// The store continues.
#[test]
fn a_compaction_that_cannot_rename_or_sync_keeps_the_old_files() {
    if !is_traced() {
        return super::full_disk::fail_a_sync(2);
    }
    for seed in any_seeds(1) {
        for (at, what) in [
            "?rename,?renameat,?renameat2:error=EXDEV",
            "?rename,?renameat,?renameat2:error=EPERM",
            "fsync:error=EIO",
            "fsync:error=EIO:when=2+",
            "fdatasync:error=EIO",
            "openat:error=EMFILE",
            "?write,?pwrite64:error=EIO:when=2+",
        ]
        .into_iter()
        .enumerate()
        {
            let dir = tempfile::tempdir().unwrap();
            let (log, state) = (dir.path().join("log"), dir.path().join("state"));
            begin(&state, seed);
            // The directory before and after the snapshot, and the snapshot itself.
            let paths = match at {
                0 | 1 => Vec::new(),
                2 | 3 => vec![state.clone()],
                _ => unfinished_snapshots(&state),
            };
            let job = history::job(SyncPolicy::Always, seed, BEGUN, 300);
            let told = run_with_injection(what, &paths, &job, &state, &log);
            assert!(fs::read_to_string(&log).unwrap().contains("(INJECTED)"), "{what}: {told:?}");
            assert_eq!(told.last().map(String::as_str), Some("end"), "{what}");
            assert!(journal(&state, 1).exists(), "{what}: the old files were deleted");
            assert_no_leftovers(&state, what);
            let history = History::in_directory(&state, SyncPolicy::Always, seed, 300).unwrap();
            history.assert_after(300..=300, what);
            (301..=500).for_each(|n| history.step(n).unwrap());
            drop(history);
            assert!(!journal(&state, 1).exists(), "{what}: no later compaction succeeded");
        }
    }
}

/// Kills a process at one call, and checks the files that it left, as they are and after a power failure.
/// Returns whether the process made that call.
fn kill_at(call: &str, at: u64, path: Option<&str>, seed: u64) -> bool {
    let (disk, dir) = (Disk::ext4(seed + at), tempfile::tempdir().unwrap());
    let state = disk.state();
    let mut begun = 0;
    let paths: Vec<PathBuf> = path.into_iter().flat_map(|path| both_paths(&state, path)).collect();
    if path.is_some() {
        // Opening a new store makes some of these calls too.
        begin(&state, seed);
        begun = BEGUN;
    }
    let job = history::job(SyncPolicy::Always, seed, begun, STEPS);
    let told = run_with_injection(
        &format!("{call}:signal=KILL:when={at}"),
        &paths,
        &job,
        &state,
        &dir.path().join("log"),
    );
    if told.last().is_some_and(|said| said == "end") {
        return false;
    }
    let done = last_acked(&told).max(begun);
    let what = format!("seed {seed}, killed at the {at}. {call} on {path:?} after {done} steps");
    for found in [disk.cut().mount(), disk] {
        let history = History::in_directory(&found.state(), SyncPolicy::Always, seed, done)
            .unwrap_or_else(|error| panic!("{what}: {error:?}"));
        history.assert_after(done..=done + 1, &what);
        drop(history);
        assert_no_leftovers(&found.state(), &what);
    }
    true
}

#[test]
fn every_acknowledged_step_survives_a_kill_at_any_system_call() {
    const RENAME: &str = "?rename,?renameat,?renameat2";
    const UNLINK: &str = "?unlink,?unlinkat";
    const WRITE: &str = "?write,?pwrite64";
    const SNAPSHOT: &str = "snapshot-2.jsonl.tmp";
    const NEXT: &str = "journal-2.jsonl";
    if !is_traced() {
        return assert_replies_survive_a_power_failure();
    }
    for seed in any_seeds(1) {
        // The creation of a new store, and each step of a compaction.
        for (call, path, most) in [
            ("fsync", None, 20),
            (RENAME, None, 20),
            ("openat", Some(NEXT), 1),
            ("fsync", Some(""), 20),
            (WRITE, Some(NEXT), 3),
            ("fdatasync", Some(NEXT), 3),
            ("openat", Some(SNAPSHOT), 20),
            (WRITE, Some(SNAPSHOT), 20),
            ("fdatasync", Some(SNAPSHOT), 20),
            (UNLINK, Some("journal-1.jsonl"), 1),
            (UNLINK, Some("snapshot-2.jsonl"), 1),
            (UNLINK, Some(NEXT), 1),
            ("fdatasync", None, 70),
        ] {
            // On a busy machine a compaction may come only after all steps.
            let mut rounds =
                (0..5).map(|_| (1..=most).take_while(|at| kill_at(call, *at, path, seed)).count());
            let killed = rounds.find(|killed| *killed > 0).unwrap_or(0);
            println!("killed at each of {killed} {call} on {path:?}");
            assert!(killed > 0, "no {call} on {path:?} in {STEPS} steps");
        }
        let random = &mut Rng::with_seed(seed);
        for _ in 0..12 {
            kill_at(WRITE, random.u64(1..140), None, seed);
        }
    }
}

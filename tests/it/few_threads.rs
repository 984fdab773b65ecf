//! A system without room for another thread, or without free file descriptors, for a while: a store opens all the same
//! or says why not, and does not stay behind when there is room again. The limits are real, in a child process that
//! belongs to another user, since they do not hold for root.

use std::fs;
use std::path::Path;
use std::process::Command;

use millpond::{StateStore, Status};

use crate::support::child_process::{Process, job, report};
use crate::support::proxied_server::ProxiedServer;
use crate::support::proxy::Mode;
use crate::support::redis_stores::{memory, notice_disconnect, open, wait_for};

const THIS: &str = "few_threads::a_store_works_without_another_thread_and_recovers_when_there_is_one";

/// A user of which no process exists.
const USER: u32 = 47_113;

/// A command that runs as the other user.
fn as_user() -> Command {
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={USER}"), &format!("--regid={USER}"), "--clear-groups"]);
    command
}

/// Sets a soft limit of a process of the other user.
fn limit(pid: u32, what: &str, soft: &str) {
    let argument = format!("--{what}={soft}:");
    let status = as_user().arg("prlimit").args(["--pid", &pid.to_string(), &argument]).status().unwrap();
    assert!(status.success());
}

/// A child as another user, whose reports are the steps of a history; the parent changes the limits between them.
fn start(told: &str, dir: &Path) -> Process {
    let mut command = as_user();
    command.arg(std::env::current_exe().unwrap());
    Process::run_test(command, THIS, told, dir)
}

fn wait_for_file(path: &Path) {
    wait_for("the parent has changed the limit", || path.exists());
}

/// The child: the path is that of a directory with the URL of the server, to which the parent adds signs.
fn child(told: &str, dir: &Path) {
    let url = fs::read_to_string(dir.join("url")).unwrap();
    report("started");
    wait_for_file(&dir.join("limited"));
    match told {
        "redis" => {
            assert!(std::thread::Builder::new().spawn(|| ()).is_err(), "the limit holds");
            let store = open(&url, memory()).unwrap();
            store.put("before", 1).unwrap();
            report("opened");
            wait_for_file(&dir.join("down"));
            notice_disconnect(&store);
            store.put("during", 2).unwrap();
            report("disconnected");
            wait_for_file(&dir.join("up"));
            // There is still no thread: operations reconnect.
            wait_for("the store is connected", || {
                let _ = store.get::<i64>("during");
                store.status() == Status::Connected
            });
            report("connected");
            store.close().unwrap();
        }
        "thread later" => {
            let store = open(&url, memory()).unwrap();
            wait_for_file(&dir.join("down"));
            notice_disconnect(&store);
            report("disconnected");
            wait_for_file(&dir.join("unlimited"));
            // One operation starts the thread, which then does without operations.
            wait_for("the thread is started", || {
                let _ = store.get::<i64>("k");
                threads_of_this_process("millpond-reconn") == 1
            });
            report("thread");
            wait_for_file(&dir.join("up"));
            wait_for("the store is connected", || store.status() == Status::Connected);
            report("connected");
        }
        "file" => {
            let path = dir.join("store");
            let timed = StateStore::open(format!("file:{}?sync=5ms", path.display()));
            report(&timed.map_or_else(|error| format!("{error:?}"), |_| "opened".to_owned()));
            let url = format!("file:{}?sync=never&compact_min_bytes=4096", path.display());
            let store = StateStore::open(&url).unwrap();
            let write = |times: u64| {
                (0..times).for_each(|n| store.put("k", format!("{n:0100}")).unwrap());
            };
            write(2000);
            report("written");
            wait_for_file(&dir.join("unlimited"));
            let size =
                || fs::read_dir(&path).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum::<u64>();
            wait_for("the directory is compacted", || {
                write(20);
                size() < 64 << 10
            });
            report("compacted");
        }
        other => panic!("no job {other}"),
    }
}

fn threads_of_this_process(name: &str) -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|found| found.trim() == name).count()
}

#[test]
fn a_store_works_without_another_thread_and_recovers_when_there_is_one() {
    if let Some((told, dir)) = job() {
        return child(&told, &dir);
    }
    let root = Command::new("id").arg("-u").output().unwrap().stdout;
    assert_eq!(String::from_utf8_lossy(&root).trim(), "0", "run the tests as root: setpriv needs it");
    for told in ["redis", "thread later", "file"] {
        let server = ProxiedServer::new();
        let dir = tempfile::tempdir().unwrap();
        let sign = |name: &str| fs::write(dir.path().join(name), "").unwrap();
        fs::write(dir.path().join("url"), server.proxy.url()).unwrap();
        let chown = Command::new("chown").arg("-R").arg(USER.to_string()).arg(dir.path()).status().unwrap();
        assert!(chown.success());
        let mut child = start(told, dir.path());
        let pid = child.child.id();
        let mut expect = |text: &str| assert_eq!(child.read_report().as_deref(), Some(text), "{told}");
        expect("started");
        limit(pid, "nproc", "1");
        sign("limited");
        match told {
            "redis" => {
                expect("opened");
                server.proxy.set(Mode::Down);
                sign("down");
                expect("disconnected");
                server.proxy.set(Mode::Pass);
                sign("up");
                expect("connected");
                assert_eq!(server.raw.run::<_, String>("GET", &["t:during"]), "2");
            }
            "thread later" => {
                server.proxy.set(Mode::Down);
                sign("down");
                expect("disconnected");
                limit(pid, "nproc", "1000");
                sign("unlimited");
                expect("thread");
                server.proxy.set(Mode::Pass);
                sign("up");
                expect("connected");
            }
            _ => {
                let opened = child.read_report().unwrap();
                assert!(opened.contains("starting a thread for"), "{opened}");
                assert_eq!(child.read_report().as_deref(), Some("written"));
                limit(pid, "nproc", "1000");
                sign("unlimited");
                assert_eq!(child.read_report().as_deref(), Some("compacted"));
            }
        }
    }
}

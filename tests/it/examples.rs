//! The examples, run as a user would run them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::exposition::Exposition;
#[cfg(feature = "redis")]
use crate::support::redis_server::RedisServer;

/// The path of a built example: `cargo test` builds all of them, next to the directory of this test binary.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let built =
        test.parent().and_then(Path::parent).expect("the target directory").join("examples").join(name);
    assert!(built.exists(), "{} is missing: `cargo build --examples` makes it", built.display());
    built
}

/// Runs an example, which must succeed, and returns its output.
fn run(name: &str, arguments: &[&str], url_in_environment: Option<&str>) -> String {
    let mut command = Command::new(example(name));
    command.args(arguments).env_remove("MILLPOND_URL");
    if let Some(url) = url_in_environment {
        command.env("MILLPOND_URL", url);
    }
    let output = command.output().expect("running the example");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} {arguments:?} failed: {out}{err}");
    out.into_owned()
}

/// Runs an example on each backend, and returns its output, which must be the same on all.
fn run_on_each_backend(name: &str) -> String {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let printed = run(name, &["memory:"], None);
    let file = format!("file:{}?sync=never", dir.path().join("state").display());
    assert_eq!(run(name, &[&file], None), printed);
    assert_eq!(run(name, &[&file], None), printed, "the second run");
    #[cfg(feature = "redis")]
    {
        let server = RedisServer::start();
        assert_eq!(run(name, &[&format!("{}?fallback=none", server.url(0))], None), printed);
    }
    printed
}

#[test]
fn quickstart_continues_where_the_last_run_stopped() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("state");
    let path = path.to_str().expect("a path in UTF-8");
    let first = run("quickstart", &[path], None);
    assert!(first.contains("a new store"), "{first}");
    let second = run("quickstart", &[path], None);
    assert!(second.contains("1000 orders were counted before"), "{second}");
    assert!(second.contains("it goes on from order 2000"), "{second}");
}

#[test]
fn four_threads_count_a_hundred_events_on_every_backend() {
    assert_eq!(run_on_each_backend("threads"), "100\n");
}

#[test]
fn the_rule_engine_prints_the_same_on_every_backend() {
    let printed = run_on_each_backend("rule_engine");
    assert!(printed.ends_with("\n3888 orders in all\n"), "{printed}");
}

#[test]
fn the_worker_pool_does_each_job_once_on_every_backend() {
    let sum: u64 = (0..1000).map(|id| id * id).sum();
    let printed = run_on_each_backend("worker_pool");
    assert_eq!(printed, format!("1000 jobs, the sum of their squares is {sum}\n"));
}

#[cfg(feature = "redis")]
#[test]
fn an_outage_in_the_middle_changes_no_total() {
    let printed = run("outage", &[], None);
    assert!(printed.contains("\nDisconnected {") && printed.contains(" disconnected "), "{printed}");
    assert!(printed.contains("3888 orders, 60 customers, 33 alerts\nRedis and the file agree"), "{printed}");
}

#[test]
fn jobs_that_fail_are_tried_again_on_every_backend() {
    let printed = run_on_each_backend("jobs");
    let expected = "sent: [\"anna@example at attempt 1\", \"ben@example at attempt 3\", \
                    \"dora@example at attempt 1\"]\ndead: [\"carl@example\"]\n";
    assert_eq!(printed, expected);
}

#[test]
fn a_web_server_keeps_sessions_on_every_backend() {
    let printed = run_on_each_backend("web_sessions");
    let hellos = printed.matches("hello, anna").count();
    assert_eq!((hellos, printed.matches("please log in").count()), (2, 2), "{printed}");
    assert!(printed.contains("too many calls") && printed.ends_with("another leader: false\n"), "{printed}");
}

/// The program aborts after some rows, again and again, and the totals are those of a run that was not disturbed.
#[test]
fn a_load_that_is_killed_is_resumed_exactly() {
    let whole = run("bookmarks", &["memory:"], None);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let url = format!("file:{}?sync=never", dir.path().join("state").display());
    for rows in ["1", "700", "1", "1500"] {
        let output =
            Command::new(example("bookmarks")).args([&url, rows]).output().expect("running the example");
        assert!(!output.status.success(), "the program aborts");
    }
    assert_eq!(run("bookmarks", &[&url], None), whole);
    assert!(whole.starts_with("4000 rows, "), "{whole}");
}

#[test]
fn a_backend_is_chosen_by_url_by_file_and_by_environment() {
    let printed = run_on_each_backend("swap_backends");
    assert!(printed.contains("the order is new: true, and the second time: false"), "{printed}");

    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("state");
    let config = dir.path().join("config.json");
    let json = serde_json::json!({ "backend": { "file": { "path": path } }, "file": { "sync": "1s" } });
    std::fs::write(&config, json.to_string()).expect("writing the configuration");
    let config = config.to_str().expect("a path in UTF-8");
    assert_eq!(run("swap_backends", &[config], None), printed);
    assert!(path.join("LOCK").exists(), "the file was not used");

    assert_eq!(run("swap_backends", &[], Some("memory:")), printed);
}

#[test]
fn metrics_are_served_and_are_the_same_on_every_backend() {
    let printed = run_on_each_backend("metrics");
    for line in [
        "millpond_operations_total{store=\"shop\",operation=\"get\",outcome=\"ok\"} 20",
        "millpond_operations_total{store=\"shop\",operation=\"increment\",outcome=\"ok\"} 20",
        "millpond_hits_total{store=\"shop\"} 10",
    ] {
        assert!(printed.lines().any(|found| found == line), "{line} is not in {printed}");
    }
}

/// The dashboard and the alerts name only metrics that exist.
#[test]
fn the_dashboard_and_the_alerts_name_metrics_that_exist() {
    let text = millpond::StateStore::memory().stats().to_prometheus();
    let exposition = Exposition::parse(&text).expect("the text format");
    let known: Vec<&str> = exposition.names().collect();
    for file in ["grafana.json", "alerts.yml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(file);
        let source = std::fs::read_to_string(path).expect("the file");
        let mut used = 0;
        for (at, _) in source.match_indices("millpond_") {
            let name = source[at..].split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next();
            let name = name.unwrap_or_default();
            let is_known = known.iter().any(|metric| {
                name.strip_prefix(metric)
                    .is_some_and(|rest| matches!(rest, "" | "_bucket" | "_sum" | "_count"))
            });
            assert!(is_known, "{file} names {name}, which is no metric");
            used += 1;
        }
        assert!(used > 5, "{file} names {used} metrics");
    }
    let dashboard = include_str!("../../examples/grafana.json");
    serde_json::from_str::<serde_json::Value>(dashboard).expect("a dashboard is JSON");
    let alerts = include_str!("../../examples/alerts.yml");
    serde_norway::from_str::<serde_norway::Value>(alerts).expect("alerts are YAML");
}

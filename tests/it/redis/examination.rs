//! What a store tells about a server: each finding on a server that was set up so, and each fault that makes a store
//! unhealthy.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use millpond::{Error, Finding, RedisOptions, Severity, StateStore};

use crate::support::proxied_server::ProxiedServer;
use crate::support::proxy::Mode;
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{memory, notice_disconnect, open, options, run_within, wait_for};

/// A server about which there is nothing to say: all that it acknowledges is on the disk.
const SOUND: [&str; 6] = ["--appendonly", "yes", "--appendfsync", "always", "--aof-load-truncated", "no"];

/// Starts a sound server with further settings, and opens a store on it.
fn examined(settings: &[&str]) -> (RedisServer, StateStore) {
    let server = RedisServer::start_with(&[SOUND.as_slice(), settings].concat());
    let store = open(&server.url(0), options()).unwrap();
    (server, store)
}

#[track_caller]
fn assert_finds(store: &StateStore, topic: &str, severity: Severity, word: &str) -> Vec<Finding> {
    let findings = store.doctor().unwrap();
    let finds = |finding: &Finding| {
        finding.topic == topic && finding.severity == severity && finding.found.contains(word)
    };
    assert!(findings.iter().any(finds), "{topic}, {severity}, {word:?}: {findings:#?}");
    assert!(findings.is_sorted_by_key(|finding| std::cmp::Reverse(finding.severity)), "{findings:#?}");
    findings
}

#[test]
fn nothing_is_wrong_with_a_sound_server() {
    let (_server, store) = examined(&[]);
    assert_eq!(store.doctor().unwrap(), []);
}

#[test]
fn the_doctor_finds_how_a_server_keeps_its_data() {
    for (settings, severity, word) in [
        (["--appendonly", "no"], Severity::Warning, "in memory only"),
        (["--appendfsync", "no"], Severity::Warning, "appendfsync no"),
        (["--appendfsync", "everysec"], Severity::Info, "two seconds"),
        (["--aof-load-truncated", "yes"], Severity::Info, "cut off"),
    ] {
        let (_server, store) = examined(&settings);
        assert_finds(&store, "persistence", severity, word);
    }
    let (server, store) = examined(&["--appendonly", "no"]);
    RawClient::connect(&server.url(0)).run::<_, ()>("CONFIG", &["SET", "save", "3600 1"]);
    assert_finds(&store, "persistence", Severity::Warning, "last snapshot");
}

#[test]
fn the_doctor_finds_what_a_server_may_evict() {
    let limit = ["--maxmemory", "100mb", "--maxmemory-policy"];
    for (policy, word) in [("allkeys-lru", "any key"), ("volatile-ttl", "time to live")] {
        let (_server, store) = examined(&[limit.as_slice(), &[policy]].concat());
        assert_finds(&store, "eviction", Severity::Warning, word);
    }
    let (server, store) = examined(&[]);
    let raw = RawClient::connect(&server.url(0));
    raw.run::<_, ()>("CONFIG", &["SET", "maxmemory-policy", "allkeys-random"]);
    for n in 0..100 {
        raw.set(&format!("k{n}"), vec![0; 1000]);
    }
    raw.run::<_, ()>("CONFIG", &["SET", "maxmemory", "1"]);
    raw.ask::<_, ()>("SET", &["one", "more"]).ok();
    raw.run::<_, ()>("CONFIG", &["SET", "maxmemory-policy", "noeviction"]);
    let findings = assert_finds(&store, "eviction", Severity::Warning, "has evicted");
    assert!(findings.iter().any(|finding| finding.topic == "memory"), "{findings:#?}");
}

#[test]
fn the_doctor_finds_missing_and_lagging_replicas() {
    let (_server, store) = examined(&["--min-replicas-to-write", "1"]);
    assert_finds(&store, "replicas", Severity::Critical, "refuses writes");
    let (server, store) = examined(&[]);
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &server.port().to_string()]);
    let raw = RawClient::connect(&server.url(0));
    wait_for("the replica is connected", || {
        raw.run::<_, String>("INFO", &["replication"]).contains("connected_slaves:1")
    });
    assert_finds(&store, "replicas", Severity::Info, "before any of its 1 replica");
    drop(store);
    let store = open(&replica.url(0), options()).unwrap();
    assert_finds(&store, "replicas", Severity::Critical, "is a replica");
}

#[test]
fn the_doctor_finds_clients_and_slow_commands() {
    let (server, store) = examined(&["--maxclients", "20"]);
    assert_finds(&store, "clients", Severity::Warning, "maxclients");
    let raw = RawClient::connect(&server.url(0));
    raw.run::<_, ()>("CONFIG", &["SET", "slowlog-log-slower-than", "0"]);
    assert_finds(&store, "slow commands", Severity::Info, "SLOWLOG");
}

/// A user who may use everything but one command.
fn user_without(server: &RedisServer, rights: &[&str]) -> StateStore {
    let raw = RawClient::connect(&server.url(0));
    raw.run::<_, ()>("ACL", &[&["SETUSER", "app", "reset", "on", ">pw", "~t:*", "+@all"], rights].concat());
    open(&format!("redis://app:pw@127.0.0.1:{}", server.port()), options()).unwrap()
}

#[test]
fn the_doctor_finds_each_command_that_is_refused_and_runs_none() {
    let server = RedisServer::start_with(&SOUND);
    let raw = RawClient::connect(&server.url(0));
    let knows_subcommands = raw.ask::<_, ()>("ACL", &["SETUSER", "probe", "+@all", "-client|kill"]).is_ok();
    for (right, name, severity) in [
        ("-getdel", "GETDEL", Severity::Critical),
        ("-eval", "EVAL", Severity::Critical),
        ("-client|kill", "CLIENT KILL", Severity::Warning),
        ("-memory|usage", "MEMORY USAGE", Severity::Info),
        ("-info", "INFO", Severity::Warning),
    ] {
        // Redis 6.2 takes away whole commands only.
        if right.contains('|') && !knows_subcommands {
            continue;
        }
        let store = user_without(&server, &[right]);
        store.put("k", 1).unwrap();
        let findings = assert_finds(&store, "permissions", severity, &format!("refuses {name}:"));
        let refused = findings.iter().filter(|finding| finding.found.contains("refuses"));
        assert_eq!(refused.count(), 1, "{findings:#?}");
        assert!(findings.iter().all(|finding| !finding.to_string().contains("pw")));
        assert_eq!(
            raw.all_keys().iter().filter(|key| !key.ends_with(b":epoch")).count(),
            1,
            "it changes nothing"
        );
    }
    let store = user_without(&server, &["-config"]);
    assert_finds(&store, "permissions", Severity::Info, "does not tell its settings save, appendfsync");
    let store = user_without(&server, &["-multi"]);
    assert!(matches!(store.doctor(), Err(Error::Denied { .. })), "{:?}", store.doctor());
}

/// What the guide to the configuration says is enough.
#[test]
fn the_documented_permissions_are_enough() {
    let guide = std::fs::read_to_string("docs/guide/configuration.md").unwrap();
    let rule = guide.lines().find(|line| line.starts_with("ACL SETUSER app")).unwrap();
    let server = RedisServer::start_with(&SOUND);
    let raw = RawClient::connect(&server.url(0));
    let words: Vec<_> = rule.split(' ').skip(1).collect();
    raw.run::<_, ()>("ACL", &words);
    let url = format!("redis://app:secret@127.0.0.1:{}?key_prefix=orders", server.port());
    let store = StateStore::open(url).unwrap();
    let findings = store.doctor().unwrap();
    assert!(findings.iter().all(|finding| finding.severity == Severity::Info), "{findings:#?}");
    let health = store.health_check_write().unwrap();
    assert!(health.healthy && health.role.as_deref() == Some("master"), "{health:?}");
}

/// The files of a directory and of those in it, scripts included.
fn sources(directory: &str) -> Vec<(PathBuf, String)> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| {
        if path.is_dir() {
            sources(path.to_str().unwrap())
        } else {
            vec![(path.clone(), std::fs::read_to_string(path).unwrap())]
        }
    };
    entries.flat_map(read).collect()
}

/// Every command that the sources name is one that the doctor tries, or one without which there is no connection.
#[test]
fn the_doctor_tries_every_command_that_is_sent() {
    let untried =
        ["AUTH", "EXEC", "HELLO", "MULTI", "SELECT", "WATCH", "DISCARD", "CONFIG", "SLOWLOG", "READONLY"];
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let commands: Vec<String> = raw
        .run::<&str, Vec<redis::Value>>("COMMAND", &[])
        .into_iter()
        .filter_map(|command| match command {
            redis::Value::Array(parts) => redis::from_redis_value(parts.into_iter().next()?).ok(),
            _ => None,
        })
        .map(|name: String| name.to_uppercase())
        .collect();
    let tried = std::fs::read_to_string("src/backend/redis/examination/permissions.rs").unwrap();
    let mut missing = BTreeSet::new();
    for (path, source) in ["src/backend/redis", "src/op"].into_iter().flat_map(sources) {
        let quoted = source.split(['"', '\'']).filter(|word| commands.iter().any(|command| command == word));
        for word in quoted.filter(|word| !untried.contains(word)) {
            if !tried.contains(&format!("(\"{word}\", ")) {
                missing.insert((word.to_owned(), path.clone()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_store_is_unhealthy_while_its_server_does_not_serve() {
    let ProxiedServer { server, proxy, raw, .. } = &ProxiedServer::new();
    let hasty = |options: RedisOptions| options.connect_timeout(Duration::from_millis(300));
    for options in [hasty(memory()), hasty(options())] {
        let store = open(&proxy.url(), options).unwrap();
        let is_healthy = || run_within(Duration::from_secs(2), || store.health_check().unwrap().healthy);
        assert!(is_healthy());
        // It is silent.
        server.pause();
        let health = store.health_check().unwrap();
        assert!(!health.healthy && health.latency >= Duration::from_millis(250), "{health:?}");
        server.resume();
        wait_for("it serves again", is_healthy);
        // It is there for nobody.
        proxy.set(Mode::Down);
        assert!(!is_healthy());
        proxy.set(Mode::Pass);
        wait_for("it serves again", is_healthy);
        // It carries out a script that does not end.
        raw.run::<_, ()>("CONFIG", &["SET", "lua-time-limit", "1"]);
        let url = server.url(0);
        let busy = std::thread::spawn(move || {
            RawClient::connect(&url).ask::<_, redis::Value>("EVAL", &["while true do end", "0"]).ok()
        });
        wait_for("it is busy", || !is_healthy());
        wait_for("the script is killed", || raw.ask::<_, ()>("SCRIPT", &["KILL"]).is_ok());
        busy.join().unwrap();
        wait_for("it serves again", is_healthy);
        store.close().unwrap();
    }
}

#[test]
fn a_disconnected_store_says_why_and_asks_nobody() {
    let ProxiedServer { proxy, .. } = &ProxiedServer::new();
    let store = open(&proxy.url(), memory()).unwrap();
    store.put("k", 1).unwrap();
    proxy.set(Mode::Down);
    notice_disconnect(&store);
    let health = run_within(Duration::ZERO, || store.health_check().unwrap());
    assert!(!health.healthy && health.details.contains("is disconnected"), "{health}");
    assert!(!store.health_check_write().unwrap().healthy);
    assert_eq!(store.keys("").unwrap(), ["k"], "the check queued nothing");
    assert!(matches!(store.server_info(), Err(Error::Unavailable { .. })));
    let usage = store.memory_usage().unwrap();
    assert!(usage.server.is_none() && usage.entries > 0, "{usage:?}");
    let findings = store.doctor().unwrap();
    assert_eq!((findings.len(), findings[0].topic), (1, "outage"));
    assert_eq!(findings[0].severity, Severity::Critical);
}

#[test]
fn a_check_that_writes_finds_a_server_that_takes_no_writes() {
    for settings in [["--min-replicas-to-write", "1"], ["--maxmemory", "1"]] {
        let server = RedisServer::start();
        let store = open(&server.url(0), options()).unwrap();
        let raw = RawClient::connect(&server.url(0));
        raw.run::<_, ()>("CONFIG", &["SET", settings[0].trim_start_matches('-'), settings[1]]);
        assert!(store.health_check().unwrap().healthy, "{settings:?}");
        let health = store.health_check_write().unwrap();
        assert!(!health.healthy, "{settings:?}: {health}");
    }
    let primary = RedisServer::start();
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &primary.port().to_string()]);
    let store = open(&replica.url(0), options()).unwrap();
    wait_for("the replica has its primary", || store.health_check().unwrap().healthy);
    let health = store.health_check().unwrap();
    assert_eq!(health.role.as_deref(), Some("replica"));
    assert!(!store.health_check_write().unwrap().healthy);
    drop(primary);
    wait_for("the primary is lost", || !store.health_check().unwrap().healthy);
}

/// A snapshot that fails makes the server refuse writes, and `PING` too.
#[test]
fn a_server_that_cannot_save_is_unhealthy() {
    let (server, store) = examined(&["--appendonly", "no"]);
    let raw = RawClient::connect(&server.url(0));
    raw.run::<_, ()>("CONFIG", &["SET", "save", "3600 1"]);
    store.put("k", 1).unwrap();
    std::fs::remove_dir_all(server.dir()).unwrap();
    raw.ask::<_, ()>("BGSAVE", &[] as &[&str]).ok();
    wait_for("the snapshot has failed", || {
        raw.run::<_, String>("INFO", &["persistence"]).contains("rdb_last_bgsave_status:err")
    });
    assert!(!store.health_check_write().unwrap().healthy);
    assert_finds(&store, "persistence", Severity::Critical, "snapshot");
    assert_eq!(store.server_info().unwrap().last_save_ok, Some(false));
}

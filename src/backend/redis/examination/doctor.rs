//! Owns what is wrong with a server for a store: how it keeps its data, what it may evict, and what it refuses. Knows
//! nothing of how the answers are got.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::Value;

use crate::backend::redis::client::Redis;
use crate::backend::redis::examination::server_info::Words;
use crate::backend::redis::failure::{ErrorContext, FailureKind};
use crate::backend::redis::operation_error::OperationError;
use crate::backend::redis::wire::info::Info;
use crate::backend::redis::wire::replies::{array, integer, parsed};
use crate::clock::{Clock as _, SystemClock};
use crate::inspection::{Finding, Severity};
use crate::text::{count, shown};

use Severity::{Critical, Warning};

/// The settings that are asked for by CONFIG GET.
const SETTINGS: [&str; 5] =
    ["save", "appendfsync", "aof-load-truncated", "min-replicas-to-write", "maxclients"];

/// From this on a server is said to be nearly full, in percent.
const NEARLY_FULL: u64 = 90;

/// The clocks of two machines that are kept in step differ by less.
const CLOCK_SKEW: Duration = Duration::from_secs(1);

impl Redis {
    /// Returns what can lose data or time on this server.
    pub(crate) fn findings(&self) -> Result<Vec<Finding>, OperationError> {
        let failed = |failure| OperationError::new(failure, ErrorContext::reading("INFO", ""));
        // What a user may not ask for is itself a finding.
        let mut info = match self.info() {
            Err(failure) if failure.kind == FailureKind::Denied => Info::default(),
            answer => answer.map_err(failed)?,
        };
        let budget = self.budget();
        let settings = SETTINGS.map(|name| ["GET", name]);
        let settings = settings.iter().map(|args| ("CONFIG", args.as_slice()));
        let questions: Vec<Words<'_>> =
            settings.chain([("SLOWLOG", ["LEN"].as_slice()), ("TIME", [].as_slice())]).collect();
        let asked_at = SystemClock.now();
        let mut replies = self.ask_each(&budget, &questions).map_err(failed)?.into_iter();
        let answered_at = SystemClock.now();
        let untold: Vec<_> = SETTINGS
            .into_iter()
            .filter(|_| !replies.next().is_some_and(|reply| info.add_config(&reply)))
            .collect();
        let slow = replies.next().and_then(|reply| integer(reply).ok());
        let time = replies.next().and_then(server_time);

        let mut findings = Vec::new();
        findings.extend(self.permission_findings(&info, &untold)?);
        findings.extend(persistence_findings(&info));
        findings.extend(eviction_findings(&info));
        findings.extend(replica_findings(&info));
        findings.extend(client_findings(
            &info,
            u64::from(self.options.pool_size + self.options.wait_connections),
        ));
        findings.extend(time.and_then(|time| clock_finding(time, asked_at, answered_at)));
        findings.extend(slow.and_then(slowlog_finding));
        Ok(findings)
    }

    fn permission_findings(&self, info: &Info, untold: &[&str]) -> Result<Vec<Finding>, OperationError> {
        let refused = self.refused_commands(&self.budget());
        let refused =
            refused.map_err(|failure| OperationError::new(failure, ErrorContext::reading("MULTI", "")))?;
        let mut findings: Vec<_> = refused
            .into_iter()
            .map(|command| {
                Finding::new(
                    severity_without(&command.name),
                    "permissions",
                    format!("the server refuses {}: {}", command.name, command.reason),
                    "grant the permissions that the guide to the configuration names",
                )
            })
            .collect();
        if info.fields.is_empty() {
            findings.push(Finding::new(
                Severity::Info,
                "permissions",
                "the server does not let this user ask for INFO, so that its persistence, memory and replicas \
                 could not be checked",
                "run this check as a user with +info",
            ));
        }
        if !untold.is_empty() {
            findings.push(Finding::new(
                Severity::Info,
                "permissions",
                format!(
                    "the server does not tell its settings {}, which could not be checked",
                    untold.join(", ")
                ),
                "run this check as a user with +config|get",
            ));
        }
        Ok(findings)
    }
}

/// Returns how bad it is if a command is refused.
fn severity_without(command: &str) -> Severity {
    match command {
        // The first of these are only for reports. Without the others an export takes longer, or says that it is not from
        // one instant.
        "ROLE" | "DBSIZE" | "MEMORY USAGE" | "CLIENT PAUSE" | "CLIENT UNPAUSE" | "CLIENT TRACKING"
        | "PEXPIRETIME" => Severity::Info,
        // Without the first of these a store works, and is slower or less exact when something breaks. Without the last
        // two it cannot import.
        "CLIENT INFO" | "CLIENT KILL" | "ECHO" | "INFO" | "PING" | "RENAME" | "UNLINK" => Warning,
        _ => Critical,
    }
}

fn persistence_findings(info: &Info) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |severity, found: String, advice: &str| {
        findings.push(Finding::new(severity, "persistence", found, advice));
    };
    let failed = |name: &str| info.text(name).is_some_and(|status| status != "ok");
    if failed("rdb_last_bgsave_status") {
        find(
            Critical,
            "the last snapshot of the server failed, and it may refuse all writes until one succeeds"
                .to_owned(),
            "look into the log of the server: its disk may be full, or its directory not writable",
        );
    }
    if failed("aof_last_write_status") || failed("aof_last_bgrewrite_status") {
        find(
            Critical,
            "the last write of the server to its append-only file failed".to_owned(),
            "look into the log of the server: its disk may be full, or its directory not writable",
        );
    }
    match (info.text("aof_enabled"), info.text("save")) {
        (Some("0"), Some("")) => find(
            Warning,
            "the server keeps its data in memory only, and loses all of it when it ends".to_owned(),
            "set appendonly yes",
        ),
        (Some("0"), _) => find(
            Warning,
            "the server writes no append-only file, and loses the writes since its last snapshot when it is killed"
                .to_owned(),
            "set appendonly yes",
        ),
        (Some("1"), _) => {
            match info.text("appendfsync") {
                Some("no") => find(
                    Warning,
                    "the server leaves it to the operating system when its append-only file is synced (appendfsync no)"
                        .to_owned(),
                    "set appendfsync everysec, or always",
                ),
                Some("everysec") => find(
                    Severity::Info,
                    "a power failure of the server loses up to two seconds of writes (appendfsync everysec)".to_owned(),
                    "set appendfsync always if that is too much",
                ),
                Some(_) | None => {}
            }
            if info.text("aof-load-truncated") == Some("yes") {
                find(
                    Severity::Info,
                    "the server starts with an append-only file that was cut off, and without the writes behind the \
                     cut (aof-load-truncated yes)"
                        .to_owned(),
                    "set aof-load-truncated no if it shall ask you first",
                );
            }
        }
        (Some(_) | None, _) => {}
    }
    findings
}

fn eviction_findings(info: &Info) -> Vec<Finding> {
    let mut findings = Vec::new();
    match info.eviction_policy() {
        Some(policy) if policy.starts_with("allkeys-") => findings.push(Finding::new(
            Warning,
            "eviction",
            format!("if memory runs short, the server may evict any key of this store (maxmemory-policy {policy})"),
            "set maxmemory-policy noeviction, unless the store is a cache",
        )),
        Some(policy) => findings.push(Finding::new(
            Warning,
            "eviction",
            format!(
                "if memory runs short, the server may evict entries that have a time to live before it has passed \
                 (maxmemory-policy {policy})"
            ),
            "set maxmemory-policy noeviction, unless these entries are a cache",
        )),
        None => {}
    }
    if let Some(evicted) = info.limit("evicted_keys") {
        findings.push(Finding::new(
            Warning,
            "eviction",
            format!("the server has evicted {} since it was started", count(evicted, "key")),
            "give the server more memory, or store less",
        ));
    }
    if let (Some(used), Some(max)) = (info.number("used_memory"), info.limit("maxmemory"))
        && u128::from(used) * 100 >= u128::from(max) * u128::from(NEARLY_FULL)
    {
        findings.push(Finding::new(
            Warning,
            "memory",
            format!("the server uses {} of at most {}", count(used, "byte"), count(max, "byte")),
            "give the server more memory: without any left it refuses writes or evicts keys",
        ));
    }
    findings
}

fn replica_findings(info: &Info) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |severity, found: String, advice: &str| {
        findings.push(Finding::new(severity, "replicas", found, advice));
    };
    if info.text("role") == Some("slave") {
        find(Critical, "the server is a replica, which takes no writes".to_owned(), "use the primary");
    }
    let needed = info.limit("min-replicas-to-write");
    let replicas = info.number("connected_slaves").unwrap_or_default();
    // A server with this setting counts only the replicas that lag little.
    let good = info.number("min_slaves_good_slaves").unwrap_or(replicas);
    match needed {
        Some(needed) if good < needed => find(
            Critical,
            format!(
                "the server refuses writes: it needs {} (min-replicas-to-write), and has {good}",
                count(needed, "replica")
            ),
            "repair the replicas, or lower min-replicas-to-write",
        ),
        None if replicas > 0 && info.text("min-replicas-to-write").is_some() => find(
            Severity::Info,
            format!(
                "the server acknowledges writes before any of its {} has them, and a failover loses those",
                count(replicas, "replica")
            ),
            "set min-replicas-to-write 1 to bound how much that can be",
        ),
        Some(_) | None => {}
    }
    let is_old = info.text("redis_version").is_some_and(|version| version.starts_with("6."));
    if is_old && needed.is_some() {
        find(
            Warning,
            "a server of this version lets scripts write without enough replicas (min-replicas-to-write)"
                .to_owned(),
            "use Redis 7.0 or newer",
        );
    }
    findings
}

fn client_findings(info: &Info, connections: u64) -> Option<Finding> {
    let (most, clients) = (info.number("maxclients")?, info.number("connected_clients")?);
    if clients * 100 < most * NEARLY_FULL && connections < most {
        return None;
    }
    Some(Finding::new(
        Warning,
        "clients",
        format!(
            "{} are connected, this store uses up to {connections}, and the server takes {most} (maxclients)",
            count(clients, "client")
        ),
        "raise maxclients, or lower pool_size",
    ))
}

/// Reads the reply to TIME.
fn server_time(reply: Value) -> Option<SystemTime> {
    let [seconds, micros] = <[Value; 2]>::try_from(array(reply).ok()?).ok()?;
    let since = Duration::from_secs(parsed(&seconds).ok()?)
        + Duration::from_micros(parsed::<u32>(&micros).ok()?.into());
    UNIX_EPOCH.checked_add(since)
}

/// The server told its time between the two times of this machine.
fn clock_finding(server: SystemTime, asked_at: SystemTime, answered_at: SystemTime) -> Option<Finding> {
    let behind = asked_at.duration_since(server).unwrap_or_default();
    let ahead = server.duration_since(answered_at).unwrap_or_default();
    let skew = behind.max(ahead);
    if skew < CLOCK_SKEW {
        return None;
    }
    let word = if ahead > behind { "ahead of" } else { "behind" };
    Some(Finding::new(
        Warning,
        "clock",
        format!("the clock of the server is {} {word} that of this machine", shown(skew)),
        "keep both in step by NTP: what expires during an outage goes by the clock of this machine",
    ))
}

fn slowlog_finding(length: i64) -> Option<Finding> {
    let length = u64::try_from(length).ok().filter(|length| *length > 0)?;
    Some(Finding::new(
        Severity::Info,
        "slow commands",
        format!("the server has noted {} (SLOWLOG LEN)", count(length, "slow command")),
        "see SLOWLOG GET for what takes its time",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(text: &str) -> Info {
        Info::from_text(&text.replace(' ', "\r\n"))
    }

    fn severities(findings: impl IntoIterator<Item = Finding>) -> Vec<Severity> {
        findings.into_iter().map(|finding| finding.severity).collect()
    }

    #[test]
    fn persistence_is_judged_by_what_a_failure_would_lose() {
        for (text, expected) in [
            ("aof_enabled:0 save:", vec![Warning]),
            ("aof_enabled:0 save:3600", vec![Warning]),
            ("aof_enabled:1 appendfsync:always", vec![]),
            ("aof_enabled:1 appendfsync:everysec", vec![Severity::Info]),
            ("aof_enabled:1 appendfsync:no aof-load-truncated:yes", vec![Warning, Severity::Info]),
            ("aof_enabled:1 rdb_last_bgsave_status:err", vec![Critical]),
            ("aof_enabled:1 aof_last_write_status:err", vec![Critical]),
            ("", vec![]),
        ] {
            assert_eq!(severities(persistence_findings(&info(text))), expected, "{text}");
        }
    }

    #[test]
    fn eviction_needs_a_limit() {
        for (text, expected) in [
            ("maxmemory:0 maxmemory_policy:allkeys-lru", vec![]),
            ("maxmemory:100 used_memory:10 maxmemory_policy:allkeys-lru", vec![Warning]),
            (
                "maxmemory:100 used_memory:10 maxmemory_policy:volatile-ttl evicted_keys:3",
                vec![Warning, Warning],
            ),
            ("maxmemory:100 used_memory:90 maxmemory_policy:noeviction evicted_keys:0", vec![Warning]),
        ] {
            assert_eq!(severities(eviction_findings(&info(text))), expected, "{text}");
        }
    }

    #[test]
    fn replicas_are_judged_by_what_a_write_needs() {
        for (text, expected) in [
            ("role:master connected_slaves:0 min-replicas-to-write:0", vec![]),
            ("role:master connected_slaves:2 min-replicas-to-write:0", vec![Severity::Info]),
            ("role:master connected_slaves:0 min-replicas-to-write:1", vec![Critical]),
            (
                "role:master connected_slaves:2 min_slaves_good_slaves:1 min-replicas-to-write:2",
                vec![Critical],
            ),
            ("role:master connected_slaves:1 min-replicas-to-write:1 redis_version:6.2.5", vec![Warning]),
            ("role:slave", vec![Critical]),
        ] {
            assert_eq!(severities(replica_findings(&info(text))), expected, "{text}");
        }
    }

    #[test]
    fn clients_must_leave_room_for_this_store() {
        assert!(client_findings(&info("maxclients:100 connected_clients:10"), 16).is_none());
        assert!(client_findings(&info("maxclients:100 connected_clients:90"), 16).is_some());
        assert!(client_findings(&info("maxclients:10 connected_clients:1"), 16).is_some());
        assert!(client_findings(&info(""), 16).is_none());
    }

    #[test]
    fn a_clock_is_wrong_if_it_was_at_no_time_in_between() {
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(clock_finding(at(105), at(100), at(110)), None);
        let finding = clock_finding(at(90), at(100), at(110)).unwrap();
        assert!(finding.found.contains("10s behind"), "{finding}");
        let finding = clock_finding(at(115), at(100), at(110)).unwrap();
        assert!(finding.found.contains("ahead of"), "{finding}");
    }
}

//! Owns what a configuration alone shows to be risky, although it is valid. Knows nothing of servers and directories.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::duration;
use crate::config::file::SyncPolicy;
use crate::config::memory::{MemoryOptions, WhenFull};
use crate::config::redis::{AtStart, Fallback, OnUnknownKey, RedisOptions};
use crate::config::redis_address::{Endpoint, RedisAddress};
use crate::config::state_backend::StateBackend;
use crate::config::state_config::StateConfig;
use crate::inspection::{Finding, Severity};

use Severity::{Critical, Info, Warning};

impl StateConfig {
    /// Judges the configuration alone: it opens nothing and asks no server. Returns what can lose data or time, the
    /// worst first. [`StateStore::doctor`](crate::StateStore::doctor) judges what a store meets.
    ///
    /// ```
    /// use millpond::StateConfig;
    ///
    /// let config = StateConfig::from_url("redis://127.0.0.1?timeout=500ms&connect_timeout=2s&fallback=none")?;
    /// for finding in config.lint() {
    ///     println!("{finding}");
    /// }
    /// assert_eq!(config.lint()[0].topic, "time limits");
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn lint(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Err(error) = self.validate() {
            let advice = "correct it: no store opens with this configuration";
            findings.push(Finding::new(Critical, "invalid", error.to_string(), advice));
        }
        match &self.backend {
            StateBackend::Memory => findings.extend(bounds_finding(&self.memory)),
            StateBackend::File { .. } => findings.extend(sync_finding(self.file.sync)),
            StateBackend::Redis { url, key_prefix } => {
                findings.extend(address_finding(url, &self.redis));
                findings.extend(prefix_finding(key_prefix));
                findings.extend(time_findings(&self.redis));
                findings.extend(outage_findings(&self.redis));
            }
        }
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        findings
    }
}

/// Returns what the bounds of a store in memory can lose.
fn bounds_finding(options: &MemoryOptions) -> Option<Finding> {
    match (options.when_full, options.is_bounded()) {
        (WhenFull::Refuse, _) => None,
        (WhenFull::Evict, true) => Some(Finding::new(
            Warning,
            "eviction",
            "a full store removes entries of any kind: counters, queues, maps and windows too",
            "set when_full = \"refuse\", unless every entry can be made again",
        )),
        (WhenFull::Evict, false) => Some(Finding::new(
            Info,
            "eviction",
            "when_full = \"evict\" has no effect, since the store has no bounds",
            "set max_entries or max_bytes",
        )),
    }
}

/// Returns what a power failure can lose.
pub(crate) fn sync_finding(sync: SyncPolicy) -> Option<Finding> {
    let (severity, found) = match sync {
        SyncPolicy::Always => return None,
        SyncPolicy::Every(interval) => {
            (Info, format!("a power failure can lose the writes of the last {}", duration::format(interval)))
        }
        SyncPolicy::Never => {
            (Warning, "a power failure can lose all that the operating system has not written yet".to_owned())
        }
    };
    Some(Finding::new(severity, "sync", found, "set sync = \"always\" if nothing acknowledged may be lost"))
}

fn address_finding(url: &str, options: &RedisOptions) -> Option<Finding> {
    let address = RedisAddress::parse(url).ok()?;
    let Endpoint::Tcp { host, .. } = &address.endpoint else { return None };
    let is_local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if address.tls || is_local {
        return None;
    }
    let found = if address.login.is_some() || options.password_file.is_some() {
        format!("the password and the data go to {host} unencrypted")
    } else {
        format!("the data goes to {host} unencrypted, and no password keeps others from it")
    };
    Some(Finding::new(Info, "encryption", found, "use a rediss:// URL, unless the network is private"))
}

fn prefix_finding(key_prefix: &str) -> Option<Finding> {
    key_prefix.is_empty().then(|| {
        Finding::new(
            Info,
            "key prefix",
            "without a key_prefix the store sees the keys of all programs, and refuses to clear them",
            "set key_prefix to a name of this program",
        )
    })
}

fn time_findings(options: &RedisOptions) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |found: String, advice: &str| {
        findings.push(Finding::new(Warning, "time limits", found, advice));
    };
    let shown = |time: Duration| duration::format(time);
    if options.connect_timeout > options.timeout {
        find(
            format!(
                "connect_timeout ({}) is longer than timeout ({}), which ends an operation before a slow connection is \
                 made",
                shown(options.connect_timeout),
                shown(options.timeout)
            ),
            "set timeout to at least twice connect_timeout",
        );
    }
    if options.max_retries > 0 && options.retry_delay >= options.timeout {
        find(
            format!(
                "retry_delay ({}) is not shorter than timeout ({}), so that nothing is ever retried",
                shown(options.retry_delay),
                shown(options.timeout)
            ),
            "set retry_delay to a small part of timeout",
        );
    }
    if options.max_retry_delay < options.retry_delay {
        find(
            format!(
                "max_retry_delay ({}) is shorter than retry_delay ({})",
                shown(options.max_retry_delay),
                shown(options.retry_delay)
            ),
            "set max_retry_delay to at least retry_delay",
        );
    }
    findings
}

fn outage_findings(options: &RedisOptions) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |severity, topic, found: &str, advice: &str| {
        findings.push(Finding::new(severity, topic, found, advice));
    };
    let queues = match options.fallback {
        Fallback::None => false,
        Fallback::Memory => {
            find(
                Warning,
                "fallback",
                "writes that are queued during an outage are lost if the program ends before the outage does",
                "set fallback = \"file:<directory>\" to keep them",
            );
            true
        }
        Fallback::File { .. } => true,
    };
    if queues && options.on_unknown_key == OnUnknownKey::Absent {
        find(
            Warning,
            "unknown keys",
            "during an outage a read of an unknown key returns nothing, so a program may create again what the server \
             already holds",
            "set on_unknown_key = \"error\" or \"absent_until_connected\"",
        );
    }
    if queues && options.at_start == AtStart::Serve && options.on_unknown_key != OnUnknownKey::Error {
        find(
            Info,
            "start",
            "a program that starts during an outage, or with a wrong address, begins with an empty state",
            "set at_start = \"require\" if it must not start without its server",
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_risk_is_found_and_nothing_else() {
        let quiet = "redis://127.0.0.1?fallback=none";
        let queued = "redis://127.0.0.1?fallback=file:./queue&at_start=require";
        for (url, topics) in [
            ("memory:", vec![]),
            ("file:./state", vec![]),
            ("file:./state?sync=1s", vec![(Info, "sync")]),
            ("file:./state?sync=never", vec![(Warning, "sync")]),
            (quiet, vec![]),
            (queued, vec![]),
            ("redis://[::1]?fallback=none", vec![]),
            ("redis://10.0.0.7?fallback=none", vec![(Info, "encryption")]),
            ("redis://u:p@redis.internal?fallback=none", vec![(Info, "encryption")]),
            ("redis://redis.internal?fallback=none&password_file=/run/secret", vec![(Info, "encryption")]),
            ("rediss://u:p@redis.internal?fallback=none", vec![]),
            (&format!("{quiet}&key_prefix="), vec![(Info, "key prefix")]),
            (&format!("{quiet}&timeout=500ms"), vec![(Warning, "time limits")]),
            (&format!("{quiet}&retry_delay=3s&max_retry_delay=3s"), vec![(Warning, "time limits")]),
            (&format!("{quiet}&retry_delay=1s"), vec![(Warning, "time limits")]),
            ("redis://127.0.0.1?at_start=require", vec![(Warning, "fallback")]),
            (&format!("{queued}&on_unknown_key=absent"), vec![(Warning, "unknown keys")]),
            ("redis://127.0.0.1?fallback=file:./queue", vec![(Info, "start")]),
        ] {
            let findings = StateConfig::from_url(url).unwrap().lint();
            let found: Vec<_> = findings.iter().map(|finding| (finding.severity, finding.topic)).collect();
            assert_eq!(found, topics, "{url}");
        }
    }

    #[test]
    fn no_finding_shows_the_password() {
        let config = StateConfig::from_url("redis://u:secret@redis.internal?timeout=1ms").unwrap();
        let text: String = config.lint().iter().map(ToString::to_string).collect();
        assert!(text.contains("redis.internal") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn an_invalid_configuration_is_the_worst_finding() {
        let config = StateConfig::default().max_value_bytes(0);
        assert_eq!(config.lint()[0].severity, Critical);
    }
}

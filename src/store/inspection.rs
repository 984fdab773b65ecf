//! Owns the documented group of questions about the store itself: its status and statistics, what is queued, its health, and
//! what its backend says.

use std::collections::BTreeSet;

use crate::backend::Backend;
use crate::backend::inspect::{Inspect, health_of_writes};
use crate::error::Result;
use crate::inspection::{Finding, Health, MemoryUsage, ServerInfo};
use crate::key::Key;
use crate::op::Cursor;
use crate::outage::{PendingOperation, Status};
use crate::stats::snapshot::Unlisted;
use crate::stats::{OutageStats, Stats};
use crate::store::state_store::{StateStore, on_backend, on_redis};

/// # Looking inside
///
/// `status`, `stats` and `pending` ask no server and never fail: for a page of metrics, or a log. The others ask the
/// backend: a Redis server over the network, a File store its files.
impl StateStore {
    /// Returns whether the backend serves the operations, or memory in its place. It asks no server.
    ///
    /// [`Connected`](Status::Connected) means: the last exchange with the server worked, and no operation
    /// is queued for it.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// use millpond::Status;
    ///
    /// match store.status() {
    ///     Status::Disconnected { since, pending, .. } => println!("degraded since {since:?}, {pending} queued"),
    ///     status => println!("{status}"),
    /// }
    /// assert_eq!(store.status(), Status::Connected);
    /// ```
    #[must_use]
    pub fn status(&self) -> Status {
        if self.context().is_closed() {
            return Status::Closed;
        }
        on_backend!(self, backend => backend.status())
    }

    /// Returns what was counted and measured since the store was opened, by all of its handles together. Two of these
    /// snapshots [subtract](Stats).
    ///
    /// With the feature `metrics`, each call also brings the metrics up to date in the recorder of the crate
    /// [`metrics`](https://docs.rs/metrics) that was installed when the store was opened. So a program calls this before
    /// its exporter is read, or now and then.
    ///
    /// The numbers are read one after the other while other threads go on counting, so operations that end at the same
    /// time may be in some of them only.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.put("price:apples", 3)?;
    /// assert_eq!(store.get("price:apples")?, Some(3));
    ///
    /// let stats = store.stats();
    /// println!("{:.0} % hits, {:.1} % errors", 100.0 * stats.hit_rate(), 100.0 * stats.error_rate());
    /// println!("writes: {}, of which 99 % took at most {:?}", stats.latency.write.count, stats.latency.write.p99);
    /// println!("outages: {}, queued: {}", stats.outages.outages, stats.outages.pending);
    /// assert_eq!((stats.operations.puts, stats.hits, stats.entries.total), (1, 1, 1));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    #[doc(alias = "metrics")]
    pub fn stats(&self) -> Stats {
        let counted = self.recorder().read();
        let backend = match self {
            Self::Memory(_) => "memory",
            Self::File(_) => "file",
            #[cfg(feature = "redis")]
            Self::Redis(_) => "redis",
        };
        let store = self.context().shared.name.clone();
        let stats = Stats {
            unlisted: Unlisted { store, backend, ..counted.unlisted },
            entries: on_backend!(self, backend => backend.entry_stats()),
            outages: on_redis!(self, backend => backend.outage_stats(), else => OutageStats::default()),
            ..counted
        };
        #[cfg(feature = "metrics")]
        self.context().shared.metrics.publish(&stats);
        stats
    }

    /// Does what [`stats`](Self::stats) does: rust-rule-engine has this name for it.
    ///
    /// ```
    /// let store = millpond::StateStore::memory();
    /// assert_eq!(store.statistics(), store.stats());
    /// ```
    #[must_use]
    pub fn statistics(&self) -> Stats {
        self.stats()
    }

    /// Returns at most `limit` of the operations that are not done on the server: first those that are in doubt, of which
    /// nobody can know whether the server has applied them, then those that are queued for it, the oldest first.
    ///
    /// Neighbours on one key are merged in the queue: [`calls`](PendingOperation::calls) says how many calls an
    /// operation stands for. Other threads may write meanwhile; they wait for at most a thousand operations to be
    /// copied at a time. How many are queued is in [`stats`](Self::stats).
    ///
    /// ```
    /// let store = millpond::StateStore::memory();
    /// for operation in store.pending(10) {
    ///     println!("{} of {}, for {} calls", operation.command, operation.key, operation.calls);
    /// }
    /// ```
    ///
    /// Operations in doubt are listed until the store is closed. If the queue is in files, a store that is opened after
    /// a crash lists them again, until one that has listed all of them is closed.
    #[must_use]
    #[cfg_attr(not(feature = "redis"), expect(unused_variables, reason = "only a server has a queue"))]
    pub fn pending(&self, limit: usize) -> Vec<PendingOperation> {
        on_redis!(self, backend => backend.pending(limit), else => Vec::new())
    }

    /// Checks whether the store works right now: for the health check of a service.
    ///
    /// Whatever is wrong is in the report and is no error.
    ///
    /// - Memory is always healthy.
    /// - File is healthy if the store takes writes, its directory and journal are where they were, and the disk has at
    ///   least 2 MiB free.
    /// - Redis is healthy if the server replies to one `PING`, on a connection of the pool and within
    ///   [`connect_timeout`](crate::RedisOptions::connect_timeout). A store that is disconnected is unhealthy, with the
    ///   cause; the server is not asked then. A replica is healthy unless it has lost its primary.
    ///
    /// A server may reply and still refuse writes: see [`health_check_write`](Self::health_check_write).
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// let health = store.health_check()?;
    /// if !health.healthy {
    ///     eprintln!("the state is in danger: {health}");
    /// }
    /// assert!(health.healthy);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Unavailable`](crate::Error::Unavailable) after [`close`](Self::close), and in a child process that was forked.
    pub fn health_check(&self) -> Result<Health> {
        self.context().check_open()?;
        on_backend!(self, backend => backend.health())
    }

    /// Does what [`health_check`](Self::health_check) does, and also writes, reads and deletes a key. The key is of this
    /// check alone; no listing shows it, and nothing of it stays.
    ///
    /// This finds a server that is out of memory or lacks replicas, a missing permission, and a full disk. The latency
    /// is that of the whole check. A File store that is open read-only is unhealthy.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// assert!(store.health_check_write()?.healthy);
    /// assert_eq!(store.len()?, 0);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`health_check`](Self::health_check).
    pub fn health_check_write(&self) -> Result<Health> {
        self.context().check_open()?;
        // If the server is lost during the check, the write must not be queued.
        on_backend!(&self.without_fallback(), backend => health_of_writes(backend))
    }

    /// Returns what the backend says of itself: on Redis the reply to `INFO`.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// let info = store.server_info()?;
    /// println!("{} {}", info.backend, info.version.unwrap_or_default());
    /// assert_eq!(info.backend, "memory");
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Unavailable`](crate::Error::Unavailable) if the server cannot be reached or the store is closed;
    /// [`Denied`](crate::Error::Denied) if the user may not use `INFO`; [`Io`](crate::Error::Io) if the directory cannot
    /// be listed.
    pub fn server_info(&self) -> Result<ServerInfo> {
        self.context().check_open()?;
        on_backend!(self, backend => backend.server_info())
    }

    /// Returns how much memory and disk the whole store takes, without going through its entries.
    ///
    /// - On Memory and File, the numbers are about this process. They include entries that have expired and are not
    ///   reclaimed yet, and what this crate keeps beside queues and locks. `bytes` are those of keys and values as text;
    ///   `overhead` is an estimate of what the tables need beside them.
    /// - On Redis, they are about the server: all its databases and all programs, but `entries` is the number of keys in
    ///   the database of this store. During an outage they are about what this process keeps locally.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.put("order:17", "paid")?;
    /// let usage = store.memory_usage()?;
    /// println!("{usage}");
    /// assert_eq!(usage.entries, 1);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`server_info`](Self::server_info).
    pub fn memory_usage(&self) -> Result<MemoryUsage> {
        self.context().check_open()?;
        on_backend!(self, backend => backend.memory_usage())
    }

    /// Returns how much memory the entries take whose keys begin with `prefix`. It goes through all of them, page by page;
    /// on Redis it walks over the whole database and asks `MEMORY USAGE` for each key.
    ///
    /// On Redis `bytes` includes the overhead, as the server estimates it, and `overhead` is 0. `disk` is always 0.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.batch_put([("order:17", "paid"), ("order:18", "open"), ("user:1", "anna")])?;
    /// let orders = store.memory_usage_of("order:")?;
    /// assert_eq!(orders.entries, 2);
    /// assert!(orders.bytes < store.memory_usage()?.bytes);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`keys`](Self::keys); [`Denied`](crate::Error::Denied) if the user may not use `MEMORY USAGE`.
    pub fn memory_usage_of(&self, prefix: impl AsRef<str>) -> Result<MemoryUsage> {
        let prefix = self.full_prefix(prefix.as_ref())?;
        on_backend!(self, backend => usage_of(backend, &prefix))
    }

    /// Frees the memory of entries that have expired, and returns how many there were. An expired entry is absent for
    /// every operation, and writes reclaim its memory sooner or later: this reclaims all of it now.
    ///
    /// On Redis the server does this by itself, and the method returns 0; during an outage it frees what is kept locally.
    ///
    /// ```
    /// use millpond::{ManualClock, OpenOptions};
    /// use std::{sync::Arc, time::{Duration, SystemTime}};
    ///
    /// let clock = Arc::new(ManualClock::new(SystemTime::UNIX_EPOCH));
    /// let store = OpenOptions::new().clock(clock.clone()).open("memory:")?;
    /// store.put_with_ttl("session:7", "anna", Duration::from_secs(60))?;
    /// clock.advance(Duration::from_secs(61));
    /// assert_eq!(store.cleanup_expired()?, 1);
    /// assert_eq!(store.memory_usage()?.entries, 0);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Unavailable`](crate::Error::Unavailable) after [`close`](Self::close).
    pub fn cleanup_expired(&self) -> Result<u64> {
        self.context().check_open()?;
        Ok(on_backend!(self, backend => backend.cleanup_expired()))
    }

    /// Looks for what can lose data or time, and returns what it finds, the worst first: for an operator, after the
    /// set-up and when something is wrong. An empty list is good.
    ///
    /// On Redis it asks for the permissions of the user (each command that this crate needs), persistence, eviction and
    /// memory, replicas, clients, the clock, and slow commands. It changes nothing on the server, and is not fast. What
    /// the server does not tell is a finding, too. On File it looks at `sync`, at the room on the disk, and at the
    /// file system. [`StateConfig::lint`](crate::StateConfig::lint) judges a configuration without opening a store.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// for finding in store.doctor()? {
    ///     println!("{finding}");
    /// }
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`server_info`](Self::server_info), but if the server is disconnected, that is the only finding.
    pub fn doctor(&self) -> Result<Vec<Finding>> {
        self.context().check_open()?;
        let mut findings = on_backend!(self, backend => backend.findings())?;
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        Ok(findings)
    }
}

/// Adds up what the entries take whose keys begin with `prefix`.
fn usage_of(backend: &impl Inspect, prefix: &str) -> Result<MemoryUsage> {
    let mut usage = MemoryUsage::default();
    // A server may list a key twice.
    let mut seen = BTreeSet::new();
    let mut next = Some(Cursor::Start);
    while let Some(cursor) = next {
        let page = backend.page(prefix, &cursor)?;
        let mut keys: Vec<_> = page.keys.into_iter().filter(|key| !seen.contains(key)).collect();
        keys.sort_unstable();
        keys.dedup();
        seen.extend(keys.iter().cloned());
        let keys: Vec<_> = keys.into_iter().map(Key::listed).collect();
        for (bytes, overhead) in backend.memory_usage_of(&keys)?.into_iter().flatten() {
            usage.entries += 1;
            usage.bytes += bytes;
            usage.overhead += overhead;
        }
        next = page.next;
    }
    Ok(usage)
}

//! Owns the options of the Redis variant, their defaults and limits. Knows nothing of connections and outages.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::MAX_TTL;
use crate::config::any_value::{any_value, is_nothing, variant};
use crate::config::duration;
use crate::config::file_path::{behind_scheme, path_behind_scheme};
use crate::config::meant::check_path;
use crate::config::options::options;
use crate::config::range::in_range;
use crate::config::redis_address::RedisAddress;
use crate::config::size;
use crate::error::{Error, Result};

/// The limits of every timeout and pause.
const TIMES: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);

/// What serves the program while the Redis server cannot be reached.
///
/// In a configuration: `"memory"`, `"none"`, or `"file:"` and a path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Fallback {
    /// Memory serves. Writes are queued in memory and replayed on the server when it can be reached again, each
    /// operation once. Operations that are still queued when the program ends are lost, with a line in the log.
    #[default]
    Memory,
    /// As [`Memory`](Self::Memory), and the queue is also kept in a directory before a call returns: a program
    /// that is killed during an outage, and opened again with the same path, resumes the queue.
    #[non_exhaustive]
    File {
        /// The directory; it is created if it is missing. One store has it open at a time.
        /// [`FileOptions::sync`](crate::FileOptions::sync) sets when its files are synced.
        path: PathBuf,
    },
    /// Opening, and every operation, fails while the server cannot be reached: at once, if that is known.
    None,
}

impl Fallback {
    /// Memory, and a directory in which the queue is kept.
    ///
    /// ```
    /// use millpond::{Fallback, RedisOptions};
    ///
    /// let options = RedisOptions::default().fallback(Fallback::file("./queue"));
    /// assert_eq!(options.fallback.to_string(), "file:./queue");
    /// ```
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::File { path: path.into() }
    }
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::File { path } => write!(f, "file:{}", behind_scheme(path)),
            Self::None => f.write_str("none"),
        }
    }
}

impl Serialize for Fallback {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The fields of [`Fallback::File`], as those of the File backend are written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilePath {
    path: PathBuf,
}

impl<'de> Deserialize<'de> for Fallback {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = || D::Error::custom("expected \"memory\", \"none\" or \"file:\" and a path");
        let value = any_value(deserializer)?;
        if let Some(path) = value.as_str().and_then(|text| text.strip_prefix("file:")) {
            return path_behind_scheme(path).map(Self::file).map_err(|(_, reason)| D::Error::custom(reason));
        }
        let (name, content) = variant(value).ok_or_else(expected)?;
        match name.as_str() {
            "memory" if is_nothing(&content) => Ok(Self::Memory),
            "none" if is_nothing(&content) => Ok(Self::None),
            "file" if !content.is_null() => {
                let path = content.as_str().map_or_else(
                    || serde_json::from_value(content.clone()).map(|FilePath { path }| path),
                    |path| Ok(path.into()),
                );
                path.map(Self::file).map_err(D::Error::custom)
            }
            _ => Err(expected()),
        }
    }
}

/// What a read returns during an outage for a key of which nothing is known locally, or only a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnUnknownKey {
    /// As [`Absent`](Self::Absent) until the server was reached once, and as [`Error`](Self::Error) from then on.
    #[default]
    #[serde(alias = "AbsentUntilConnected")]
    AbsentUntilConnected,
    /// The key reads as absent. If this process has changed it, the key reads as if it had been absent before.
    #[serde(alias = "Absent")]
    Absent,
    /// The read fails with [`Error::Unavailable`].
    #[serde(alias = "Error")]
    Error,
}

/// What opening a store does while the server cannot be reached, if there is a `fallback`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AtStart {
    /// Opening succeeds, and the fallback serves at once. The log says so at level `error`, when the store is opened
    /// and once a minute until the server has been reached.
    #[default]
    #[serde(alias = "Serve")]
    Serve,
    /// Opening fails with [`Error::Unavailable`]. The fallback serves only in outages that begin later.
    #[serde(alias = "Require")]
    Require,
}

/// What happens to a queued write if somebody else has written the key in the meantime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnConflict {
    /// It is replayed all the same, unless it rests on a read that assumed the key to be absent.
    #[default]
    #[serde(alias = "LocalWins")]
    LocalWins,
    /// It is dropped, and the other value stays.
    #[serde(alias = "RemoteWins")]
    RemoteWins,
}

options! {
    /// Options of the Redis variant.
    pub struct RedisOptions in "redis", at "redis://127.0.0.1" {
        /// The most connections that are open at the same time. Defaults to 16; from 1 to 1024.
        pool_size(connections): u32 = 16, in 1..=1024, example 32 => "32";

        /// How many connections are kept open, so that operations need not make them. They are made in the
        /// background, by a thread of the store: opening does not wait for them. The same thread replaces a connection that
        /// the server has closed within about a second, and makes all of them again after an outage. Defaults to 0; at most
        /// `pool_size`.
        min_connections(connections): u32 = 0, check check_min_connections, example 4 => "4";

        /// The most further connections for waiting. Each [`pop_front_wait`](crate::StateStore::pop_front_wait)
        /// occupies one; when all of them are in use, it polls instead. Defaults to 16; from 1 to 1024.
        wait_connections(connections): u32 = 16, in 1..=1024, example 4 => "4";

        /// The longest time that making a connection takes, its handshake included. Defaults to `"1s"`; from
        /// 1 ms to one hour.
        #[serde(with = "duration")]
        connect_timeout(timeout): Duration = Duration::from_secs(1), in TIMES, example Duration::from_millis(300) => "300ms";

        /// The longest time that an operation takes, with its waits and retries; for an operation over many
        /// keys, the time for one chunk. While a reply arrives, each wait for its next bytes may take this long,
        /// not their sum: a server that sends a reply in small pieces can hold a call for this long at each of
        /// them. Defaults to `"3s"`; from 1 ms to one hour.
        #[serde(with = "duration")]
        timeout(timeout): Duration = Duration::from_secs(3), in TIMES, example Duration::from_secs(1) => "1s";

        /// How often an operation is tried again on a new connection: a read, or a write that was not sent. After a
        /// [lost reply](crate::RedisStore#lost-replies), how often the server is asked. Defaults to 2; at most 100.
        max_retries(retries): u32 = 2, in 0..=100, example 0 => "0";

        /// The pause before the first retry. It doubles with each further retry, and half of it is random.
        /// Defaults to `"10ms"`; from 1 ms to one hour.
        #[serde(with = "duration")]
        retry_delay(delay): Duration = Duration::from_millis(10), in TIMES, example Duration::from_millis(50) => "50ms";

        /// The longest pause between two retries. Defaults to `"500ms"`; from 1 ms to one hour.
        #[serde(with = "duration")]
        max_retry_delay(delay): Duration = Duration::from_millis(500), in TIMES, example Duration::from_secs(2) => "2s";

        /// How many commands of a batch are sent before their replies are read. Defaults to 1000; from 1 to
        /// 100 000.
        pipeline_batch_size(commands): usize = 1000, in 1..=100_000, example 200 => "200";

        /// How many keys the server looks at for one page of a listing. Defaults to 1000; from 1 to 100 000.
        scan_count(keys): usize = 1000, in 1..=100_000, example 5000 => "5000";

        /// What serves the program while the server cannot be reached. Defaults to `"memory"`.
        fallback(fallback): Fallback = Fallback::Memory, check check_fallback, example Fallback::file("./queue") => "file:./queue";

        /// What opening does if the server cannot be reached and there is a `fallback`: `"serve"` opens the store and
        /// lets the fallback serve, `"require"` fails with [`Unavailable`](crate::Error::Unavailable). A wrong address
        /// looks like a server that is down, so with `"serve"` a store that has never reached its server logs an
        /// error when it is opened and once a minute. Defaults to `"serve"`.
        at_start(at_start): AtStart = AtStart::Serve, example AtStart::Require => "require";

        /// What a read returns during an outage for a key of which nothing is known locally, or only a part: a key
        /// that this process has neither read nor written, or has changed without knowing what it held.
        /// Defaults to `"absent_until_connected"`: absent until the server was reached once, an error from then on.
        on_unknown_key(on_unknown_key): OnUnknownKey = OnUnknownKey::AbsentUntilConnected, example OnUnknownKey::Error => "error";

        /// Vouches that nobody else writes under the store's prefix. Then operations whose result depends on
        /// the current content are served during an outage too; locks are not. Defaults to `false`.
        exclusive(exclusive): bool = false, example true => "true";

        /// Makes every write happen exactly once, even if its reply is lost. Each is one script, or one transaction,
        /// which records in a reply cache on the server that it was done and what it replied. If the reply is
        /// lost, the server is asked, and the write is made only if it was not made before. An attempt takes at
        /// most half of what is left of `timeout`, except the last one.
        ///
        /// If the replies to all attempts are lost and there is a `fallback`, an outage begins, even if the
        /// server still replies to other calls: the operation is done locally, its result rests on what is known
        /// locally, and after the outage the server is asked whether it had done it. A pop is refused, with
        /// nothing applied: a value that it may have taken goes back to its end of the queue. With `fallback`
        /// `"none"`, and on a handle from [`without_fallback`](crate::StateStore::without_fallback), nobody asks the server: the operation returns
        /// [`Unavailable`](crate::Error::Unavailable) with `maybe_applied`, as it does without this option. It
        /// also does so if only the reply cache is gone before the next attempt, because the server evicted it;
        /// a queued operation is uncertain then. If the server has lost all its data, that is noticed, and the
        /// operation is done again. Operations whose result depends on what the server holds
        /// ([`set_if_not_exists`](crate::StateStore::set_if_not_exists), `compare_and_set`, `modify`, `get_and_put`,
        /// `get_and_delete`, `get_and_touch`, `lease`, locks, transactions, `clear` and `delete_prefix`) are not done
        /// locally: they return [`Unavailable`](crate::Error::Unavailable) with `maybe_applied` if the replies to
        /// all attempts are lost.
        ///
        /// [`pop_front_wait`](crate::StateStore::pop_front_wait) polls instead of using `BLPOP`. A reply of more
        /// than 4096 bytes costs a second round trip, by which the server forgets it.
        ///
        /// The reply cache is one hash for each open store, `__millpond:replies:…` under the prefix. It holds
        /// the last replies, as many as there were calls at the same time. It is deleted when the store is closed, or
        /// if nobody has used it for 30 days. On a server that evicts keys with a TTL (`maxmemory-policy
        /// volatile-*`), it has no TTL, and other stores delete it after that time. Defaults to `false`.
        exactly_once(exactly_once): bool = false, example true => "true";

        /// What happens to a queued write if somebody else has written the key in the meantime. Defaults to
        /// `"local_wins"`.
        on_conflict(on_conflict): OnConflict = OnConflict::LocalWins, example OnConflict::RemoteWins => "remote_wins";

        /// How many operations may be queued for the server. The queue is bounded by this, by
        /// `max_pending_bytes` and by `max_outage`: beyond them writes are refused with
        /// [`Unavailable`](crate::Error::Unavailable), and a queued operation is never dropped. Once the queue
        /// is half full, writers are slowed. Defaults to 1 000 000; from 1 to 1 000 000 000.
        max_pending(operations): u64 = 1_000_000, in 1..=1_000_000_000, example 50_000 => "50000";

        /// How many bytes of memory the queued operations may take, approximately, together with the local state that
        /// they change; beyond them writes are refused. A small value under a key of its own takes about 650 bytes.
        /// Defaults to 268 435 456 (256 MiB); from 1024.
        #[serde(with = "size")]
        max_pending_bytes(bytes): u64 = 256 << 20, in 1024..=u64::MAX, example 64 << 20 => "64MiB";

        /// How long an outage may last until writes that would have to be queued are refused. Reads are still
        /// served, and the queue is kept. Defaults to none, which is without limit; from 1 ms to 1000 years.
        #[serde(with = "duration::option")]
        max_outage(time: impl Into<Option<Duration>>): Option<Duration> = None, check check_max_outage, example Duration::from_secs(3600) => "1h";

        /// How many bytes of values that were read or written are kept, so that they can be read during an
        /// outage. As many bytes again may be taken by the names of unknown keys that are read during an outage; beyond
        /// them a put to any unknown key is replayed only if the server has none. Defaults to 16 777 216 (16 MiB); a value of more than a sixteenth of it is not kept. 0 keeps
        /// none: then each queued put that finds its key present on the server counts as a conflict.
        #[serde(with = "size")]
        shadow_bytes(bytes): u64 = 16 << 20, example 64 << 20 => "64MiB";

        /// A file that holds the password, instead of the URL. It is read for each new connection, so that a
        /// password that was replaced is used from then on, also if the server was unreachable in between. One line break at
        /// the end is no part of the password. The user is that of the URL, or `default`. A relative path is that of the
        /// time when the store was opened.
        ///
        /// Opening fails if the file cannot be read, is empty, longer than 64 KiB, or holds a control character. If
        /// that is so later, the server counts as unreachable until it is mended. Defaults to none.
        password_file(file: impl Into<Option<PathBuf>>): Option<PathBuf> = None, check check_password_file, example PathBuf::from("/run/secrets/redis") => "/run/secrets/redis";

        /// A PEM file with the certificates to trust for `rediss://`, instead of the system's. Defaults to
        /// none.
        tls_ca_file(file: impl Into<Option<PathBuf>>): Option<PathBuf> = None, check check_tls_ca_file, example PathBuf::from("/etc/ca.pem") => "/etc/ca.pem";

        /// A PEM file with the certificate that the store shows to a server that asks for one (mutual TLS), and with those
        /// of its chain, for `rediss://`. It goes with `tls_key_file`. Both files are read for each new connection, so
        /// that a certificate that was replaced is used from then on. A relative path is that of the time when the store
        /// was opened.
        ///
        /// Opening fails if the files cannot be used, or do not belong together. If that is so later, for instance
        /// because only one of them was replaced yet, the server counts as unreachable until it is mended. Defaults to
        /// none.
        tls_cert_file(file: impl Into<Option<PathBuf>>): Option<PathBuf> = None, check check_tls_cert_file, example PathBuf::from("/etc/client.pem") => "/etc/client.pem";

        /// A PEM file with the private key of `tls_cert_file`: RSA, elliptic curve or PKCS #8, not encrypted. Defaults to
        /// none.
        tls_key_file(file: impl Into<Option<PathBuf>>): Option<PathBuf> = None, check check_tls_key_file, example PathBuf::from("/etc/client.key") => "/etc/client.key";
    }
}

impl RedisOptions {
    fn check_fallback(&self, field: &str) -> Result<()> {
        match &self.fallback {
            Fallback::File { path } => {
                check_path(path).map_err(|reason| Error::invalid_config(field, format!("its path: {reason}")))
            }
            Fallback::Memory | Fallback::None => Ok(()),
        }
    }

    /// Checks what depends on the address of the server too.
    pub(crate) fn validate_for(&self, address: &RedisAddress) -> Result<()> {
        let has_password = address.login.as_ref().is_some_and(|login| !login.password.is_empty());
        if has_password && self.password_file.is_some() {
            let reason = "the URL holds a password too: write it in one place";
            return Err(Error::invalid_config("redis.password_file", reason));
        }
        match (&self.tls_cert_file, &self.tls_key_file) {
            (None, None) => Ok(()),
            (Some(_), None) => Err(Error::invalid_config(
                "redis.tls_key_file",
                "it is missing: tls_cert_file needs a private key",
            )),
            (None, Some(_)) => Err(Error::invalid_config(
                "redis.tls_cert_file",
                "it is missing: tls_key_file needs a certificate",
            )),
            (Some(_), Some(_)) if address.tls => Ok(()),
            (Some(_), Some(_)) => {
                let reason =
                    "a client certificate is shown over TLS only: write rediss:// instead of redis://";
                Err(Error::invalid_config("redis.tls_cert_file", reason))
            }
        }
    }

    fn check_min_connections(&self, field: &str) -> Result<()> {
        let (least, most) = (self.min_connections, self.pool_size);
        if least > most {
            return Err(Error::invalid_config(
                field,
                format!("{least} is more than pool_size, which is {most}"),
            ));
        }
        Ok(())
    }

    fn check_password_file(&self, field: &str) -> Result<()> {
        check_file(field, self.password_file.as_deref())
    }

    fn check_tls_ca_file(&self, field: &str) -> Result<()> {
        check_file(field, self.tls_ca_file.as_deref())
    }

    fn check_tls_cert_file(&self, field: &str) -> Result<()> {
        check_file(field, self.tls_cert_file.as_deref())
    }

    fn check_tls_key_file(&self, field: &str) -> Result<()> {
        check_file(field, self.tls_key_file.as_deref())
    }

    fn check_max_outage(&self, field: &str) -> Result<()> {
        self.max_outage.map_or(Ok(()), |time| in_range(field, time, Duration::from_millis(1)..=MAX_TTL))
    }
}

fn check_file(field: &str, path: Option<&Path>) -> Result<()> {
    path.map_or(Ok(()), check_path).map_err(|reason| Error::invalid_config(field, reason))
}

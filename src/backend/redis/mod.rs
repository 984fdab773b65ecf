//! Owns the Redis variant: attempts, retries, and the operations of a backend as exchanges with a server.
//! Knows nothing of what serves when the server is away.

mod classify;
mod commands;
mod connection;
mod dial;
mod graveyard;
mod limit;
mod listing;
mod many;
mod pool;
mod scan;
#[cfg(feature = "tls")]
mod tls;

use std::thread;

use self::classify::{About, Failure, Stage, Trouble};
use self::commands::{Packer, Script};
use self::connection::{Connection, Unit};
use self::dial::Dialer;
use self::limit::Limit;
use self::pool::Pool;
use super::Backend;
use crate::bytes::Bytes;
use crate::clock::Ttl;
use crate::config::{RedisAddress, RedisOptions};
use crate::error::{Error, Kind, Result};
use crate::key::Key;
use crate::op::{Op, Reply};
use crate::page::{Cursor, Page};

#[cfg(not(feature = "tls"))]
const NO_TLS: &str = "rediss:// URLs: this build has no `tls` feature";

pub(crate) struct Redis {
    pool: Pool,
    /// What every key on the server begins with: empty, or ends in `:`.
    prefix: Vec<u8>,
    options: RedisOptions,
}

/// Why a store could not be opened.
pub(crate) struct OpenFailure {
    pub(crate) error: Error,
    /// Whether memory may serve instead: the server is away, and did not refuse.
    pub(crate) unreachable: bool,
}

/// What an operation needs to know of its attempts.
#[derive(Debug, Clone, Copy)]
struct Job {
    mutation: bool,
    /// Carrying it out twice leaves the same state as once.
    repeatable: bool,
}

const READ: Job = Job { mutation: false, repeatable: true };

impl Redis {
    /// Connects once, within `connect_timeout`.
    pub(crate) fn open(url: &str, key_prefix: &str, options: &RedisOptions) -> Result<Self, OpenFailure> {
        let fatal = |error| OpenFailure { error, unreachable: false };
        let address = RedisAddress::parse(url).map_err(fatal)?;
        #[cfg(not(feature = "tls"))]
        if address.tls {
            return Err(fatal(Error::Unsupported { what: NO_TLS.to_owned() }));
        }
        let dialer = Dialer {
            #[cfg(feature = "tls")]
            trust: tls::Trust::load(address.tls, options.tls_ca_file.as_deref()).map_err(fatal)?,
            address,
            connect_timeout: options.connect_timeout,
            timeout: options.timeout,
        };
        let prefix = wire_prefix(key_prefix);
        let redis = Self { pool: Pool::new(dialer, options.pool_size), prefix, options: options.clone() };
        redis.greet().map_err(|failure| OpenFailure {
            unreachable: failure.is_unreachable(),
            error: failure.into_error(About { command: "HELLO", key: "", mutation: false }, None),
        })?;
        Ok(redis)
    }

    /// Makes the first connection and asks whether the server serves: one that loads its data does not.
    fn greet(&self) -> Result<(), Failure> {
        let limit = Limit::new(self.options.connect_timeout);
        let mut lease = self.pool.checkout(&limit, true)?;
        let connection = lease.connection()?;
        self.pack(connection).command(1, "PING");
        match commands::refused(connection.ask(&limit)?) {
            Err(failure) if failure.trouble != Trouble::Denied => Err(failure),
            _ => Ok(()),
        }
    }

    /// Begins to fill the buffer of a connection.
    fn pack<'a>(&'a self, connection: &'a mut Connection) -> Packer<'a> {
        connection.buffer.clear();
        Packer::new(&mut connection.buffer, &self.prefix)
    }

    fn limit(&self) -> Limit {
        Limit::new(self.options.timeout)
    }

    /// Attempts `work` until it is done, or trying again is harmful, useless or too late. `work` and the
    /// caller are told whether the answer to an earlier attempt was lost.
    fn run<T>(
        &self,
        job: Job,
        limit: &Limit,
        mut work: impl FnMut(&mut Connection, bool) -> Result<T, Failure>,
    ) -> Result<(T, bool), Failure> {
        let mut lost = false;
        let mut delay = self.options.retry_delay;
        let mut attempt = 0;
        loop {
            let outcome = self.attempt(job, limit, attempt > 0, |connection| work(connection, lost));
            let failure = match outcome {
                Ok(done) => return Ok((done, lost)),
                Err(failure) => failure,
            };
            lost |= job.mutation && failure.stage == Stage::Lost;
            let pause = delay.mul_f64(0.5 + fastrand::f64() / 2.0);
            let can_wait = limit.left().is_some_and(|left| left > pause);
            let may = failure.may_be_retried(job.repeatable) && attempt < self.options.max_retries;
            if !may || !can_wait {
                // What an earlier attempt may have done, this one's refusal does not undo.
                let stage = if lost { Stage::Lost } else { failure.stage };
                return Err(Failure { stage, ..failure });
            }
            thread::sleep(pause);
            delay = (delay * 2).min(self.options.max_retry_delay);
            attempt += 1;
        }
    }

    fn attempt<T>(
        &self,
        job: Job,
        limit: &Limit,
        late: bool,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut late = late;
        let mut lease = loop {
            let lease = self.pool.checkout(limit, late)?;
            // INVARIANT: no mutation leaves while one without an answer may still run on another
            // connection; it would run afterwards and bring its old value back.
            if !job.mutation || self.pool.graveyard().is_empty() {
                break lease;
            }
            drop(lease);
            self.pool.bury(limit)?;
            late = true;
        };
        let generation = lease.generation();
        let connection = lease.connection()?;
        let outcome = work(connection);
        match &outcome {
            Err(Failure { trouble: Trouble::Away, .. }) => self.pool.purge(generation),
            Err(Failure { trouble: Trouble::Garbage, .. }) => connection.discard(),
            _ => {}
        }
        outcome
    }

    /// One command that reads.
    fn read<T>(
        &self,
        limit: &Limit,
        pack: impl Fn(&mut Packer<'_>),
        convert: impl Fn(redis::Value) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let work = |connection: &mut Connection, _| {
            pack(&mut self.pack(connection));
            convert(connection.ask(limit)?)
        };
        self.run(READ, limit, work).map(|(found, _)| found)
    }

    fn exchange(&self, op: &Op<'_>, connection: &mut Connection, limit: &Limit) -> Result<Reply, Failure> {
        let unit = Unit { answers: commands::answers(&op.action), mutation: true, atomic: true };
        let mut say = |script| {
            self.pack(connection).action(&op.key, &op.action, script);
            connection.send(unit, limit)?;
            commands::reply(&op.action, || connection.receive(limit))
        };
        match say(Script::ByName) {
            Err(Failure { trouble: Trouble::NoScript, .. }) => say(Script::Whole),
            outcome => outcome,
        }
    }

    /// Makes the error of a failure; for a wrong kind it asks which one lies there.
    fn explain(&self, failure: Failure, about: About<'_>, limit: &Limit) -> Error {
        let found = match (failure.trouble, failure.stage) {
            (Trouble::WrongType, Stage::Rejected) => self.kinds(&[about.key], limit).pop().flatten(),
            _ => None,
        };
        failure.into_error(about, found)
    }

    /// Which kinds of things lie under keys; `None` where it is not known.
    fn kinds(&self, keys: &[&str], limit: &Limit) -> Vec<Option<Kind>> {
        let outcome = self.attempt(READ, limit, true, |connection| {
            let mut packer = self.pack(connection);
            for key in keys {
                packer.command(2, "TYPE").key(key);
            }
            connection.send(Unit { answers: keys.len(), mutation: false, atomic: false }, limit)?;
            keys.iter().map(|_| connection.receive(limit).map(|answer| commands::kind(&answer))).collect()
        });
        outcome.unwrap_or_else(|_| vec![None; keys.len()])
    }
}

/// What keys begin with on the server.
fn wire_prefix(key_prefix: &str) -> Vec<u8> {
    match key_prefix.strip_suffix(':').unwrap_or(key_prefix) {
        "" => Vec::new(),
        prefix => format!("{prefix}:").into_bytes(),
    }
}

/// The error for an answer that was lost, though a later attempt was answered.
fn lost_answer() -> Error {
    let source = "the answer to an earlier attempt was lost, and the later one does not tell what it did";
    Error::Unavailable { maybe_applied: true, source: source.into() }
}

impl Backend for Redis {
    fn get(&self, key: &Key<'_>) -> Result<Option<Bytes>> {
        let limit = self.limit();
        let about = About { command: "GET", key, mutation: false };
        self.read(&limit, |packer| _ = packer.command(2, "GET").key(key), commands::bytes)
            .map_err(|failure| self.explain(failure, about, &limit))
    }

    fn get_many(&self, keys: &[Key<'_>]) -> Vec<Result<Option<Bytes>>> {
        self.get_chunks(keys)
    }

    fn ttl(&self, key: &Key<'_>) -> Result<Option<Ttl>> {
        let about = About { command: "PTTL", key, mutation: false };
        self.read(&self.limit(), |packer| _ = packer.command(2, "PTTL").key(key), commands::ttl)
            .map_err(|failure| failure.into_error(about, None))
    }

    fn apply(&self, op: Op<'_>) -> Result<Reply> {
        let limit = self.limit();
        let job = Job { mutation: true, repeatable: op.action.is_idempotent() };
        match self.run(job, &limit, |connection, _| self.exchange(&op, connection, &limit)) {
            Ok((reply, lost)) if lost && !op.action.reply_survives_repeating(&reply) => Err(lost_answer()),
            Ok((reply, _)) => Ok(reply),
            Err(failure) => {
                let about = About { command: commands::name(&op.action), key: &op.key, mutation: true };
                Err(self.explain(failure, about, &limit))
            }
        }
    }

    fn apply_each(&self, ops: Vec<Op<'_>>) -> Vec<Result<Reply>> {
        self.apply_chunks(&ops)
    }

    fn commit(&self, writes: Vec<Op<'_>>) -> Result<()> {
        self.commit_all(&writes)
    }

    fn page(&self, prefix: &str, from: &Cursor) -> Result<Page> {
        self.listed_page(prefix, from)
    }

    fn keys(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        self.first_keys(prefix, after, limit)
    }

    fn count(&self, prefix: &str) -> Result<u64> {
        self.count_keys(prefix)
    }

    fn remove(&self, prefix: &str) -> Result<u64> {
        self.remove_keys(prefix)
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn close(&self) -> Result<()> {
        self.pool.close();
        match self.pool.graveyard().buried() {
            0 => {}
            buried => log::debug!("closed; {buried} unanswered connections were buried"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::wire_prefix;

    #[test]
    fn a_prefix_ends_in_one_colon_or_is_none() {
        for (key_prefix, wire) in
            [("", ""), (":", ""), ("a", "a:"), ("a:", "a:"), ("a:b", "a:b:"), ("a::", "a::")]
        {
            assert_eq!(wire_prefix(key_prefix), wire.as_bytes(), "{key_prefix:?}");
        }
    }
}

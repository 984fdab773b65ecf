//! Owns the Redis variant: attempts, retries, and the operations of a backend as exchanges with a server.
//! Knows nothing of what serves when the server is away.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::backend::redis::connect::connection::Connection;
use crate::backend::redis::connect::dialer::Dialer;
use crate::backend::redis::connect::epoch::Epoch;
use crate::backend::redis::connect::pool::Pool;
#[cfg(feature = "tls")]
use crate::backend::redis::connect::tls;
use crate::backend::redis::exactly_once::slots::{SlotCall, SlotTable};
use crate::backend::redis::failure::{ErrorContext, Failure};
use crate::backend::redis::retry::{Job, lost_reply};
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::action::{WireAction, error_context};
use crate::backend::redis::wire::resp::CommandWriter;
use crate::backend::redis::wire::{queries, replies};
use crate::backend::{Backend, TransactionBody};
use crate::bytes::Bytes;
use crate::clock::{Millis, Ttl};
use crate::config::{RedisAddress, RedisOptions};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{Answer, Cursor, Grant, LeaseAction, LockAction, Op, Page, Query, Reply, Write};

#[cfg(not(feature = "tls"))]
const NO_TLS: &str = "rediss:// URLs: this build has no `tls` feature";

pub(crate) struct Redis {
    pub(crate) pool: Pool,
    /// Connections that wait for something to be pushed: made when the first wait begins.
    pub(crate) blocking_pool: OnceLock<Pool>,
    /// What every key on the server begins with: empty, or ends in `:`.
    pub(crate) prefix: Vec<u8>,
    /// How the log names it.
    server_name: String,
    /// By these the server knows calls that were made before.
    pub(crate) slots: Arc<SlotTable>,
    pub(crate) options: RedisOptions,
}

impl Redis {
    /// Makes what is needed to connect, and connects to nothing yet.
    ///
    /// `identity`: no other store has the same.
    pub(crate) fn new(url: &str, key_prefix: &str, options: &RedisOptions, identity: u128) -> Result<Self> {
        let address = RedisAddress::parse(url)?;
        #[cfg(not(feature = "tls"))]
        if address.tls {
            return Err(Error::Unsupported { what: NO_TLS.to_owned() });
        }
        let prefix = wire_prefix(key_prefix);
        let place = format!("{}:{}/{} (key prefix {key_prefix:?})", address.host, address.port, address.db);
        let dialer = Dialer {
            epoch: Epoch::new(&prefix),
            #[cfg(feature = "tls")]
            trust: tls::Trust::load(address.tls, options.tls_ca_file.as_deref())?,
            address,
            connect_timeout: options.connect_timeout,
            timeout: options.timeout,
        };
        let pool = Pool::new(dialer, options.pool_size);
        let lanes = SlotTable::new(identity);
        Ok(Self {
            pool,
            blocking_pool: OnceLock::new(),
            prefix,
            server_name: place,
            slots: lanes,
            options: options.clone(),
        })
    }

    /// Refuses in a process that was forked off the one that opened the store.
    #[inline]
    pub(crate) fn check_process(&self) -> Result<()> {
        if self.pool.is_same_process() { Ok(()) } else { Err(Error::forked()) }
    }

    /// Touches no socket any more until it is said to come back.
    pub(crate) fn suspend(&self) {
        self.pool.suspend();
    }

    /// Serves again, on new connections.
    pub(crate) fn resume(&self) {
        self.pool.resume();
    }

    /// Whether the server was found to have lost its memory, and nobody has taken that up yet.
    pub(crate) fn has_data_loss(&self) -> bool {
        self.pool.epoch().has_data_loss()
    }

    /// Takes up that the server has lost its memory, with what shows it.
    pub(crate) fn take_data_loss(&self) -> Option<&'static str> {
        self.pool.epoch().take_data_loss()
    }

    /// How the log names the server, and the part of it that is this store's.
    pub(crate) fn server_name(&self) -> &str {
        &self.server_name
    }

    /// How many connections were buried.
    pub(crate) fn killed_connections(&self) -> u64 {
        self.pool.quarantine().killed_count()
    }

    /// Begins to fill the buffer of a connection.
    pub(crate) fn writer<'a>(&'a self, connection: &'a mut Connection) -> CommandWriter<'a> {
        connection.buffer.clear();
        CommandWriter::new(&mut connection.buffer, &self.prefix)
    }

    /// Carries out one mutation, within what is left of a wait if it is part of one; with a turn, once however
    /// often this is called with it.
    pub(crate) fn apply_in(
        &self,
        turn: Option<&SlotCall>,
        op: &Op<'_>,
        end: Option<Instant>,
    ) -> Result<Reply> {
        let limit = self.budget_until_or_default(end);
        let Some(turn) = turn else {
            return self.apply_within(op, &limit);
        };
        let replies = self.call(turn, std::slice::from_ref(op), &limit);
        let reply = replies.and_then(|mut replies| {
            replies.pop().unwrap_or_else(|| Err(Failure::unexpected_reply(&redis::Value::Nil)))
        });
        reply.map_err(|failure| self.error_of(failure, error_context(op), &limit))
    }

    /// Carries out one mutation, until `end` if it is a part of a longer wait.
    pub(crate) fn apply_once<A: WireAction>(&self, op: &Op<'_, A>, end: Option<Instant>) -> Result<Reply> {
        self.apply_within(op, &self.budget_until_or_default(end))
    }

    fn apply_within<A: WireAction>(&self, op: &Op<'_, A>, limit: &TimeBudget) -> Result<Reply> {
        let repeat = op.action.traits().repeat;
        let job = Job { mutation: true, repeatable: repeat.is_harmless() };
        match self.run(job, limit, |connection, _| self.exchange(op, connection, limit)) {
            Ok((reply, lost)) if lost && !repeat.reply_survives(&reply) => Err(lost_reply()),
            Ok((reply, _)) => Ok(reply),
            Err(failure) => Err(self.error_of(failure, error_context(op), limit)),
        }
    }

    fn budget_until_or_default(&self, end: Option<Instant>) -> TimeBudget {
        end.map_or_else(|| self.budget(), |end| self.budget_until(end))
    }

    /// The limit of one operation: what is left of it is for [`Redis::is_alive`].
    pub(crate) fn budget(&self) -> TimeBudget {
        TimeBudget::new(self.options.timeout.saturating_sub(self.probe_budget()))
    }

    /// How long it may take to find out whether a silent server is away.
    pub(crate) fn probe_budget(&self) -> Duration {
        self.options.connect_timeout.min(self.options.timeout / 4)
    }
}

/// What keys begin with on the server.
fn wire_prefix(key_prefix: &str) -> Vec<u8> {
    match key_prefix.strip_suffix(':').unwrap_or(key_prefix) {
        "" => Vec::new(),
        prefix => format!("{prefix}:").into_bytes(),
    }
}

impl Backend for Redis {
    fn get(&self, key: &Key<'_>) -> Result<Option<Bytes>> {
        let limit = self.budget();
        self.read(&limit, |packer| _ = packer.command(2, "GET").key(key), replies::bytes)
            .map_err(|failure| self.error_of(failure, ErrorContext::reading("GET", key), &limit))
    }

    fn get_many(&self, keys: &[Key<'_>]) -> Vec<Result<Option<Bytes>>> {
        self.get_chunks(keys)
    }

    fn ask(&self, key: &Key<'_>, query: &Query) -> Result<Answer> {
        let limit = self.budget();
        self.answer(key, query, &limit)
            .map_err(|failure| self.error_of(failure, queries::error_context(key, query), &limit))
    }

    fn ttl(&self, key: &Key<'_>) -> Result<Option<Ttl>> {
        self.read(&self.budget(), |packer| _ = packer.command(2, "PTTL").key(key), replies::ttl)
            .map_err(|failure| failure.into_error(ErrorContext::reading("PTTL", key), None))
    }

    fn apply(&self, op: Op<'_>) -> Result<Reply> {
        let turn = self.deduplicates(&op.action).then(|| self.begin_call());
        self.apply_in(turn.as_deref(), &op, None)
    }

    fn apply_each(&self, ops: Vec<Op<'_>>) -> Vec<Result<Reply>> {
        self.apply_chunks(&ops, None).replies
    }

    fn apply_lease(&self, op: Op<'_, LeaseAction>, end: Option<Instant>) -> Result<Reply> {
        self.apply_once(&op, end)
    }

    fn apply_lock(&self, op: Op<'_, LockAction>) -> Result<Reply> {
        self.apply_once(&op, None)
    }

    fn commit(&self, writes: Vec<Op<'_, Write>>) -> Result<()> {
        self.commit_all(&writes)
    }

    fn pop_wait(&self, key: &Key<'_>, end: Instant) -> Result<Option<Bytes>> {
        self.wait_to_pop(key, end)
    }

    fn attempt_until<R>(
        &self,
        _queue: &Key<'_>,
        end: Instant,
        attempt: impl FnMut() -> Result<Option<R>>,
    ) -> Result<Option<R>> {
        self.poll(end, attempt)
    }

    fn lock_wait(&self, name: &Key<'_>, ttl: Millis, end: Instant) -> Result<Option<Grant>> {
        self.wait_to_lock(name, ttl, end)
    }

    fn transact(&self, work: &mut TransactionBody<'_>) -> Result<bool> {
        self.run_transaction(work)
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
        if let Some(waiting) = self.blocking_pool.get() {
            waiting.close();
        }
        match self.pool.quarantine().killed_count() {
            0 => {}
            buried => log::debug!("closed; {buried} unanswered connections were buried"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::backend::redis::client::wire_prefix;

    #[test]
    fn a_prefix_ends_in_one_colon_or_is_none() {
        for (key_prefix, wire) in
            [("", ""), (":", ""), ("a", "a:"), ("a:", "a:"), ("a:b", "a:b:"), ("a::", "a::")]
        {
            assert_eq!(wire_prefix(key_prefix), wire.as_bytes(), "{key_prefix:?}");
        }
    }
}

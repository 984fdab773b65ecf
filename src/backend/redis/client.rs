//! Owns the Redis variant: what it keeps for as long as a store is open, and the operations on a single key. Knows
//! nothing of the fallback that serves during an outage.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::backend::redis::connect::connection::{Connection, Request};
use crate::backend::redis::connect::credentials::Credentials;
use crate::backend::redis::connect::dialer::Dialer;
#[cfg(not(feature = "tls"))]
use crate::backend::redis::connect::dialer::NO_TLS;
pub(crate) use crate::backend::redis::connect::epoch::DataLoss;
use crate::backend::redis::connect::epoch::Epoch;
use crate::backend::redis::connect::greeting::Acceptance;
use crate::backend::redis::connect::keeper::ConnectionKeeper;
use crate::backend::redis::connect::peer::Peers;
use crate::backend::redis::connect::pool::Pool;
use crate::backend::redis::connect::server_link::ServerLink;
#[cfg(feature = "tls")]
use crate::backend::redis::connect::tls::TlsClient;
use crate::backend::redis::failure::ErrorContext;
use crate::backend::redis::operation_error::OperationError;
use crate::backend::redis::place::ServerPlace;
use crate::backend::redis::retry::{RetryRule, lost_reply};
use crate::backend::redis::slots::{SlotCall, SlotTable};
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::action::{WireAction, error_context};
use crate::backend::redis::wire::calls::Scripted;
use crate::backend::redis::wire::resp::CommandWriter;
use crate::backend::redis::wire::{queries, replies, window_reply};
use crate::backend::window_sum;
use crate::bytes::Bytes;
use crate::clock::{Millis, Now, Ttl};
#[cfg(feature = "tls")]
use crate::config::Endpoint;
use crate::config::{Fallback, RedisAddress, RedisOptions, StateConfig};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{Answer, Op, Query, Reply};
use crate::stats::recorder::Recorder;
use crate::util::log_later::log_later;

/// However small values must be, the server's replies about itself are read.
const LEAST_REPLY: usize = 64 << 10;

pub(crate) struct Redis {
    pub(crate) link: Arc<ServerLink>,
    pub(crate) pool: Arc<Pool>,
    /// Keeps `min_connections` of the pool open.
    keeper: Arc<ConnectionKeeper>,
    /// Connections for commands that block until a value is pushed: made when the first wait begins.
    pub(crate) blocking_pool: OnceLock<Pool>,
    /// The prefix of every key on the server: empty, or ends in `:`.
    pub(crate) prefix: Vec<u8>,
    place: ServerPlace,
    /// How log lines name the server and this store's part of it.
    server_name: String,
    /// Exactly-once calls in progress: by these the server recognises a call that was made before.
    pub(crate) slots: Arc<SlotTable>,
    pub(crate) options: RedisOptions,
}

impl Redis {
    /// Prepares everything to connect, and does not connect yet.
    ///
    /// `identity`: no other store has the same.
    pub(crate) fn new(
        url: &str,
        key_prefix: &str,
        config: &StateConfig,
        identity: u128,
        recorder: Arc<Recorder>,
    ) -> Result<Self> {
        let options = &config.redis;
        let address = RedisAddress::parse(url)?;
        #[cfg(not(feature = "tls"))]
        if address.tls {
            return Err(Error::Unsupported { what: NO_TLS.to_owned() });
        }
        let prefix = wire_prefix(key_prefix);
        let endpoint = address.endpoint.to_string();
        let place = ServerPlace { host: endpoint.clone(), db: address.db, prefix: key_prefix.to_owned() };
        let server_name = place.to_string();
        let dialer = Dialer {
            epoch: Arc::new(Epoch::new(&prefix, endpoint.clone())),
            server_name: endpoint,
            peers: Peers::new(&address.endpoint)?,
            #[cfg(feature = "tls")]
            tls: match &address.endpoint {
                Endpoint::Tcp { host, .. } if address.tls => Some(TlsClient::new(host, options)?),
                Endpoint::Tcp { .. } | Endpoint::Unix { .. } => None,
            },
            credentials: Credentials::new(address.login.as_ref(), options)?,
            address,
            longest_reply: config.max_value_bytes.max(LEAST_REPLY) as u64,
            connect_timeout: options.connect_timeout,
            timeout: options.timeout,
            acceptance: Acceptance::new(options.fallback == Fallback::None),
            recorder,
        };
        let link = Arc::new(ServerLink::new(dialer));
        let pool = Arc::new(Pool::waiting(Arc::clone(&link), options.pool_size));
        let (least, connect_timeout) = (options.min_connections, options.connect_timeout);
        Ok(Self {
            keeper: Arc::new(ConnectionKeeper::new(Arc::clone(&pool), least, connect_timeout)),
            pool,
            link,
            blocking_pool: OnceLock::new(),
            prefix,
            place,
            server_name,
            slots: SlotTable::new(identity),
            options: options.clone(),
        })
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        self.link.recorder()
    }

    /// Fails in a process that was forked off the one that opened the store.
    #[inline]
    pub(crate) fn check_process(&self) -> Result<()> {
        if self.link.is_same_process() { Ok(()) } else { Err(Error::forked()) }
    }

    /// Touches no socket any more until [`Redis::resume`].
    pub(crate) fn suspend(&self) {
        self.link.suspend();
    }

    /// Serves again, on new connections.
    pub(crate) fn resume(&self) {
        self.link.resume();
        self.keeper.wake();
    }

    /// Begins to keep `min_connections` open, in the background.
    pub(crate) fn begin_keeping_connections(&self) {
        self.keeper.start(&self.server_name);
    }

    /// Waits until `end` for the thread that keeps connections open to end.
    pub(crate) fn end_keeping_connections(&self, end: Option<Instant>) {
        self.keeper.close(end);
    }

    /// Returns whether a data loss was found that was not yet taken.
    pub(crate) fn has_data_loss(&self) -> bool {
        self.link.epoch().has_data_loss()
    }

    /// Takes the data loss that was found, if any: returns what shows it.
    pub(crate) fn take_data_loss(&self) -> Option<DataLoss> {
        self.link.epoch().take_data_loss()
    }

    /// Returns a cause without the host that it begins with, for a text that names the server already.
    pub(crate) fn without_host<'c>(&self, cause: &'c str) -> &'c str {
        self.place.without_host(cause)
    }

    /// Where the state is.
    pub(crate) fn place(&self) -> &ServerPlace {
        &self.place
    }

    /// How log lines name the server and this store's part of it.
    pub(crate) fn server_name(&self) -> &str {
        &self.server_name
    }

    /// How many orphaned connections were killed.
    pub(crate) fn killed_connections(&self) -> u64 {
        self.link.quarantine().killed_count()
    }

    /// Returns a writer into the emptied buffer of a connection.
    pub(crate) fn writer<'a>(&'a self, connection: &'a mut Connection) -> CommandWriter<'a> {
        connection.writer(&self.prefix)
    }

    /// Reads a value.
    pub(crate) fn get(&self, key: &Key<'_>) -> Result<Option<Bytes>, OperationError> {
        let budget = self.budget();
        self.read(&budget, |writer| _ = writer.command(2, "GET").key(key), replies::bytes)
            .map_err(|failure| self.error_of(failure, ErrorContext::reading("GET", key), &budget))
    }

    /// Reads a part of an entry.
    pub(crate) fn ask(&self, key: &Key<'_>, query: &Query) -> Result<Answer, OperationError> {
        let budget = self.budget();
        self.answer(key, query, &budget)
            .map_err(|failure| self.error_of(failure, queries::error_context(key, query), &budget))
    }

    /// Returns the sum of a sliding window, by the server's clock.
    pub(crate) fn window_sum(&self, key: &Key<'_>, width: Millis) -> Result<i64, OperationError> {
        let budget = self.budget();
        let work = |connection: &mut Connection, _| {
            let mut writer = self.writer(connection);
            writer.query(key, &Query::Map);
            writer.command(1, "TIME");
            connection.send(Request { replies: 2, mutation: false, atomic: false }, &budget)?;
            let fields = queries::answer(&Query::Map, &mut || connection.receive(&budget));
            let now = window_reply::time(connection.receive(&budget)?);
            Ok((fields?, now?))
        };
        let (fields, now) = self
            .run(RetryRule::Read, &budget, work)
            .map(|(found, _)| found)
            .map_err(|failure| self.error_of(failure, queries::error_context(key, &Query::Map), &budget))?;
        Ok(window_sum(key, width, &Now::at(now), &fields.map()?)?)
    }

    /// Returns how long an entry of any kind has left; `None` if there is none.
    pub(crate) fn ttl(&self, key: &Key<'_>) -> Result<Option<Ttl>, OperationError> {
        self.read(&self.budget(), |writer| _ = writer.command(2, "PTTL").key(key), replies::ttl)
            .map_err(|failure| OperationError::new(failure, ErrorContext::reading("PTTL", key)))
    }

    /// Carries out one mutation, until `end` if it is part of a longer wait. With a slot call it takes effect once,
    /// however often this function is called with it.
    pub(crate) fn apply_in(
        &self,
        call: Option<&SlotCall>,
        op: &Op<'_>,
        end: Option<Instant>,
    ) -> Result<Reply, OperationError> {
        let budget = self.budget_until_or_default(end);
        let Some(call) = call else {
            return self.apply_within(op, &budget);
        };
        self.call_one(call, op, &budget).map_err(|failure| self.error_of(failure, error_context(op), &budget))
    }

    /// Carries out one mutation that is a script of its own, until `end` if it is part of a longer wait.
    pub(crate) fn apply_scripted<A: WireAction>(
        &self,
        op: &Op<'_, A>,
        end: Option<Instant>,
    ) -> Result<Reply, OperationError> {
        let budget = self.budget_until_or_default(end);
        if !self.is_exact() {
            return self.apply_within(op, &budget);
        }
        self.call(&self.begin_call(), &Scripted(op), &budget)
            .map_err(|failure| self.error_of(failure, error_context(op), &budget))
    }

    fn apply_within<A: WireAction>(
        &self,
        op: &Op<'_, A>,
        budget: &TimeBudget,
    ) -> Result<Reply, OperationError> {
        let lost = op.action.traits().lost_reply;
        let work = |connection: &mut Connection, _| self.exchange(op, connection, budget);
        match self.run(RetryRule::of(lost), budget, work) {
            Ok((reply, attempt)) if attempt.in_doubt && !lost.reply_survives(&reply) => {
                Err(lost_reply().into())
            }
            Ok((reply, _)) => Ok(reply),
            Err(failure) => match op.action.reply_if_left() {
                Some((left, reply)) if self.has_left(&failure, &[(&op.key, left)], budget) => Ok(reply),
                Some(_) | None => Err(self.error_of(failure, error_context(op), budget)),
            },
        }
    }

    fn budget_until_or_default(&self, end: Option<Instant>) -> TimeBudget {
        end.map_or_else(|| self.budget(), |end| self.budget_until(end))
    }

    /// The time budget of one operation. The rest of `timeout` is for [`Redis::probe`].
    pub(crate) fn budget(&self) -> TimeBudget {
        TimeBudget::new(self.time_limit())
    }

    pub(crate) fn time_limit(&self) -> Duration {
        self.options.timeout.saturating_sub(self.probe_budget())
    }

    /// How long it may take to find out whether a silent server is unreachable.
    pub(crate) fn probe_budget(&self) -> Duration {
        self.options.connect_timeout.min(self.options.timeout / 4)
    }

    /// Closes all connections; no further operation succeeds.
    pub(crate) fn close(&self) {
        self.link.close();
        self.pool.drop_idle();
        if let Some(pool) = self.blocking_pool.get() {
            pool.drop_idle();
        }
        let killed = self.killed_connections();
        if killed > 0 {
            log_later!(
                Debug,
                "the store on Redis {} is closed; connections with unanswered commands that were closed on the server: \
                 {killed}",
                self.server_name
            );
        }
    }
}

/// Returns the prefix of all keys on the server.
fn wire_prefix(key_prefix: &str) -> Vec<u8> {
    match key_prefix.strip_suffix(':').unwrap_or(key_prefix) {
        "" => Vec::new(),
        prefix => format!("{prefix}:").into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use crate::backend::redis::client::wire_prefix;

    #[test]
    fn a_prefix_is_empty_or_ends_in_one_colon() {
        for (key_prefix, wire) in
            [("", ""), (":", ""), ("a", "a:"), ("a:", "a:"), ("a:b", "a:b:"), ("a::", "a::")]
        {
            assert_eq!(wire_prefix(key_prefix), wire.as_bytes(), "{key_prefix:?}");
        }
    }
}

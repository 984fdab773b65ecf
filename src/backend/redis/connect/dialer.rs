//! Owns how a connection is made: name, socket, TLS, handshake, all within one time budget. Knows nothing of the
//! pool nor of operations.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::redis::connect::connection::Connection;
use crate::backend::redis::connect::credentials::{Credentials, LoginAttempt};
use crate::backend::redis::connect::epoch::Epoch;
use crate::backend::redis::connect::greeting::Acceptance;
use crate::backend::redis::connect::handshake::{ConnectionSetup, handshake};
use crate::backend::redis::connect::peer::{PeerAddress, Peers};
use crate::backend::redis::connect::stream::Stream;
use crate::backend::redis::connect::timed_socket::TimedSocket;
use crate::backend::redis::failure::{Failure, FailureKind, Stage};
use crate::backend::redis::time_budget::TimeBudget;
use crate::config::RedisAddress;
use crate::stats::recorder::Recorder;

#[cfg(not(feature = "tls"))]
pub(crate) const NO_TLS: &str = "rediss:// URLs: this build has no `tls` feature";

pub(crate) struct Dialer {
    /// How errors and log lines name the server.
    pub(crate) server_name: String,
    pub(crate) address: RedisAddress,
    pub(crate) credentials: Credentials,
    pub(crate) peers: Peers,
    /// `None` for a connection without TLS.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<crate::backend::redis::connect::tls::TlsClient>,
    pub(crate) connect_timeout: Duration,
    pub(crate) timeout: Duration,
    /// How many bytes a string in a reply may have.
    pub(crate) longest_reply: u64,
    pub(crate) epoch: Arc<Epoch>,
    pub(crate) acceptance: Acceptance,
    pub(crate) recorder: Arc<Recorder>,
}

impl Dialer {
    /// Makes a connection, handshake included, within `connect_timeout` and the budget. If it fails, nothing of
    /// the operation was sent.
    pub(crate) fn dial(&self, generation: u64, budget: &TimeBudget) -> Result<Connection, Failure> {
        let budget = budget.within(self.connect_timeout);
        self.log_in(generation, &budget).map_err(|failure| {
            let action = if failure.stage == Stage::Rejected { "cannot log in to" } else { "connecting to" };
            let cause = format!("{action} {}: {}", self.server_name, failure.cause);
            // A server that accepts a connection and closes it during the handshake does not serve.
            let is_lost = failure.kind == FailureKind::Broken;
            let kind = if is_lost { FailureKind::Unreachable } else { failure.kind };
            Failure::new(kind, Stage::NotSent, cause)
        })
    }

    /// Dials with the password as it is now, and once more if it was replaced meanwhile.
    fn log_in(&self, generation: u64, budget: &TimeBudget) -> Result<Connection, Failure> {
        let login = self.credentials.login()?;
        match self.try_dial(generation, login.as_ref(), budget) {
            Err(failure) if failure.kind == FailureKind::Denied => {
                match self.credentials.replaced_login(login.as_ref()) {
                    Some(login) => self.try_dial(generation, Some(&login), budget),
                    None => Err(failure),
                }
            }
            outcome => outcome,
        }
    }

    /// Tries the host's addresses in turn, each within its share of the time that is left.
    fn try_dial(
        &self,
        generation: u64,
        login: Option<&LoginAttempt<'_>>,
        budget: &TimeBudget,
    ) -> Result<Connection, Failure> {
        let addresses = self.peers.addresses(budget)?;
        let mut last_failure =
            Failure::new(FailureKind::Unreachable, Stage::NotSent, "the host has no address");
        for (index, address) in addresses.iter().enumerate() {
            let left = budget.left().ok_or_else(|| Failure::timeout(Stage::NotSent))?;
            let share = left / u32::try_from(addresses.len() - index).unwrap_or(1);
            match self.open(address, &budget.within(share)) {
                Ok(stream) => {
                    let mut connection =
                        Connection::new(stream, generation, self.longest_reply, Arc::clone(&self.recorder));
                    let setup = ConnectionSetup { login, db: self.address.db };
                    handshake(&mut connection, &setup, &self.acceptance, &self.epoch, budget)?;
                    if let Some(identity) = &mut connection.identity {
                        identity.note_dialed(address);
                    }
                    connection.count_writes(Arc::clone(&self.epoch));
                    return Ok(connection);
                }
                Err(failure) => last_failure = failure,
            }
        }
        Err(last_failure)
    }

    fn open(&self, address: &PeerAddress, budget: &TimeBudget) -> Result<Stream, Failure> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            // A file that cannot be used now may be one that is just being replaced.
            let config = tls
                .config()
                .map_err(|reason| Failure::new(FailureKind::Unreachable, Stage::NotSent, reason))?;
            let stream = tls
                .connect(config, self.open_socket(address, budget)?, budget.end)
                .map_err(|error| Failure::from_io(&error, Stage::NotSent, true))?;
            return Ok(Stream::Tls(Box::new(stream)));
        }
        self.open_socket(address, budget).map(Stream::Plain)
    }

    fn open_socket(&self, address: &PeerAddress, budget: &TimeBudget) -> Result<TimedSocket, Failure> {
        let left = budget.left().ok_or_else(|| Failure::timeout(Stage::NotSent))?;
        TimedSocket::connect(address, left, self.timeout, Arc::clone(&self.recorder))
            .map_err(|error| Failure::from_io(&error, Stage::NotSent, false))
    }
}

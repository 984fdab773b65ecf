//! Owns how a connection is made: name, socket, TLS, handshake, all within one time budget. Knows nothing of the
//! pool nor of operations.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};

use crate::backend::redis::connect::connection::Connection;
use crate::backend::redis::connect::epoch::Epoch;
use crate::backend::redis::connect::greeting::Acceptance;
use crate::backend::redis::connect::handshake::handshake;
use crate::backend::redis::failure::{Failure, FailureKind, Stage};
use crate::backend::redis::time_budget::TimeBudget;
use crate::config::RedisAddress;
use crate::util::threads;

/// How long a connection may be silent before the kernel probes it.
const KEEPALIVE: Duration = Duration::from_secs(30);

#[cfg(not(feature = "tls"))]
pub(crate) const NO_TLS: &str = "rediss:// URLs: this build has no `tls` feature";

pub(crate) struct Dialer {
    /// How errors and log lines name the server.
    pub(crate) server_name: String,
    pub(crate) address: RedisAddress,
    #[cfg(feature = "tls")]
    pub(crate) trust: crate::backend::redis::connect::tls::Trust,
    pub(crate) connect_timeout: Duration,
    pub(crate) timeout: Duration,
    pub(crate) epoch: Epoch,
    pub(crate) acceptance: Acceptance,
}

impl Dialer {
    /// Makes a connection, handshake included, within `connect_timeout` and the budget. If it fails, nothing of
    /// the operation was sent.
    pub(crate) fn dial(&self, generation: u64, budget: &TimeBudget) -> Result<Connection, Failure> {
        let budget = budget.within(self.connect_timeout);
        self.try_dial(generation, &budget).map_err(|failure| {
            let cause = format!("connecting to {}: {}", self.server_name, failure.cause).into();
            // A connection that breaks before it can be used was not made.
            let kind =
                if failure.kind == FailureKind::Broken { FailureKind::Unreachable } else { failure.kind };
            Failure { kind, stage: Stage::NotSent, cause }
        })
    }

    /// Tries the host's addresses in turn, each within its share of the time that is left.
    fn try_dial(&self, generation: u64, budget: &TimeBudget) -> Result<Connection, Failure> {
        let addresses = self.resolve(budget)?;
        let mut last_failure =
            Failure::new(FailureKind::Unreachable, Stage::NotSent, "the host has no address");
        for (index, address) in addresses.iter().enumerate() {
            let left = budget.left().ok_or_else(|| Failure::timeout(Stage::NotSent))?;
            let share = left / u32::try_from(addresses.len() - index).unwrap_or(1);
            match self.open(*address, share) {
                Ok(stream) => {
                    let mut connection = Connection::new(stream, self.address.tls, generation, self.timeout);
                    handshake(&mut connection, &self.address, &self.acceptance, &self.epoch, budget)?;
                    connection.reset_timeouts()?;
                    return Ok(connection);
                }
                Err(failure) => last_failure = failure,
            }
        }
        Err(last_failure)
    }

    /// Looks the host up. The system's resolver has no timeout, so it runs in a thread of its own.
    pub(crate) fn resolve(&self, budget: &TimeBudget) -> Result<Vec<SocketAddr>, Failure> {
        let (host, port) = (self.address.host.clone(), self.address.port);
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let unreachable =
            |error: std::io::Error| Failure::new(FailureKind::Unreachable, Stage::NotSent, error);
        let (sender, receiver) = mpsc::channel();
        let lookup = move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        let in_thread = {
            let lookup = lookup.clone();
            // The receiver may have given up already.
            move || drop(sender.send(lookup()))
        };
        if threads::spawn("millpond-resolve", in_thread).is_err() {
            // The system has no room for a thread now: better without a time limit than not at all.
            return lookup().map_err(unreachable);
        }
        match receiver.recv_timeout(budget.left().unwrap_or_default()) {
            Ok(found) => found.map_err(unreachable),
            Err(_) => Err(Failure::timeout(Stage::NotSent)),
        }
    }

    fn open(&self, address: SocketAddr, share: Duration) -> Result<redis::Connection, Failure> {
        let fail = |error| Failure::from_connection(error, Stage::NotSent, self.address.tls);
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(TcpKeepalive::new().with_time(KEEPALIVE))
            // Closing resets the connection: bytes that the kernel has not sent yet are not sent later.
            .set_linger_time(Duration::ZERO);
        #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
        let tcp = tcp.set_user_timeout(self.timeout);
        let plain = RedisConnectionInfo::default().set_skip_set_lib_name();
        let info = self.target(address)?.into_connection_info().map_err(fail)?;
        let info = info.set_tcp_settings(tcp).set_redis_settings(plain);
        redis::Client::open(info).and_then(|client| client.get_connection_with_timeout(share)).map_err(fail)
    }

    fn target(&self, address: SocketAddr) -> Result<ConnectionAddr, Failure> {
        if self.address.tls {
            return self.tls_target();
        }
        Ok(ConnectionAddr::Tcp(address.ip().to_string(), address.port()))
    }

    /// The certificate is checked against the host's name, so TLS gets the name and not an address.
    #[cfg(feature = "tls")]
    fn tls_target(&self) -> Result<ConnectionAddr, Failure> {
        self.trust.target(&self.address.host, self.address.port)
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_self, reason = "a build with TLS needs it")]
    fn tls_target(&self) -> Result<ConnectionAddr, Failure> {
        Err(Failure::new(FailureKind::Unsupported, Stage::NotSent, NO_TLS))
    }
}

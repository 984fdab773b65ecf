//! Owns how a connection is made: name, socket, TLS, handshake, all within one limit. Knows nothing of the
//! pool nor of operations.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, Value};

use crate::backend::redis::connect::connection::{Connection, Identity, Request};
use crate::backend::redis::connect::epoch::{Epoch, EpochProbe, GetOutcome};
use crate::backend::redis::failure::{Failure, FailureKind, Stage};
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::replies::refused;
use crate::backend::redis::wire::resp::CommandWriter;
use crate::config::RedisAddress;

const OLDEST: (u32, u32) = (6, 2);

/// How long a connection may be silent before the kernel asks whether it still lives.
const KEEPALIVE: Duration = Duration::from_secs(30);

pub(crate) struct Dialer {
    pub(crate) address: RedisAddress,
    #[cfg(feature = "tls")]
    pub(crate) trust: crate::backend::redis::connect::tls::Trust,
    pub(crate) connect_timeout: Duration,
    pub(crate) timeout: Duration,
    pub(crate) epoch: Epoch,
}

impl Dialer {
    /// Makes a connection and shakes hands, within `connect_timeout` and the limit. Where it fails, nothing
    /// of the operation was sent.
    pub(crate) fn dial(&self, generation: u64, limit: &TimeBudget) -> Result<Connection, Failure> {
        let limit = limit.within(self.connect_timeout);
        self.try_dial(generation, &limit).map_err(|failure| {
            let RedisAddress { host, port, .. } = &self.address;
            let cause = format!("connecting to {host}:{port}: {}", failure.cause).into();
            Failure { stage: Stage::NotSent, cause, ..failure }
        })
    }

    fn try_dial(&self, generation: u64, limit: &TimeBudget) -> Result<Connection, Failure> {
        let places = self.resolve(limit)?;
        let mut failed = Failure::new(FailureKind::Unreachable, Stage::NotSent, "the host has no address");
        for (index, place) in places.iter().enumerate() {
            let left = limit.left().ok_or_else(|| Failure::timeout(Stage::NotSent))?;
            let share = left / u32::try_from(places.len() - index).unwrap_or(1);
            match self.open(*place, share) {
                Ok(wire) => {
                    let mut connection = Connection::new(wire, self.address.tls, generation, self.timeout);
                    self.handshake(&mut connection, limit)?;
                    connection.reset_timeouts()?;
                    return Ok(connection);
                }
                Err(failure) => failed = failure,
            }
        }
        Err(failed)
    }

    /// Looks the host up. The system's resolver knows no limit, so it is asked in a thread.
    fn resolve(&self, limit: &TimeBudget) -> Result<Vec<SocketAddr>, Failure> {
        let (host, port) = (self.address.host.clone(), self.address.port);
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let away = |error: std::io::Error| Failure::new(FailureKind::Unreachable, Stage::NotSent, error);
        let (sender, receiver) = mpsc::channel();
        let asked = thread::Builder::new().name("millpond-resolve".to_owned()).spawn(move || {
            let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
            // Nobody may be waiting any more.
            let _ = sender.send(found);
        });
        asked.map_err(away)?;
        match receiver.recv_timeout(limit.left().unwrap_or_default()) {
            Ok(found) => found.map_err(away),
            Err(_) => Err(Failure::timeout(Stage::NotSent)),
        }
    }

    fn open(&self, place: SocketAddr, share: Duration) -> Result<redis::Connection, Failure> {
        let fail = |error| Failure::from_connection(error, Stage::NotSent, self.address.tls);
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(TcpKeepalive::new().with_time(KEEPALIVE))
            // Closing resets the connection: what lies unsent in the kernel is not sent later.
            .set_linger_time(Duration::ZERO);
        #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
        let tcp = tcp.set_user_timeout(self.timeout);
        let plain = RedisConnectionInfo::default().set_skip_set_lib_name();
        let info = self.target(place)?.into_connection_info().map_err(fail)?;
        let info = info.set_tcp_settings(tcp).set_redis_settings(plain);
        redis::Client::open(info).and_then(|client| client.get_connection_with_timeout(share)).map_err(fail)
    }

    fn target(&self, place: SocketAddr) -> Result<ConnectionAddr, Failure> {
        match self.address.tls {
            false => Ok(ConnectionAddr::Tcp(place.ip().to_string(), place.port())),
            #[cfg(feature = "tls")]
            // The certificate is checked against the name, so TLS gets the name.
            true => self.trust.target(&self.address.host, self.address.port),
            #[cfg(not(feature = "tls"))]
            true => Err(Failure::new(
                FailureKind::Unsupported,
                Stage::NotSent,
                crate::backend::redis::client::NO_TLS,
            )),
        }
    }

    /// Says who we are, and learns which server this is, what it calls the connection, and whether it has
    /// lost its memory.
    fn handshake(&self, connection: &mut Connection, limit: &TimeBudget) -> Result<(), Failure> {
        let address = &self.address;
        let look = self.epoch.begin_probe();
        let mut answers = 3;
        connection.buffer.clear();
        let mut packer = CommandWriter::new(&mut connection.buffer, b"");
        match &address.password {
            None => packer.command(2, "HELLO").arg(b"2"),
            Some(password) => packer
                .command(5, "HELLO")
                .arg(b"2")
                .arg(b"AUTH")
                .arg(address.username.as_deref().unwrap_or("default").as_bytes())
                .arg(password.as_bytes()),
        };
        if address.db != 0 {
            answers += 1;
            packer.command(2, "SELECT").arg(address.db.to_string().as_bytes());
        }
        packer.command(2, "CLIENT").arg(b"INFO");
        self.epoch.ask(&mut packer);
        connection.apply_deadline(limit)?;
        let sent = connection.send(Request { replies: answers, mutation: false, atomic: true }, limit);
        // The buffer held the password.
        connection.buffer = Vec::new();
        sent?;
        check_hello(connection.receive(limit)?)?;
        connection.apply_deadline(limit)?;
        if address.db != 0 {
            refused(connection.receive(limit)?)?;
            connection.apply_deadline(limit)?;
        }
        connection.identity = identity(&connection.receive(limit)?);
        connection.apply_deadline(limit)?;
        self.note_epoch(connection, look, limit)
    }

    /// Receives the epoch, and makes one where there is none. Who may do neither is served all the same.
    fn note_epoch(
        &self,
        connection: &mut Connection,
        look: EpochProbe,
        limit: &TimeBudget,
    ) -> Result<(), Failure> {
        match self.epoch.on_get(look, connection.receive(limit)?) {
            GetOutcome::Done => return Ok(()),
            GetOutcome::Unready => {
                connection.discard();
                return Ok(());
            }
            GetOutcome::Missing => {}
        }
        connection.buffer.clear();
        self.epoch.make(&mut CommandWriter::new(&mut connection.buffer, b""));
        connection.apply_deadline(limit)?;
        // One that comes late finds an epoch there, or makes one of its own, which the next look sees.
        connection.send(Request { replies: 2, mutation: false, atomic: false }, limit)?;
        let made = connection.receive_from_other_thread(limit)?;
        connection.apply_deadline(limit)?;
        let found = connection.receive_from_other_thread(limit)?;
        self.epoch.on_create(look, &made, found);
        Ok(())
    }
}

fn check_hello(answer: Value) -> Result<(), Failure> {
    let too_old = |version: &str| {
        let what = format!("Redis {version}: 6.2 or newer is needed");
        Failure::new(FailureKind::Unsupported, Stage::NotSent, what)
    };
    match answer {
        Value::ServerError(error) => {
            if error.details().is_some_and(|details| details.starts_with("unknown command")) {
                return Err(too_old("older than 6"));
            }
            let failure = Failure::from_error_reply(&error);
            // A server may repeat what it was told, and it was told the password.
            Err(match failure.kind {
                FailureKind::Other => {
                    Failure { cause: format!("{} in answer to HELLO", error.code()).into(), ..failure }
                }
                _ => failure,
            })
        }
        Value::Array(parts) => match version(&parts) {
            Some((number, text)) if number < OLDEST => Err(too_old(&text)),
            Some(_) => Ok(()),
            None => Err(Failure::new(
                FailureKind::Protocol,
                Stage::NotSent,
                "HELLO was answered without a version",
            )),
        },
        other => Err(Failure::unexpected_reply(&other)),
    }
}

fn version(parts: &[Value]) -> Option<((u32, u32), String)> {
    let at = parts.iter().position(|part| matches!(part, Value::BulkString(text) if text == b"version"))?;
    let Value::BulkString(text) = parts.get(at + 1)? else {
        return None;
    };
    let text = String::from_utf8_lossy(text).into_owned();
    let mut numbers = text.split('.').map(|part| part.parse().ok());
    let number = (numbers.next()??, numbers.next()??);
    Some((number, text))
}

/// Reads the answer to CLIENT INFO. A user may lack the permission for it.
fn identity(answer: &Value) -> Option<Identity> {
    let text = match answer {
        Value::BulkString(text) => std::str::from_utf8(text).ok()?,
        Value::VerbatimString { text, .. } => text.as_str(),
        _ => return None,
    };
    let field = |name: &str| {
        text.split_ascii_whitespace().find_map(|field| field.strip_prefix(name)).map(ToOwned::to_owned)
    };
    Some(Identity { id: field("id=")?, address: field("addr=")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(version: &str) -> Value {
        Value::Array(
            [b"server", &b"redis"[..], b"version", version.as_bytes()]
                .map(|part| Value::BulkString(part.to_vec()))
                .to_vec(),
        )
    }

    #[test]
    fn an_old_server_is_unsupported() {
        assert!(check_hello(hello("6.2.0")).is_ok());
        assert!(check_hello(hello("10.0")).is_ok());
        assert_eq!(check_hello(hello("6.0.16")).unwrap_err().kind, FailureKind::Unsupported);
        let unknown = redis::parse_redis_value(b"-ERR unknown command `HELLO`, with args: `2` `hunter2`\r\n");
        let failure = check_hello(unknown.unwrap()).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Unsupported);
        assert!(!failure.cause.to_string().contains("hunter2"));
    }

    #[test]
    fn a_server_that_repeats_the_password_is_not_quoted() {
        let echo = redis::parse_redis_value(b"-ERR Syntax error in HELLO option 'hunter2'\r\n").unwrap();
        let failure = check_hello(echo).unwrap_err();
        assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
    }

    #[test]
    fn a_connection_knows_its_name_if_it_may() {
        let info = Value::BulkString(b"id=42 addr=127.0.0.1:5000 laddr=127.0.0.1:6379 fd=8".to_vec());
        let identity = identity(&info).unwrap();
        assert_eq!((identity.id.as_str(), identity.address.as_str()), ("42", "127.0.0.1:5000"));
        assert!(super::identity(&Value::Nil).is_none());
    }
}

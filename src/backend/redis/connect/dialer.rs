//! Owns how a connection is made: name, socket, TLS, handshake, all within one limit. Knows nothing of the
//! pool nor of operations.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, Value};

use crate::backend::redis::connect::connection::{Connection, Identity, Unit};
use crate::backend::redis::connect::epoch::{Epoch, Glance, Look};
use crate::backend::redis::failure::{Failure, Stage, Trouble};
use crate::backend::redis::time_budget::Limit;
use crate::backend::redis::wire::replies::refused;
use crate::backend::redis::wire::resp::Packer;
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
    pub(crate) fn dial(&self, generation: u64, limit: &Limit) -> Result<Connection, Failure> {
        let limit = limit.within(self.connect_timeout);
        self.try_dial(generation, &limit).map_err(|failure| {
            let RedisAddress { host, port, .. } = &self.address;
            let cause = format!("connecting to {host}:{port}: {}", failure.cause).into();
            Failure { stage: Stage::NotSent, cause, ..failure }
        })
    }

    fn try_dial(&self, generation: u64, limit: &Limit) -> Result<Connection, Failure> {
        let places = self.resolve(limit)?;
        let mut failed = Failure::new(Trouble::Away, Stage::NotSent, "the host has no address");
        for (index, place) in places.iter().enumerate() {
            let left = limit.left().ok_or_else(|| Failure::timeout(Stage::NotSent))?;
            let share = left / u32::try_from(places.len() - index).unwrap_or(1);
            match self.open(*place, share) {
                Ok(wire) => {
                    let mut connection = Connection::new(wire, self.address.tls, generation, self.timeout);
                    self.shake_hands(&mut connection, limit)?;
                    connection.arm_fully()?;
                    return Ok(connection);
                }
                Err(failure) => failed = failure,
            }
        }
        Err(failed)
    }

    /// Looks the host up. The system's resolver knows no limit, so it is asked in a thread.
    fn resolve(&self, limit: &Limit) -> Result<Vec<SocketAddr>, Failure> {
        let (host, port) = (self.address.host.clone(), self.address.port);
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let away = |error: std::io::Error| Failure::new(Trouble::Away, Stage::NotSent, error);
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
        let fail = |error| Failure::of_connection(error, Stage::NotSent, self.address.tls);
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
            true => {
                Err(Failure::new(Trouble::Unsupported, Stage::NotSent, crate::backend::redis::client::NO_TLS))
            }
        }
    }

    /// Says who we are, and learns which server this is, what it calls the connection, and whether it has
    /// lost its memory.
    fn shake_hands(&self, connection: &mut Connection, limit: &Limit) -> Result<(), Failure> {
        let address = &self.address;
        let look = self.epoch.look();
        let mut answers = 3;
        connection.buffer.clear();
        let mut packer = Packer::new(&mut connection.buffer, b"");
        match &address.password {
            None => packer.command(2, "HELLO").word(b"2"),
            Some(password) => packer
                .command(5, "HELLO")
                .word(b"2")
                .word(b"AUTH")
                .word(address.username.as_deref().unwrap_or("default").as_bytes())
                .word(password.as_bytes()),
        };
        if address.db != 0 {
            answers += 1;
            packer.command(2, "SELECT").word(address.db.to_string().as_bytes());
        }
        packer.command(2, "CLIENT").word(b"INFO");
        self.epoch.ask(&mut packer);
        connection.arm(limit)?;
        let sent = connection.send(Unit { answers, mutation: false, atomic: true }, limit);
        // The buffer held the password.
        connection.buffer = Vec::new();
        sent?;
        check_hello(connection.receive(limit)?)?;
        connection.arm(limit)?;
        if address.db != 0 {
            refused(connection.receive(limit)?)?;
            connection.arm(limit)?;
        }
        connection.identity = identity(&connection.receive(limit)?);
        connection.arm(limit)?;
        self.note_epoch(connection, look, limit)
    }

    /// Receives the epoch, and makes one where there is none. Who may do neither is served all the same.
    fn note_epoch(&self, connection: &mut Connection, look: Look, limit: &Limit) -> Result<(), Failure> {
        match self.epoch.glance(look, connection.receive(limit)?) {
            Glance::Done => return Ok(()),
            Glance::Unready => {
                connection.discard();
                return Ok(());
            }
            Glance::Missing => {}
        }
        connection.buffer.clear();
        self.epoch.make(&mut Packer::new(&mut connection.buffer, b""));
        connection.arm(limit)?;
        // One that comes late finds an epoch there, or makes one of its own, which the next look sees.
        connection.send(Unit { answers: 2, mutation: false, atomic: false }, limit)?;
        let made = connection.receive_aside(limit)?;
        connection.arm(limit)?;
        let found = connection.receive_aside(limit)?;
        self.epoch.settle(look, &made, found);
        Ok(())
    }
}

fn check_hello(answer: Value) -> Result<(), Failure> {
    let too_old = |version: &str| {
        let what = format!("Redis {version}: 6.2 or newer is needed");
        Failure::new(Trouble::Unsupported, Stage::NotSent, what)
    };
    match answer {
        Value::ServerError(error) => {
            if error.details().is_some_and(|details| details.starts_with("unknown command")) {
                return Err(too_old("older than 6"));
            }
            let failure = Failure::of_answer(&error);
            // A server may repeat what it was told, and it was told the password.
            Err(match failure.trouble {
                Trouble::Other => {
                    Failure { cause: format!("{} in answer to HELLO", error.code()).into(), ..failure }
                }
                _ => failure,
            })
        }
        Value::Array(parts) => match version(&parts) {
            Some((number, text)) if number < OLDEST => Err(too_old(&text)),
            Some(_) => Ok(()),
            None => {
                Err(Failure::new(Trouble::Garbage, Stage::NotSent, "HELLO was answered without a version"))
            }
        },
        other => Err(Failure::unexpected(&other)),
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
        assert_eq!(check_hello(hello("6.0.16")).unwrap_err().trouble, Trouble::Unsupported);
        let unknown = redis::parse_redis_value(b"-ERR unknown command `HELLO`, with args: `2` `hunter2`\r\n");
        let failure = check_hello(unknown.unwrap()).unwrap_err();
        assert_eq!(failure.trouble, Trouble::Unsupported);
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

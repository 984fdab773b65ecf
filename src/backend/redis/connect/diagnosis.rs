//! Owns what can be found out about a server that did not answer the first connection as a Redis server does: it
//! expects TLS, or has none, or speaks another protocol. Sends no password, and knows nothing of operations.

use std::sync::Arc;
use std::time::Instant;

use crate::backend::redis::connect::dialer::Dialer;
use crate::backend::redis::connect::peer::PeerAddress;
use crate::backend::redis::connect::timed_socket::TimedSocket;
use crate::backend::redis::failure::{Failure, FailureKind, Stage};
use crate::backend::redis::time_budget::TimeBudget;
use crate::stats::recorder::Recorder;

/// How much of a reply is read and shown.
const SHOWN: usize = 100;

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// The first message of a TLS client, as short as the standard allows. A server that speaks TLS replies to it with a
/// message of its own or with an alert.
const CLIENT_HELLO: &[u8] =
    b"\x16\x03\x01\x00\x33\x01\x00\x00\x2f\x03\x03millpond asks if this is TLS....\x00\
\x00\x08\xc0\x2f\xc0\x2b\x13\x01\x00\x2f\x01\x00";

impl Dialer {
    /// Returns the failure of the first connection, or a failure that names the mistake in the configuration that
    /// causes it. It takes at most a quarter of `connect_timeout`.
    pub(crate) fn diagnose(&self, failure: Failure) -> Failure {
        let asks = match failure.kind {
            FailureKind::Unreachable
            | FailureKind::Broken
            | FailureKind::FoundUseless
            | FailureKind::Timeout
            | FailureKind::Protocol
            | FailureKind::Tls => true,
            FailureKind::Busy
            | FailureKind::Exhausted
            | FailureKind::Denied
            | FailureKind::WrongType
            | FailureKind::NotAnInteger
            | FailureKind::Overflow
            | FailureKind::NotWritable
            | FailureKind::Oversized
            | FailureKind::OtherServer
            | FailureKind::NoScript
            | FailureKind::ReplyEvicted
            | FailureKind::TooLarge { .. }
            | FailureKind::Unsupported
            | FailureKind::Closed
            | FailureKind::Forked
            | FailureKind::Other => false,
        };
        let budget = TimeBudget::new(self.connect_timeout / 4);
        let found = if asks { self.find_mistake(failure.kind, &budget) } else { None };
        match found {
            Some((kind, cause)) => {
                Failure::new(kind, Stage::NotSent, format!("connecting to {}: {cause}", self.server_name))
            }
            None => failure,
        }
    }

    fn find_mistake(&self, kind: FailureKind, budget: &TimeBudget) -> Option<(FailureKind, String)> {
        let addresses = self.peers.addresses(budget).ok()?;
        let address = addresses.first()?;
        let ask = |request: &[u8]| first_bytes(address, request, budget.end, &self.recorder);
        if self.address.tls {
            let reply = ask(PING)?;
            let is_redis = matches!(reply.first(), Some(b'+' | b'-'));
            let cause = "the server does not speak TLS at this port: write redis:// instead of rediss://, or the TLS port";
            return if is_redis {
                Some((FailureKind::Tls, cause.to_owned()))
            } else {
                other_protocol(&reply)
            };
        }
        if kind == FailureKind::Protocol
            && let Some(found) = ask(PING).and_then(|reply| other_protocol(&reply))
        {
            return Some(found);
        }
        let cause = "the server speaks TLS at this port: write rediss:// instead of redis://, or the port without TLS";
        ask(CLIENT_HELLO).filter(|reply| is_tls(reply)).map(|_| (FailureKind::Tls, cause.to_owned()))
    }
}

/// Sends a request and returns the beginning of what comes back; `None` if nothing does.
fn first_bytes(
    address: &PeerAddress,
    request: &[u8],
    end: Instant,
    recorder: &Arc<Recorder>,
) -> Option<Vec<u8>> {
    let left = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
    let mut socket = TimedSocket::connect(address, left, left, Arc::clone(recorder)).ok()?;
    socket.write_all(request, end).ok()?;
    let mut reply = vec![0; SHOWN];
    let len = socket.read(&mut reply, end).ok()?;
    reply.truncate(len);
    (len > 0).then_some(reply)
}

/// Returns whether these bytes begin a message of TLS: an alert, or a step of the handshake.
fn is_tls(reply: &[u8]) -> bool {
    matches!(reply, [0x15 | 0x16, 0x03, ..])
}

/// Quotes a reply that is none of a Redis server.
fn other_protocol(reply: &[u8]) -> Option<(FailureKind, String)> {
    if is_tls(reply) || matches!(reply.first(), Some(b'+' | b'-' | b':' | b'$' | b'*')) {
        return None;
    }
    let text = String::from_utf8_lossy(reply);
    let line = text.lines().next().unwrap_or_default();
    let what = if line.starts_with("HTTP/") { "an HTTP server" } else { "no Redis server" };
    Some((
        FailureKind::Protocol,
        format!("this is {what}: it answers {line:?}; check the host and the port of the URL"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_of_tls_has_the_lengths_that_it_states() {
        assert_eq!(CLIENT_HELLO.len(), 5 + 0x33);
        assert_eq!(CLIENT_HELLO.len(), 5 + 4 + 0x2f);
    }

    #[test]
    fn replies_are_told_apart_by_their_first_bytes() {
        assert!(
            is_tls(b"\x15\x03\x03\x00\x02\x02\x28") && is_tls(b"\x16\x03\x03\x00\x7a") && !is_tls(b"+PONG")
        );
        for (reply, quoted) in [
            (
                &b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n"[..],
                Some("an HTTP server: it answers \"HTTP/1.1 400 Bad Request\""),
            ),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Some("\"SSH-2.0-OpenSSH_9.2\"")),
            (b"\xff\0", Some("no Redis server")),
            (b"-NOAUTH", None),
            (b"\x15\x03\x03", None),
        ] {
            let found = other_protocol(reply).map(|(_, cause)| cause);
            assert_eq!(found.is_some(), quoted.is_some(), "{found:?}");
            assert!(found.as_deref().unwrap_or_default().contains(quoted.unwrap_or_default()), "{found:?}");
        }
    }
}

//! Owns the claim of a store on the marker of a replay queue, and the server's reply to it. Does no I/O.

use redis::Value;

use crate::backend::redis::failure::{Failure, FailureKind, Stage};
use crate::backend::redis::replay::outcome::marker_number;
use crate::backend::redis::wire::replies;
use crate::key::Key;

/// A marker, and the store that claims to be its holder.
pub(crate) struct ClaimedMarker {
    pub(crate) key: Key<'static>,
    pub(crate) holder: u128,
}

/// What became of a claim.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum MarkerClaim {
    /// The number that the marker holds, and whether there was no marker before.
    Held { done: u64, was_absent: bool },
    /// The number that the marker holds. Its holder is unknown to the caller's files: one of the two stores has a copy
    /// of them.
    HeldByAnother { done: u64 },
}

impl MarkerClaim {
    pub(crate) fn read(reply: Value) -> Result<Self, Failure> {
        let parts = replies::array(reply)?;
        let [done, made, other] = parts.as_slice() else {
            return Err(malformed());
        };
        let done = marker_number(done).ok_or_else(malformed)?;
        Ok(if replies::text(other) == Some("") {
            Self::Held { done, was_absent: replies::text(made) == Some("1") }
        } else {
            Self::HeldByAnother { done }
        })
    }
}

fn malformed() -> Failure {
    Failure::new(FailureKind::Protocol, Stage::InDoubt, "the reply about a marker cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_succeeds_or_names_another_holder() {
        let read = |text: &[u8]| MarkerClaim::read(redis::parse_redis_value(text).unwrap());
        for (text, claim) in [
            (&b"*3\r\n$1\r\n7\r\n$1\r\n1\r\n$0\r\n\r\n"[..], MarkerClaim::Held { done: 7, was_absent: true }),
            (b"*3\r\n$1\r\n7\r\n$0\r\n\r\n$0\r\n\r\n", MarkerClaim::Held { done: 7, was_absent: false }),
            (b"*3\r\n$1\r\n7\r\n$0\r\n\r\n$2\r\nab\r\n", MarkerClaim::HeldByAnother { done: 7 }),
        ] {
            assert_eq!(read(text).unwrap(), claim);
        }
        assert_eq!(read(b"*1\r\n$1\r\n7\r\n").unwrap_err().kind, FailureKind::Protocol);
        assert_eq!(read(b"-NOPERM no\r\n").unwrap_err().kind, FailureKind::Denied);
    }
}

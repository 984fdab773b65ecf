//! Owns what the server's replies to a mutation of a lock or a permit mean. Does no I/O.

use redis::Value;

use crate::backend::redis::failure::Failure;
use crate::backend::redis::wire::replies::{parsed, parts, text};
use crate::op::{Grant, Hold, LockAction, Permit, Reply};

/// Reads the reply to a mutation of a lock.
pub(crate) fn lock_reply(action: &LockAction, reply: Value) -> Result<Reply, Failure> {
    Ok(match action {
        LockAction::Lock { .. } => Reply::Granted(granted(reply)?),
        LockAction::Permit { .. } => Reply::Permit(permit(reply)?),
        LockAction::Extend { .. } | LockAction::Unlock { .. } => Reply::Hold(hold(reply)?),
    })
}

/// Reads the reply to an attempt to take a lock.
pub(crate) fn granted(reply: Value) -> Result<Option<Grant>, Failure> {
    match parts(reply)? {
        None => Ok(None),
        Some([token, until]) => Ok(Some(grant(&token, &until)?)),
    }
}

fn permit(reply: Value) -> Result<Option<Permit>, Failure> {
    match parts(reply)? {
        None => Ok(None),
        Some([number, token, until]) => {
            Ok(Some(Permit { number: parsed(&number)?, grant: grant(&token, &until)? }))
        }
    }
}

fn grant(token: &Value, until: &Value) -> Result<Grant, Failure> {
    Ok(Grant { token: parsed(token)?, until: parsed(until)? })
}

fn hold(reply: Value) -> Result<Hold, Failure> {
    let Some([state, until]) = parts(reply)? else {
        return Err(Failure::unexpected_reply(&Value::Nil));
    };
    match text(&state) {
        Some("held") => Ok(Hold::Held { until: parsed(&until)? }),
        Some("taken_by_another") => Ok(Hold::TakenByAnother),
        Some("expired") => Ok(Hold::Expired),
        Some("not_held") => Ok(Hold::NotHeld),
        _ => Err(Failure::unexpected_reply(&state)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backend::redis::failure::FailureKind;
    use crate::clock::Millis;

    #[test]
    fn each_reply_is_read_and_any_other_is_an_error() {
        let ttl = Millis::new(Duration::from_secs(1)).unwrap();
        let grant = Grant { token: 7, until: 9 };
        let array = |parts: &[&str]| {
            Value::Array(parts.iter().map(|part| Value::BulkString(part.as_bytes().to_vec())).collect())
        };
        let held = |until| Reply::Hold(Hold::Held { until });
        let permit = LockAction::Permit { most: 3, ttl };
        for (action, reply, expected) in [
            (LockAction::Lock { ttl }, Value::Nil, Reply::Granted(None)),
            (LockAction::Lock { ttl }, array(&["7", "9"]), Reply::Granted(Some(grant))),
            (permit.clone(), Value::Nil, Reply::Permit(None)),
            (permit, array(&["2", "7", "9"]), Reply::Permit(Some(Permit { number: 2, grant }))),
            (LockAction::Extend { grant, ttl }, array(&["held", "9007199254740991"]), held((1 << 53) - 1)),
            (
                LockAction::Unlock { grant },
                array(&["taken_by_another", ""]),
                Reply::Hold(Hold::TakenByAnother),
            ),
            (LockAction::Unlock { grant }, array(&["expired", ""]), Reply::Hold(Hold::Expired)),
            (LockAction::Unlock { grant }, array(&["not_held", ""]), Reply::Hold(Hold::NotHeld)),
        ] {
            assert_eq!(lock_reply(&action, reply).ok().as_ref(), Some(&expected));
            for other in [array(&[]), array(&["7"]), array(&["7", "x"]), array(&["7", "9", "9", "9"])] {
                let failure = lock_reply(&action, other).unwrap_err();
                assert_eq!(failure.kind, FailureKind::Protocol, "instead of {expected:?}");
            }
        }
    }
}

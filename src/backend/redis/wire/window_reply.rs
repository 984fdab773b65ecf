//! Owns what the server's replies about a sliding window mean. Does no I/O.

use redis::Value;

use crate::backend::redis::failure::Failure;
use crate::backend::redis::wire::queries;
use crate::backend::redis::wire::replies::{array, number, parsed};
use crate::op::{WindowAdd, WindowBuckets, WindowSum};

/// Reads the reply to an addition: the time, whether it was added, and the buckets.
pub(crate) fn added(add: &WindowAdd, reply: Value) -> Result<WindowSum, Failure> {
    let mut parts = array(reply)?.into_iter();
    let mut next = || parts.next().ok_or_else(|| Failure::unexpected_reply(&Value::Nil));
    let (now, is_added) = (parsed(&next()?)?, number(next()?)? == 1);
    let fields = queries::map(parts.collect())?;
    let buckets = WindowBuckets::read(add.width, now, &fields);
    Ok(buckets.ok_or_else(|| Failure::unexpected_reply(&Value::Nil))?.outcome(add, is_added))
}

/// Reads the time in milliseconds from the reply to TIME.
pub(crate) fn time(reply: Value) -> Result<u64, Failure> {
    let [seconds, micros] = <[Value; 2]>::try_from(array(reply)?)
        .map_err(|parts| Failure::unexpected_reply(&Value::Array(parts)))?;
    let (seconds, micros): (u64, u64) = (parsed(&seconds)?, parsed(&micros)?);
    Ok(seconds.saturating_mul(1000).saturating_add(micros / 1000))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Millis;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn an_addition_replies_with_the_time_and_the_buckets() {
        let width = Millis::new(Duration::from_millis(60)).unwrap();
        let add = WindowAdd { width, at: None, by: 1, limit: Some(5) };
        let reply = |added| {
            Value::Array(vec![bulk("100"), Value::Int(added), bulk("90"), bulk("3"), bulk("100"), bulk("2")])
        };
        let expected = WindowSum { is_added: true, sum: 5, retry_after: 0 };
        assert_eq!(added(&add, reply(1)).unwrap(), expected);
        let expected = WindowSum { is_added: false, sum: 5, retry_after: 50 };
        assert_eq!(added(&add, reply(0)).unwrap(), expected);
        for bad in [Value::Nil, Value::Array(vec![]), Value::Array(vec![bulk("x"), Value::Int(1)])] {
            assert!(added(&add, bad).is_err());
        }
        let odd = Value::Array(vec![bulk("100"), Value::Int(1), bulk("90")]);
        assert!(added(&add, odd).is_err());
        assert_eq!(time(Value::Array(vec![bulk("7"), bulk("8999")])).unwrap(), 7008);
        assert!(time(Value::Array(vec![bulk("7")])).is_err());
    }
}

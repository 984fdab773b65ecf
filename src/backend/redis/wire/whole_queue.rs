//! Owns how a queue on the server becomes one as a whole: what is leased, returned and delayed is stored beside it, as the
//! scripts `lease.lua` and `push_delayed.lua` describe. Does no I/O.

use hashbrown::HashMap;

use crate::bytes::Bytes;
use crate::json;
use crate::op::WholeQueue;
use crate::value::{Form, Value};

/// A member of the set of delayed values begins with a number of so many digits.
pub(crate) const DELAYED_NUMBER: usize = 16;

/// The newest record is looked for among so many values behind the first one, as `lease.lua` does.
const MOST_PUSHED_BEFORE: usize = 8;

/// What the server holds of a queue.
pub(crate) struct QueueParts {
    /// The list.
    pub(crate) waiting: Vec<Bytes>,
    /// The ids of the leases.
    pub(crate) lease_ids: Vec<Bytes>,
    /// The ids and the values of the leases, in turn.
    pub(crate) leased: Vec<Bytes>,
    /// The records of returned values, the newest first.
    pub(crate) records: Vec<Bytes>,
    /// When they are due, in microseconds, and the members of the set.
    pub(crate) delayed: Vec<(u64, Bytes)>,
}

/// Returns a value that any program may have written.
pub(crate) fn stored(bytes: Bytes) -> Value {
    let form = if json::is_text(&bytes) { Form::Json } else { Form::Raw };
    Value::new(bytes, form)
}

/// Returns the queue, and how many of its values are under lease.
pub(crate) fn whole_queue(parts: QueueParts) -> (WholeQueue, usize) {
    let mut values = leased_values(&parts.lease_ids, parts.leased);
    let leased = values.len();
    values.extend(waiting_values(parts.waiting, &parts.records));
    let delayed = parts.delayed.into_iter().filter_map(|(due, member)| {
        let value = member.get(DELAYED_NUMBER..)?;
        Some((due.div_ceil(1000), stored(Bytes::from(value))))
    });
    (WholeQueue { values, delayed: delayed.collect() }, leased)
}

/// Returns the values under lease, in the order in which they were leased, each as if its lease had just ended.
fn leased_values(ids: &[Bytes], leased: Vec<Bytes>) -> Vec<Value> {
    let mut of_id = HashMap::new();
    let mut leased = leased.into_iter();
    while let (Some(id), Some(value)) = (leased.next(), leased.next()) {
        of_id.insert(id, value);
    }
    let mut values: Vec<(u64, Value)> = ids
        .iter()
        .filter_map(|id| {
            let (attempts, number) = read_id(id);
            Some((number, Value { returns: attempts, ..stored(of_id.remove(id)?) }))
        })
        .collect();
    values.sort_by_key(|(number, _)| *number);
    values.into_iter().map(|(_, value)| value).collect()
}

/// Reads the id of a lease: how often the value was leased, an `x`, and a number that grows. At first only the number.
fn read_id(id: &[u8]) -> (u32, u64) {
    let text = std::str::from_utf8(id).unwrap_or_default();
    let (attempts, number) = text.split_once('x').unwrap_or(("1", text));
    (attempts.parse().unwrap_or(1), number.parse().unwrap_or(0))
}

/// Returns the values of the list, each with the number of its returns, where a record holds. It follows what `lease.lua`
/// would find if it leased one value after another.
fn waiting_values(waiting: Vec<Bytes>, records: &[Bytes]) -> Vec<Value> {
    let mut values: Vec<Value> = waiting.into_iter().map(stored).collect();
    let mut records = records.iter().map(|record| Record::read(record));
    let mut newest = records.next();
    for at in 0..values.len() {
        let Some(Some(record)) = &newest else { break };
        let Some(pushed_since) = (values.len() - at).checked_sub(record.length) else { break };
        let mut rest = values.iter_mut().skip(at);
        let Some(first) = rest.next() else { break };
        if record.is_of(&first.bytes) {
            first.returns = record.attempts;
            newest = records.next();
        } else if !rest.take(pushed_since.min(MOST_PUSHED_BEFORE)).any(|other| record.is_of(&other.bytes)) {
            break;
        }
    }
    values
}

/// What is recorded of a value that a lease has returned.
struct Record<'r> {
    attempts: u32,
    /// The length of the queue when the value was its first.
    length: usize,
    size: usize,
    digest: &'r str,
}

impl<'r> Record<'r> {
    fn read(record: &'r [u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(record).ok()?.split('|');
        let (attempts, length, size) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self {
            attempts: attempts.parse().ok()?,
            length: length.parse().ok()?,
            size: size.parse().ok()?,
            digest: parts.next()?,
        })
    }

    fn is_of(&self, value: &[u8]) -> bool {
        self.size == value.len() && sha1_smol::Sha1::from(value).digest().to_string() == self.digest
    }
}

/// Returns the records of a queue with these values, the newest first: `lease.lua` finds the returns of each value in
/// them. A value before a recorded one is recorded too, lest it is taken for that one.
pub(crate) fn records(values: &[Value]) -> Vec<String> {
    let recorded = values.iter().rposition(|value| value.returns > 0).map_or(0, |last| last + 1);
    let lengths = (1..=values.len()).rev();
    let records = values.iter().take(recorded).zip(lengths).map(|(value, length)| {
        let digest = sha1_smol::Sha1::from(&*value.bytes).digest();
        format!("{}|{length}|{}|{digest}", value.returns, value.bytes.len())
    });
    records.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn returned(text: &str, returns: u32) -> Value {
        Value { returns, ..Value::json(text.as_bytes()) }
    }

    #[test]
    fn leased_values_come_first_in_the_order_of_their_leases() {
        let all = |texts: &[&str]| texts.iter().map(|text| Bytes::from(text.as_bytes())).collect::<Vec<_>>();
        let parts = QueueParts {
            waiting: all(&["9"]),
            lease_ids: all(&["3x12", "10", "11"]),
            leased: all(&["10", "1", "3x12", "2", "gone", "3"]),
            records: Vec::new(),
            delayed: vec![
                (5_000, Bytes::from(&b"0000000000000001\"a\""[..])),
                (5_001, Bytes::from(&b"x"[..])),
            ],
        };
        let (queue, leased) = whole_queue(parts);
        assert_eq!(queue.values, [returned("1", 1), returned("2", 3), returned("9", 0)]);
        assert_eq!(leased, 2);
        assert_eq!(queue.delayed, [(5, returned("\"a\"", 0))]);
    }

    #[test]
    fn what_is_recorded_is_read_back() {
        for values in [
            vec![],
            vec![returned("1", 2)],
            vec![returned("1", 2), returned("1", 1), returned("1", 0)],
            vec![returned("1", 0), returned("1", 1), returned("2", 0)],
            vec![returned("1", 0), returned("2", 0), returned("3", 7)],
        ] {
            let written: Vec<Bytes> =
                records(&values).iter().map(|text| Bytes::from(text.as_bytes())).collect();
            let bytes = values.iter().map(|value| value.bytes.clone()).collect();
            assert_eq!(waiting_values(bytes, &written), values);
        }
    }

    #[test]
    fn a_record_counts_only_while_it_can_be_of_a_value() {
        let all = |texts: &[&str]| texts.iter().map(|text| Bytes::from(text.as_bytes())).collect::<Vec<_>>();
        let record = records(&[returned("1", 4), returned("2", 0)]).remove(0);
        let returns = |waiting: &[&str]| {
            let values = waiting_values(all(waiting), &all(&[&record]));
            values.iter().map(|value| value.returns).collect::<Vec<_>>()
        };
        assert_eq!(returns(&["1", "2"]), [4, 0]);
        assert_eq!(returns(&["1"]), [0], "values were taken away");
        assert_eq!(returns(&["3", "1", "2"]), [0, 4, 0], "a value was pushed before it");
        assert_eq!(returns(&["3", "4", "2"]), [0, 0, 0]);
    }
}

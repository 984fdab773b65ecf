//! Owns the text of operations that wait, as they lie in a file. Knows nothing of files.
//!
//! It is a format of its own: what it says stays readable whatever becomes of the types that it is made from.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::backend::fallback::queue::group::QueuedGroup;
use crate::backend::fallback::queue::queued_at::QueuedAt;
use crate::backend::redis::exactly_once::slots::CallId;
use crate::backend::redis::keys;
use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::backend::redis::replay::queued_op::{InDoubt, Observed, QueuedOp};
use crate::clock::Millis;
use crate::key::Key;
use crate::op::End;
use crate::value::{Form, Value};

/// What is done at once, and since when it waits, in milliseconds since 1970.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupRecord {
    since: u64,
    ops: Vec<OpRecord>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OpRecord {
    key: String,
    #[serde(rename = "do")]
    step: ActionRecord,
    seen: ObservedRecord,
    /// Where the server may have done it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    call: Option<CallRecord>,
}

/// The step of a call of which the server has a note: whose notes, in hexadecimal digits, and how it finds it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CallRecord {
    notes: String,
    born: u64,
    lane: u32,
    number: u64,
    place: usize,
}

/// An action, with times to live in milliseconds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum ActionRecord {
    Put { value: ValueRecord, ttl: Option<u64> },
    Update { value: ValueRecord },
    Delete,
    Incr { by: i64, ttl_if_created: Option<u64> },
    Expire { ttl: u64 },
    Persist,
    MapPut { fields: Vec<(String, ValueRecord)>, ttl_if_created: Option<u64> },
    MapDelete { field: String },
    MapIncr { field: String, by: i64, ttl_if_created: Option<u64> },
    Push { front: bool, values: Vec<ValueRecord>, ttl_if_created: Option<u64> },
    Pop { front: bool },
    Trim { most: u64 },
    Lease { id: String, left: Option<u64> },
}

/// The bytes of a value.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ValueRecord {
    /// JSON text from our own encoder.
    Json(String),
    /// Any other bytes, in base64.
    Raw(String),
}

/// What had been seen of the key; values by their SHA-1.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ObservedRecord {
    Value(String),
    Either(Vec<ObservedRecord>),
    Other,
    Absent,
    Assumed,
    Unknown,
    Own,
}

/// Encodes a group of operations.
pub(crate) fn write(pending: &QueuedGroup) -> Result<Vec<u8>, serde_json::Error> {
    let since = pending.queued.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    let ops = pending.ops.iter().map(|op| OpRecord {
        key: op.key.to_string(),
        step: ActionRecord::of(&op.action),
        seen: ObservedRecord::of(&op.observed),
        call: op.in_doubt.as_ref().map(CallRecord::of),
    });
    serde_json::to_vec(&GroupRecord { since: millis(since), ops: ops.collect() })
}

/// Reads what was written down, or says what is wrong with it. `now` is the time of the day.
pub(crate) fn read(text: &[u8], now: SystemTime) -> Result<QueuedGroup, String> {
    let GroupRecord { since, ops } = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let wall = UNIX_EPOCH.checked_add(Duration::from_millis(since)).ok_or("its time is out of range")?;
    let ops = ops.into_iter().map(|OpRecord { key, step, seen, call }| {
        if let Some(reason) = keys::queued_key_fault(&key) {
            return Err(format!("its key is not valid: {reason}"));
        }
        let told = call.map(CallRecord::told).transpose()?;
        Ok(QueuedOp { key: Key::listed(key), action: step.action()?, observed: seen.seen()?, in_doubt: told })
    });
    Ok(QueuedGroup::new(ops.collect::<Result<_, String>>()?, QueuedAt::in_earlier_run(wall, now)))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn ttl(millis: u64) -> Result<Millis, String> {
    Millis::new(Duration::from_millis(millis)).map_err(|error| error.to_string())
}

fn birth(millis: Option<u64>) -> Result<Option<Millis>, String> {
    millis.map(ttl).transpose()
}

impl ValueRecord {
    fn of(value: &Value) -> Self {
        match (value.form, std::str::from_utf8(&value.bytes)) {
            (Form::Json, Ok(text)) => Self::Json(text.to_owned()),
            _ => Self::Raw(BASE64.encode(&*value.bytes)),
        }
    }

    fn value(self) -> Result<Value, String> {
        match self {
            Self::Json(text) => Ok(Value::json(text.as_bytes())),
            Self::Raw(text) => {
                let bytes = BASE64.decode(text).map_err(|error| error.to_string())?;
                Ok(Value::raw(&bytes))
            }
        }
    }
}

impl ActionRecord {
    fn of(action: &QueuedAction) -> Self {
        let birth = |ttl: &Option<Millis>| ttl.map(Millis::get);
        match action {
            QueuedAction::Put { value, ttl } => Self::Put { value: ValueRecord::of(value), ttl: birth(ttl) },
            QueuedAction::PutIfPresent { value } => Self::Update { value: ValueRecord::of(value) },
            QueuedAction::Delete => Self::Delete,
            QueuedAction::Incr { by, ttl_if_created } => {
                Self::Incr { by: *by, ttl_if_created: birth(ttl_if_created) }
            }
            QueuedAction::Expire { ttl } => Self::Expire { ttl: ttl.get() },
            QueuedAction::Persist => Self::Persist,
            QueuedAction::MapPut { fields, ttl_if_created } => {
                let fields = fields.iter().map(|(name, value)| (name.to_string(), ValueRecord::of(value)));
                Self::MapPut { fields: fields.collect(), ttl_if_created: birth(ttl_if_created) }
            }
            QueuedAction::MapDelete { field } => Self::MapDelete { field: field.to_string() },
            QueuedAction::MapIncr { field, by, ttl_if_created } => {
                Self::MapIncr { field: field.to_string(), by: *by, ttl_if_created: birth(ttl_if_created) }
            }
            QueuedAction::Push { end, values, ttl_if_created } => Self::Push {
                front: *end == End::Front,
                values: values.iter().map(ValueRecord::of).collect(),
                ttl_if_created: birth(ttl_if_created),
            },
            QueuedAction::Pop { end } => Self::Pop { front: *end == End::Front },
            QueuedAction::Trim { most } => Self::Trim { most: *most },
            QueuedAction::SetLease { id, left } => Self::Lease { id: id.to_string(), left: birth(left) },
        }
    }

    fn action(self) -> Result<QueuedAction, String> {
        let end = |front: bool| if front { End::Front } else { End::Back };
        Ok(match self {
            Self::Put { value, ttl } => QueuedAction::Put { value: value.value()?, ttl: birth(ttl)? },
            Self::Update { value } => QueuedAction::PutIfPresent { value: value.value()? },
            Self::Delete => QueuedAction::Delete,
            Self::Incr { by, ttl_if_created } => {
                QueuedAction::Incr { by, ttl_if_created: birth(ttl_if_created)? }
            }
            Self::Expire { ttl: left } => QueuedAction::Expire { ttl: ttl(left)? },
            Self::Persist => QueuedAction::Persist,
            Self::MapPut { fields, ttl_if_created } => {
                let fields = fields.into_iter().map(|(name, value)| Ok((SmolStr::new(name), value.value()?)));
                let fields = fields.collect::<Result<_, String>>()?;
                QueuedAction::MapPut { fields, ttl_if_created: birth(ttl_if_created)? }
            }
            Self::MapDelete { field } => QueuedAction::MapDelete { field: field.into() },
            Self::MapIncr { field, by, ttl_if_created } => {
                QueuedAction::MapIncr { field: field.into(), by, ttl_if_created: birth(ttl_if_created)? }
            }
            Self::Push { front, values, ttl_if_created } => {
                let values = values.into_iter().map(ValueRecord::value).collect::<Result<_, _>>()?;
                QueuedAction::Push { end: end(front), values, ttl_if_created: birth(ttl_if_created)? }
            }
            Self::Pop { front } => QueuedAction::Pop { end: end(front) },
            Self::Trim { most } => QueuedAction::Trim { most },
            Self::Lease { id, left } => QueuedAction::SetLease { id: id.into(), left: birth(left)? },
        })
    }
}

impl CallRecord {
    fn of(told: &InDoubt) -> Self {
        let CallId { store_id: notes, cache_id: born, slot: lane, sequence: number } = told.call;
        Self { notes: format!("{notes:032x}"), born, lane, number, place: told.step }
    }

    fn told(self) -> Result<InDoubt, String> {
        let Self { notes, born, lane, number, place } = self;
        let notes = u128::from_str_radix(&notes, 16).map_err(|error| error.to_string())?;
        Ok(InDoubt::from_earlier_run(
            CallId { store_id: notes, cache_id: born, slot: lane, sequence: number },
            place,
        ))
    }
}

impl ObservedRecord {
    fn of(seen: &Observed) -> Self {
        match seen {
            Observed::Hash(sha) => Self::Value(BASE64.encode(sha)),
            Observed::AnyOf(all) => Self::Either(all.iter().map(Self::of).collect()),
            Observed::NotAValue => Self::Other,
            Observed::Absent => Self::Absent,
            Observed::AssumedAbsent => Self::Assumed,
            Observed::Nothing => Self::Unknown,
            Observed::OwnWrite => Self::Own,
        }
    }

    fn seen(self) -> Result<Observed, String> {
        let sha = |text: String| {
            let bytes = BASE64.decode(text).map_err(|error| error.to_string())?;
            <[u8; 20]>::try_from(bytes).map_err(|_| "a digest has not 20 bytes".to_owned())
        };
        Ok(match self {
            Self::Value(text) => Observed::Hash(sha(text)?),
            Self::Either(all) => Observed::AnyOf(all.into_iter().map(Self::seen).collect::<Result<_, _>>()?),
            Self::Other => Observed::NotAValue,
            Self::Absent => Observed::Absent,
            Self::Assumed => Observed::AssumedAbsent,
            Self::Unknown => Observed::Nothing,
            Self::Own => Observed::OwnWrite,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kind of step and of what was seen, as the format of version 1 has them. Never changed.
    const VERSION_1: [&str; 12] = [
        r#"{"since":1700000000000,"ops":[{"key":"a","do":{"put":{"value":{"json":"{\"n\":1}"},"ttl":null}},"seen":"unknown"}]}"#,
        r#"{"since":1700000000000,"ops":[{"key":"a","do":{"put":{"value":{"raw":"AP8="},"ttl":5000}},"seen":"absent"},{"key":"b","do":"delete","seen":"own"}]}"#,
        r#"{"since":1700000000000,"ops":[{"key":"a","do":{"update":{"value":{"json":"1"}}},"seen":"assumed"}]}"#,
        r#"{"since":1700000000000,"ops":[{"key":"a","do":{"incr":{"by":-7,"ttl_if_created":9}},"seen":{"value":"AAECAwQFBgcICQoLDA0ODxAREhM="}}]}"#,
        r#"{"since":1700000000000,"ops":[{"key":"a","do":{"expire":{"ttl":12}},"seen":{"either":["absent",{"value":"AAECAwQFBgcICQoLDA0ODxAREhM="}]}}]}"#,
        r#"{"since":1700000000000,"ops":[{"key":"a","do":"persist","seen":"other"}]}"#,
        r#"{"since":1700000000000,"ops":[{"key":"a","do":{"map_put":{"fields":[["f",{"json":"1"}]],"ttl_if_created":null}},"seen":"own"},{"key":"a","do":{"map_delete":{"field":"f"}},"seen":"own"}]}"#,
        r#"{"since":1700000000000,"ops":[{"key":"a","do":{"map_incr":{"field":"f","by":2,"ttl_if_created":null}},"seen":"own"}]}"#,
        r#"{"since":1700000000000,"ops":[{"key":"a","do":{"push":{"front":true,"values":[{"json":"1"},{"json":"2"}],"ttl_if_created":60000}},"seen":"own"}]}"#,
        r#"{"since":1700000000000,"ops":[{"key":"a","do":{"pop":{"front":false}},"seen":"own"},{"key":"a","do":{"trim":{"most":3}},"seen":"own"}]}"#,
        r#"{"since":1700000000000,"ops":[{"key":"a","do":{"pop":{"front":true}},"seen":"own","call":{"notes":"0123456789abcdef0123456789abcdef","born":7,"lane":1,"number":9,"place":0}}]}"#,
        r#"{"since":1700000000000,"ops":[{"key":"q:__millpond:leased","do":{"map_put":{"fields":[["7",{"json":"1"}]],"ttl_if_created":null}},"seen":"unknown"},{"key":"q:__millpond:leases","do":{"lease":{"id":"7","left":30000}},"seen":"unknown"},{"key":"q:__millpond:leases","do":{"lease":{"id":"6","left":null}},"seen":"own"}]}"#,
    ];

    #[test]
    fn the_format_is_read_and_written_as_it_was() {
        let now = UNIX_EPOCH + Duration::from_millis(1_700_000_001_500);
        for text in VERSION_1 {
            let pending = read(text.as_bytes(), now).unwrap();
            assert_eq!(String::from_utf8(write(&pending).unwrap()).unwrap(), text);
            assert!(pending.queued.age() >= Duration::from_millis(1500));
            assert!(pending.queued.age() < Duration::from_secs(60));
        }
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        let now = SystemTime::now();
        let known = VERSION_1[1];
        for end in 0..known.len() {
            assert!(read(&known.as_bytes()[..end], now).is_err(), "cut at {end}");
        }
        for (from, to) in [
            (r#""key":"a""#, r#""key":"""#),
            ("AP8=", "A"),
            ("5000", "0"),
            ("delete", "explode"),
            (r#""own""#, r#"{"value":"AAA="}"#),
        ] {
            assert!(read(known.replacen(from, to, 1).as_bytes(), now).is_err(), "{to}");
        }
    }
}

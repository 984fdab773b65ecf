//! Owns the text of queued operations in the queue's files. Knows nothing of files.
//!
//! INVARIANT: the format is frozen, whatever becomes of the types that it is made from: a queue that an earlier
//! version has written stays readable.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::backend::fallback::queue::group::QueuedGroup;
use crate::backend::fallback::queue::queued_at::QueuedAt;
use crate::backend::redis::keys;
use crate::backend::redis::replay::in_doubt::InDoubt;
use crate::backend::redis::replay::observed::Observed;
use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::backend::redis::replay::queued_op::QueuedOp;
use crate::backend::redis::slots::CallId;
use crate::clock::Millis;
use crate::key::Key;
use crate::op::{End, WindowAdd};
use crate::value::{Form, Value};

/// A group of operations that are applied at once, and when it was queued, in milliseconds since 1970.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupRecord {
    queued_at: u64,
    ops: Vec<OpRecord>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OpRecord {
    key: String,
    action: ActionRecord,
    observed: ObservedRecord,
    /// Set if the server may have applied it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    in_doubt: Option<InDoubtRecord>,
    /// How many calls of the program it stands for.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    calls: u64,
}

fn one() -> u64 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_one(calls: &u64) -> bool {
    *calls == 1
}

/// A step of a call that the server remembers in a reply cache. The store's id is in hexadecimal digits.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InDoubtRecord {
    store_id: String,
    cache_id: u64,
    slot: u32,
    sequence: u64,
    step: usize,
}

/// An action, with times to live in milliseconds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum ActionRecord {
    Put { value: ValueRecord, ttl: Option<u64> },
    PutIfPresent { value: ValueRecord },
    Delete,
    Incr { by: i64, ttl_if_created: Option<u64> },
    Expire { ttl: u64 },
    Renew { ttl: u64 },
    Persist,
    MapPut { fields: Vec<(String, ValueRecord)>, ttl_if_created: Option<u64> },
    MapDelete { field: String },
    MapIncr { field: String, by: i64, ttl_if_created: Option<u64> },
    Push { front: bool, values: Vec<ValueRecord>, ttl_if_created: Option<u64> },
    Pop { front: bool },
    Trim { most: u64 },
    WindowAdd { width: u64, at: Option<u64>, by: i64 },
    SetLease { id: String, left: Option<u64> },
}

/// The bytes of a value.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ValueRecord {
    /// JSON text from this crate's encoder.
    Json(String),
    /// Any other bytes, in base64.
    Raw(String),
}

/// What was last observed of the key. A value is its SHA-1 in base64.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ObservedRecord {
    Hash(String),
    AnyOf(Vec<ObservedRecord>),
    NotAValue,
    Absent,
    AssumedAbsent,
    Nothing,
    OwnWrite,
}

/// Encodes a group of operations.
pub(crate) fn write(group: &QueuedGroup) -> Result<Vec<u8>, serde_json::Error> {
    let queued_at = group.queued_at.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    let ops = group.ops.iter().map(OpRecord::from_op).collect();
    serde_json::to_vec(&GroupRecord { queued_at: millis(queued_at), ops })
}

/// Decodes a group of operations, or returns what is wrong with it. `now` is the wall clock.
pub(crate) fn read(text: &[u8], now: SystemTime) -> Result<QueuedGroup, String> {
    let GroupRecord { queued_at, ops } = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let wall = UNIX_EPOCH.checked_add(Duration::from_millis(queued_at)).ok_or("its time is out of range")?;
    let ops = ops.into_iter().map(OpRecord::into_op).collect::<Result<_, String>>()?;
    Ok(QueuedGroup::new(ops, QueuedAt::in_earlier_run(wall, now)))
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn parse_ttl(millis: u64) -> Result<Millis, String> {
    Millis::new(Duration::from_millis(millis)).map_err(|error| error.to_string())
}

fn parse_optional_ttl(millis: Option<u64>) -> Result<Option<Millis>, String> {
    millis.map(parse_ttl).transpose()
}

impl OpRecord {
    pub(super) fn from_op(op: &QueuedOp) -> Self {
        Self {
            key: op.key.to_string(),
            action: ActionRecord::from_action(&op.action),
            observed: ObservedRecord::from_observed(&op.observed),
            in_doubt: op.in_doubt.as_ref().map(InDoubtRecord::from_in_doubt),
            calls: op.calls,
        }
    }

    pub(super) fn into_op(self) -> Result<QueuedOp, String> {
        let Self { key, action, observed, in_doubt, calls } = self;
        if let Some(reason) = keys::queued_key_fault(&key) {
            return Err(format!("its key is not valid: {reason}"));
        }
        Ok(QueuedOp {
            key: Key::listed(key),
            action: action.into_action()?,
            observed: observed.into_observed()?,
            in_doubt: in_doubt.map(InDoubtRecord::into_in_doubt).transpose()?,
            calls,
        })
    }
}

impl ValueRecord {
    fn from_value(value: &Value) -> Self {
        match (value.form, std::str::from_utf8(&value.bytes)) {
            (Form::Json, Ok(text)) => Self::Json(text.to_owned()),
            _ => Self::Raw(BASE64.encode(&*value.bytes)),
        }
    }

    fn into_value(self) -> Result<Value, String> {
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
    fn from_action(action: &QueuedAction) -> Self {
        let millis = |ttl: &Option<Millis>| ttl.map(Millis::get);
        match action {
            QueuedAction::Put { value, ttl } => {
                Self::Put { value: ValueRecord::from_value(value), ttl: millis(ttl) }
            }
            QueuedAction::PutIfPresent { value } => {
                Self::PutIfPresent { value: ValueRecord::from_value(value) }
            }
            QueuedAction::Delete => Self::Delete,
            QueuedAction::Incr { by, ttl_if_created } => {
                Self::Incr { by: *by, ttl_if_created: millis(ttl_if_created) }
            }
            QueuedAction::Expire { ttl } => Self::Expire { ttl: ttl.get() },
            QueuedAction::Renew { ttl } => Self::Renew { ttl: ttl.get() },
            QueuedAction::Persist => Self::Persist,
            QueuedAction::MapPut { fields, ttl_if_created } => {
                let fields =
                    fields.iter().map(|(name, value)| (name.to_string(), ValueRecord::from_value(value)));
                Self::MapPut { fields: fields.collect(), ttl_if_created: millis(ttl_if_created) }
            }
            QueuedAction::MapDelete { field } => Self::MapDelete { field: field.to_string() },
            QueuedAction::MapIncr { field, by, ttl_if_created } => {
                Self::MapIncr { field: field.to_string(), by: *by, ttl_if_created: millis(ttl_if_created) }
            }
            QueuedAction::Push { end, values, ttl_if_created } => Self::Push {
                front: *end == End::Front,
                values: values.iter().map(ValueRecord::from_value).collect(),
                ttl_if_created: millis(ttl_if_created),
            },
            QueuedAction::Pop { end } => Self::Pop { front: *end == End::Front },
            QueuedAction::Trim { most } => Self::Trim { most: *most },
            QueuedAction::WindowAdd(WindowAdd { width, at, by, .. }) => {
                Self::WindowAdd { width: width.get(), at: *at, by: *by }
            }
            QueuedAction::SetLease { id, left } => Self::SetLease { id: id.to_string(), left: millis(left) },
        }
    }

    fn into_action(self) -> Result<QueuedAction, String> {
        let end = |front: bool| if front { End::Front } else { End::Back };
        Ok(match self {
            Self::Put { value, ttl } => {
                QueuedAction::Put { value: value.into_value()?, ttl: parse_optional_ttl(ttl)? }
            }
            Self::PutIfPresent { value } => QueuedAction::PutIfPresent { value: value.into_value()? },
            Self::Delete => QueuedAction::Delete,
            Self::Incr { by, ttl_if_created } => {
                QueuedAction::Incr { by, ttl_if_created: parse_optional_ttl(ttl_if_created)? }
            }
            Self::Expire { ttl } => QueuedAction::Expire { ttl: parse_ttl(ttl)? },
            Self::Renew { ttl } => QueuedAction::Renew { ttl: parse_ttl(ttl)? },
            Self::Persist => QueuedAction::Persist,
            Self::MapPut { fields, ttl_if_created } => {
                let fields =
                    fields.into_iter().map(|(name, value)| Ok((SmolStr::new(name), value.into_value()?)));
                let fields = fields.collect::<Result<_, String>>()?;
                QueuedAction::MapPut { fields, ttl_if_created: parse_optional_ttl(ttl_if_created)? }
            }
            Self::MapDelete { field } => QueuedAction::MapDelete { field: field.into() },
            Self::MapIncr { field, by, ttl_if_created } => QueuedAction::MapIncr {
                field: field.into(),
                by,
                ttl_if_created: parse_optional_ttl(ttl_if_created)?,
            },
            Self::Push { front, values, ttl_if_created } => {
                let values = values.into_iter().map(ValueRecord::into_value).collect::<Result<_, _>>()?;
                QueuedAction::Push {
                    end: end(front),
                    values,
                    ttl_if_created: parse_optional_ttl(ttl_if_created)?,
                }
            }
            Self::Pop { front } => QueuedAction::Pop { end: end(front) },
            Self::Trim { most } => QueuedAction::Trim { most },
            Self::WindowAdd { width, at, by } => {
                QueuedAction::WindowAdd(WindowAdd { width: parse_ttl(width)?, at, by, limit: None })
            }
            Self::SetLease { id, left } => {
                QueuedAction::SetLease { id: id.into(), left: parse_optional_ttl(left)? }
            }
        })
    }
}

impl InDoubtRecord {
    fn from_in_doubt(in_doubt: &InDoubt) -> Self {
        let CallId { store_id, cache_id, slot, sequence } = in_doubt.call;
        Self { store_id: format!("{store_id:032x}"), cache_id, slot, sequence, step: in_doubt.step }
    }

    fn into_in_doubt(self) -> Result<InDoubt, String> {
        let Self { store_id, cache_id, slot, sequence, step } = self;
        let store_id = u128::from_str_radix(&store_id, 16).map_err(|error| error.to_string())?;
        Ok(InDoubt::from_earlier_run(CallId { store_id, cache_id, slot, sequence }, step))
    }
}

impl ObservedRecord {
    fn from_observed(observed: &Observed) -> Self {
        match observed {
            Observed::Hash(sha) => Self::Hash(BASE64.encode(sha)),
            Observed::AnyOf(all) => Self::AnyOf(all.iter().map(Self::from_observed).collect()),
            Observed::NotAValue => Self::NotAValue,
            Observed::Absent => Self::Absent,
            Observed::AssumedAbsent => Self::AssumedAbsent,
            Observed::Nothing => Self::Nothing,
            Observed::OwnWrite => Self::OwnWrite,
        }
    }

    fn into_observed(self) -> Result<Observed, String> {
        let sha = |text: String| {
            let bytes = BASE64.decode(text).map_err(|error| error.to_string())?;
            <[u8; 20]>::try_from(bytes).map_err(|_| "a SHA-1 has 20 bytes".to_owned())
        };
        Ok(match self {
            Self::Hash(text) => Observed::Hash(sha(text)?),
            Self::AnyOf(all) => {
                Observed::AnyOf(all.into_iter().map(Self::into_observed).collect::<Result<_, _>>()?)
            }
            Self::NotAValue => Observed::NotAValue,
            Self::Absent => Observed::Absent,
            Self::AssumedAbsent => Observed::AssumedAbsent,
            Self::Nothing => Observed::Nothing,
            Self::OwnWrite => Observed::OwnWrite,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::fallback::queue::frozen_records::GROUPS;

    #[test]
    fn the_format_is_read_and_written_as_it_was() {
        let now = UNIX_EPOCH + Duration::from_millis(1_700_000_001_500);
        for text in GROUPS {
            let group = read(text.as_bytes(), now).unwrap();
            assert_eq!(String::from_utf8(write(&group).unwrap()).unwrap(), text);
            assert!(group.queued_at.age() >= Duration::from_millis(1500));
            assert!(group.queued_at.age() < Duration::from_secs(60));
        }
    }

    #[test]
    fn a_malformed_record_is_an_error() {
        let now = SystemTime::now();
        let valid = GROUPS[1];
        for end in 0..valid.len() {
            assert!(read(&valid.as_bytes()[..end], now).is_err(), "truncated at {end}");
        }
        for (from, to) in [
            (r#""key":"a""#, r#""key":"""#),
            ("AP8=", "A"),
            ("5000", "0"),
            ("delete", "explode"),
            (r#""own_write""#, r#"{"hash":"AAA="}"#),
        ] {
            assert!(read(valid.replacen(from, to, 1).as_bytes(), now).is_err(), "{to}");
        }
    }
}

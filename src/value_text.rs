//! Owns the text form of values, fields of maps and values of queues, in journals and exports alike. Knows nothing of the
//! lines around them.
//!
//! INVARIANT: the bytes are frozen together with those of the lines of both formats.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use smol_str::SmolStr;

use crate::value::{Form, Value};

pub(crate) fn push_text(line: &mut Vec<u8>, text: &str) {
    let plain = text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
    if plain {
        line.push(b'"');
        line.extend_from_slice(text.as_bytes());
        line.push(b'"');
    } else {
        // Writing a string to memory cannot fail.
        let _ = serde_json::to_writer(line, text);
    }
}

/// Writes a value as one field.
pub(crate) fn push_value(line: &mut Vec<u8>, value: &Value) {
    let bytes = &*value.bytes;
    let name = match value.form {
        Form::Json if is_embeddable(bytes) => {
            line.extend_from_slice(b"\"v\":");
            line.extend_from_slice(bytes);
            return;
        }
        Form::Json => b"\"j\":\"",
        Form::Raw => b"\"b\":\"",
    };
    line.extend_from_slice(name);
    let start = line.len();
    line.resize(start + bytes.len().div_ceil(3) * 4, 0);
    if let Ok(written) = BASE64.encode_slice(bytes, &mut line[start..]) {
        line.truncate(start + written);
    }
    line.push(b'"');
}

/// Whether a JSON text that is embedded in a line is read back byte for byte.
fn is_embeddable(json: &[u8]) -> bool {
    let is_solid = |byte: Option<&u8>| byte.is_some_and(|byte| !byte.is_ascii_whitespace());
    is_solid(json.first()) && is_solid(json.last()) && memchr::memchr(b'\n', json).is_none()
}

pub(crate) fn push_fields<'v>(
    line: &mut Vec<u8>,
    name: &str,
    fields: impl IntoIterator<Item = (&'v SmolStr, &'v Value)>,
) {
    push_list(line, name, fields, |line, (name, value)| push_field(line, name, value));
}

pub(crate) fn push_items<'v>(line: &mut Vec<u8>, name: &str, values: impl IntoIterator<Item = &'v Value>) {
    push_list(line, name, values, push_item);
}

/// Writes a field of a map as an object.
pub(crate) fn push_field(line: &mut Vec<u8>, name: &str, value: &Value) {
    line.extend_from_slice(b"{\"f\":");
    push_text(line, name);
    line.push(b',');
    push_part(line, value);
}

/// Writes a value of a queue as an object.
pub(crate) fn push_item(line: &mut Vec<u8>, value: &Value) {
    line.push(b'{');
    push_part(line, value);
}

/// Writes a delayed value of a queue as an object.
pub(crate) fn push_delayed(line: &mut Vec<u8>, due: u64, value: &Value) {
    line.extend_from_slice(b"{\"at\":");
    push_number(line, due);
    line.push(b',');
    push_part(line, value);
}

/// Ends the object of a value of a map or a queue.
fn push_part(line: &mut Vec<u8>, value: &Value) {
    push_value(line, value);
    if value.returns > 0 {
        line.extend_from_slice(b",\"n\":");
        push_number(line, value.returns.into());
    }
    line.push(b'}');
}

/// Writes a list of objects.
fn push_list<P>(
    line: &mut Vec<u8>,
    name: &str,
    parts: impl IntoIterator<Item = P>,
    push_part: impl Fn(&mut Vec<u8>, P),
) {
    line.extend_from_slice(name.as_bytes());
    for (index, part) in parts.into_iter().enumerate() {
        if index > 0 {
            line.push(b',');
        }
        push_part(line, part);
    }
    line.push(b']');
}

pub(crate) fn push_number(line: &mut Vec<u8>, number: u64) {
    line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// One field of a map.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FieldRecord<'a> {
    #[serde(borrow)]
    f: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    v: Option<&'a RawValue>,
    #[serde(borrow)]
    b: Option<&'a str>,
    #[serde(borrow)]
    j: Option<&'a str>,
    n: Option<u32>,
}

/// One value of a queue.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ItemRecord<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    v: Option<&'a RawValue>,
    #[serde(borrow)]
    b: Option<&'a str>,
    #[serde(borrow)]
    j: Option<&'a str>,
    n: Option<u32>,
}

/// One delayed value of a queue.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DelayedRecord<'a> {
    at: u64,
    #[serde(borrow, default, deserialize_with = "present")]
    v: Option<&'a RawValue>,
    #[serde(borrow)]
    b: Option<&'a str>,
    #[serde(borrow)]
    j: Option<&'a str>,
    n: Option<u32>,
}

/// Reads a present value, including `null`, which `Option` alone reads as absent.
pub(crate) fn present<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

pub(crate) fn pairs(fields: Vec<FieldRecord<'_>>) -> Result<Vec<(SmolStr, Value)>, String> {
    fields.into_iter().map(|FieldRecord { f, v, b, j, n }| Ok((SmolStr::new(f), part(v, b, j, n)?))).collect()
}

pub(crate) fn values(items: Vec<ItemRecord<'_>>) -> Result<Vec<Value>, String> {
    items.into_iter().map(|ItemRecord { v, b, j, n }| part(v, b, j, n)).collect()
}

pub(crate) fn delayed_values(items: Vec<DelayedRecord<'_>>) -> Result<Vec<(u64, Value)>, String> {
    items.into_iter().map(|DelayedRecord { at, v, b, j, n }| Ok((at, part(v, b, j, n)?))).collect()
}

fn part(
    v: Option<&RawValue>,
    b: Option<&str>,
    j: Option<&str>,
    returns: Option<u32>,
) -> Result<Value, String> {
    let value = value(v, b, j)?.ok_or("a part has no value")?;
    match returns {
        None => Ok(value),
        Some(0) => Err("a value that was returned never".into()),
        Some(returns) => Ok(Value { returns, ..value }),
    }
}

/// The value in one of three fields; `None` if all are absent.
pub(crate) fn value(v: Option<&RawValue>, b: Option<&str>, j: Option<&str>) -> Result<Option<Value>, String> {
    let decode = |text: &str| BASE64.decode(text).map_err(|error| error.to_string());
    Ok(match (v, b, j) {
        (None, None, None) => None,
        (Some(json), None, None) => Some(Value::json(json.get().as_bytes())),
        (None, Some(text), None) => Some(Value::raw(&decode(text)?)),
        (None, None, Some(text)) => Some(Value::json(&decode(text)?)),
        _ => return Err("it has more than one value".into()),
    })
}

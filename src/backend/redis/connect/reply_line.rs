//! Owns what the line of a reply says behind its first byte, and what a message of the server is that comes unasked. Does no
//! I/O.

use redis::{PushKind, Value};

/// The bytes are not of the protocol.
pub(crate) struct Malformed;

/// Reads a length; `None` for nil, which is -1.
pub(crate) fn length(text: &[u8]) -> Result<Option<u64>, Malformed> {
    match integer(text).ok_or(Malformed)? {
        -1 => Ok(None),
        length => u64::try_from(length).map(Some).map_err(|_| Malformed),
    }
}

pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    number(text)
}

pub(crate) fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Reads the text of an error. It may quote bytes of any kind.
pub(crate) fn error_reply(text: &[u8]) -> Option<Value> {
    let line = format!("-{}\r\n", String::from_utf8_lossy(text));
    redis::parse_redis_value(line.as_bytes()).ok()
}

/// Returns what the server told without being asked. Its first element names the kind.
pub(crate) fn push(mut elements: Vec<Value>) -> Value {
    let kind = match elements.first() {
        Some(Value::BulkString(kind)) if kind == b"invalidate" => PushKind::Invalidate,
        Some(Value::BulkString(kind)) => PushKind::Other(String::from_utf8_lossy(kind).into_owned()),
        Some(_) | None => PushKind::Other(String::new()),
    };
    elements.drain(..elements.len().min(1));
    Value::Push { kind, data: elements }
}

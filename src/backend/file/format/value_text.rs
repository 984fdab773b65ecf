//! Owns the bytes of one value and of a name in a line. Knows nothing of the change around them.
//!
//! INVARIANT: the bytes are frozen together with those of the lines, as `line::VERSION` of the format.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

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

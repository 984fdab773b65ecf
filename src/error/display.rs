//! Owns the texts of errors: what `{}` and `{:#}` print. Knows nothing of the code that raises them.

use std::error::Error as StdError;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::de::IgnoredAny;

use crate::error::{Error, Kind, LOGIN, LockLoss, StoreClosed};
use crate::text::shown;

/// What a poisoned store does, and what helps.
const POISONED: &str =
    "takes no more writes: a write to disk failed, or its files were taken away; open it again";

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Value => "value",
            Self::Map => "map",
            Self::Queue => "queue",
        })
    }
}

impl fmt::Display for LockLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "it expired",
            Self::TakenByAnother => "it was taken by another",
            Self::NotHeld => "it is not held",
        })
    }
}

impl fmt::Display for StoreClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is closed")
    }
}

impl StdError for StoreClosed {}

fn write_corrupt(
    f: &mut fmt::Formatter<'_>,
    path: &Path,
    (line, offset): (u64, u64),
    reason: &str,
) -> fmt::Result {
    let path = path.display();
    write!(
        f,
        "{path} is damaged at line {line} (byte {offset}): {reason}; FileStore::repair saves all undamaged entries"
    )
}

fn write_busy(f: &mut fmt::Formatter<'_>, name: &str, waited: Duration) -> fmt::Result {
    let waited = shown(waited);
    match name {
        "" => write!(f, "the gate is still in use after {waited}"),
        name => write!(f, "the lock {name:?} is still held by another after {waited}"),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_text(f)?;
        if f.alternate() { self.write_chain(f) } else { Ok(()) }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Encode { source, .. }
            | Self::Decode { source, .. }
            | Self::Unavailable { source, .. }
            | Self::Denied { source }
            | Self::Server { source, .. }
            | Self::Aborted(source) => Some(&**source),
            Self::Io { source, .. } | Self::StorageFull { source, .. } | Self::Stream { source, .. } => {
                Some(source)
            }
            Self::Partial { source, .. } => Some(&**source),
            Self::InvalidKey { .. }
            | Self::InvalidTtl { .. }
            | Self::InvalidConfig { .. }
            | Self::TooLarge { .. }
            | Self::WrongType { .. }
            | Self::NotAnInteger { .. }
            | Self::Overflow { .. }
            | Self::Full { .. }
            | Self::Corrupt { .. }
            | Self::InvalidExport { .. }
            | Self::Locked { .. }
            | Self::Poisoned { .. }
            | Self::Conflict { .. }
            | Self::Busy { .. }
            | Self::LockLost { .. }
            | Self::Unsupported { .. } => None,
        }
    }
}

impl Error {
    fn write_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidKey { key, reason } => write!(f, "invalid key {key:?}: {reason}"),
            Self::InvalidTtl { ttl } => {
                let ttl = shown(*ttl);
                write!(f, "invalid time to live {ttl}: it must be more than zero and at most 1000 years")
            }
            Self::InvalidConfig { field, reason } => write!(f, "invalid configuration of {field}: {reason}"),
            Self::TooLarge { key, bytes, limit } => {
                write!(
                    f,
                    "value for key {key:?} is too large: {bytes} bytes, {limit} are allowed (max_value_bytes)"
                )
            }
            Self::WrongType { key, expected, found } => {
                write!(f, "wrong kind under key {key:?}: expected a {expected}, found {}", found_text(*found))
            }
            Self::NotAnInteger { key } => write!(f, "value under key {key:?} is not an integer"),
            Self::Overflow { key } => {
                write!(f, "counter under key {key:?} would leave the range of a 64-bit integer")
            }
            Self::Encode { key, source } => {
                write!(f, "the value for key {key:?} cannot be written as JSON: {}", ReasonText(&**source))
            }
            Self::Decode { key, raw, .. } => {
                write!(f, "decoding the value under key {key:?}: it holds {}", content_text(raw))
            }
            Self::Io { action, path, source } => {
                write!(f, "{action} {} failed: {}", path.display(), ReasonText(source))
            }
            Self::StorageFull { path, .. } => write!(f, "no space left to write {}", path.display()),
            Self::Full { key, option, limit } => {
                write!(f, "the store is full: a write to key {key:?} would exceed {option} ({limit})")
            }
            Self::InvalidExport { line, reason } => {
                write!(f, "this is no whole export: line {line}: {reason}")
            }
            Self::Stream { action, source } => write!(f, "{action} the export failed: {source}"),
            Self::Corrupt { path, line, offset, reason } => write_corrupt(f, path, (*line, *offset), reason),
            Self::Locked { path, process } => {
                write!(f, "the store at {} is already open{}", path.display(), By(*process))
            }
            Self::Poisoned { path } => write!(f, "the store at {} {POISONED}", path.display()),
            Self::Unavailable { maybe_applied, source, .. } => {
                write!(f, "the store is unavailable: {}", ReasonText(&**source))?;
                f.write_str(if *maybe_applied { "; the operation may have been applied" } else { "" })
            }
            Self::Denied { source } => write!(f, "the server denied access: {}", ReasonText(&**source)),
            Self::Server { command, source } if command == LOGIN => write!(f, "{}", ReasonText(&**source)),
            Self::Server { command, source } => {
                write!(f, "the server failed to run {command}: {}", ReasonText(&**source))
            }
            Self::Conflict { key } => {
                write!(f, "gave up on key {key:?}: others kept changing it; nothing was changed")
            }
            Self::Busy { name, waited } => write_busy(f, name, *waited),
            Self::LockLost { name, how } => write!(f, "the lock {name:?} was lost: {how}"),
            Self::Aborted(source) => write!(f, "the transaction was aborted: {}", ReasonText(&**source)),
            Self::Partial { done: 1, source } => write!(f, "stopped after 1 entry was done: {source}"),
            Self::Partial { done, source } => write!(f, "stopped after {done} entries were done: {source}"),
            Self::Unsupported { what } => write!(f, "not supported: {what}"),
        }
    }

    /// Writes the texts of the sources. A text that the one before it quotes is left out.
    fn write_chain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.to_string();
        let mut source = StdError::source(self);
        while let Some(error) = source {
            let text = error.to_string();
            if !last.contains(&text) {
                write!(f, ": {text}")?;
                last = text;
            }
            source = error.source();
        }
        Ok(())
    }
}

/// Who has a store open, if that is known.
struct By(Option<u32>);

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(process) if process == std::process::id() => f.write_str(" by this process"),
            Some(process) => write!(f, " by process {process}"),
            None => Ok(()),
        }
    }
}

/// The reason of an error in its own text: the first line of the source.
struct ReasonText<'e>(&'e (dyn StdError + 'static));

impl fmt::Display for ReasonText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        f.write_str(text.lines().next().unwrap_or_default())
    }
}

fn found_text(found: Option<Kind>) -> &'static str {
    match found {
        Some(Kind::Value) => "a value",
        Some(Kind::Map) => "a map",
        Some(Kind::Queue) => "a queue",
        None => "something else",
    }
}

/// Says what bytes are that cannot be read as the type that was asked for.
fn content_text(raw: &[u8]) -> &'static str {
    if serde_json::from_slice::<IgnoredAny>(raw).is_err() {
        return "bytes, not JSON: use get_bytes";
    }
    match raw.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => "a JSON object, not the type that was asked for",
        Some(b'[') => "a JSON array, not the type that was asked for",
        Some(b'"') => "a JSON string, not the type that was asked for",
        Some(b't' | b'f') => "a JSON boolean, not the type that was asked for",
        Some(b'n') => "a JSON null, not the type that was asked for",
        Some(_) | None => "a JSON number, not the type that was asked for",
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_alternate_form_prints_the_chain_without_repeats() {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let unavailable =
            Error::Unavailable { maybe_applied: true, permanent: false, source: refused().into() };
        let one = "the store is unavailable: connection refused; the operation may have been applied";
        assert_eq!((unavailable.to_string(), format!("{unavailable:#}")), (one.to_owned(), one.to_owned()));
        let partial = Error::Partial { done: 1, source: Box::new(unavailable) };
        let stopped = format!("stopped after 1 entry was done: {one}");
        assert_eq!((partial.to_string(), format!("{partial:#}")), (stopped.clone(), stopped));
        let aborted = Error::abort(io::Error::other("not enough money"));
        let text = "the transaction was aborted: not enough money";
        assert_eq!((aborted.to_string(), format!("{aborted:#}")), (text.to_owned(), text.to_owned()));
        let long = Error::Unavailable { maybe_applied: false, permanent: false, source: "a\nb".into() };
        assert_eq!(long.to_string(), "the store is unavailable: a");
        assert_eq!(format!("{long:#}"), "the store is unavailable: a: a\nb");
    }
}

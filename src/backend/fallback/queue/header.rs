//! Owns the header of a queue's directory: what is known of the queue as a whole, as text. Knows nothing of files.

use serde::{Deserialize, Serialize};

/// The version of the format that is written. Version 1 had no `holders` and no kept outcomes.
const FORMAT: u32 = 2;
const OLDEST_FORMAT: u32 = 1;

/// At most this many holders are remembered.
const MAX_HOLDERS: usize = 1000;

/// The names of the fields are a part of the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    format: u32,
    /// The key prefix of the store on the server.
    pub(crate) prefix: String,
    /// The identity of the marker on the server, in hexadecimal digits.
    identity: String,
    /// The number of the last group that is known to be done on the server.
    pub(crate) done: u64,
    /// The number of the last group that was sent, and that the server may have done.
    pub(crate) sent: u64,
    /// Whether the marker was set on the server.
    pub(crate) has_marker: bool,
    /// The ids of the stores that had this directory open and may have noted themselves in the marker, in hexadecimal
    /// digits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    holders: Vec<String>,
}

/// The part of a header that every version has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl Header {
    /// The header of a queue of which nothing was sent.
    pub(crate) fn new(prefix: &str, identity: u128) -> Self {
        Self {
            format: FORMAT,
            prefix: prefix.to_owned(),
            identity: hex(identity),
            done: 0,
            sent: 0,
            has_marker: false,
            holders: Vec::new(),
        }
    }

    /// Reads a header of any version up to this one, or returns what is wrong with it.
    pub(crate) fn read(text: &[u8]) -> Result<Self, String> {
        let Format { format } = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if !(OLDEST_FORMAT..=FORMAT).contains(&format) {
            return Err("it was written by a newer version of millpond".to_owned());
        }
        let header: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        Ok(Self { format: FORMAT, ..header })
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        // Numbers and plain texts always make JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Returns the identity of the marker, or what is wrong with it.
    pub(crate) fn identity(&self) -> Result<u128, String> {
        parse(&self.identity)
    }

    /// Returns the ids of the holders, or what is wrong with them.
    pub(crate) fn holders(&self) -> Result<Vec<u128>, String> {
        self.holders.iter().map(|holder| parse(holder)).collect()
    }

    /// Returns the header once the groups up to a number are sent.
    pub(crate) fn with_sent(&self, sent: u64) -> Self {
        Self { sent: sent.max(self.sent), has_marker: true, ..self.clone() }
    }

    /// Returns the header once the groups up to a number are done.
    pub(crate) fn with_done(&self, done: u64) -> Self {
        Self { done, sent: self.sent.max(done), ..self.clone() }
    }

    /// Adds a holder. Returns `None` if the header has it already.
    pub(crate) fn with_holder(&self, holder: u128) -> Option<Self> {
        let holder = hex(holder);
        if self.holders.contains(&holder) {
            return None;
        }
        let mut header = self.clone();
        let excess = (header.holders.len() + 1).saturating_sub(MAX_HOLDERS);
        header.holders.drain(..excess);
        header.holders.push(holder);
        Some(header)
    }
}

fn hex(id: u128) -> String {
    format!("{id:032x}")
}

fn parse(id: &str) -> Result<u128, String> {
    u128::from_str_radix(id, 16).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION_1: &str =
        r#"{"format":1,"prefix":"t:","identity":"0f","done":2,"sent":3,"has_marker":true}"#;

    /// Frozen.
    const VERSION_2: &str = r#"{"format":2,"prefix":"t:","identity":"0000000000000000000000000000000f","done":2,"sent":3,"has_marker":true,"holders":["0000000000000000000000000000000a"]}"#;

    #[test]
    fn every_version_is_read_and_the_newest_is_written() {
        let old = Header::read(VERSION_1.as_bytes()).unwrap();
        assert_eq!((old.identity(), old.done, old.sent, old.holders()), (Ok(15), 2, 3, Ok(Vec::new())));
        let mut new = Header { done: 2, sent: 3, has_marker: true, ..Header::new("t:", 15) };
        new = new.with_holder(10).unwrap();
        assert_eq!(new.with_holder(10), None);
        assert_eq!(String::from_utf8(new.write()).unwrap(), VERSION_2);
        assert_eq!(Header::read(VERSION_2.as_bytes()), Ok(new));
    }

    #[test]
    fn a_header_of_a_newer_version_says_so() {
        let newer = r#"{"format":3,"something":"else"}"#;
        assert!(Header::read(newer.as_bytes()).unwrap_err().contains("newer version"));
        assert!(Header::read(b"{}").is_err());
    }

    #[test]
    fn the_oldest_holders_are_forgotten() {
        let mut header = Header::new("", 1);
        for holder in 0..2000 {
            header = header.with_holder(holder).unwrap();
        }
        assert_eq!(header.holders().unwrap(), (1000..2000).collect::<Vec<_>>());
    }
}

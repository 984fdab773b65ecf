//! Owns the copy of the replay queue in a directory, which outlives the program: a File store with one entry for each
//! queued group, and a header that says how far the replay is. Knows nothing of how operations are sent.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::backend::Backend;
use crate::backend::fallback::queue::codec;
use crate::backend::fallback::queue::group::QueuedGroup;
use crate::backend::file::store::File;
use crate::clock::Clock;
use crate::config::FileOptions;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{Op, Write};
use crate::store_clock::StoreClock;
use crate::value::Value;

const HEADER: &str = "header";
const GROUP_PREFIX: &str = "queued:";
const FORMAT: u32 = 1;

/// What is known of a queue as a whole. The names of its fields are a part of the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u32,
    /// The key prefix of the store on the server.
    prefix: String,
    /// The identity of the marker on the server, in hexadecimal digits.
    identity: String,
    /// The number of the last group that is known to be done on the server.
    done: u64,
    /// The number of the last group that was sent, and that the server may have done.
    sent: u64,
    /// Whether the marker was set on the server.
    has_marker: bool,
}

/// The directory of a queue.
pub(crate) struct QueueFile {
    store: File,
    path: PathBuf,
    header: Mutex<Header>,
}

/// What an earlier run of the program left.
pub(crate) struct Restored {
    pub(crate) identity: u128,
    pub(crate) done: u64,
    pub(crate) sent: u64,
    pub(crate) has_marker: bool,
    /// The queued groups, in order. The first one has the number after `done`.
    pub(crate) groups: Vec<QueuedGroup>,
}

impl Restored {
    pub(crate) fn nothing(identity: u128) -> Self {
        Self { identity, done: 0, sent: 0, has_marker: false, groups: Vec::new() }
    }
}

impl QueueFile {
    /// Opens the directory of a queue for the server's keys under `prefix`, or creates it with this identity.
    pub(crate) fn open(
        path: &Path,
        prefix: &str,
        identity: u128,
        options: &FileOptions,
        clock: &Arc<dyn Clock>,
    ) -> Result<(Self, Restored)> {
        let store = File::open(path, options, StoreClock::Trusted(Arc::clone(clock)), &mut |_| ())?;
        let fresh = Header {
            format: FORMAT,
            prefix: prefix.to_owned(),
            identity: format!("{identity:032x}"),
            done: 0,
            sent: 0,
            has_marker: false,
        };
        let file = Self { store, path: path.to_owned(), header: Mutex::new(fresh.clone()) };
        let (header, groups) = file.read(clock)?;
        if groups.is_empty() {
            // Nothing is left that could be done twice. With a new identity the queue may serve another prefix, and an
            // old copy of the directory, of which the server's marker knows more, can be used too.
            file.write_header(&fresh)?;
            return Ok((file, Restored::nothing(identity)));
        }
        if header.prefix == prefix {
            let identity = u128::from_str_radix(&header.identity, 16);
            let identity = identity.map_err(|error| file.corrupt(HEADER, error))?;
            let Header { done, sent, has_marker, .. } = header;
            *file.header.lock() = header;
            return Ok((file, Restored { identity, done, sent, has_marker, groups }));
        }
        Err(file.unusable(format!("its queued operations are for the key prefix {:?}", header.prefix)))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self, clock: &Arc<dyn Clock>) -> Result<(Header, Vec<QueuedGroup>)> {
        let keys = self.store.keys("", None, usize::MAX)?;
        let header = match self.store.get(&Key::listed(HEADER.to_owned()))? {
            Some(text) => {
                serde_json::from_slice::<Header>(&text).map_err(|error| self.corrupt(HEADER, error))?
            }
            None if keys.is_empty() => {
                let header = self.header.lock().clone();
                self.write_header(&header)?;
                header
            }
            None => return Err(self.unusable("it is the directory of a store, and not of a replay queue")),
        };
        if header.format != FORMAT {
            return Err(self.unusable("its replay queue was written by a newer version of millpond"));
        }
        let mut groups = Vec::new();
        for key in keys.iter().filter(|key| *key != HEADER) {
            let expected = group_key(header.done + 1 + groups.len() as u64);
            if **key != *expected {
                return Err(self.corrupt(key, format!("the next entry must be {:?}", &*expected)));
            }
            let text = self.store.get(&expected)?.unwrap_or_default();
            groups.push(codec::read(&text, clock.now()).map_err(|reason| self.corrupt(key, reason))?);
        }
        Ok((header, groups))
    }

    fn corrupt(&self, entry: &str, reason: impl std::fmt::Display) -> Error {
        self.unusable(format!("its entry {entry:?} cannot be read: {reason}"))
    }

    fn unusable(&self, reason: impl std::fmt::Display) -> Error {
        Error::invalid_config("redis.fallback", format!("{}: {reason}", self.path.display()))
    }

    /// Writes a group under its number, and replaces an earlier version of the group. Returns what
    /// [`wait_durable`](Self::wait_durable) must wait for.
    pub(crate) fn persist(&self, number: u64, group: &QueuedGroup) -> Result<u64> {
        let text = codec::write(group)
            .map_err(|error| Error::Encode { key: group_key(number).to_string(), source: error.into() })?;
        self.store.write(vec![put(group_key(number), &text)])
    }

    /// Returns when the write is as durable as the policy of the store asks for.
    pub(crate) fn wait_durable(&self, sequence: u64) -> Result<()> {
        self.store.wait_durable(sequence)
    }

    /// Records that the groups up to a number are about to be sent to the server, on which the marker is set by now.
    pub(crate) fn note_sent(&self, sent: u64) -> Result<()> {
        let mut header = self.header.lock();
        if header.sent >= sent && header.has_marker {
            return Ok(());
        }
        let noted = Header { sent: sent.max(header.sent), has_marker: true, ..header.clone() };
        self.store.write(vec![put_header(&noted)])?;
        // INVARIANT: this is on disk before the groups are sent, whatever the policy: if the server's marker is ahead of
        // the header, the directory is taken for an old copy.
        self.store.flush()?;
        *header = noted;
        Ok(())
    }

    /// Removes the groups up to a number, which are done.
    pub(crate) fn note_done(&self, done: u64) -> Result<()> {
        let mut header = self.header.lock();
        let noted = Header { done, sent: header.sent.max(done), ..header.clone() };
        let mut writes = vec![put_header(&noted)];
        let removed = header.done + 1..=done;
        writes.extend(removed.map(|number| Op { key: group_key(number), action: Write::Delete }));
        // This need not be on disk: the marker on the server records it too.
        self.store.write(writes)?;
        *header = noted;
        Ok(())
    }

    /// Returns when everything that was written is on disk.
    pub(crate) fn flush(&self) -> Result<()> {
        self.store.flush()
    }

    pub(crate) fn close(&self) -> Result<()> {
        self.store.close()
    }

    fn write_header(&self, header: &Header) -> Result<()> {
        let written = self.store.write(vec![put_header(header)])?;
        self.store.wait_durable(written)
    }
}

fn put_header(header: &Header) -> Op<'static, Write> {
    // Numbers and plain texts always make JSON.
    let text = serde_json::to_vec(header).unwrap_or_default();
    put(Key::listed(HEADER.to_owned()), &text)
}

fn put(key: Key<'static>, text: &[u8]) -> Op<'static, Write> {
    Op { key, action: Write::Put { value: Value::json(text), ttl: None } }
}

/// Returns the key of a group. Keys are listed in the order of the numbers.
fn group_key(number: u64) -> Key<'static> {
    Key::listed(format!("{GROUP_PREFIX}{number:020}"))
}

//! Owns the copy of the queue in a directory, which outlives the program: a store of files with one entry for
//! each thing that waits, and one that says how far it got. Knows nothing of how operations are sent.

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
use crate::value::Value;

const HEADER: &str = "head";
const WAITING: &str = "waiting:";
const FORMAT: u32 = 1;

/// What is known of a queue as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u32,
    /// What the keys on the server begin with.
    prefix: String,
    /// Whose marker on the server says how much is done, in hexadecimal digits.
    identity: String,
    /// The number of the last operation that is done there, as far as this knows.
    done: u64,
    /// The number of the last one that was sent, and may have been done.
    sent: u64,
    /// Whether there was a marker on the server.
    marked: bool,
}

/// A queue's directory.
pub(crate) struct QueueFile {
    store: File,
    path: PathBuf,
    header: Mutex<Header>,
}

/// What a program left behind when it ended.
pub(crate) struct Restored {
    pub(crate) identity: u128,
    pub(crate) done: u64,
    pub(crate) sent: u64,
    pub(crate) marked: bool,
    /// What waits, from the number behind `done` on.
    pub(crate) waiting: Vec<QueuedGroup>,
}

impl Restored {
    pub(crate) fn nothing(identity: u128) -> Self {
        Self { identity, done: 0, sent: 0, marked: false, waiting: Vec::new() }
    }
}

impl QueueFile {
    /// Opens the directory of a queue for the server's keys under `prefix`, or begins one with this identity.
    pub(crate) fn open(
        path: &Path,
        prefix: &str,
        identity: u128,
        options: &FileOptions,
        clock: &Arc<dyn Clock>,
    ) -> Result<(Self, Restored)> {
        let store = File::open(path, options, Arc::clone(clock), &mut |_| ())?;
        let fresh = Header {
            format: FORMAT,
            prefix: prefix.to_owned(),
            identity: format!("{identity:032x}"),
            done: 0,
            sent: 0,
            marked: false,
        };
        let journal = Self { store, path: path.to_owned(), header: Mutex::new(fresh.clone()) };
        let (head, waiting) = journal.read(clock)?;
        if waiting.is_empty() {
            // Nothing is left that could be done twice. As another queue it may serve another prefix, and also
            // where this is a copy that is older than what the server knows.
            journal.write_header(&fresh)?;
            return Ok((journal, Restored::nothing(identity)));
        }
        if head.prefix == prefix {
            let identity = u128::from_str_radix(&head.identity, 16);
            let identity = identity.map_err(|error| journal.corrupt(HEADER, error))?;
            let left = Restored { identity, done: head.done, sent: head.sent, marked: head.marked, waiting };
            *journal.header.lock() = head;
            return Ok((journal, left));
        }
        Err(journal.foreign(format!("what waits there is for the key prefix {:?}", head.prefix)))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self, clock: &Arc<dyn Clock>) -> Result<(Header, Vec<QueuedGroup>)> {
        let keys = self.store.keys("", None, usize::MAX)?;
        let head = match self.store.get(&Key::listed(HEADER.to_owned()))? {
            Some(text) => {
                serde_json::from_slice::<Header>(&text).map_err(|error| self.corrupt(HEADER, error))?
            }
            None if keys.is_empty() => {
                let head = self.header.lock().clone();
                self.write_header(&head)?;
                head
            }
            None => return Err(self.foreign("it holds a store, and not what waits for a server")),
        };
        if head.format != FORMAT {
            return Err(self.foreign("what waits there was written by a newer version"));
        }
        let mut waiting = Vec::new();
        for key in keys.iter().filter(|key| *key != HEADER) {
            let expected = name(head.done + 1 + waiting.len() as u64);
            if **key != *expected {
                return Err(self.corrupt(key, format!("{:?} was expected there", &*expected)));
            }
            let text = self.store.get(&expected)?.unwrap_or_default();
            waiting.push(codec::read(&text, clock.now()).map_err(|reason| self.corrupt(key, reason))?);
        }
        Ok((head, waiting))
    }

    fn corrupt(&self, entry: &str, reason: impl std::fmt::Display) -> Error {
        self.foreign(format!("its entry {entry:?} cannot be read: {reason}"))
    }

    fn foreign(&self, reason: impl std::fmt::Display) -> Error {
        Error::invalid_config("redis.fallback", format!("{}: {reason}", self.path.display()))
    }

    /// Writes down what waits under a number, also in the place of what was there. Tells what to wait for.
    pub(crate) fn persist(&self, number: u64, pending: &QueuedGroup) -> Result<u64> {
        let text = codec::write(pending)
            .map_err(|error| Error::Encode { key: name(number).to_string(), source: error.into() })?;
        self.store.write(vec![put(name(number), &text)])
    }

    /// Returns once what was written is as durable as it has to be.
    pub(crate) fn wait_durable(&self, sequence: u64) -> Result<()> {
        self.store.wait_durable(sequence)
    }

    /// Notes that operations up to a number are on their way to the server, which has a marker by now.
    pub(crate) fn note_sent(&self, sent: u64) -> Result<()> {
        let mut head = self.header.lock();
        if head.sent >= sent && head.marked {
            return Ok(());
        }
        let noted = Header { sent: sent.max(head.sent), marked: true, ..head.clone() };
        self.store.write(vec![head_put(&noted)])?;
        // Whatever the policy says: a server that knows of more than these files holds them for an old copy.
        self.store.flush()?;
        *head = noted;
        Ok(())
    }

    /// Takes out what is done, up to a number.
    pub(crate) fn note_done(&self, done: u64) -> Result<()> {
        let mut head = self.header.lock();
        let noted = Header { done, sent: head.sent.max(done), ..head.clone() };
        let mut writes = vec![head_put(&noted)];
        writes.extend((head.done + 1..=done).map(|number| Op { key: name(number), action: Write::Delete }));
        // It need not be on the disk: the marker on the server tells it too.
        self.store.write(writes)?;
        *head = noted;
        Ok(())
    }

    /// Returns once all that was written is on the disk.
    pub(crate) fn flush(&self) -> Result<()> {
        self.store.flush()
    }

    pub(crate) fn close(&self) -> Result<()> {
        self.store.close()
    }

    fn write_header(&self, head: &Header) -> Result<()> {
        let written = self.store.write(vec![head_put(head)])?;
        self.store.wait_durable(written)
    }
}

fn head_put(head: &Header) -> Op<'static, Write> {
    // Numbers and plain texts make JSON.
    let text = serde_json::to_vec(head).unwrap_or_default();
    put(Key::listed(HEADER.to_owned()), &text)
}

fn put(key: Key<'static>, text: &[u8]) -> Op<'static, Write> {
    Op { key, action: Write::Put { value: Value::json(text), ttl: None } }
}

/// Names what waits so that it is listed in order.
fn name(number: u64) -> Key<'static> {
    Key::listed(format!("{WAITING}{number:020}"))
}

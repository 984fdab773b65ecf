//! Owns the copy of the replay queue in a directory, which outlives the program: a File store with one entry for each
//! queued group, one for each outcome that the program has not asked for yet, and a header that says how far the
//! replay is. Knows nothing of how operations are sent.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::backend::Backend;
use crate::backend::fallback::queue::codec;
use crate::backend::fallback::queue::group::QueuedGroup;
use crate::backend::fallback::queue::header::Header;
use crate::backend::fallback::queue::outcome_index::{OUTCOME_PREFIX, OutcomeIndex};
use crate::backend::file::contents::{Contents, QUEUE_HEADER as HEADER};
use crate::backend::file::store::File;
use crate::backend::redis::replay::kept_outcome::{KeptOutcome, OutcomeKind};
use crate::clock::Clock;
use crate::config::FileOptions;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{Op, Write};
use crate::store_clock::StoreClock;
use crate::util::log_later::log_later;
use crate::value::Value;

const GROUP_PREFIX: &str = "queued:";

/// The directory of a queue.
pub(crate) struct QueueFile {
    store: File,
    path: PathBuf,
    header: Mutex<Header>,
    /// INVARIANT: this is locked while an outcome becomes known to the files and to the program, and while the program
    /// takes it: otherwise an outcome could be removed from the files before the program has it.
    outcomes: Mutex<OutcomeIndex>,
}

/// What an earlier run of the program left.
pub(crate) struct Restored {
    pub(crate) identity: u128,
    pub(crate) done: u64,
    pub(crate) sent: u64,
    pub(crate) has_marker: bool,
    /// The queued groups, in order. The first one has the number after `done`.
    pub(crate) groups: Vec<QueuedGroup>,
    /// The outcomes that the program has not asked for yet.
    pub(crate) outcomes: Vec<KeptOutcome>,
}

impl Restored {
    pub(crate) fn nothing(identity: u128) -> Self {
        Self { identity, done: 0, sent: 0, has_marker: false, groups: Vec::new(), outcomes: Vec::new() }
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
        let clock_of_files = StoreClock::Trusted(Arc::clone(clock));
        // What the files of the queue take is not counted as the store's.
        let recorder = Arc::default();
        let store = File::open(path, options, clock_of_files, &mut |_| (), Contents::ReplayQueue, recorder)?;
        let fresh = Header::new(prefix, identity);
        let header = Mutex::new(fresh.clone());
        let file = Self { store, path: path.to_owned(), header, outcomes: Mutex::default() };
        let (header, groups, outcomes) = file.read(clock)?;
        if header.prefix != prefix && !(groups.is_empty() && outcomes.is_empty()) {
            let reason = format!("its queued operations are for the key prefix {:?}", header.prefix);
            return Err(file.unusable(reason));
        }
        if groups.is_empty() {
            // Nothing is left that could be done twice. With a new identity the queue may serve another prefix, and an
            // old copy of the directory, of which the server's marker knows more, can be used too.
            file.write_header(&fresh)?;
            return Ok((file, Restored { outcomes, ..Restored::nothing(identity) }));
        }
        let identity = header.identity().map_err(|reason| file.corrupt(HEADER, reason))?;
        let Header { done, sent, has_marker, .. } = header;
        *file.header.lock() = header;
        Ok((file, Restored { identity, done, sent, has_marker, groups, outcomes }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self, clock: &Arc<dyn Clock>) -> Result<(Header, Vec<QueuedGroup>, Vec<KeptOutcome>)> {
        let keys = self.store.keys("", None, usize::MAX)?;
        let header = match self.store.get(&Key::listed(HEADER.to_owned()))? {
            Some(text) => Header::read(&text).map_err(|reason| self.corrupt(HEADER, reason))?,
            None if keys.is_empty() => {
                let header = self.header.lock().clone();
                self.write_header(&header)?;
                header
            }
            None => return Err(self.unusable("it is the directory of a store, and not of a replay queue")),
        };
        let (mut groups, mut outcomes) = (Vec::new(), Vec::new());
        for key in keys.iter().filter(|key| *key != HEADER) {
            let text = self.store.get(&Key::listed(key.clone()))?.unwrap_or_default();
            if key.starts_with(OUTCOME_PREFIX) {
                let kept = self.outcomes.lock().restore(key, &text);
                outcomes.push(kept.map_err(|reason| self.corrupt(key, reason))?);
                continue;
            }
            let expected = group_key(header.done + 1 + groups.len() as u64);
            if **key != *expected {
                return Err(self.corrupt(key, format!("the next entry must be {:?}", &*expected)));
            }
            groups.push(codec::read(&text, clock.now()).map_err(|reason| self.corrupt(key, reason))?);
        }
        Ok((header, groups, outcomes))
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
        self.store.write(vec![put_group(number, group)?])
    }

    /// Returns when the write is as durable as the policy of the store asks for.
    pub(crate) fn wait_durable(&self, sequence: u64) -> Result<()> {
        self.store.wait_durable(sequence)
    }

    /// Records that a store is about to note itself in the marker as the holder of this queue. Returns the ids of all
    /// stores that had the directory open and may have done so.
    pub(crate) fn note_holder(&self, holder: u128) -> Result<Vec<u128>> {
        let mut header = self.header.lock();
        if let Some(noted) = header.with_holder(holder) {
            self.store.write(vec![put_header(&noted)])?;
            // INVARIANT: this is on disk before the marker has it, whatever the policy. Otherwise the directory would be
            // taken for a copy when it is opened again.
            self.store.flush()?;
            *header = noted;
        }
        header.holders().map_err(|reason| self.corrupt(HEADER, reason))
    }

    /// Records that the groups up to a number are about to be sent to the server, on which the marker is set by now.
    pub(crate) fn note_sent(&self, sent: u64) -> Result<()> {
        let mut header = self.header.lock();
        if header.sent >= sent && header.has_marker {
            return Ok(());
        }
        let noted = header.with_sent(sent);
        self.store.write(vec![put_header(&noted)])?;
        // INVARIANT: this is on disk before the groups are sent, whatever the policy: if the server's marker is ahead of
        // the header, the directory is taken for an old copy.
        self.store.flush()?;
        *header = noted;
        Ok(())
    }

    /// Removes the groups up to a number, which are done, and keeps these outcomes of them. Then calls `report`, also
    /// after an error.
    pub(crate) fn note_done(&self, done: u64, outcomes: &[KeptOutcome], report: impl FnOnce()) -> Result<()> {
        let mut header = self.header.lock();
        let noted = header.with_done(done);
        let mut writes = vec![put_header(&noted)];
        let removed = header.done + 1..=done;
        writes.extend(removed.map(|number| Op { key: group_key(number), action: Write::Delete }));
        // This need not be on disk: the marker on the server records it too.
        self.write_with_outcomes(writes, outcomes, report)?;
        *header = noted;
        Ok(())
    }

    /// Replaces groups, and keeps these outcomes of operations that were removed from them. Then calls `report`, also
    /// after an error.
    pub(crate) fn replace_groups<'g>(
        &self,
        groups: impl Iterator<Item = (u64, &'g QueuedGroup)>,
        outcomes: &[KeptOutcome],
        report: impl FnOnce(),
    ) -> Result<()> {
        let writes = groups.map(|(number, group)| put_group(number, group)).collect::<Result<Vec<_>>>();
        match writes {
            Ok(mut writes) => {
                // The header names the version of the format, which an older one may not have.
                writes.push(put_header(&self.header.lock()));
                self.write_with_outcomes(writes, outcomes, report)
            }
            Err(error) => {
                report();
                Err(error)
            }
        }
    }

    fn write_with_outcomes(
        &self,
        mut writes: Vec<Op<'static, Write>>,
        outcomes: &[KeptOutcome],
        report: impl FnOnce(),
    ) -> Result<()> {
        let mut index = self.outcomes.lock();
        let written = index.plan(outcomes).and_then(|(more, added)| {
            writes.extend(more);
            self.store.write(writes)?;
            index.add(added);
            Ok(())
        });
        report();
        written
    }

    /// Calls `lease`, by which the program gets all outcomes of a kind, and removes them from the files.
    pub(crate) fn take<R>(&self, kind: OutcomeKind, take: impl FnOnce() -> R) -> R {
        let mut index = self.outcomes.lock();
        let taken = take();
        self.remove(&mut index, kind);
        taken
    }

    /// Notes that the program has seen the uncertain outcomes. They are removed when the store is closed.
    pub(crate) fn note_uncertain_told(&self) {
        self.outcomes.lock().is_uncertain_told = true;
    }

    fn remove(&self, index: &mut OutcomeIndex, kind: OutcomeKind) {
        let writes = index.take(kind);
        if writes.is_empty() {
            return;
        }
        if let Err(error) = self.store.write(writes).and_then(|written| self.store.wait_durable(written)) {
            let path = self.path.display();
            log_later!(
                Warn,
                "cannot remove outcomes from the replay queue in {path}, so the next program gets them again: \
                 {error:#}"
            );
        }
    }

    /// Returns when everything that was written is on disk.
    pub(crate) fn flush(&self) -> Result<()> {
        self.store.flush()
    }

    pub(crate) fn close(&self) -> Result<()> {
        let mut index = self.outcomes.lock();
        if index.is_uncertain_told {
            self.remove(&mut index, OutcomeKind::Uncertain);
        }
        self.store.close()
    }

    fn write_header(&self, header: &Header) -> Result<()> {
        let written = self.store.write(vec![put_header(header)])?;
        self.store.wait_durable(written)
    }
}

fn put_header(header: &Header) -> Op<'static, Write> {
    put(Key::listed(HEADER.to_owned()), &header.write())
}

fn put_group(number: u64, group: &QueuedGroup) -> Result<Op<'static, Write>> {
    let text = codec::write(group)
        .map_err(|error| Error::Encode { key: group_key(number).to_string(), source: error.into() })?;
    Ok(put(group_key(number), &text))
}

fn put(key: Key<'static>, text: &[u8]) -> Op<'static, Write> {
    Op { key, action: Write::Put { value: Value::json(text), ttl: None } }
}

/// Returns the key of a group. Keys are listed in the order of the numbers.
fn group_key(number: u64) -> Key<'static> {
    Key::listed(format!("{GROUP_PREFIX}{number:020}"))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::backend::fallback::queue::frozen_records::{GROUPS, OUTCOMES};
    use crate::backend::fallback::queue::outcome_codec;
    use crate::clock::SystemClock;

    fn open(path: &Path) -> (QueueFile, Restored) {
        let (options, clock) = (FileOptions::default(), Arc::new(SystemClock) as Arc<dyn Clock>);
        QueueFile::open(path, "t:", 1, &options, &clock).unwrap()
    }

    fn fixture(version: &str) -> TempDir {
        let fixture =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(version).join("queue");
        let copy = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(fixture).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
        copy
    }

    fn assert_groups(groups: &[QueuedGroup], expected: &[&str]) {
        let texts: Vec<_> =
            groups.iter().map(|group| String::from_utf8(codec::write(group).unwrap()).unwrap()).collect();
        assert_eq!(texts, expected);
    }

    /// The directory holds the records of `GROUPS`, of which the server has applied two.
    #[test]
    fn a_queue_directory_of_version_1_is_opened() {
        let copy = fixture("queue_v1");
        let (queue, restored) = open(copy.path());
        let Restored { identity, done, sent, has_marker, groups, outcomes } = restored;
        assert_eq!((identity, done, sent, has_marker), (0x0123_4567_89ab_cdef, 2, 3, true));
        assert_groups(&groups, &GROUPS[2..]);
        assert!(outcomes.is_empty());
        assert_eq!(queue.note_holder(7).unwrap(), [7]);
        let kept: Vec<_> = OUTCOMES.map(|text| outcome_codec::read(text.as_bytes()).unwrap()).into();
        queue.note_done(4, &kept, || ()).unwrap();
        queue.close().unwrap();
        let (queue, restored) = open(copy.path());
        assert_eq!((restored.done, restored.outcomes.len()), (4, 4));
        assert_eq!(queue.note_holder(8).unwrap(), [7, 8]);
    }

    /// The directory holds the records of `GROUPS` and `OUTCOMES`, of which the server has applied two.
    #[test]
    fn a_queue_directory_of_version_2_is_opened() {
        let copy = fixture("queue_v2");
        let (queue, restored) = open(copy.path());
        let Restored { identity, done, sent, has_marker, groups, outcomes } = restored;
        assert_eq!((identity, done, sent, has_marker), (0x0123_4567_89ab_cdef, 2, 3, true));
        assert_groups(&groups, &GROUPS[2..]);
        let texts: Vec<_> = outcomes
            .iter()
            .map(|kept| String::from_utf8(outcome_codec::write(kept).unwrap()).unwrap())
            .collect();
        assert_eq!(texts, OUTCOMES);
        assert_eq!(queue.note_holder(7).unwrap(), [10, 7]);
    }

    #[test]
    fn outcomes_are_kept_until_they_are_taken() {
        use OutcomeKind::{Conflict, Rejected, Uncertain};
        let dir = tempfile::tempdir().unwrap();
        let kept: Vec<_> = OUTCOMES.map(|text| outcome_codec::read(text.as_bytes()).unwrap()).into();
        let kinds = |restored: Restored| restored.outcomes.iter().map(KeptOutcome::kind).collect::<Vec<_>>();
        let (queue, _) = open(dir.path());
        queue.replace_groups(std::iter::empty(), &kept, || ()).unwrap();
        drop(queue);
        let (queue, restored) = open(dir.path());
        assert_eq!(kinds(restored), [Rejected, Conflict, Conflict, Uncertain]);
        queue.take(Conflict, || ());
        drop(queue);
        let (queue, restored) = open(dir.path());
        assert_eq!(kinds(restored), [Rejected, Uncertain]);
        queue.close().unwrap();
        let (queue, restored) = open(dir.path());
        assert_eq!(kinds(restored), [Rejected, Uncertain], "nobody has seen the uncertain one");
        queue.note_uncertain_told();
        queue.close().unwrap();
        assert_eq!(kinds(open(dir.path()).1), [Rejected]);
    }
}

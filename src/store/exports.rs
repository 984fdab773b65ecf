//! Owns the documented group of exports: all entries of a namespace as one stream, and back.

use std::cell::Cell;
use std::io::{Read, Write};
use std::time::{Duration, UNIX_EPOCH};

use crate::backend::transfer::Transfer;
use crate::error::{Error, Result};
use crate::export::{ExportReader, ExportWriter};
use crate::exports::{ExportOptions, Exported, Import, Imported};
use crate::op::{Replaced, WholeContent, WholeEntry};
use crate::stats::counter::Operation;
use crate::store::state_store::{StateStore, on_backend};

/// So many bytes of entries are brought in at a time.
const CHUNK_BYTES: usize = 4 << 20;

/// # Export and import
///
/// An export holds all entries of a namespace, or of the whole store, as lines of JSON: values, maps, queues and the
/// receipts of [`process_once`](Self::process_once), with their times of expiry. Every variant writes the same format,
/// and every variant reads it.
///
/// - Keys are without the namespace, so an export of one namespace can be imported into another.
/// - Values under lease are exported as the first of their queue, in the order in which they were leased, and count as
///   returned by their lease. Delayed values stay delayed until the same time.
/// - Locks, permits and the last fencing token are not exported, and an import does not touch them.
/// - The export is from one instant, even if other threads write meanwhile: [`Exported::isolation`] says for which
///   writers. Writers wait for a moment only: at its beginning on Memory and File, for some milliseconds at its end on
///   Redis.
///
/// An import holds all entries in memory until it has checked them, and so does an export on Redis. On Memory and File an
/// export holds what changes while it runs, as it was: a slow writer of the program costs memory, and holds nobody up.
impl StateStore {
    /// Writes all entries of this namespace to `to`, and flushes it.
    ///
    /// `to` is written to in pieces of about 256 KiB.
    ///
    /// ```
    /// use millpond::{ExportOptions, Import, StateStore};
    ///
    /// let store = StateStore::memory();
    /// store.put("price:apples", 3)?;
    /// let mut saved = Vec::new();
    /// let exported = store.export(&mut saved, &ExportOptions::new())?;
    /// assert_eq!((exported.entries, exported.bytes), (1, saved.len() as u64));
    ///
    /// let other = StateStore::memory();
    /// other.import(&saved[..], Import::Replace)?;
    /// assert_eq!(other.get::<i32>("price:apples")?, Some(3));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Stream`](Error::Stream) if `to` fails. On Redis [`Unavailable`](Error::Unavailable) while the store is
    /// disconnected.
    pub fn export(&self, to: impl Write, options: &ExportOptions) -> Result<Exported> {
        let ExportOptions {} = options;
        let context = self.context();
        context.check_open()?;
        let scope = context.namespace.text();
        self.counted(Operation::Other, ("export", scope), || {
            let cut = on_backend!(self, backend => backend.cut(scope))?;
            let mut writer = ExportWriter::begin(to, cut.at, scope);
            for entry in cut.entries {
                writer.add(entry.key.strip_prefix(scope).unwrap_or(&entry.key), &entry)?;
            }
            let written = writer.finish()?;
            let created = UNIX_EPOCH + Duration::from_millis(cut.at);
            let (entries, bytes) = (written.entries, written.bytes);
            Ok(Exported { entries, bytes, created, isolation: cut.isolation })
        })
    }

    /// Brings the entries of an export into this namespace.
    ///
    /// The whole export is read and checked before anything changes. Entries whose time has passed are left out. An
    /// imported queue takes the place of the whole queue: its leases end, and their `ack` returns `false`.
    ///
    /// ```
    /// use millpond::{ExportOptions, Import, StateStore};
    ///
    /// let store = StateStore::memory();
    /// let (old, new) = (store.namespace("old"), store.namespace("new"));
    /// old.put("limit", 10)?;
    /// old.put("burst", 2)?;
    /// new.put("limit", 50)?;
    ///
    /// let mut saved = Vec::new();
    /// old.export(&mut saved, &ExportOptions::new())?;
    /// let imported = new.import(&saved[..], Import::KeepExisting)?;
    /// assert_eq!((imported.entries, imported.skipped), (1, 1));
    /// assert_eq!((new.get::<i32>("limit")?, new.get::<i32>("burst")?), (Some(50), Some(2)));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidExport`](Error::InvalidExport) if the bytes are not a whole export, [`Stream`](Error::Stream) if `from`
    /// fails, [`InvalidKey`](Error::InvalidKey) and [`TooLarge`](Error::TooLarge) if an entry breaks a rule of this
    /// store. Nothing has changed then. [`Partial`](Error::Partial) if some entries were brought in: not with
    /// [`Import::Replace`]. On Redis [`Unavailable`](Error::Unavailable) while the store is disconnected, and
    /// [`Unsupported`](Error::Unsupported) if [`Import::Replace`] would remove and write more than 20 000 keys together,
    /// if the database holds more than a million keys, or if neither the store nor its handle has a prefix.
    pub fn import(&self, from: impl Read, mode: Import) -> Result<Imported> {
        let context = self.context();
        context.check_open()?;
        let reader = ExportReader::begin(from, context.shared.max_value_bytes)?;
        self.bring_in("import", mode, reader)
    }

    /// Brings all entries of this namespace into another store, or into another namespace of this one.
    ///
    /// It does what an [`export`](Self::export) and an [`import`](Self::import) do, without the text in between.
    ///
    /// ```
    /// use millpond::{Import, StateStore};
    ///
    /// let store = StateStore::memory();
    /// store.put("visits", 7)?;
    /// let copy = StateStore::memory();
    /// assert_eq!(store.copy_to(&copy, Import::Replace)?.entries, 1);
    /// assert_eq!(copy.get::<u64>("visits")?, Some(7));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`import`](Self::import).
    pub fn copy_to(&self, other: &Self, mode: Import) -> Result<Imported> {
        let context = self.context();
        context.check_open()?;
        other.context().check_open()?;
        let scope = context.namespace.text();
        let cut = self.counted(
            Operation::Other,
            ("copy_to", scope),
            || on_backend!(self, backend => backend.cut(scope)),
        )?;
        let entries = cut.entries.map(|entry| {
            let key = entry.key.strip_prefix(scope).unwrap_or(&entry.key).into();
            Ok(WholeEntry { key, ..entry })
        });
        other.bring_in("copy_to", mode, entries)
    }

    /// Brings in entries whose keys are without the namespace.
    fn bring_in(
        &self,
        name: &'static str,
        mode: Import,
        entries: impl Iterator<Item = Result<WholeEntry>>,
    ) -> Result<Imported> {
        let namespace = &self.context().namespace;
        let seen = Cell::new(0);
        let mut entries = entries.map(|entry| {
            let entry = entry?;
            seen.set(seen.get() + 1);
            Ok(WholeEntry { key: namespace.imported(&entry.key)?, ..entry })
        });
        self.counted(Operation::Other, (name, namespace.text()), || match mode {
            Import::Replace => {
                let replaced = on_backend!(
                    self,
                    backend => backend.replace(namespace.text(), &mut entries)
                )?;
                let Replaced { removed, written } = replaced;
                Ok(Imported { entries: written, skipped: seen.get() - written, removed })
            }
            Import::Merge => self.merge(entries, false),
            Import::KeepExisting => self.merge(entries, true),
        })
    }

    fn merge(
        &self,
        entries: impl Iterator<Item = Result<WholeEntry>>,
        keep_existing: bool,
    ) -> Result<Imported> {
        // INVARIANT: all of it is read, and found whole, before anything changes.
        let mut rest = entries.collect::<Result<Vec<_>>>()?.into_iter().peekable();
        let (chunk, mut imported) = (self.context().shared.chunk, Imported::default());
        while rest.peek().is_some() {
            let (mut entries, mut bytes) = (Vec::new(), 0);
            while entries.len() < chunk
                && bytes < CHUNK_BYTES
                && let Some(entry) = rest.next()
            {
                bytes += weight(&entry);
                entries.push(entry);
            }
            for outcome in on_backend!(self, backend => backend.merge(entries, keep_existing)) {
                let done = imported.entries + imported.skipped;
                let is_written = outcome.map_err(|error| Error::partial(done, error))?;
                *(if is_written { &mut imported.entries } else { &mut imported.skipped }) += 1;
            }
        }
        Ok(imported)
    }
}

/// Returns about how many bytes an entry has.
fn weight(entry: &WholeEntry) -> usize {
    let content = match &entry.content {
        WholeContent::Value(value) => value.bytes.len(),
        WholeContent::Map(fields) => fields.iter().map(|(name, value)| name.len() + value.bytes.len()).sum(),
        WholeContent::Queue(queue) => {
            let delayed = queue.delayed.iter().map(|(_, value)| value);
            queue.values.iter().chain(delayed).map(|value| value.bytes.len()).sum()
        }
    };
    entry.key.len() + content
}

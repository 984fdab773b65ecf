//! Owns the documented group of batches: many entries at a time, in chunks, or all at once.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backend::Backend;
use crate::bytes::Bytes;
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::json;
use crate::key::Key;
use crate::op::{EntryAction, Op, Reply, Write};
use crate::stats::counter::Operation;
use crate::store::state_store::{StateStore, on_backend};
use crate::store::write_batch::WriteBatch;

/// # Batches
///
/// The `batch_*` operations take any number of entries and process them in chunks of 1000, or of
/// `redis.pipeline_batch_size` if that is larger. On Redis they are pipelined, `redis.pipeline_batch_size` commands
/// at a time; on File a chunk is one line of the journal. They are **not** atomic, and stop after the first chunk
/// in which something failed; [`write`](Self::write) is all or nothing.
impl StateStore {
    /// Reads the values of many keys, in the given order.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.batch_put([("price:apples", 3), ("price:pears", 4)])?;
    /// assert_eq!(store.batch_get(["price:pears", "price:plums"])?, [Some(4), None]);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get), for the first key that fails.
    pub fn batch_get<T: DeserializeOwned>(
        &self,
        keys: impl IntoIterator<Item: AsRef<str>>,
    ) -> Result<Vec<Option<T>>> {
        self.counted(Operation::Batch, ("batch_get", ""), || self.get_chunks(keys))
    }

    /// Sets many values, as [`put`](Self::put) does.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.batch_put((1..=5000).map(|n| (format!("reading:{n}"), n)))?;
    /// assert_eq!(store.count("reading:")?, 5000);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put); [`Partial`](Error::Partial) if some were set.
    pub fn batch_put<K: AsRef<str>, V: Serialize>(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Result<()> {
        self.put_chunks(entries, self.context().default_ttl())
    }

    /// Sets many values, each of which is gone after `ttl`.
    ///
    /// ```
    /// # use millpond::Ttl;
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// store.batch_put_with_ttl([("price:apples", 3), ("price:pears", 4)], Duration::from_secs(60))?;
    /// assert!(matches!(store.ttl("price:pears")?, Some(Ttl::In(_))));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`batch_put`](Self::batch_put), and [`InvalidTtl`](Error::InvalidTtl).
    pub fn batch_put_with_ttl<K: AsRef<str>, V: Serialize>(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
        ttl: Duration,
    ) -> Result<()> {
        self.put_chunks(entries, Some(Millis::new(ttl)?))
    }

    /// Removes many keys, and returns how many of them existed.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.batch_put([("session:7", 1), ("session:8", 1)])?;
    /// assert_eq!(store.batch_delete(["session:7", "session:9"])?, 1);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`delete`](Self::delete); [`Partial`](Error::Partial) if some were removed.
    pub fn batch_delete(&self, keys: impl IntoIterator<Item: AsRef<str>>) -> Result<u64> {
        self.count_chunks(keys, || EntryAction::Delete)
    }

    /// Sets the values of those keys that are absent, as [`set_if_not_exists`](Self::set_if_not_exists) does, and
    /// returns in the given order whether each was set. `ttl` is the time to live of the new entries, a `Duration` or
    /// an `Option` of one; `None` means `default_ttl`, or no limit. If a key is given several times, the first entry
    /// counts, and the others find it present.
    ///
    /// It checks and marks many events at once, on Redis in one round trip a chunk. Each key is a step of its own; see
    /// [`transaction`](Self::transaction) for a mark that is made together with the effect of its event.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// let day = Duration::from_secs(86_400);
    /// assert_eq!(store.batch_set_if_not_exists([("seen:17", 1), ("seen:18", 1)], day)?, [true, true]);
    /// let new = store.batch_set_if_not_exists([("seen:18", 1), ("seen:19", 1), ("seen:19", 1)], day)?;
    /// assert_eq!(new, [false, true, false]);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`set_if_not_exists`](Self::set_if_not_exists); [`Partial`](Error::Partial) if some keys were done. Then it is
    /// not known which of them this call has set. A [lost reply](crate::RedisStore#lost-replies) of Redis leaves keys in
    /// doubt too. If the values name their writer and its attempt, [`batch_get`](Self::batch_get) tells afterwards.
    #[must_use = "which values were set is the point of this operation"]
    pub fn batch_set_if_not_exists<K: AsRef<str>, V: Serialize>(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
        ttl: impl Into<Option<Duration>>,
    ) -> Result<Vec<bool>> {
        let ttl = self.context().ttl_or_default(ttl.into())?;
        let to_action = |key: &Key<'_>, value| {
            Ok(EntryAction::PutIfAbsent { value: self.context().encode(key, &value)?, ttl })
        };
        let mut were_set = Vec::new();
        self.apply_chunks(entries, to_action, |reply| {
            were_set.push(reply.flag()?);
            Ok(())
        })?;
        Ok(were_set)
    }

    /// Gives many entries a time to live of `ttl`, counted from now, and returns how many of them existed. A key that
    /// is given twice counts twice.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// store.batch_put([("session:7", 1), ("session:8", 1)])?;
    /// let hour = Duration::from_secs(3600);
    /// assert_eq!(store.batch_expire(["session:7", "session:9"], hour)?, 1);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`expire`](Self::expire); [`Partial`](Error::Partial) if some were done.
    pub fn batch_expire(&self, keys: impl IntoIterator<Item: AsRef<str>>, ttl: Duration) -> Result<u64> {
        let ttl = Millis::new(ttl)?;
        self.count_chunks(keys, || EntryAction::Expire { ttl })
    }

    /// Applies the writes of a batch, all or none, also across a crash. The keys belong to the namespace of this
    /// handle; a put without a time to live gets `default_ttl`.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// let mut batch = millpond::WriteBatch::new();
    /// batch.put("order:17", "paid")?.delete("cart:7")?;
    /// store.write(&batch)?; // never one without the other
    /// assert_eq!(store.get::<String>("order:17")?.as_deref(), Some("paid"));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidKey`](Error::InvalidKey), [`TooLarge`](Error::TooLarge).
    pub fn write(&self, batch: &WriteBatch) -> Result<()> {
        let context = self.context();
        context.check_open()?;
        let writes = batch.writes().iter().map(|(key, write)| {
            let key = context.namespace.key(key)?;
            let action = match write {
                Write::Delete => Write::Delete,
                Write::Put { value, ttl } => {
                    context.check_size(&key, value.bytes.len())?;
                    Write::Put { value: value.clone(), ttl: ttl.or(context.default_ttl()) }
                }
            };
            Ok(Op { key, action })
        });
        let writes = writes.collect::<Result<Vec<_>>>()?;
        if writes.is_empty() {
            return Ok(());
        }
        self.counted(Operation::Batch, ("write", ""), || on_backend!(self, backend => backend.commit(writes)))
    }

    fn get_chunks<T: DeserializeOwned>(
        &self,
        keys: impl IntoIterator<Item: AsRef<str>>,
    ) -> Result<Vec<Option<T>>> {
        let mut values = Vec::new();
        let mut keys = keys.into_iter();
        loop {
            let chunk: Vec<_> = keys.by_ref().take(self.context().shared.chunk).collect();
            if chunk.is_empty() {
                return Ok(values);
            }
            let chunk =
                chunk.iter().map(|key| self.context().key(key.as_ref())).collect::<Result<Vec<_>>>()?;
            let found = self.read_chunk(&chunk);
            self.recorder().count_batch(found.iter().flatten());
            for (key, found) in chunk.iter().zip(found) {
                values.push(json::decode_found(key, found?)?);
            }
        }
    }

    /// Reads some values, and renews their TTLs if reads of this handle do.
    fn read_chunk(&self, keys: &[Key<'_>]) -> Vec<Result<Option<Bytes>>> {
        let Some(ttl) = self.context().renewed_ttl else {
            return on_backend!(self, backend => backend.get_many(keys));
        };
        let renew = |key: &Key<'_>| Op { key: key.clone().into_owned(), action: EntryAction::Renew { ttl } };
        let ops = keys.iter().map(renew).collect();
        let replies = on_backend!(self, backend => backend.apply_each(ops));
        replies.into_iter().map(|reply| reply.and_then(Reply::found)).collect()
    }

    fn put_chunks<K: AsRef<str>, V: Serialize>(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
        ttl: Option<Millis>,
    ) -> Result<()> {
        let to_action =
            |key: &Key<'_>, value| Ok(EntryAction::Put { value: self.context().encode(key, &value)?, ttl });
        self.apply_chunks(entries, to_action, Reply::done)
    }

    /// Carries out the same action on many keys, and returns how many replies were `true`.
    fn count_chunks(
        &self,
        keys: impl IntoIterator<Item: AsRef<str>>,
        action: impl Fn() -> EntryAction,
    ) -> Result<u64> {
        let mut count = 0;
        let to_action = |_: &Key<'_>, ()| Ok(action());
        self.apply_chunks(keys.into_iter().map(|key| (key, ())), to_action, |reply| {
            count += u64::from(reply.flag()?);
            Ok(())
        })?;
        Ok(count)
    }

    /// Carries out any number of actions chunk by chunk, and passes each reply to `on_reply`. All actions of a
    /// chunk are built before the first of them is carried out.
    pub(crate) fn apply_chunks<K: AsRef<str>, P>(
        &self,
        parts: impl IntoIterator<Item = (K, P)>,
        to_action: impl FnMut(&Key<'_>, P) -> Result<EntryAction>,
        on_reply: impl FnMut(Reply) -> Result<()>,
    ) -> Result<()> {
        self.counted(Operation::Batch, ("batch", ""), || self.run_chunks(parts, to_action, on_reply))
    }

    fn run_chunks<K: AsRef<str>, P>(
        &self,
        parts: impl IntoIterator<Item = (K, P)>,
        mut to_action: impl FnMut(&Key<'_>, P) -> Result<EntryAction>,
        mut on_reply: impl FnMut(Reply) -> Result<()>,
    ) -> Result<()> {
        let mut parts = parts.into_iter();
        let mut done = 0;
        loop {
            let (keys, parts): (Vec<K>, Vec<P>) = parts.by_ref().take(self.context().shared.chunk).unzip();
            if keys.is_empty() {
                return Ok(());
            }
            let ops = keys.iter().zip(parts).map(|(key, part)| {
                let key = self.context().key(key.as_ref())?;
                let action = to_action(&key, part)?;
                Ok(Op { key, action })
            });
            let ops = ops.collect::<Result<Vec<_>>>().map_err(|error| Error::partial(done, error))?;
            let mut failed = None;
            for outcome in on_backend!(self, backend => backend.apply_each(ops)) {
                match outcome.and_then(&mut on_reply) {
                    Ok(()) => done += 1,
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            if let Some(error) = failed {
                return Err(Error::partial(done, error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::CHUNK;

    #[test]
    fn a_chunk_with_an_invalid_key_is_not_begun() {
        let store = StateStore::memory();
        let error = store.batch_put([("a", 1), ("", 2)]).unwrap_err();
        assert!(matches!(error, Error::InvalidKey { .. }), "{error}");
        assert!(store.is_empty().unwrap());
    }

    #[test]
    fn entries_done_before_an_error_are_counted() {
        let store = StateStore::memory();
        let keys = (0..CHUNK).map(|n| n.to_string()).chain([String::new()]);
        let error = store.batch_put(keys.map(|key| (key, 1))).unwrap_err();
        assert!(matches!(error, Error::Partial { done: 1000, .. }), "{error}");
    }
}

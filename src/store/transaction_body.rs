//! Owns [`Transaction`], what the closure of a transaction reads and writes with. Knows nothing of how its
//! writes are made.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeBounds;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backend::local::change::Change;
use crate::backend::local::overlay::Overlay;
use crate::bytes::Bytes;
use crate::clock::{Now, Ttl};
use crate::error::Result;
use crate::json;
use crate::key::Key;
use crate::op::{Answer, End, EntryAction, Op, Query, ReadSource, Reply};
use crate::store::context::Context;

/// What the closure of [`StateStore::transaction`](crate::StateStore::transaction) reads and writes with.
///
/// Its methods are those of the [`StateStore`](crate::StateStore) by the same names, with the same errors;
/// they see what the transaction itself has written, and nobody else sees that before its end.
pub struct Transaction<'t> {
    context: &'t Context,
    overlay: Overlay<'t>,
    now: &'t Now<'t>,
    first_key: Option<String>,
}

impl<'t> Transaction<'t> {
    pub(crate) fn new(context: &'t Context, base: &'t mut (dyn ReadSource + 't), now: &'t Now<'t>) -> Self {
        Self { context, overlay: Overlay::new(base, now), now, first_key: None }
    }

    /// The first key that it touched.
    pub(crate) fn first_key(&self) -> Option<&str> {
        self.first_key.as_deref()
    }

    pub(crate) fn into_changes(self) -> Vec<(Key<'static>, Change)> {
        self.overlay.into_changes()
    }

    fn run(&mut self, op: Op<'_>) -> Result<Reply> {
        self.touch_key(&op.key);
        self.overlay.apply(op)
    }

    fn touch_key(&mut self, key: &Key<'_>) {
        if self.first_key.is_none() {
            self.first_key = Some(key.to_string());
        }
    }

    fn ask<'k>(&mut self, key: &'k str, query: &Query) -> Result<(Key<'k>, Answer)> {
        let key = self.context.key(key)?;
        self.touch_key(&key);
        let answer = self.overlay.ask(&key, query)?;
        Ok((key, answer))
    }

    /// Runs an operation that hands a value out.
    fn fetch<T: DeserializeOwned>(&mut self, op: Op<'_>) -> Result<Option<T>> {
        let key = op.key.clone();
        json::decode_found(&key, self.run(op)?.found()?)
    }
}

/// # Values
#[expect(clippy::missing_errors_doc, reason = "as the method of `StateStore` by its name")]
impl Transaction<'_> {
    /// As [`StateStore::put`](crate::StateStore::put).
    pub fn put(&mut self, key: &str, value: impl Serialize) -> Result<()> {
        self.run(self.context.put(key, &value, None)?)?.done()
    }

    /// As [`StateStore::put_with_ttl`](crate::StateStore::put_with_ttl).
    pub fn put_with_ttl(&mut self, key: &str, value: impl Serialize, ttl: Duration) -> Result<()> {
        self.run(self.context.put(key, &value, Some(ttl))?)?.done()
    }

    /// As [`StateStore::put_bytes`](crate::StateStore::put_bytes).
    pub fn put_bytes(&mut self, key: &str, value: &[u8]) -> Result<()> {
        self.run(self.context.put_bytes(key, value, None)?)?.done()
    }

    /// As [`StateStore::put_bytes_with_ttl`](crate::StateStore::put_bytes_with_ttl).
    pub fn put_bytes_with_ttl(&mut self, key: &str, value: &[u8], ttl: Duration) -> Result<()> {
        self.run(self.context.put_bytes(key, value, Some(ttl))?)?.done()
    }

    /// As [`StateStore::get`](crate::StateStore::get).
    pub fn get<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>> {
        let (key, answer) = self.ask(key, &Query::Value)?;
        json::decode_found(&key, answer.found()?)
    }

    /// As [`StateStore::get_bytes`](crate::StateStore::get_bytes).
    pub fn get_bytes(&mut self, key: &str) -> Result<Option<Bytes>> {
        self.ask(key, &Query::Value)?.1.found()
    }

    /// As [`StateStore::update`](crate::StateStore::update).
    pub fn update(&mut self, key: &str, value: impl Serialize) -> Result<bool> {
        self.run(self.context.update(key, &value)?)?.flag()
    }

    /// As [`StateStore::delete`](crate::StateStore::delete).
    pub fn delete(&mut self, key: &str) -> Result<bool> {
        self.run(self.context.op(key, EntryAction::Delete)?)?.flag()
    }

    /// As [`StateStore::contains`](crate::StateStore::contains).
    pub fn contains(&mut self, key: &str) -> Result<bool> {
        Ok(self.ask(key, &Query::Presence)?.1.presence()?.is_some())
    }

    /// As [`StateStore::set_if_not_exists`](crate::StateStore::set_if_not_exists).
    pub fn set_if_not_exists(
        &mut self,
        key: &str,
        value: impl Serialize,
        ttl: Option<Duration>,
    ) -> Result<bool> {
        self.run(self.context.set_if_not_exists(key, &value, ttl)?)?.flag()
    }

    /// As [`StateStore::compare_and_set`](crate::StateStore::compare_and_set).
    pub fn compare_and_set<T: Serialize + ?Sized, U: Serialize + ?Sized>(
        &mut self,
        key: &str,
        expected: Option<&T>,
        new: &U,
    ) -> Result<bool> {
        let (key, answer) = self.ask(key, &Query::Value)?;
        let found = answer.found()?;
        let expected = expected.map(|expected| json::encode(&key, expected)).transpose()?;
        let new = self.context.encode(&key, new)?;
        let same = match (&found, &expected) {
            (Some(found), Some(expected)) => json::eq(found, &expected.bytes),
            (None, None) => true,
            _ => false,
        };
        let ttl_if_created = self.context.default_ttl();
        match same {
            true => {
                let action = EntryAction::Swap { expected: found, new: Some(new), ttl_if_created };
                self.run(Op { key, action })?.flag()
            }
            false => Ok(false),
        }
    }

    /// As [`StateStore::get_and_delete`](crate::StateStore::get_and_delete).
    pub fn get_and_delete<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>> {
        self.fetch(self.context.op(key, EntryAction::GetAndDelete)?)
    }

    /// As [`StateStore::get_and_put`](crate::StateStore::get_and_put).
    pub fn get_and_put<T: DeserializeOwned>(
        &mut self,
        key: &str,
        value: impl Serialize,
    ) -> Result<Option<T>> {
        self.fetch(self.context.get_and_put(key, &value)?)
    }

    /// As [`StateStore::modify`](crate::StateStore::modify).
    pub fn modify<T: Serialize + DeserializeOwned>(
        &mut self,
        key: &str,
        f: impl FnOnce(Option<T>) -> Option<T>,
    ) -> Result<Option<T>> {
        let (key, answer) = self.ask(key, &Query::Value)?;
        let expected = answer.found()?;
        let made = f(json::decode_found(&key, expected.clone())?);
        let new = made.as_ref().map(|made| self.context.encode(&key, made)).transpose()?;
        let action = EntryAction::Swap { expected, new, ttl_if_created: self.context.default_ttl() };
        self.run(Op { key, action })?.flag()?;
        Ok(made)
    }
}

/// # Counters and expiry
#[expect(clippy::missing_errors_doc, reason = "as the method of `StateStore` by its name")]
impl Transaction<'_> {
    /// As [`StateStore::incr`](crate::StateStore::incr).
    pub fn incr(&mut self, key: &str, by: i64) -> Result<i64> {
        self.run(self.context.incr(key, by, None)?)?.number()
    }

    /// As [`StateStore::decr`](crate::StateStore::decr).
    pub fn decr(&mut self, key: &str, by: i64) -> Result<i64> {
        self.run(self.context.decr(key, by)?)?.number()
    }

    /// As [`StateStore::incr_with_ttl`](crate::StateStore::incr_with_ttl).
    pub fn incr_with_ttl(&mut self, key: &str, by: i64, ttl: Duration) -> Result<i64> {
        self.run(self.context.incr(key, by, Some(ttl))?)?.number()
    }

    /// As [`StateStore::ttl`](crate::StateStore::ttl).
    pub fn ttl(&mut self, key: &str) -> Result<Option<Ttl>> {
        let presence = self.ask(key, &Query::Presence)?.1.presence()?;
        Ok(presence.map(|presence| {
            presence.deadline.map_or(Ttl::Never, |deadline| Ttl::In(deadline.remaining(self.now)))
        }))
    }

    /// As [`StateStore::expire`](crate::StateStore::expire).
    pub fn expire(&mut self, key: &str, ttl: Duration) -> Result<bool> {
        self.run(self.context.expire(key, ttl)?)?.flag()
    }

    /// As [`StateStore::persist`](crate::StateStore::persist).
    pub fn persist(&mut self, key: &str) -> Result<bool> {
        self.run(self.context.op(key, EntryAction::Persist)?)?.flag()
    }

    /// As [`StateStore::get_and_touch`](crate::StateStore::get_and_touch).
    pub fn get_and_touch<T: DeserializeOwned>(&mut self, key: &str, ttl: Duration) -> Result<Option<T>> {
        self.fetch(self.context.touch(key, ttl)?)
    }
}

/// # Maps
#[expect(clippy::missing_errors_doc, reason = "as the method of `StateStore` by its name")]
impl Transaction<'_> {
    /// As [`StateStore::map_put`](crate::StateStore::map_put).
    pub fn map_put(&mut self, key: &str, field: &str, value: impl Serialize) -> Result<bool> {
        Ok(self.map_put_many(key, [(field, value)])? > 0)
    }

    /// As [`StateStore::map_put_many`](crate::StateStore::map_put_many).
    pub fn map_put_many<F: AsRef<str>, V: Serialize>(
        &mut self,
        key: &str,
        fields: impl IntoIterator<Item = (F, V)>,
    ) -> Result<u64> {
        let op = self.context.map_put(key, fields)?;
        match op.action.is_empty() {
            true => self.map_len(key).map(|_| 0),
            false => self.run(op)?.count(),
        }
    }

    /// As [`StateStore::map_get`](crate::StateStore::map_get).
    pub fn map_get<T: DeserializeOwned>(&mut self, key: &str, field: &str) -> Result<Option<T>> {
        let field = Context::field(&self.context.key(key)?, field)?;
        let (key, answer) = self.ask(key, &Query::Field(field))?;
        json::decode_found(&key, answer.found()?)
    }

    /// As [`StateStore::map_get_many`](crate::StateStore::map_get_many).
    pub fn map_get_many<T: DeserializeOwned>(
        &mut self,
        key: &str,
        fields: impl IntoIterator<Item: AsRef<str>>,
    ) -> Result<Vec<Option<T>>> {
        let fields = Context::fields(&self.context.key(key)?, fields)?;
        if fields.is_empty() {
            return self.map_len(key).map(|_| Vec::new());
        }
        let (key, answer) = self.ask(key, &Query::Fields(fields))?;
        answer.each()?.into_iter().map(|found| json::decode_found(&key, found)).collect()
    }

    /// As [`StateStore::map_delete`](crate::StateStore::map_delete).
    pub fn map_delete(&mut self, key: &str, field: &str) -> Result<bool> {
        self.run(self.context.map_delete(key, field)?)?.flag()
    }

    /// As [`StateStore::map_contains`](crate::StateStore::map_contains).
    pub fn map_contains(&mut self, key: &str, field: &str) -> Result<bool> {
        let field = Context::field(&self.context.key(key)?, field)?;
        Ok(self.ask(key, &Query::Field(field))?.1.found()?.is_some())
    }

    /// As [`StateStore::map_entries`](crate::StateStore::map_entries).
    pub fn map_entries<T: DeserializeOwned>(&mut self, key: &str) -> Result<BTreeMap<String, T>> {
        let (key, answer) = self.ask(key, &Query::Map)?;
        let fields = answer.map()?.into_iter();
        fields.map(|(field, bytes)| Ok((field.into(), json::decode(&key, bytes)?))).collect()
    }

    /// As [`StateStore::map_keys`](crate::StateStore::map_keys).
    pub fn map_keys(&mut self, key: &str) -> Result<Vec<String>> {
        let names = self.ask(key, &Query::Names)?.1.names()?;
        Ok(names.into_iter().map(Into::into).collect())
    }

    /// As [`StateStore::map_len`](crate::StateStore::map_len).
    pub fn map_len(&mut self, key: &str) -> Result<u64> {
        self.ask(key, &Query::MapLength)?.1.count()
    }

    /// As [`StateStore::map_incr`](crate::StateStore::map_incr).
    pub fn map_incr(&mut self, key: &str, field: &str, by: i64) -> Result<i64> {
        self.run(self.context.map_incr(key, field, by)?)?.number()
    }
}

/// # Queues
#[expect(clippy::missing_errors_doc, reason = "as the method of `StateStore` by its name")]
impl Transaction<'_> {
    /// As [`StateStore::push_back`](crate::StateStore::push_back).
    pub fn push_back(&mut self, key: &str, value: impl Serialize) -> Result<u64> {
        self.run(self.context.push(key, End::Back, [value])?)?.count()
    }

    /// As [`StateStore::push_front`](crate::StateStore::push_front).
    pub fn push_front(&mut self, key: &str, value: impl Serialize) -> Result<u64> {
        self.run(self.context.push(key, End::Front, [value])?)?.count()
    }

    /// As [`StateStore::push_back_many`](crate::StateStore::push_back_many).
    pub fn push_back_many<V: Serialize>(
        &mut self,
        key: &str,
        values: impl IntoIterator<Item = V>,
    ) -> Result<u64> {
        let op = self.context.push(key, End::Back, values)?;
        match op.action.is_empty() {
            true => self.queue_len(key),
            false => self.run(op)?.count(),
        }
    }

    /// As [`StateStore::pop_front`](crate::StateStore::pop_front).
    pub fn pop_front<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>> {
        self.fetch(self.context.op(key, EntryAction::Pop { end: End::Front })?)
    }

    /// As [`StateStore::pop_back`](crate::StateStore::pop_back).
    pub fn pop_back<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>> {
        self.fetch(self.context.op(key, EntryAction::Pop { end: End::Back })?)
    }

    /// As [`StateStore::queue_len`](crate::StateStore::queue_len).
    pub fn queue_len(&mut self, key: &str) -> Result<u64> {
        let (begin, end) = self.ask(key, &Query::Bounds)?.1.bounds()?;
        Ok(end.abs_diff(begin))
    }

    /// As [`StateStore::queue_range`](crate::StateStore::queue_range).
    pub fn queue_range<T: DeserializeOwned>(
        &mut self,
        key: &str,
        range: impl RangeBounds<u64>,
    ) -> Result<Vec<T>> {
        let (key, answer) = self.ask(key, &Query::items(&range))?;
        answer.items()?.into_iter().map(|bytes| json::decode(&key, bytes)).collect()
    }

    /// As [`StateStore::queue_trim`](crate::StateStore::queue_trim).
    pub fn queue_trim(&mut self, key: &str, max: u64) -> Result<u64> {
        self.run(self.context.op(key, EntryAction::Trim { most: max })?)?.count()
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("first_key", &self.first_key).finish_non_exhaustive()
    }
}

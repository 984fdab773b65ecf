//! Owns the typed operations that a store and a transaction have in common, each written once over [`Execute`].
//! Knows nothing of what carries an operation out.

use std::collections::BTreeMap;
use std::ops::RangeBounds;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backend::Backend;
use crate::bytes::Bytes;
use crate::error::{Error, Kind, Result};
use crate::json;
use crate::key::Key;
use crate::op::{Answer, End, EntryAction, Op, Query, Reply};
use crate::stats::counter::Operation;
use crate::store::context::Context;
use crate::store::counting::{name_of, name_of_question, operation_of, operation_of_question};
use crate::store::state_store::{StateStore, on_backend};
use crate::value::Value;

/// A target of operations: a store, or a transaction on it.
pub(crate) trait Execute {
    /// Returns the context that the operations are made in.
    fn context(&self) -> &Context;

    /// Carries out one mutation of an entry.
    fn run(&mut self, op: Op<'_>) -> Result<Reply>;

    /// Answers a question about one key.
    fn ask(&mut self, key: &Key<'_>, query: &Query) -> Result<Answer>;

    /// Reads the bytes of a value.
    fn read(&mut self, key: &Key<'_>) -> Result<Option<Bytes>> {
        self.ask(key, &Query::Value)?.found()
    }
}

// Generic operations are compiled in the caller's crate. `inline` saves calls back into this crate on the hot
// paths.
impl Execute for &StateStore {
    #[inline]
    fn context(&self) -> &Context {
        StateStore::context(self)
    }

    #[inline]
    fn run(&mut self, op: Op<'_>) -> Result<Reply> {
        let operation = operation_of(&op.action);
        let watch = self.watch(|| (name_of(&op.action), &op.key));
        let outcome = on_backend!(self, backend => backend.apply(op));
        let is_hit = |reply: &Reply| operation == Operation::Get && matches!(reply, Reply::Found(Some(_)));
        self.end(operation, outcome, is_hit, watch)
    }

    #[inline]
    fn ask(&mut self, key: &Key<'_>, query: &Query) -> Result<Answer> {
        let operation = operation_of_question(query);
        let watch = self.watch(|| (name_of_question(query), key));
        let outcome = on_backend!(self, backend => backend.ask(key, query));
        let is_hit =
            |answer: &Answer| operation == Operation::Get && matches!(answer, Answer::Found(Some(_)));
        self.end(operation, outcome, is_hit, watch)
    }

    #[inline]
    fn read(&mut self, key: &Key<'_>) -> Result<Option<Bytes>> {
        let watch = self.watch(|| ("get", key));
        let outcome = on_backend!(self, backend => backend.get(key));
        self.end(Operation::Get, outcome, Option::is_some, watch)
    }
}

// Values.

pub(crate) fn put<V: Serialize + ?Sized>(
    mut target: impl Execute,
    key: &str,
    value: &V,
    ttl: Option<Duration>,
) -> Result<()> {
    target.run(target.context().put(key, value, ttl)?)?.done()
}

pub(crate) fn put_bytes(
    mut target: impl Execute,
    key: &str,
    value: &[u8],
    ttl: Option<Duration>,
) -> Result<()> {
    target.run(target.context().put_bytes(key, value, ttl)?)?.done()
}

#[inline]
pub(crate) fn get<T: DeserializeOwned>(target: impl Execute, key: &str) -> Result<Option<T>> {
    let key = target.context().key(key)?;
    json::decode_found(&key, read_or_renew(target, &key)?)
}

#[inline]
pub(crate) fn get_bytes(target: impl Execute, key: &str) -> Result<Option<Bytes>> {
    let key = target.context().key(key)?;
    read_or_renew(target, &key)
}

/// Reads the bytes of a value for the program, and renews its TTL if reads of the handle do.
#[inline]
fn read_or_renew(mut target: impl Execute, key: &Key<'_>) -> Result<Option<Bytes>> {
    match target.context().renewed_ttl {
        None => target.read(key),
        Some(ttl) => target.run(Op { key: key.clone(), action: EntryAction::Renew { ttl } })?.found(),
    }
}

pub(crate) fn update<V: Serialize + ?Sized>(mut target: impl Execute, key: &str, value: &V) -> Result<bool> {
    target.run(target.context().update(key, value)?)?.flag()
}

pub(crate) fn delete(mut target: impl Execute, key: &str) -> Result<bool> {
    target.run(target.context().op(key, EntryAction::Delete)?)?.flag()
}

pub(crate) fn kind(mut target: impl Execute, key: &str) -> Result<Option<Kind>> {
    let key = target.context().key(key)?;
    let presence = target.ask(&key, &Query::Presence)?.presence()?;
    let unnamed = || Error::Unsupported {
        what: format!("the key {:?} holds an entry that is no value, map or queue", &*key),
    };
    presence.map(|presence| presence.kind.ok_or_else(unnamed)).transpose()
}

/// Runs an operation that returns the value of its key, and decodes that value.
fn fetch<T: DeserializeOwned>(mut target: impl Execute, op: Op<'_>) -> Result<Option<T>> {
    let key = op.key.clone();
    json::decode_found(&key, target.run(op)?.found()?)
}

// Atomic steps.

pub(crate) fn set_if_not_exists<V: Serialize + ?Sized>(
    mut target: impl Execute,
    key: &str,
    value: &V,
    ttl: Option<Duration>,
) -> Result<bool> {
    target.run(target.context().set_if_not_exists(key, value, ttl)?)?.flag()
}

pub(crate) fn get_and_delete<T: DeserializeOwned>(target: impl Execute, key: &str) -> Result<Option<T>> {
    let op = target.context().op(key, EntryAction::GetAndDelete)?;
    fetch(target, op)
}

pub(crate) fn get_and_put<T: DeserializeOwned, V: Serialize + ?Sized>(
    target: impl Execute,
    key: &str,
    value: &V,
    ttl: Option<Duration>,
) -> Result<Option<T>> {
    let op = target.context().get_and_put(key, value, ttl)?;
    fetch(target, op)
}

/// Replaces the value, or deletes it if `new` is `None`, if its bytes are still the expected ones.
pub(crate) fn swap(
    mut target: impl Execute,
    key: Key<'_>,
    expected: Option<Bytes>,
    new: Option<Value>,
) -> Result<bool> {
    target.run(swap_op(target.context(), key, expected, new))?.flag()
}

pub(crate) fn swap_op<'k>(
    context: &Context,
    key: Key<'k>,
    expected: Option<Bytes>,
    new: Option<Value>,
) -> Op<'k> {
    Op { key, action: EntryAction::Swap { expected, new, ttl_if_created: context.default_ttl() } }
}

// Counters and expiry.

#[inline]
pub(crate) fn incr(mut target: impl Execute, key: &str, by: i64) -> Result<i64> {
    target.run(target.context().incr(key, by, None)?)?.number()
}

pub(crate) fn incr_with_ttl(mut target: impl Execute, key: &str, by: i64, ttl: Duration) -> Result<i64> {
    target.run(target.context().incr(key, by, Some(ttl))?)?.number()
}

pub(crate) fn decr(mut target: impl Execute, key: &str, by: i64) -> Result<i64> {
    target.run(target.context().decr(key, by)?)?.number()
}

pub(crate) fn expire(mut target: impl Execute, key: &str, ttl: Duration) -> Result<bool> {
    target.run(target.context().expire(key, ttl)?)?.flag()
}

pub(crate) fn persist(mut target: impl Execute, key: &str) -> Result<bool> {
    target.run(target.context().op(key, EntryAction::Persist)?)?.flag()
}

pub(crate) fn get_and_touch<T: DeserializeOwned>(
    target: impl Execute,
    key: &str,
    ttl: Duration,
) -> Result<Option<T>> {
    let op = target.context().touch(key, ttl)?;
    fetch(target, op)
}

// Maps.

pub(crate) fn map_put_many<F: AsRef<str>, V: Serialize>(
    mut target: impl Execute,
    key: &str,
    fields: impl IntoIterator<Item = (F, V)>,
) -> Result<u64> {
    let op = target.context().map_put(key, fields)?;
    if op.action.is_empty() {
        // Nothing to set, but a key of another kind is still an error.
        return target.ask(&op.key, &Query::MapLength).map(|_| 0);
    }
    target.run(op)?.count()
}

pub(crate) fn map_get<T: DeserializeOwned>(
    mut target: impl Execute,
    key: &str,
    field: &str,
) -> Result<Option<T>> {
    let key = target.context().key(key)?;
    let field = Context::field(&key, field)?;
    json::decode_found(&key, target.ask(&key, &Query::Field(field))?.found()?)
}

pub(crate) fn map_get_many<T: DeserializeOwned>(
    mut target: impl Execute,
    key: &str,
    fields: impl IntoIterator<Item: AsRef<str>>,
) -> Result<Vec<Option<T>>> {
    let key = target.context().key(key)?;
    let fields = Context::fields(&key, fields)?;
    if fields.is_empty() {
        // Nothing to read, but a key of another kind is still an error.
        return target.ask(&key, &Query::MapLength).map(|_| Vec::new());
    }
    let values = target.ask(&key, &Query::Fields(fields))?.each()?;
    values.into_iter().map(|value| json::decode_found(&key, value)).collect()
}

pub(crate) fn map_delete(mut target: impl Execute, key: &str, field: &str) -> Result<bool> {
    target.run(target.context().map_delete(key, field)?)?.flag()
}

pub(crate) fn map_contains(mut target: impl Execute, key: &str, field: &str) -> Result<bool> {
    let key = target.context().key(key)?;
    let field = Context::field(&key, field)?;
    Ok(target.ask(&key, &Query::Field(field))?.found()?.is_some())
}

pub(crate) fn map_entries<T: DeserializeOwned>(
    mut target: impl Execute,
    key: &str,
) -> Result<BTreeMap<String, T>> {
    let key = target.context().key(key)?;
    let fields = target.ask(&key, &Query::Map)?.map()?.into_iter();
    fields.map(|(field, bytes)| Ok((field.into(), json::decode(&key, bytes)?))).collect()
}

pub(crate) fn map_keys(mut target: impl Execute, key: &str) -> Result<Vec<String>> {
    let key = target.context().key(key)?;
    let names = target.ask(&key, &Query::Names)?.names()?;
    Ok(names.into_iter().map(Into::into).collect())
}

pub(crate) fn map_len(mut target: impl Execute, key: &str) -> Result<u64> {
    let key = target.context().key(key)?;
    target.ask(&key, &Query::MapLength)?.count()
}

pub(crate) fn map_incr(mut target: impl Execute, key: &str, field: &str, by: i64) -> Result<i64> {
    target.run(target.context().map_incr(key, field, by)?)?.number()
}

// Queues.

/// Adds one value at one end of a queue.
pub(crate) fn push<V: Serialize>(mut target: impl Execute, key: &str, end: End, value: V) -> Result<u64> {
    target.run(target.context().push(key, end, [value])?)?.count()
}

pub(crate) fn push_back_many<V: Serialize>(
    mut target: impl Execute,
    key: &str,
    values: impl IntoIterator<Item = V>,
) -> Result<u64> {
    let op = target.context().push(key, End::Back, values)?;
    if op.action.is_empty() {
        return queue_len(target, key);
    }
    target.run(op)?.count()
}

#[inline]
pub(crate) fn pop<T: DeserializeOwned>(target: impl Execute, key: &str, end: End) -> Result<Option<T>> {
    let op = target.context().op(key, EntryAction::Pop { end })?;
    fetch(target, op)
}

pub(crate) fn queue_len(mut target: impl Execute, key: &str) -> Result<u64> {
    let key = target.context().key(key)?;
    let (begin, end) = target.ask(&key, &Query::Bounds)?.bounds()?;
    Ok(end.abs_diff(begin))
}

pub(crate) fn queue_range<T: DeserializeOwned>(
    mut target: impl Execute,
    key: &str,
    range: &impl RangeBounds<u64>,
) -> Result<Vec<T>> {
    let key = target.context().key(key)?;
    let items = target.ask(&key, &Query::items(range))?.items()?;
    items.into_iter().map(|bytes| json::decode(&key, bytes)).collect()
}

pub(crate) fn queue_trim(mut target: impl Execute, key: &str, most: u64) -> Result<u64> {
    target.run(target.context().op(key, EntryAction::Trim { most })?)?.count()
}

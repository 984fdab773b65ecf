//! Owns the operations of a [`Transaction`] on queues: values in order under one key.

use std::ops::RangeBounds;

use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::op::End;
use crate::store::execute;
use crate::store::transaction::Transaction;

/// # Queues
#[expect(clippy::missing_errors_doc, reason = "as the method of `StateStore` by its name")]
impl Transaction<'_> {
    /// Adds a value at the end of a queue, as [`StateStore::push_back`](crate::StateStore::push_back) does.
    pub fn push_back(&mut self, key: impl AsRef<str>, value: impl Serialize) -> Result<u64> {
        execute::push(self, key.as_ref(), End::Back, value)
    }

    /// Adds a value at the front of a queue, as [`StateStore::push_front`](crate::StateStore::push_front) does.
    pub fn push_front(&mut self, key: impl AsRef<str>, value: impl Serialize) -> Result<u64> {
        execute::push(self, key.as_ref(), End::Front, value)
    }

    /// Adds many values at the end of a queue, as
    /// [`StateStore::push_back_many`](crate::StateStore::push_back_many) does.
    pub fn push_back_many<V: Serialize>(
        &mut self,
        key: impl AsRef<str>,
        values: impl IntoIterator<Item = V>,
    ) -> Result<u64> {
        execute::push_back_many(self, key.as_ref(), values)
    }

    /// Removes the first value of a queue and returns it, as
    /// [`StateStore::pop_front`](crate::StateStore::pop_front) does.
    pub fn pop_front<T: DeserializeOwned>(&mut self, key: impl AsRef<str>) -> Result<Option<T>> {
        execute::pop(self, key.as_ref(), End::Front)
    }

    /// Removes the last value of a queue and returns it, as
    /// [`StateStore::pop_back`](crate::StateStore::pop_back) does.
    pub fn pop_back<T: DeserializeOwned>(&mut self, key: impl AsRef<str>) -> Result<Option<T>> {
        execute::pop(self, key.as_ref(), End::Back)
    }

    /// Counts the values of a queue, as [`StateStore::queue_len`](crate::StateStore::queue_len) does.
    pub fn queue_len(&mut self, key: impl AsRef<str>) -> Result<u64> {
        execute::queue_len(self, key.as_ref())
    }

    /// Reads values of a queue without removing them, as
    /// [`StateStore::queue_range`](crate::StateStore::queue_range) does.
    pub fn queue_range<T: DeserializeOwned>(
        &mut self,
        key: impl AsRef<str>,
        range: impl RangeBounds<u64>,
    ) -> Result<Vec<T>> {
        execute::queue_range(self, key.as_ref(), &range)
    }

    /// Drops the first values of a queue, as [`StateStore::queue_trim`](crate::StateStore::queue_trim) does.
    pub fn queue_trim(&mut self, key: impl AsRef<str>, max: u64) -> Result<u64> {
        execute::queue_trim(self, key.as_ref(), max)
    }
}

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
impl Transaction<'_> {
    /// Adds a value at the end when the transaction is committed, and returns the new length. On Redis the length is
    /// read for that. See [`StateStore::push_back`](crate::StateStore::push_back).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.put("order:17", "paid")?;
    /// assert_eq!(tx.push_back("to ship", 17)?, 1); // never one without the other
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Encode`](Error::Encode) if the value cannot be written as JSON, [`TooLarge`](Error::TooLarge),
    /// [`WrongType`](Error::WrongType) if the key holds another kind.
    pub fn push_back(&mut self, key: impl AsRef<str>, value: impl Serialize) -> Result<u64> {
        execute::push(self, key.as_ref(), End::Back, value)
    }

    /// Adds a value at the front when the transaction is committed, and returns the new length. See
    /// [`StateStore::push_front`](crate::StateStore::push_front).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.push_back("jobs", "wash")?;
    /// tx.push_front("jobs", "put out the fire")?;
    /// assert_eq!(tx.pop_front::<String>("jobs")?.as_deref(), Some("put out the fire"));
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Encode`](Error::Encode) if the value cannot be written as JSON, [`TooLarge`](Error::TooLarge),
    /// [`WrongType`](Error::WrongType) if the key holds another kind.
    pub fn push_front(&mut self, key: impl AsRef<str>, value: impl Serialize) -> Result<u64> {
        execute::push(self, key.as_ref(), End::Front, value)
    }

    /// Adds many values at the end when the transaction is committed, and returns the new length. See
    /// [`StateStore::push_back_many`](crate::StateStore::push_back_many).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// assert_eq!(tx.push_back_many("jobs", ["wash", "dry", "fold"])?, 3);
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Encode`](Error::Encode) if the value cannot be written as JSON, [`TooLarge`](Error::TooLarge),
    /// [`WrongType`](Error::WrongType) if the key holds another kind.
    pub fn push_back_many<V: Serialize>(
        &mut self,
        key: impl AsRef<str>,
        values: impl IntoIterator<Item = V>,
    ) -> Result<u64> {
        execute::push_back_many(self, key.as_ref(), values)
    }

    /// Removes the first value when the transaction is committed, and returns it; `None` if there is none. If the
    /// transaction is not committed, the value stays in the queue. See
    /// [`StateStore::pop_front`](crate::StateStore::pop_front).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.push_back("inbox", "event 17")?;
    /// if let Some(event) = tx.pop_front::<String>("inbox")? {
    ///     tx.push_back("outbox", event)?; // moved in one step
    /// }
    /// assert_eq!((tx.queue_len("inbox")?, tx.queue_len("outbox")?), (0, 1));
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Decode`](Error::Decode) if the value is not a `T`: the value stays in the queue if the closure returns this
    /// error; [`WrongType`](Error::WrongType) if the key holds another kind.
    pub fn pop_front<T: DeserializeOwned>(&mut self, key: impl AsRef<str>) -> Result<Option<T>> {
        execute::pop(self, key.as_ref(), End::Front)
    }

    /// Removes the last value when the transaction is committed, and returns it; `None` if there is none. See
    /// [`StateStore::pop_back`](crate::StateStore::pop_back).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.push_back_many("undo", ["typed a", "typed b"])?;
    /// assert_eq!(tx.pop_back::<String>("undo")?.as_deref(), Some("typed b"));
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Decode`](Error::Decode) if the value is not a `T`: the value stays in the queue if the closure returns this
    /// error; [`WrongType`](Error::WrongType) if the key holds another kind.
    pub fn pop_back<T: DeserializeOwned>(&mut self, key: impl AsRef<str>) -> Result<Option<T>> {
        execute::pop(self, key.as_ref(), End::Back)
    }

    /// Counts the values, with the writes of this transaction. Those that are leased are not counted. See
    /// [`StateStore::queue_len`](crate::StateStore::queue_len).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.push_back_many("jobs", ["wash", "dry"])?;
    /// assert_eq!(tx.queue_len("jobs")?, 2);
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`WrongType`](Error::WrongType) if the key holds another kind.
    pub fn queue_len(&mut self, key: impl AsRef<str>) -> Result<u64> {
        execute::queue_len(self, key.as_ref())
    }

    /// Reads the values at these positions without removing them, with the writes of this transaction. See
    /// [`StateStore::queue_range`](crate::StateStore::queue_range).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.push_back_many("log", ["start", "load", "serve"])?;
    /// assert_eq!(tx.queue_range::<String>("log", 1..)?, ["load", "serve"]);
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Decode`](Error::Decode) if a value is not a `T`; [`WrongType`](Error::WrongType) if the key holds another
    /// kind.
    pub fn queue_range<T: DeserializeOwned>(
        &mut self,
        key: impl AsRef<str>,
        range: impl RangeBounds<u64>,
    ) -> Result<Vec<T>> {
        execute::queue_range(self, key.as_ref(), &range)
    }

    /// Drops the first values until at most `max` remain when the transaction is committed, and returns how many were
    /// dropped. See [`StateStore::queue_trim`](crate::StateStore::queue_trim).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.push_back_many("last readings", 1..=12)?;
    /// assert_eq!(tx.queue_trim("last readings", 10)?, 2);
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`WrongType`](Error::WrongType) if the key holds another kind.
    pub fn queue_trim(&mut self, key: impl AsRef<str>, max: u64) -> Result<u64> {
        execute::queue_trim(self, key.as_ref(), max)
    }
}

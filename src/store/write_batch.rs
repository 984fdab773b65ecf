//! Owns [`WriteBatch`], writes that are collected first and then made all at once. Knows nothing of stores.

use std::time::Duration;

use serde::Serialize;

use crate::clock::Millis;
use crate::error::Result;
use crate::json;
use crate::key::Namespace;
use crate::op::Write;

/// Writes that [`StateStore::write`](crate::StateStore::write) makes all or not at all, also across a
/// crash.
///
/// It holds only writes that cannot fail on what the store contains. They are made in the order in which
/// they were added; where two name one key, the later one holds. A batch belongs to no store and no
/// namespace and may be written more than once.
///
/// ```
/// use millpond::{StateStore, WriteBatch};
/// # fn main() -> millpond::Result<()> {
/// let store = StateStore::memory();
/// let mut batch = WriteBatch::new();
/// batch.put("balance:anna", 90)?;
/// batch.put("balance:ben", 110)?;
/// batch.delete("transfer:17")?;
/// store.write(&batch)?;
/// assert_eq!(store.get::<i64>("balance:ben")?, Some(110));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct WriteBatch {
    /// Keys as the caller gave them. A put without a TTL gets the default of the store.
    writes: Vec<(String, Write)>,
}

impl WriteBatch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the setting of a value. Its time to live is the store's `default_ttl`, or none.
    ///
    /// # Errors
    /// [`InvalidKey`](crate::Error::InvalidKey), [`Encode`](crate::Error::Encode); the batch is as it was.
    pub fn put(&mut self, key: &str, value: impl Serialize) -> Result<&mut Self> {
        self.add_put(key, value, None)
    }

    /// Adds the setting of a value that is gone after `ttl`, counted from when the batch is written.
    ///
    /// # Errors
    /// As [`put`](Self::put), and [`InvalidTtl`](crate::Error::InvalidTtl).
    pub fn put_with_ttl(&mut self, key: &str, value: impl Serialize, ttl: Duration) -> Result<&mut Self> {
        self.add_put(key, value, Some(ttl))
    }

    /// Adds the removal of a key.
    ///
    /// # Errors
    /// [`InvalidKey`](crate::Error::InvalidKey); the batch is as it was.
    pub fn delete(&mut self, key: &str) -> Result<&mut Self> {
        Namespace::default().key(key)?;
        self.writes.push((key.to_owned(), Write::Delete));
        Ok(self)
    }

    /// How many writes it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Tells whether it holds no writes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Takes all writes out.
    pub fn clear(&mut self) {
        self.writes.clear();
    }

    pub(crate) fn writes(&self) -> &[(String, Write)] {
        &self.writes
    }

    fn add_put(&mut self, key: &str, value: impl Serialize, ttl: Option<Duration>) -> Result<&mut Self> {
        Namespace::default().key(key)?;
        let ttl = ttl.map(Millis::new).transpose()?;
        let write = Write::Put { value: json::encode(key, &value)?, ttl };
        self.writes.push((key.to_owned(), write));
        Ok(self)
    }
}

//! Owns [`WriteBatch`], writes that are collected first and then applied all at once. Knows nothing of stores.

use std::time::Duration;

use serde::Serialize;

use crate::bytes::Bytes;
use crate::clock::Millis;
use crate::error::Result;
use crate::json;
use crate::key::Namespace;
use crate::op::Write;

/// Writes that [`StateStore::write`](crate::StateStore::write) applies all or none, also across a crash.
///
/// A batch holds only writes that cannot fail on what the store contains. They are applied in the order in which
/// they were added; if two name one key, the later one counts. A batch belongs to no store and no
/// namespace, and may be written more than once.
///
/// ```
/// use millpond::{StateStore, WriteBatch};
/// let store = StateStore::memory();
/// let mut batch = WriteBatch::new();
/// batch.put("balance:anna", 90)?;
/// batch.put("balance:ben", 110)?;
/// batch.delete("transfer:17")?;
/// store.write(&batch)?;
/// assert_eq!(store.get::<i64>("balance:ben")?, Some(110));
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct WriteBatch {
    /// Keys as the caller gave them. A put without a TTL gets the default of the store.
    writes: Vec<(String, Write)>,
}

impl WriteBatch {
    /// Creates an empty batch.
    ///
    /// ```
    /// let batch = millpond::WriteBatch::new();
    /// assert!(batch.is_empty());
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a write that sets a value. Its time to live is the store's `default_ttl`, or none.
    ///
    /// ```
    /// # let mut batch = millpond::WriteBatch::new();
    /// batch.put("order:17", "paid")?.put("order:18", "open")?;
    /// assert_eq!(batch.len(), 2);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidKey`](crate::Error::InvalidKey), [`Encode`](crate::Error::Encode); the batch is unchanged.
    pub fn put(&mut self, key: impl AsRef<str>, value: impl Serialize) -> Result<&mut Self> {
        self.add_put(key.as_ref(), value, None)
    }

    /// Adds a write that sets a value which is gone after `ttl`, counted from when the batch is written.
    ///
    /// ```
    /// # use millpond::Ttl;
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// # let mut batch = millpond::WriteBatch::new();
    /// batch.put_with_ttl("session:7", "anna", Duration::from_secs(1800))?;
    /// store.write(&batch)?;
    /// assert!(matches!(store.ttl("session:7")?, Some(Ttl::In(_))));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put), and [`InvalidTtl`](crate::Error::InvalidTtl).
    pub fn put_with_ttl(
        &mut self,
        key: impl AsRef<str>,
        value: impl Serialize,
        ttl: Duration,
    ) -> Result<&mut Self> {
        self.add_put(key.as_ref(), value, Some(ttl))
    }

    /// Adds a write that sets a value to bytes, as they are. Its time to live is the store's `default_ttl`, or none.
    /// [`put`](Self::put) and [`put_with_ttl`](Self::put_with_ttl) do the same with a [`Bytes`].
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// # let mut batch = millpond::WriteBatch::new();
    /// batch.put_bytes("thumbnail:7", &[0xff, 0xd8, 0x00])?.put("thumbnails", 1)?;
    /// store.write(&batch)?;
    /// assert_eq!(store.get_bytes("thumbnail:7")?.unwrap(), [0xff, 0xd8, 0x00]);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidKey`](crate::Error::InvalidKey); the batch is unchanged.
    pub fn put_bytes(&mut self, key: impl AsRef<str>, value: &[u8]) -> Result<&mut Self> {
        self.add_put(key.as_ref(), Bytes::from(value), None)
    }

    /// Adds a write that removes a key.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// # let mut batch = millpond::WriteBatch::new();
    /// store.put("cart:7", ["apples"])?;
    /// batch.put("order:17", ["apples"])?.delete("cart:7")?;
    /// store.write(&batch)?;
    /// assert_eq!(store.keys("")?, ["order:17"]);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidKey`](crate::Error::InvalidKey); the batch is unchanged.
    pub fn delete(&mut self, key: impl AsRef<str>) -> Result<&mut Self> {
        Namespace::default().key(key.as_ref())?;
        self.writes.push((key.as_ref().to_owned(), Write::Delete));
        Ok(self)
    }

    /// Counts the writes of the batch.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// # let mut batch = millpond::WriteBatch::new();
    /// for reading in 0..2500 {
    ///     batch.put(format!("reading:{reading}"), reading)?;
    ///     if batch.len() == 1000 {
    ///         store.write(&batch)?;
    ///         batch.clear();
    ///     }
    /// }
    /// assert_eq!((store.len()?, batch.len()), (2000, 500));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Returns whether the batch holds no writes.
    ///
    /// ```
    /// # let mut batch = millpond::WriteBatch::new();
    /// assert!(batch.is_empty());
    /// batch.delete("cart:7")?;
    /// assert!(!batch.is_empty());
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Removes all writes from the batch.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// # let mut batch = millpond::WriteBatch::new();
    /// batch.put("order:17", "paid")?;
    /// store.write(&batch)?;
    /// batch.clear(); // and collect the next writes
    /// assert!(batch.is_empty());
    /// # Ok::<(), millpond::Error>(())
    /// ```
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

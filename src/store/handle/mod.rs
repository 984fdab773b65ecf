//! Owns the typed handles: one key and its type. They have no logic of their own.
//!
//! - `declare`: how a handle and its methods are declared;
//! - `value`, `counter`, `map`, `queue`: the handles.

mod counter;
mod declare;
mod map;
mod queue;
mod value;

pub use counter::Counter;
pub use map::Map;
pub use queue::Queue;
pub use value::Value;

use crate::store::state_store::StateStore;

/// # Handles
///
/// A handle is a key with the type of its content. It is owned, may be sent to other threads, and its methods are
/// those of the store on that key. Making one has no effect on the store; if the key breaks a rule, the operations
/// return the error.
///
/// ```
/// let store = millpond::StateStore::memory();
/// let stock = store.map::<u32>("stock");
/// stock.put("apples", &5)?;
/// assert_eq!(stock.get("apples")?, Some(5));
/// assert_eq!(store.counter("visits").incr(1)?, 1);
/// let limit = store.value::<u32>("limit").get_or_insert_with(|| 100)?;
/// assert_eq!(limit, 100);
/// # Ok::<(), millpond::Error>(())
/// ```
impl StateStore {
    /// Returns a handle on a value of one type.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// let limit = store.value::<u32>("rule:limit");
    /// limit.put(250)?;
    /// assert_eq!(store.get("rule:limit")?, Some(250));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn value<T>(&self, key: impl AsRef<str>) -> Value<T> {
        Value::new(self, key.as_ref())
    }

    /// Returns a handle on a counter.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// let visits = store.counter("visits");
    /// assert_eq!(visits.incr(1)?, 1);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn counter(&self, key: impl AsRef<str>) -> Counter {
        Counter::new(self, key.as_ref())
    }

    /// Returns a handle on a map whose values are of one type.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// let stock = store.map::<u32>("stock");
    /// stock.put("apples", 5)?;
    /// assert_eq!(stock.get("apples")?, Some(5));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn map<V>(&self, key: impl AsRef<str>) -> Map<V> {
        Map::new(self, key.as_ref())
    }

    /// Returns a handle on a queue whose values are of one type.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// let readings = store.queue::<f64>("readings");
    /// readings.push_back(20.5)?;
    /// assert_eq!(readings.pop_front()?, Some(20.5));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn queue<T>(&self, key: impl AsRef<str>) -> Queue<T> {
        Queue::new(self, key.as_ref())
    }
}

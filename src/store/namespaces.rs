//! Owns the documented group of namespaces: handles on a part of the keys.

use crate::store::context::Context;
use crate::store::state_store::StateStore;

/// # Namespaces
///
/// A namespace is a part of the keys of a store: those that begin with its name and `:`. Its handle has all operations
/// of a store, so a part of a program that gets it cannot touch the keys of the others.
impl StateStore {
    /// Returns a handle on the same store with every key under `name:`.
    ///
    /// Namespaces nest; a store sees the keys of the namespaces inside it, with their names in front. An
    /// empty name means this namespace itself. This method never fails: the operations return
    /// [`InvalidKey`](crate::Error::InvalidKey) if the name makes their keys invalid.
    ///
    /// ```
    /// let store = millpond::StateStore::memory();
    /// let orders = store.namespace("orders");
    /// orders.put("17", "paid")?;
    /// assert_eq!(orders.keys("")?, ["17"]);
    /// assert_eq!(store.keys("")?, ["orders:17"]);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn namespace(&self, name: impl AsRef<str>) -> Self {
        let mut inner = self.clone();
        let context = inner.context_mut();
        context.namespace = context.namespace.child(name.as_ref());
        inner
    }

    pub(crate) fn context_mut(&mut self) -> &mut Context {
        match self {
            Self::Memory(store) => &mut store.0.context,
            Self::File(store) => &mut store.0.context,
            #[cfg(feature = "redis")]
            Self::Redis(store) => &mut store.0.context,
        }
    }
}

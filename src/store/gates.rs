//! Owns how a program gets at the gate of its store. Knows nothing of who is inside.

use crate::store::gate::Gate;
use crate::store::state_store::StateStore;

/// # Gate
impl StateStore {
    /// Returns the gate of the store, by which the threads of this process agree on moments at which none of them is in
    /// the middle of its work: each enters the gate for each piece of work, and who needs such a moment closes it.
    ///
    /// All handles on a store that was opened once share one gate, whatever their namespaces. Nothing in the store looks
    /// at it: a thread that does not enter is not held.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let store = millpond::StateStore::memory();
    /// let gate = store.gate();
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| {
    ///         let _inside = gate.enter();
    ///         store.put("balance:anna", 90)?;
    ///         store.put("balance:ben", 110) // nobody sees one without the other through a closed gate
    ///     });
    /// });
    /// let closed = gate.close(Duration::from_secs(5))?;
    /// let balances: Vec<Option<i64>> = store.batch_get(["balance:anna", "balance:ben"])?;
    /// drop(closed);
    /// # assert_eq!(balances, [Some(90), Some(110)]);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    #[doc(alias = "thread_barrier")]
    pub fn gate(&self) -> Gate {
        self.context().shared.gate.clone()
    }
}

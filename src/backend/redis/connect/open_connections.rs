//! Owns the names of the connections that are open, so that the server can be told to close them. Knows
//! nothing of what they are used for.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::backend::redis::connect::connection::Identity;

/// The connections that were made and not dropped since.
#[derive(Default)]
pub(crate) struct OpenConnections {
    next: AtomicU64,
    open: Mutex<HashMap<u64, (Identity, u64)>>,
}

impl OpenConnections {
    /// Takes note of a connection; it is forgotten when what this returns is dropped.
    pub(crate) fn register(self: &Arc<Self>, identity: Identity, generation: u64) -> Registration {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.lock().insert(number, (identity, generation));
        Registration { registry: Arc::clone(self), number }
    }

    /// Those of generations before this one.
    pub(crate) fn older_than(&self, generation: u64) -> Vec<Identity> {
        let open = self.open.lock();
        open.values().filter(|(_, made)| *made < generation).map(|(identity, _)| identity.clone()).collect()
    }

    pub(crate) fn forget(&self, identity: &Identity) {
        self.open.lock().retain(|_, (known, _)| known != identity);
    }
}

/// A connection that is noted.
pub(crate) struct Registration {
    registry: Arc<OpenConnections>,
    number: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.open.lock().remove(&self.number);
    }
}

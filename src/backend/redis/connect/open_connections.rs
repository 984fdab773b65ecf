//! Owns the identities of the open connections, so that the server can be asked to close them. Knows nothing of
//! how connections are used.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::backend::redis::connect::identity::Identity;

/// The connections that were made and not yet dropped, each with its generation.
#[derive(Default)]
pub(crate) struct OpenConnections {
    next: AtomicU64,
    open: Mutex<HashMap<u64, (Identity, u64)>>,
}

impl OpenConnections {
    /// Registers a connection until the returned registration is dropped.
    pub(crate) fn register(self: &Arc<Self>, identity: Identity, generation: u64) -> Registration {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.lock().insert(number, (identity, generation));
        Registration { registry: Arc::clone(self), number }
    }

    /// Returns the connections of all generations before this one.
    pub(crate) fn older_than(&self, generation: u64) -> Vec<Identity> {
        let open = self.open.lock();
        open.values().filter(|(_, made)| *made < generation).map(|(identity, _)| identity.clone()).collect()
    }

    pub(crate) fn forget(&self, identity: &Identity) {
        self.open.lock().retain(|_, (registered, _)| registered != identity);
    }
}

/// Keeps a connection registered.
pub(crate) struct Registration {
    registry: Arc<OpenConnections>,
    number: u64,
}

impl Registration {
    /// Returns whether the server is known to have closed the connection.
    pub(crate) fn is_forgotten(&self) -> bool {
        !self.registry.open.lock().contains_key(&self.number)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.open.lock().remove(&self.number);
    }
}

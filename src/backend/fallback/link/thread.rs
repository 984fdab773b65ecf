//! Owns how the thread that reconnects is started, and what operations do in its place if the system has no room for a
//! thread. Knows nothing of how the server is reached.

use std::sync::Arc;

use crate::backend::fallback::outage::serving::Outage;
use crate::backend::fallback::shared::Shared;

impl Shared {
    /// Starts the thread that reconnects at the end of this outage.
    pub(crate) fn start_reconnecting(self: &Arc<Self>, outage: &Arc<Outage>) {
        let (shared, outage) = (Arc::clone(self), Arc::clone(outage));
        self.reconnector.spawn(self.redis.server_name(), move || shared.reconnect_when_possible(&outage));
    }

    /// If the reconnecting thread could not be started and its work is due: tries again to start it, and to reconnect
    /// if that fails. The caller holds no lock.
    #[inline]
    pub(crate) fn stand_in_for_thread(self: &Arc<Self>) {
        if self.reconnector.lacks_thread() {
            self.take_turn_of_thread();
        }
    }

    #[cold]
    fn take_turn_of_thread(self: &Arc<Self>) {
        let Some(turn) = self.reconnector.take_turn() else { return };
        if let Some(outage) = self.outage.current() {
            self.start_reconnecting(&outage);
            if self.reconnector.lacks_thread() && self.try_reconnect().is_err() {
                // The outage goes on until a later turn.
                return;
            }
        }
        turn.end();
    }
}

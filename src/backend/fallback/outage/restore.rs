//! Owns how an outage begins with operations that an earlier run of the program queued.

use crate::backend::fallback::outage::leases::local_key;
use crate::backend::fallback::outage::serving::Outage;
use crate::clock::Now;

impl Outage {
    /// Applies the queued operations locally: a program that was started again finds what it wrote.
    pub(crate) fn apply_restored(&self, now: &Now<'_>) {
        self.session().restore(|key, action| {
            let key = local_key(key);
            // An action that fails on the part that is known locally may still succeed on the server.
            if let Some(Ok((change, _))) =
                action.to_entry().map(|action| self.table().plan(&key, action, now))
            {
                self.table().apply(&key, change, now);
            }
        });
    }
}

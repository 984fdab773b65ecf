//! Owns what follows when the server has lost what this process had seen or done there. Knows nothing of how
//! that is found out.

use std::sync::atomic::Ordering;

use crate::backend::fallback::shared::Shared;
use crate::outage::Event;

impl Shared {
    /// Draws the conclusions where the server has lost its memory while it served.
    #[inline]
    pub(crate) fn check_data_loss(&self) {
        if self.redis.has_data_loss() {
            {
                let outage = self.outage.read();
                // An outage finds out what became of its marker too, and tells both as one.
                if outage.is_none() {
                    self.note_data_loss();
                }
            }
            self.dispatch_events();
        }
    }

    /// As [`Inner::mind_history`], for who knows that there is no outage, and tells afterwards.
    pub(crate) fn note_data_loss(&self) {
        if let Some(cause) = self.take_data_loss() {
            // The marker has gone with all else: this is told once.
            self.was_marked.store(false, Ordering::Relaxed);
            self.report_data_loss(cause.to_owned());
        }
    }

    /// Forgets what was seen on a server that has lost its memory, and tells what shows that.
    pub(crate) fn take_data_loss(&self) -> Option<&'static str> {
        let cause = self.redis.take_data_loss()?;
        self.shadow.clear();
        self.shadow.forget_in_doubt();
        Some(cause)
    }

    pub(crate) fn report_data_loss(&self, cause: String) {
        log::warn!("the Redis server has lost data: {cause}");
        self.events.lock().push_back(Event::HistoryLost { cause });
    }
}

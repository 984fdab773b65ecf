//! Owns what follows when the server has lost what this process had seen or done there. Knows nothing of how
//! that is found out.

use std::sync::atomic::Ordering;

use crate::backend::fallback::shared::Inner;
use crate::outage::Event;

impl Inner {
    /// Draws the conclusions where the server has lost its memory while it served.
    #[inline]
    pub(crate) fn mind_history(&self) {
        if self.redis.has_lost_history() {
            {
                let outage = self.outage.read();
                // An outage finds out what became of its marker too, and tells both as one.
                if outage.is_none() {
                    self.note_lost_history();
                }
            }
            self.tell();
        }
    }

    /// As [`Inner::mind_history`], for who knows that there is no outage, and tells afterwards.
    pub(crate) fn note_lost_history(&self) {
        if let Some(cause) = self.forget_history() {
            // The marker has gone with all else: this is told once.
            self.was_marked.store(false, Ordering::Relaxed);
            self.lose_history(cause.to_owned());
        }
    }

    /// Forgets what was seen on a server that has lost its memory, and tells what shows that.
    pub(crate) fn forget_history(&self) -> Option<&'static str> {
        let cause = self.redis.take_lost_history()?;
        self.shadow.clear();
        self.shadow.settle();
        Some(cause)
    }

    pub(crate) fn lose_history(&self, cause: String) {
        log::warn!("the Redis server has lost data: {cause}");
        self.events.lock().push_back(Event::HistoryLost { cause });
    }
}

//! Owns what follows when the server has lost data that this process had seen or written. Knows nothing of how that
//! is detected.

use crate::backend::fallback::shared::Shared;
use crate::backend::redis::client::DataLoss;
use crate::outage::Event;
use crate::util::log_later::log_later;

impl Shared {
    /// Reports a data loss that was detected while the server was connected.
    #[inline]
    pub(crate) fn check_data_loss(&self) {
        if self.redis.has_data_loss() {
            self.report_data_loss_if_connected();
        }
    }

    #[cold]
    fn report_data_loss_if_connected(&self) {
        {
            let outage = self.outage.read();
            // An outage checks its marker too when it ends, and reports both as one loss.
            if outage.is_none() {
                self.take_and_report_data_loss();
            }
        }
        self.events.dispatch();
    }

    /// Reports a data loss, if there is one. The caller knows that there is no outage, and dispatches the event.
    pub(crate) fn take_and_report_data_loss(&self) {
        if let Some(loss) = self.take_data_loss() {
            // The marker is lost too, or went back too, and must not be reported as a second loss.
            self.marker.note_lost();
            self.marker.note_loss_told();
            self.report_data_loss(loss.cause().to_owned());
        }
    }

    /// Forgets what was seen on a server that has lost data, and returns what shows the loss.
    pub(crate) fn take_data_loss(&self) -> Option<DataLoss> {
        let loss = self.redis.take_data_loss()?;
        self.shadow.clear();
        self.shadow.forget_in_doubt();
        Some(loss)
    }

    pub(crate) fn report_data_loss(&self, cause: String) {
        log_later!(
            Warn,
            "Redis {} has lost its data or a part of it: it was flushed, replaced, or restarted without its newest data ({cause})",
            self.redis.server_name()
        );
        self.events.push(Event::DataLost { cause });
    }
}

//! Owns the log line about a server that was never reached since the store was opened. Knows nothing of when the line is
//! due.

use crate::backend::fallback::shared::Shared;
use crate::util::log_later::log_later;

impl Shared {
    /// Logs what serves in place of a server that was never reached, what is at risk, and how to change that.
    #[cold]
    pub(crate) fn log_never_reached(&self, cause: &str) {
        let (server, cause) = (self.redis.server_name(), self.redis.without_host(cause));
        let risk = match &self.queue_file {
            Some(file) => format!("writes are queued in {}", file.path().display()),
            None => "writes are queued in memory and are lost when the program ends (fallback=file:<directory> keeps \
                     them)"
                .to_owned(),
        };
        log_later!(
            Error,
            "Redis {server} has never been reached since this store was opened: {cause}; memory serves in its \
             place, without the data on the server, and {risk}; check the address, and set at_start=require if \
             opening should fail instead"
        );
    }
}

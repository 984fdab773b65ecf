//! Owns how a store is closed, and how a program reconnects at once. Knows nothing of how operations are replayed.

use std::thread;
use std::time::{Duration, Instant};

use crate::backend::fallback::open::FallbackBackend;
use crate::backend::fallback::shared::Shared;
use crate::backend::redis::replay::reconnect_error::ReconnectReason;
use crate::error::{Error, Result};
use crate::util::log_later::log_later;

const RETRY_PAUSE: Duration = Duration::from_millis(10);

impl FallbackBackend {
    /// Tries to reconnect now.
    pub(crate) fn reconnect(&self) -> Result<()> {
        self.shared.redis.check_process()?;
        self.shared.try_reconnect().map_err(|error| match error.reason {
            ReconnectReason::Denied => Error::Denied { source: error.cause.into() },
            ReconnectReason::StaleQueue => self.shared.stale_queue_error(&error.cause),
            ReconnectReason::TimedOut
            | ReconnectReason::Refused
            | ReconnectReason::Broken
            | ReconnectReason::Failed => Error::unavailable(error.cause),
        })
    }

    pub(crate) fn close_within(&self, timeout: Duration) -> Result<()> {
        self.shared.close(timeout)
    }
}

impl Shared {
    /// Closes the store. Queued operations that cannot be replayed within `timeout` are lost if no file keeps them.
    pub(crate) fn close(&self, timeout: Duration) -> Result<()> {
        // A forked child has no thread to wait for, and its queued operations are those of the parent.
        self.redis.check_process()?;
        if !self.reconnector.begin_ending() {
            return Ok(());
        }
        // A limit that is too far away for an instant is none.
        let end = Instant::now().checked_add(timeout);
        if let Some(end) = end {
            self.redis.link.cut_off(end);
        }
        self.reconnector.join(end);
        self.redis.end_keeping_connections(end);
        self.replay_until(end);
        self.outage.close();
        let (pending, writes) = (self.outage.pending(), self.outage.writes());
        let are = if writes.calls == 1 { "is" } else { "are" };
        if pending == 0 {
            // The next program that opens the files of the queue goes by the same marker.
            let marker = self.marker.on_server().filter(|_| self.queue_file.is_none());
            self.redis.delete_session(marker.as_ref());
        }
        self.redis.close();
        if let Some(file) = &self.queue_file {
            file.close()?;
            if pending > 0 {
                let (server, path) = (self.redis.server_name(), file.path().display());
                log_later!(Info, "Redis {server}: kept in {path} for the next run: {writes}");
            }
            return Ok(());
        }
        if pending > 0 {
            Err(Error::abandoned(format!(
                "{writes} {are} lost: Redis {} did not come back before the store was closed; fallback=file keeps them",
                self.redis.server_name()
            )))
        } else {
            Ok(())
        }
    }

    fn replay_until(&self, end: Option<Instant>) {
        let left = || end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        while self.outage.pending() > 0 {
            match self.try_reconnect_until(end) {
                Err(error) if error.reason == ReconnectReason::StaleQueue => break,
                Err(_) if !left().is_zero() => thread::sleep(RETRY_PAUSE.min(left())),
                Ok(()) | Err(_) => break,
            }
        }
    }
}

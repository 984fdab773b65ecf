//! Owns the documented group of ending: making everything durable, and closing the store.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::error::Result;
use crate::store::state_store::{StateStore, on_backend, on_redis};

/// # Ending
///
/// Close a store before the program ends: only then does the program learn whether everything was written.
impl StateStore {
    /// Makes everything acknowledged so far as durable as the backend can: on File it is on the disk when
    /// this returns, and so are the operations for a Redis server that are queued in files. Otherwise there is
    /// nothing to do.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let url = format!("file:{}?sync=1s", dir.path().display());
    /// let store = millpond::StateStore::open(url)?; // file:./state?sync=1s
    /// store.put("order:17", "paid")?;
    /// store.flush()?; // from now on the order survives a power failure
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Poisoned`](crate::Error::Poisoned) on File; [`Unavailable`](crate::Error::Unavailable) after
    /// [`close`](Self::close).
    pub fn flush(&self) -> Result<()> {
        self.context().check_open()?;
        on_backend!(self, backend => backend.flush())
    }

    /// Closes the store for all its handles: flushes it and releases its files and connections. Every
    /// later operation, on any handle, returns [`Unavailable`](crate::Error::Unavailable). Closing twice does
    /// nothing.
    ///
    /// If operations are queued for a Redis server that is disconnected, this waits for the server for one
    /// [`timeout`](crate::RedisOptions::timeout); [`close_within`](Self::close_within) takes another time.
    ///
    /// Dropping the last handle closes the store too, but waits for no server, and logs failures.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.put("order:17", "paid")?;
    /// store.close()?;
    /// assert!(store.get::<String>("order:17").unwrap_err().is_closed());
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn close(&self) -> Result<()> {
        if !self.begin_close() {
            return Ok(());
        }
        let end = Instant::now().checked_add(self.context().shared.limit);
        let outcome = on_backend!(self, backend => backend.close());
        self.context().shared.renewals.close(end);
        outcome
    }

    /// Closes the store as [`close`](Self::close) does, and if operations are queued for the server, waits for it
    /// for at most `timeout`, whatever the server does. With a `timeout` of zero it does not wait at all. If
    /// `fallback=file:` keeps the queue, writing to the disk may take longer.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// if let Err(error) = store.close_within(Duration::from_secs(10)) {
    ///     eprintln!("some writes did not reach the server: {error}");
    /// }
    /// assert_eq!(store.status(), millpond::Status::Closed);
    /// ```
    ///
    /// # Errors
    /// As [`close`](Self::close); [`Unavailable`](crate::Error::Unavailable) if some queued operations were not
    /// applied in that time: they are lost (an operation whose answer did not come in time may be applied all the same),
    /// and closing again does not bring them back. To wait without closing, call [`reconnect`](Self::reconnect)
    /// repeatedly.
    #[cfg_attr(not(feature = "redis"), expect(unused_variables, reason = "only a server is waited for"))]
    pub fn close_within(&self, timeout: Duration) -> Result<()> {
        on_redis!(
            self,
            backend => {
                if !self.begin_close() {
                    return Ok(());
                }
                let end = Instant::now().checked_add(timeout);
                let outcome = backend.close_within(timeout);
                self.context().shared.renewals.close(end);
                outcome
            },
            else => self.close()
        )
    }

    /// Refuses all further operations; returns `false` if they are refused already.
    fn begin_close(&self) -> bool {
        !self.context().shared.closed.swap(true, Ordering::AcqRel)
    }
}

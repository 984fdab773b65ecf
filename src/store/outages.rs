//! Owns the documented group of outages: what a program can ask and learn while the Redis server is disconnected.

use crate::error::Result;
use crate::outage::{Event, ListenerHandle, Rejected, WriteConflict};
#[cfg(feature = "redis")]
use crate::store::state_store::{Handle, RedisStore};
use crate::store::state_store::{StateStore, on_redis};

/// # Outages
///
/// When the server of a Redis store cannot be reached, at opening or at any later moment, the store is
/// **disconnected** ([`Status::Disconnected`](crate::Status::Disconnected)), and an outage begins. The operation that notices takes
/// up to its `timeout`; from then on no operation touches the network, until a thread
/// in the background has reached the server again. In the meantime, with `fallback = "memory"`:
///
/// | operations | during an outage |
/// | --- | --- |
/// | reads | the values that this process has read or written: see [`shadow_bytes`](crate::RedisOptions::shadow_bytes). For a key that it knows nothing about, or only a part of, see [`on_unknown_key`](crate::RedisOptions::on_unknown_key) |
/// | listings, `count`, `len` | the keys that this process has read or written. [`entries`](Self::entries) leaves out a value of which only a part is known |
/// | `put*`, `batch_put*`, `write`, `delete`, `expire`, `persist`, `incr` and its variants, additions to a window, `update`, `get_and_touch`, reads of a [`sliding`](StateStore::sliding) handle, map writes, pushes, `queue_trim` | applied locally, and queued for the server. The number, length or bool that they return is an estimate from what is known locally |
/// | `set_if_not_exists`, `compare_and_set`, `get_and_delete`, `get_and_put`, `modify`, `rate_limit`, pops, `lease`, `ack`, `nack`, transactions, `clear`, `delete_prefix` | [`Unavailable`](crate::Error::Unavailable), since the result depends on what others may have changed; with [`exclusive`](crate::RedisOptions::exclusive) they are served on every key whose whole content is known locally, and their effects are queued |
/// | locks | [`Unavailable`](crate::Error::Unavailable) |
///
/// If this process has changed a key without knowing what it held, by `incr`, a push or `expire` for instance, then it
/// knows only a part of the entry, and every read of the key is answered like a read of an unknown key. The fields of a
/// map that it has written or deleted are known and can be read.
///
/// The replay queue is bounded by `max_pending`, `max_pending_bytes` and `max_outage`: beyond them writes are refused
/// with [`Unavailable`](crate::Error::Unavailable), and no queued operation is dropped.
///
/// When the server is back, the queued operations are applied to it, in order and each once, even if
/// replies are lost; then the store is [`Connected`](crate::Status::Connected) again. Memory and
/// File are never disconnected: for them all of these methods report that nothing happened.
impl StateStore {
    /// Returns a handle on the same store whose operations return [`Unavailable`](crate::Error::Unavailable)
    /// at once while the server is disconnected: for changes that others must see.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// let direct = store.without_fallback();
    /// direct.put("price:apples", 3)?; // fails, and queues nothing, while the server is disconnected
    /// assert_eq!(store.get("price:apples")?, Some(3));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn without_fallback(&self) -> Self {
        match self {
            Self::Memory(_) | Self::File(_) => self.clone(),
            #[cfg(feature = "redis")]
            Self::Redis(RedisStore(handle)) => {
                let backend = std::sync::Arc::new(handle.backend.without_fallback());
                Self::Redis(RedisStore(Handle { backend, context: handle.context.clone() }))
            }
        }
    }

    /// Registers a listener that is called whenever the server is disconnected or connected again, or has lost data; and
    /// when a store in memory has evicted entries.
    ///
    /// The thread that notices calls it: its operation waits for the listener, which should be quick and may use the
    /// store in any way, also close it. If more than 1000 events wait for a slow listener, the oldest are dropped and
    /// counted in [`OutageStats::dropped_events`](crate::stats::OutageStats::dropped_events). Past events are not reported: see [`status`](Self::status). Listeners add up. Each stays until
    /// [`stop`](ListenerHandle::stop) of the handle that this returns, or until the store is dropped; dropping the handle
    /// ends nothing. So a listener that holds the store itself keeps it until it is stopped.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// use millpond::Event;
    ///
    /// let listening = store.on_event(|event| match event {
    ///     Event::Disconnected { cause, .. } => eprintln!("pausing the import: {cause}"),
    ///     other => eprintln!("{other}"),
    /// });
    /// // … until the program is no longer interested …
    /// listening.stop();
    /// ```
    pub fn on_event(&self, listener: impl Fn(&Event) + Send + Sync + 'static) -> ListenerHandle {
        match self {
            Self::Memory(store) => store.0.backend.on_event(listener),
            Self::File(_) => ListenerHandle::of_nothing(),
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.0.backend.on_event(listener),
        }
    }

    /// Removes and returns the queued operations that the server refused for good. They are not retried.
    ///
    /// Until they are taken, these and the conflicts and the operations in doubt are kept in memory, together at most
    /// 16 MiB. Beyond that the oldest are dropped, and counted in
    /// [`OutageStats::dropped_outcomes`](crate::stats::OutageStats::dropped_outcomes).
    ///
    /// If the queue is in files, they stay there too until they are taken, also by a later program.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// for rejected in store.take_rejected() {
    ///     eprintln!("{} of {} was refused: {}", rejected.operation, rejected.key, rejected.error);
    /// }
    /// assert!(store.take_rejected().is_empty());
    /// ```
    #[must_use]
    pub fn take_rejected(&self) -> Vec<Rejected> {
        on_redis!(self, backend => backend.take_rejected(), else => Vec::new())
    }

    /// Removes and returns the queued writes that met a value which somebody else had written meanwhile. They are kept
    /// as [`take_rejected`](Self::take_rejected) says.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// for conflict in store.take_conflicts() {
    ///     let winner = if conflict.applied { &conflict.local } else { &conflict.remote };
    ///     eprintln!("{} was written by two clients; it is {winner:?} now", conflict.key);
    /// }
    /// assert!(store.take_conflicts().is_empty());
    /// ```
    #[must_use]
    pub fn take_conflicts(&self) -> Vec<WriteConflict> {
        on_redis!(self, backend => backend.take_conflicts(), else => Vec::new())
    }

    /// Tries now to reach a server that is disconnected, and returns when all queued operations are applied to it.
    /// If the store is connected there is nothing to do, and the server is not asked.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.reconnect()?; // after the operator has repaired the server
    /// assert_eq!(store.status(), millpond::Status::Connected);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Unavailable`](crate::Error::Unavailable) if the server still cannot be reached;
    /// [`Denied`](crate::Error::Denied) if it is back and refuses this client.
    pub fn reconnect(&self) -> Result<()> {
        self.context().check_open()?;
        on_redis!(self, backend => backend.reconnect(), else => Ok(()))
    }
}

//! Owns what a program asks an error: its kind, whether repeating the call can help, and what a transaction was aborted
//! with. Knows nothing of the texts.

use crate::error::{Cause, Error, StoreClosed};

impl Error {
    /// Returns whether the same call can succeed later without any other change than time passing.
    ///
    /// True for [`Unavailable`](Self::Unavailable) (except for a closed store, and for one that another process
    /// opened), [`StorageFull`](Self::StorageFull), [`Full`](Self::Full), [`Conflict`](Self::Conflict), [`Busy`](Self::Busy),
    /// [`Locked`](Self::Locked), and for a [`Partial`](Self::Partial) that stopped for one of these. It does not mean that repeating is
    /// harmless: check `maybe_applied` before you repeat a write.
    ///
    /// ```
    /// let error = millpond::StateStore::memory().put("", 1).unwrap_err();
    /// assert!(!error.is_transient());
    /// ```
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { permanent, .. } => !permanent,
            Self::StorageFull { .. }
            | Self::Full { .. }
            | Self::Conflict { .. }
            | Self::Busy { .. }
            | Self::Locked { .. } => true,
            Self::Partial { source, .. } => source.is_transient(),
            Self::InvalidKey { .. }
            | Self::InvalidTtl { .. }
            | Self::InvalidConfig { .. }
            | Self::TooLarge { .. }
            | Self::WrongType { .. }
            | Self::NotAnInteger { .. }
            | Self::Overflow { .. }
            | Self::Encode { .. }
            | Self::Decode { .. }
            | Self::Io { .. }
            | Self::Corrupt { .. }
            | Self::InvalidExport { .. }
            | Self::Stream { .. }
            | Self::Poisoned { .. }
            | Self::LockLost { .. }
            | Self::Aborted(_)
            | Self::Denied { .. }
            | Self::Server { .. }
            | Self::Unsupported { .. } => false,
        }
    }

    /// Wraps an error of the program, so that the closure of a [`transaction`](crate::StateStore::transaction) can
    /// return it. It becomes the [`source`](std::error::Error::source) of the [`Aborted`](Self::Aborted) that the
    /// transaction returns.
    ///
    /// ```
    /// use millpond::{Error, StateStore};
    ///
    /// let store = StateStore::memory();
    /// let refused = store.transaction(|tx| match tx.get::<i64>("balance")? {
    ///     Some(balance) if balance >= 10 => tx.put("balance", balance - 10),
    ///     _ => Err(Error::abort("not enough money")),
    /// });
    /// assert!(matches!(refused, Err(Error::Aborted(cause)) if cause.to_string() == "not enough money"));
    /// ```
    pub fn abort(cause: impl Into<Cause>) -> Self {
        Self::Aborted(cause.into())
    }

    /// Returns what [`Error::abort`] took, if this error is [`Aborted`](Self::Aborted) and it was an `E`.
    ///
    /// ```
    /// use millpond::{Error, StateStore};
    /// use std::num::ParseIntError;
    ///
    /// let error = StateStore::memory()
    ///     .transaction(|_| "seven".parse::<i64>().map_err(Error::abort))
    ///     .unwrap_err();
    /// assert!(error.aborted::<ParseIntError>().is_some());
    /// ```
    #[must_use]
    pub fn aborted<E: std::error::Error + 'static>(&self) -> Option<&E> {
        if let Self::Aborted(cause) = self { cause.downcast_ref() } else { None }
    }

    /// Returns what [`Error::abort`] took, by value.
    ///
    /// # Errors
    /// This error itself, if it is not [`Aborted`](Self::Aborted) or was not made from an `E`.
    ///
    /// ```
    /// use millpond::Error;
    /// use std::num::ParseIntError;
    ///
    /// let error = "seven".parse::<i64>().map_err(Error::abort).unwrap_err();
    /// let cause: ParseIntError = error.into_aborted()?;
    /// assert_eq!(cause.to_string(), "invalid digit found in string");
    /// # Ok::<(), Error>(())
    /// ```
    pub fn into_aborted<E: std::error::Error + 'static>(self) -> Result<E, Self> {
        if let Self::Aborted(cause) = self {
            cause.downcast().map(|cause| *cause).map_err(Self::Aborted)
        } else {
            Err(self)
        }
    }

    /// Returns whether the operation may have been applied although it failed: the reply of the server was lost. Then
    /// repeating the operation may apply it twice.
    ///
    /// ```
    /// let error = millpond::StateStore::memory().put("", 1).unwrap_err();
    /// assert!(!error.maybe_applied());
    /// ```
    #[must_use]
    pub fn maybe_applied(&self) -> bool {
        matches!(self, Self::Unavailable { maybe_applied: true, .. })
    }
}

/// # Kinds
///
/// Each of these methods tests for one variant. What an operation over many keys stopped for is the `source` of
/// [`Partial`](Error::Partial), and is not looked into.
impl Error {
    /// Returns whether the store was closed, by [`close`](crate::StateStore::close) on this handle or another.
    ///
    /// ```
    /// let store = millpond::StateStore::memory();
    /// store.close().unwrap();
    /// assert!(store.put("k", 1).unwrap_err().is_closed());
    /// ```
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Unavailable { source, .. } if source.is::<StoreClosed>())
    }

    /// Returns whether the server cannot be reached or did not reply in time, or the store is closed: see
    /// [`Unavailable`](Self::Unavailable).
    ///
    /// ```
    /// let store = millpond::StateStore::memory();
    /// store.close().unwrap();
    /// assert!(store.put("k", 1).unwrap_err().is_unavailable());
    /// ```
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Returns whether somebody else held the lock for as long as the call would wait: see [`Busy`](Self::Busy).
    ///
    /// ```
    /// use std::time::Duration;
    /// let store = millpond::StateStore::memory();
    /// let held = store.lock("job", Duration::from_secs(9), Duration::ZERO).unwrap();
    /// assert!(store.lock("job", Duration::from_secs(9), Duration::ZERO).unwrap_err().is_busy());
    /// # drop(held);
    /// ```
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }

    /// Returns whether other writers kept changing the entry: see [`Conflict`](Self::Conflict).
    ///
    /// ```
    /// use millpond::{ErrorKind, StateStore};
    ///
    /// let busy = StateStore::failing(ErrorKind::Conflict);
    /// let error = busy.modify("stock", |stock: Option<u32>| stock).unwrap_err();
    /// assert!(error.is_conflict());
    /// ```
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }

    /// Returns whether the key holds an entry of another kind: see [`WrongType`](Self::WrongType).
    ///
    /// ```
    /// let store = millpond::StateStore::memory();
    /// store.push_back("k", 1).unwrap();
    /// assert!(store.get::<i64>("k").unwrap_err().is_wrong_type());
    /// ```
    #[must_use]
    pub fn is_wrong_type(&self) -> bool {
        matches!(self, Self::WrongType { .. })
    }

    /// Returns whether the stored value cannot be read as the type that was asked for: see
    /// [`Decode`](Self::Decode).
    ///
    /// ```
    /// let store = millpond::StateStore::memory();
    /// store.put_bytes("k", b"\xff").unwrap();
    /// assert!(store.get::<i64>("k").unwrap_err().is_decode());
    /// ```
    #[must_use]
    pub fn is_decode(&self) -> bool {
        matches!(self, Self::Decode { .. })
    }

    /// Returns whether the value cannot be written as JSON: see [`Encode`](Self::Encode).
    ///
    /// ```
    /// assert!(millpond::StateStore::memory().put("k", f64::NAN).unwrap_err().is_encode());
    /// ```
    #[must_use]
    pub fn is_encode(&self) -> bool {
        matches!(self, Self::Encode { .. })
    }

    /// Returns whether the value is larger than `max_value_bytes`: see [`TooLarge`](Self::TooLarge).
    ///
    /// ```
    /// let store = millpond::StateStore::open("memory:?max_value_bytes=1KiB").unwrap();
    /// assert!(store.put("page", "x".repeat(2000)).unwrap_err().is_too_large());
    /// ```
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::TooLarge { .. })
    }

    /// Returns whether a counter operation met a value that is not an integer: see
    /// [`NotAnInteger`](Self::NotAnInteger).
    ///
    /// ```
    /// let store = millpond::StateStore::memory();
    /// store.put("k", "text").unwrap();
    /// assert!(store.incr("k", 1).unwrap_err().is_not_an_integer());
    /// ```
    #[must_use]
    pub fn is_not_an_integer(&self) -> bool {
        matches!(self, Self::NotAnInteger { .. })
    }

    /// Returns whether a counter would leave the range of `i64`: see [`Overflow`](Self::Overflow).
    ///
    /// ```
    /// let store = millpond::StateStore::memory();
    /// store.put("k", i64::MAX).unwrap();
    /// assert!(store.incr("k", 1).unwrap_err().is_overflow());
    /// ```
    #[must_use]
    pub fn is_overflow(&self) -> bool {
        matches!(self, Self::Overflow { .. })
    }

    /// Returns whether the key breaks a rule: see [`InvalidKey`](Self::InvalidKey).
    ///
    /// ```
    /// assert!(millpond::StateStore::memory().put("", 1).unwrap_err().is_invalid_key());
    /// ```
    #[must_use]
    pub fn is_invalid_key(&self) -> bool {
        matches!(self, Self::InvalidKey { .. })
    }

    /// Returns whether the time to live is zero or too long: see [`InvalidTtl`](Self::InvalidTtl).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// let error = store.put_with_ttl("session:7", "anna", Duration::ZERO).unwrap_err();
    /// assert!(error.is_invalid_ttl());
    /// ```
    #[must_use]
    pub fn is_invalid_ttl(&self) -> bool {
        matches!(self, Self::InvalidTtl { .. })
    }

    /// Returns whether the configuration is wrong: see [`InvalidConfig`](Self::InvalidConfig).
    ///
    /// ```
    /// assert!(millpond::StateStore::open("http://x").unwrap_err().is_invalid_config());
    /// ```
    #[must_use]
    pub fn is_invalid_config(&self) -> bool {
        matches!(self, Self::InvalidConfig { .. })
    }

    /// Returns whether the store is already open, in this process or another: see [`Locked`](Self::Locked).
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let url = format!("file:{}", dir.path().display());
    /// let store = millpond::StateStore::open(&url).unwrap();
    /// assert!(millpond::StateStore::open(&url).unwrap_err().is_locked());
    /// # drop(store);
    /// ```
    #[must_use]
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Locked { .. })
    }

    /// Returns whether a file of the store is damaged: see [`Corrupt`](Self::Corrupt).
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path();
    /// # let url = format!("file:{}", path.display());
    /// # std::fs::write(path.join("snapshot-1.jsonl"), "not a snapshot\n").unwrap();
    /// # std::fs::write(path.join("journal-1.jsonl"), "not a journal\n").unwrap();
    /// let error = millpond::StateStore::open(&url).unwrap_err();
    /// assert!(error.is_corrupt()); // see `FileStore::repair`
    /// ```
    #[must_use]
    pub fn is_corrupt(&self) -> bool {
        matches!(self, Self::Corrupt { .. })
    }

    /// Returns whether the disk is full: see [`StorageFull`](Self::StorageFull).
    ///
    /// ```
    /// use millpond::{ErrorKind, StateStore};
    ///
    /// let full = StateStore::failing(ErrorKind::StorageFull);
    /// assert!(full.put("order:17", "paid").unwrap_err().is_storage_full());
    /// ```
    #[must_use]
    pub fn is_storage_full(&self) -> bool {
        matches!(self, Self::StorageFull { .. })
    }

    /// Returns whether a store in memory has reached one of its bounds: see [`Full`](Self::Full).
    ///
    /// ```
    /// let store = millpond::StateStore::open("memory:?max_entries=1").unwrap();
    /// store.put("a", 1).unwrap();
    /// assert!(store.put("b", 1).unwrap_err().is_full());
    /// ```
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }

    /// Returns whether the store takes no more writes until it is opened again: see [`Poisoned`](Self::Poisoned).
    ///
    /// ```
    /// use millpond::{ErrorKind, StateStore};
    ///
    /// let store = StateStore::failing(ErrorKind::Poisoned);
    /// assert!(store.put("order:17", "paid").unwrap_err().is_poisoned()); // close the store, and open it again
    /// ```
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        matches!(self, Self::Poisoned { .. })
    }

    /// Returns whether the operating system refused a call: see [`Io`](Self::Io).
    ///
    /// ```
    /// let missing = millpond::OpenOptions::new().read_only(true).open("file:./no/such/directory");
    /// assert!(missing.unwrap_err().is_io());
    /// ```
    #[must_use]
    pub fn is_io(&self) -> bool {
        matches!(self, Self::Io { .. })
    }

    /// Returns whether the server refused access: see [`Denied`](Self::Denied).
    ///
    /// ```
    /// use millpond::{ErrorKind, StateStore};
    ///
    /// let locked_out = StateStore::failing(ErrorKind::Denied);
    /// assert!(locked_out.get::<u32>("stock").unwrap_err().is_denied()); // look at the user and the password
    /// ```
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Denied { .. })
    }

    /// Returns whether the server replied with an error of its own: see [`Server`](Self::Server).
    ///
    /// ```
    /// let error = millpond::StateStore::memory().put("", 1).unwrap_err();
    /// assert!(!error.is_server()); // no server was asked
    /// ```
    #[must_use]
    pub fn is_server(&self) -> bool {
        matches!(self, Self::Server { .. })
    }

    /// Returns whether a lock is no longer held: see [`LockLost`](Self::LockLost).
    ///
    /// ```
    /// use millpond::{ManualClock, OpenOptions};
    /// use std::{sync::Arc, time::Duration};
    ///
    /// let clock = Arc::new(ManualClock::default());
    /// let store = OpenOptions::new().clock(clock.clone()).open("memory:")?;
    /// let guard = store.lock("report", Duration::from_secs(30), Duration::ZERO)?;
    /// clock.advance(Duration::from_secs(31)); // the work took too long
    /// assert!(guard.release().unwrap_err().is_lock_lost());
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn is_lock_lost(&self) -> bool {
        matches!(self, Self::LockLost { .. })
    }

    /// Returns whether the closure of a transaction ended it by [`Error::abort`]: see [`Aborted`](Self::Aborted)
    /// and [`aborted`](Self::aborted).
    ///
    /// ```
    /// let error = millpond::StateStore::memory().transaction(|_| Err::<(), _>(millpond::Error::abort("no"))).unwrap_err();
    /// assert!(error.is_aborted());
    /// ```
    #[must_use]
    pub fn is_aborted(&self) -> bool {
        matches!(self, Self::Aborted(_))
    }

    /// Returns whether an operation over many keys was done in part: see [`Partial`](Self::Partial).
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// let keys = (0..1000).map(|n| format!("reading:{n}")).chain(["".to_owned()]);
    /// let error = store.batch_put(keys.map(|key| (key, 1))).unwrap_err(); // the last key is invalid
    /// assert!(error.is_partial());
    /// assert_eq!(store.len()?, 1000);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn is_partial(&self) -> bool {
        matches!(self, Self::Partial { .. })
    }

    /// Returns whether the build, the server or the configuration cannot do it: see
    /// [`Unsupported`](Self::Unsupported).
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let url = format!("file:{}", dir.path().display());
    /// let seen = millpond::OpenOptions::new().read_only(true).open(&url).unwrap();
    /// assert!(seen.put("order:17", "paid").unwrap_err().is_unsupported());
    /// ```
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Unsupported { .. })
    }
}

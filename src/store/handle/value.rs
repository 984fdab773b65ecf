//! Owns the handle on a value. Its methods call those of [`StateStore`] that they name.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::Ttl;
use crate::error::Result;
use crate::store::handle::declare::{argument, delegate, handle};
use crate::store::state_store::StateStore;

handle! {
    /// A value under one key: see [`StateStore::value`].
    Value<T>
}

impl<T: Serialize + DeserializeOwned> Value<T> {
    delegate! {
        /// Reads the value; `None` if the key is absent. See [`StateStore::get`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let limit = store.value::<u32>("rule:limit");
        /// limit.put(250)?;
        /// assert_eq!(limit.get()?, Some(250));
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`Decode`](crate::Error::Decode) if the value is not a `T`; [`WrongType`](crate::Error::WrongType) if the
        /// key holds another kind.
        get() -> Option<T> = get;

        /// Sets the value, which may be passed by reference. The entry lives for `default_ttl`, or without limit. See
        /// [`StateStore::put`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let name = store.value::<String>("name:7");
        /// let anna = "anna".to_owned();
        /// name.put(&anna)?;
        /// assert_eq!(name.get()?, Some(anna));
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`Encode`](crate::Error::Encode) if the value cannot be written as JSON,
        /// [`TooLarge`](crate::Error::TooLarge).
        put(value: impl Borrow<T> => T) -> () = put;

        /// Sets the value for the time `ttl`. See [`StateStore::put_with_ttl`].
        ///
        /// ```
        /// # use millpond::Ttl;
        /// # use std::time::Duration;
        /// # let store = millpond::StateStore::memory();
        /// # let code = store.value::<u32>("code:anna");
        /// code.put_with_ttl(4711, Duration::from_secs(300))?;
        /// assert!(matches!(code.ttl()?, Some(Ttl::In(_))));
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`Encode`](crate::Error::Encode) if the value cannot be written as JSON,
        /// [`TooLarge`](crate::Error::TooLarge), [`InvalidTtl`](crate::Error::InvalidTtl).
        put_with_ttl(value: impl Borrow<T> => T, ttl: Duration) -> () = put_with_ttl;

        /// Replaces the value if there is one, and keeps its time to live; returns `false` if the key is absent. See
        /// [`StateStore::update`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let limit = store.value::<u32>("rule:limit");
        /// assert!(!limit.update(300)?);
        /// assert_eq!(limit.get()?, None);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`Encode`](crate::Error::Encode) if the value cannot be written as JSON,
        /// [`TooLarge`](crate::Error::TooLarge), [`WrongType`](crate::Error::WrongType) if the key holds another
        /// kind.
        update(value: impl Borrow<T> => T) -> bool = update;

        /// Returns whether the key exists. See [`StateStore::contains`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let limit = store.value::<u32>("rule:limit");
        /// assert!(!limit.contains()?);
        /// limit.put(250)?;
        /// assert!(limit.contains()?);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// Only the [common ones](StateStore#values).
        contains() -> bool = contains;

        /// Sets the value if the key is absent, and returns whether it did. See [`StateStore::set_if_not_exists`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let limit = store.value::<u32>("rule:limit");
        /// assert!(limit.set_if_not_exists(100, None)?);
        /// assert!(!limit.set_if_not_exists(250, None)?);
        /// assert_eq!(limit.get()?, Some(100));
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`Encode`](crate::Error::Encode) if the value cannot be written as JSON,
        /// [`TooLarge`](crate::Error::TooLarge), [`InvalidTtl`](crate::Error::InvalidTtl).
        set_if_not_exists(value: impl Borrow<T> => T, ttl: impl Into<Option<Duration>>) -> bool = set_if_not_exists;

        /// Replaces the value if it is still the expected one, and returns whether it did. See
        /// [`StateStore::compare_and_set`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let limit = store.value::<u32>("rule:limit");
        /// limit.put(100)?;
        /// assert!(limit.compare_and_set(Some(&100), 250)?);
        /// assert!(!limit.compare_and_set(Some(&100), 300)?);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`Encode`](crate::Error::Encode) if the value cannot be written as JSON,
        /// [`TooLarge`](crate::Error::TooLarge), [`WrongType`](crate::Error::WrongType) if the key holds another
        /// kind, [`Conflict`](crate::Error::Conflict) if others kept changing the entry.
        compare_and_set(expected: Option<&T>, new: impl Borrow<T> => T) -> bool = compare_and_set;

        /// Sets the value and returns the previous one, in one step. See [`StateStore::get_and_put`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let limit = store.value::<u32>("rule:limit");
        /// limit.put(100)?;
        /// assert_eq!(limit.get_and_put(250)?, Some(100));
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`Encode`](crate::Error::Encode) if the value cannot be written as JSON,
        /// [`TooLarge`](crate::Error::TooLarge), [`WrongType`](crate::Error::WrongType) if the key holds another
        /// kind; [`Decode`](crate::Error::Decode), after the replacement, if the previous value is not a `T`.
        get_and_put(value: impl Borrow<T> => T) -> Option<T> = get_and_put;

        /// Sets the value for the time `ttl` and returns the previous one, in one step. See
        /// [`StateStore::get_and_put_with_ttl`].
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let store = millpond::StateStore::memory();
        /// # let limit = store.value::<u32>("rule:limit");
        /// limit.put(100)?;
        /// assert_eq!(limit.get_and_put_with_ttl(250, Duration::from_secs(60))?, Some(100));
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// Those of [`get_and_put`](Self::get_and_put), and [`InvalidTtl`](crate::Error::InvalidTtl).
        get_and_put_with_ttl(value: impl Borrow<T> => T, ttl: Duration) -> Option<T> = get_and_put_with_ttl;

        /// Removes the value and returns it, in one step. See [`StateStore::get_and_delete`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let code = store.value::<u32>("code:anna");
        /// code.put(4711)?;
        /// assert_eq!(code.get_and_delete()?, Some(4711));
        /// assert!(!code.contains()?);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`WrongType`](crate::Error::WrongType) if the key holds another kind; [`Decode`](crate::Error::Decode),
        /// after the removal, if the value is not a `T`.
        get_and_delete() -> Option<T> = get_and_delete;

        /// Replaces the value by the one that `f` makes of it, and loses no write of others in between. See
        /// [`StateStore::modify`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let limit = store.value::<u32>("rule:limit");
        /// limit.put(100)?;
        /// assert_eq!(limit.modify(|limit| limit.map(|limit| limit * 2))?, Some(200));
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`Decode`](crate::Error::Decode) if the value is not a `T`; [`Encode`](crate::Error::Encode) if the value
        /// cannot be written as JSON, [`TooLarge`](crate::Error::TooLarge), [`WrongType`](crate::Error::WrongType) if
        /// the key holds another kind, [`Conflict`](crate::Error::Conflict) if others kept changing the entry.
        modify(f: impl FnMut(Option<T>) -> Option<T>) -> Option<T> = modify;

        /// Reads the value; if there is none, sets the one that `f` computes, as [`StateStore::set_if_not_exists`]
        /// does, and returns it.
        ///
        /// If several threads of this process need the value at once, one computes it and the others wait. If another
        /// process is quicker, its value is returned. Since others wait while `f` runs, two calls whose closures each
        /// need the value of the other would wait for ever.
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let page = store.value::<String>("page:start");
        /// assert_eq!(page.get_or_insert_with(|| "<h1>hello</h1>".to_owned())?, "<h1>hello</h1>"); // rendered
        /// assert_eq!(page.get_or_insert_with(|| unreachable!())?, "<h1>hello</h1>"); // cached
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`Decode`](crate::Error::Decode) if the value is not a `T`; [`Encode`](crate::Error::Encode) if the value
        /// cannot be written as JSON, [`TooLarge`](crate::Error::TooLarge), [`WrongType`](crate::Error::WrongType) if
        /// the key holds another kind.
        get_or_insert_with(f: impl FnOnce() -> T) -> T = get_or_insert_with;

        /// As [`get_or_insert_with`](Self::get_or_insert_with); the value that `f` computes is gone after `ttl`. A value
        /// that is there keeps its time to live.
        ///
        /// ```
        /// # use millpond::Ttl;
        /// # use std::time::Duration;
        /// # let store = millpond::StateStore::memory();
        /// # let page = store.value::<String>("page:start");
        /// let minute = Duration::from_secs(60);
        /// assert_eq!(page.get_or_insert_with_ttl(minute, || "<h1>hello</h1>".to_owned())?, "<h1>hello</h1>");
        /// assert!(matches!(page.ttl()?, Some(Ttl::In(_)))); // it is rendered again in a minute
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// Those of [`get_or_insert_with`](Self::get_or_insert_with), and [`InvalidTtl`](crate::Error::InvalidTtl),
        /// before `f` runs.
        get_or_insert_with_ttl(ttl: Duration, f: impl FnOnce() -> T) -> T = get_or_insert_with_ttl;

        /// Removes the whole value, and returns whether it existed. See [`StateStore::delete`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let limit = store.value::<u32>("rule:limit");
        /// limit.put(250)?;
        /// assert!(limit.delete()?);
        /// assert!(!limit.delete()?);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// Only the [common ones](StateStore#values).
        delete() -> bool = delete;

        /// Returns how long the value still lives; `None` if it is absent. See [`StateStore::ttl`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let limit = store.value::<u32>("rule:limit");
        /// limit.put(250)?;
        /// assert_eq!(limit.ttl()?, Some(millpond::Ttl::Never));
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// Only the [common ones](StateStore#values).
        ttl() -> Option<Ttl> = ttl;

        /// Gives the value a time to live of `ttl`, counted from now; returns `false` if it is absent. See
        /// [`StateStore::expire`].
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let store = millpond::StateStore::memory();
        /// # let limit = store.value::<u32>("rule:limit");
        /// limit.put(250)?;
        /// assert!(limit.expire(Duration::from_secs(3600))?);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`InvalidTtl`](crate::Error::InvalidTtl), and the [common ones](StateStore#values).
        expire(ttl: Duration) -> bool = expire;

        /// Removes the time to live of the value, and returns whether it had one. See [`StateStore::persist`].
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let store = millpond::StateStore::memory();
        /// # let limit = store.value::<u32>("rule:limit");
        /// limit.put(250)?;
        /// limit.expire(Duration::from_secs(3600))?;
        /// assert!(limit.persist()?);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// Only the [common ones](StateStore#values).
        persist() -> bool = persist;
    }
}

//! Owns the typed handles: one key and its type. They have no logic of their own; every method calls the one of
//! [`StateStore`] that it names.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeBounds;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bytes::Bytes;
use crate::clock::Ttl;
use crate::error::{Error, Result};
use crate::store::leases::Leased;
use crate::store::state_store::StateStore;

/// # Handles
///
/// A handle is a key with the type of its content. It is owned, may be sent to other threads, and its methods are
/// those of the store on that key. Making one has no effect on the store; if the key breaks a rule, the operations
/// return the error.
///
/// ```
/// # fn main() -> millpond::Result<()> {
/// let store = millpond::StateStore::memory();
/// let stock = store.map::<u32>("stock");
/// stock.put("apples", &5)?;
/// assert_eq!(stock.get("apples")?, Some(5));
/// assert_eq!(store.counter("visits").incr(1)?, 1);
/// let limit = store.value::<u32>("limit").get_or_insert_with(|| 100)?;
/// assert_eq!(limit, 100);
/// # Ok(())
/// # }
/// ```
impl StateStore {
    /// Returns a handle on a value.
    #[must_use]
    pub fn value<T>(&self, key: impl AsRef<str>) -> Value<T> {
        Value { store: self.clone(), key: key.as_ref().to_owned(), item: PhantomData }
    }

    /// Returns a handle on a counter.
    #[must_use]
    pub fn counter(&self, key: impl AsRef<str>) -> Counter {
        Counter { store: self.clone(), key: key.as_ref().to_owned(), item: PhantomData }
    }

    /// Returns a handle on a map whose values are of one type.
    #[must_use]
    pub fn map<V>(&self, key: impl AsRef<str>) -> Map<V> {
        Map { store: self.clone(), key: key.as_ref().to_owned(), item: PhantomData }
    }

    /// Returns a handle on a queue whose values are of one type.
    #[must_use]
    pub fn queue<T>(&self, key: impl AsRef<str>) -> Queue<T> {
        Queue { store: self.clone(), key: key.as_ref().to_owned(), item: PhantomData }
    }
}

/// Declares a handle, with the `Clone` and `Debug` that all handles have: neither asks anything of the item.
macro_rules! handle {
    ($(#[$meta:meta])* $name:ident $(<$item:ident>)?) => {
        $(#[$meta])*
        pub struct $name $(<$item>)? {
            store: StateStore,
            key: String,
            item: PhantomData<fn() -> ($($item,)?)>,
        }

        impl $(<$item>)? Clone for $name $(<$item>)? {
            fn clone(&self) -> Self {
                Self { store: self.store.clone(), key: self.key.clone(), item: PhantomData }
            }
        }

        impl $(<$item>)? fmt::Debug for $name $(<$item>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("key", &self.key).finish_non_exhaustive()
            }
        }
    };
}

/// Declares the methods of a handle: name, arguments and result, and the method of the store that each calls with
/// the key of the handle. An argument with `=> T` is passed as a `&T`.
macro_rules! delegate {
    ($($(#[$meta:meta])* $name:ident($($arg:ident: $type:ty $(=> $item:ty)?),*) -> $output:ty = $method:ident;)*) => {$(
        $(#[$meta])*
        pub fn $name(&self, $($arg: $type),*) -> Result<$output> {
            self.store.$method(&self.key, $(argument!($arg $($item)?)),*)
        }
    )*};
}

macro_rules! argument {
    ($arg:ident) => {
        $arg
    };
    ($arg:ident $item:ty) => {
        Borrow::<$item>::borrow(&$arg)
    };
}

/// Declares the methods that every handle has, under the name that its type gives to the removal.
macro_rules! delegate_entry {
    ($delete:ident) => {
        delegate! {
            /// Removes the entry, as [`StateStore::delete`] does.
            $delete() -> bool = delete;
            /// Returns how long the entry still lives, as [`StateStore::ttl`] does.
            ttl() -> Option<Ttl> = ttl;
            /// Gives the entry a time to live, as [`StateStore::expire`] does.
            expire(ttl: Duration) -> bool = expire;
            /// Removes the time to live of the entry, as [`StateStore::persist`] does.
            persist() -> bool = persist;
        }
    };
}

handle! {
    /// A value under one key: see [`StateStore::value`].
    Value<T>
}

#[expect(clippy::missing_errors_doc, reason = "as the method of `StateStore` that it names")]
impl<T: Serialize + DeserializeOwned> Value<T> {
    delegate! {
        /// Reads the value, as [`StateStore::get`] does.
        get() -> Option<T> = get;
        /// Sets the value, as [`StateStore::put`] does.
        put(value: impl Borrow<T> => T) -> () = put;
        /// Sets the value for a limited time, as [`StateStore::put_with_ttl`] does.
        put_with_ttl(value: impl Borrow<T> => T, ttl: Duration) -> () = put_with_ttl;
        /// Replaces an existing value, as [`StateStore::update`] does.
        update(value: impl Borrow<T> => T) -> bool = update;
        /// Returns whether the key exists, as [`StateStore::contains`] does.
        contains() -> bool = contains;
        /// Sets the value if the key is absent, as [`StateStore::set_if_not_exists`] does.
        set_if_not_exists(value: impl Borrow<T> => T, ttl: impl Into<Option<Duration>>) -> bool = set_if_not_exists;
        /// Replaces the value if it is the expected one, as [`StateStore::compare_and_set`] does.
        compare_and_set(expected: Option<&T>, new: impl Borrow<T> => T) -> bool = compare_and_set;
        /// Sets the value and returns the previous one, as [`StateStore::get_and_put`] does.
        get_and_put(value: impl Borrow<T> => T) -> Option<T> = get_and_put;
        /// Removes the value and returns it, as [`StateStore::get_and_delete`] does.
        get_and_delete() -> Option<T> = get_and_delete;
        /// Replaces the value by the one that `f` makes of it, as [`StateStore::modify`] does.
        modify(f: impl FnMut(Option<T>) -> Option<T>) -> Option<T> = modify;
        /// Reads the value; if there is none, sets the one that `f` computes, as
        /// [`StateStore::set_if_not_exists`] does, and returns it.
        ///
        /// If several threads of this process need the value at once, one computes it and the others wait. If
        /// another process is quicker, its value is returned. Since others wait while `f` runs, two calls whose
        /// closures each need the value of the other would wait for ever.
        get_or_insert_with(f: impl FnOnce() -> T) -> T = get_or_insert_with;
    }
    delegate_entry! { delete }
}

handle! {
    /// A counter under one key: see [`StateStore::counter`].
    Counter
}

#[expect(clippy::missing_errors_doc, reason = "as the method of `StateStore` that it names")]
impl Counter {
    delegate! {
        /// Reads the number, as [`StateStore::get`] does.
        get() -> Option<i64> = get;
        /// Adds to the counter, as [`StateStore::incr`] does.
        incr(by: i64) -> i64 = incr;
        /// Subtracts from the counter, as [`StateStore::decr`] does.
        decr(by: i64) -> i64 = decr;
        /// Adds to the counter, which lives for a limited time, as [`StateStore::incr_with_ttl`] does.
        incr_with_ttl(by: i64, ttl: Duration) -> i64 = incr_with_ttl;
    }
    delegate_entry! { delete }
}

handle! {
    /// A map under one key: see [`StateStore::map`].
    Map<V>
}

#[expect(clippy::missing_errors_doc, reason = "as the method of `StateStore` that it names")]
impl<V: Serialize + DeserializeOwned> Map<V> {
    delegate! {
        /// Sets a field, as [`StateStore::map_put`] does.
        put(field: impl AsRef<str>, value: impl Borrow<V> => V) -> bool = map_put;
        /// Reads a field, as [`StateStore::map_get`] does.
        get(field: impl AsRef<str>) -> Option<V> = map_get;
        /// Reads many fields, as [`StateStore::map_get_many`] does.
        get_many(fields: impl IntoIterator<Item: AsRef<str>>) -> Vec<Option<V>> = map_get_many;
        /// Removes a field, as [`StateStore::map_delete`] does.
        delete(field: impl AsRef<str>) -> bool = map_delete;
        /// Returns whether a field exists, as [`StateStore::map_contains`] does.
        contains(field: impl AsRef<str>) -> bool = map_contains;
        /// Reads all fields, as [`StateStore::map_entries`] does.
        entries() -> BTreeMap<String, V> = map_entries;
        /// Reads the names of all fields, as [`StateStore::map_keys`] does.
        keys() -> Vec<String> = map_keys;
        /// Counts the fields, as [`StateStore::map_len`] does.
        len() -> u64 = map_len;
        /// Adds to a counter in a field, as [`StateStore::map_incr`] does.
        incr(field: impl AsRef<str>, by: i64) -> i64 = map_incr;
    }
    delegate_entry! { clear }

    /// Sets many fields, as [`StateStore::map_put_many`] does.
    pub fn put_many<F: AsRef<str>>(&self, fields: impl IntoIterator<Item = (F, V)>) -> Result<u64> {
        self.store.map_put_many(&self.key, fields)
    }

    /// Returns whether the map has no fields.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }
}

handle! {
    /// A queue under one key: see [`StateStore::queue`].
    Queue<T>
}

#[expect(clippy::missing_errors_doc, reason = "as the method of `StateStore` that it names")]
impl<T: Serialize + DeserializeOwned> Queue<T> {
    delegate! {
        /// Adds a value at the end, as [`StateStore::push_back`] does.
        push_back(value: impl Borrow<T> => T) -> u64 = push_back;
        /// Adds a value at the front, as [`StateStore::push_front`] does.
        push_front(value: impl Borrow<T> => T) -> u64 = push_front;
        /// Adds many values at the end, as [`StateStore::push_back_many`] does.
        push_back_many(values: impl IntoIterator<Item = T>) -> u64 = push_back_many;
        /// Removes the first value and returns it, as [`StateStore::pop_front`] does.
        pop_front() -> Option<T> = pop_front;
        /// Removes the last value and returns it, as [`StateStore::pop_back`] does.
        pop_back() -> Option<T> = pop_back;
        /// Removes the first value and waits for one, as [`StateStore::pop_front_wait`] does.
        pop_front_wait(timeout: Duration) -> Option<T> = pop_front_wait;
        /// Leases the first value, as [`StateStore::lease`] does.
        lease(lease: Duration) -> Option<Leased<T>> = lease;
        /// Leases the first value and waits for one, as [`StateStore::lease_wait`] does.
        lease_wait(lease: Duration, timeout: Duration) -> Option<Leased<T>> = lease_wait;
        /// Counts the values, as [`StateStore::queue_len`] does.
        len() -> u64 = queue_len;
        /// Reads values without removing them, as [`StateStore::queue_range`] does.
        range(range: impl RangeBounds<u64>) -> Vec<T> = queue_range;
        /// Drops the first values, as [`StateStore::queue_trim`] does.
        trim(max: u64) -> u64 = queue_trim;
    }
    delegate_entry! { clear }

    /// Returns the value that a [`lease`](Self::lease) could not decode, as [`StateStore::undecoded`] does.
    #[must_use]
    pub fn undecoded(&self, error: &Error) -> Option<Leased<Bytes>> {
        self.store.undecoded(error)
    }

    /// Returns whether the queue has no values.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }
}

//! Owns the names of the keys that only the server has: the parts of leases and locks that are stored beside
//! the caller's keys, and the bookkeeping of each store. Knows nothing of what is stored under them.

use crate::key;
use crate::key::{Companion, Key, RESERVED, event_of_receipt, key_fault};

/// The values under lease: a hash beside the queue, by the id of the lease.
const LEASED_VALUES: &str = ":__millpond:leased";

/// How often the values were leased that leases have returned to the front of a queue: a list beside the queue.
const RETURNED_VALUES: &str = ":__millpond:returned";

/// The values that were pushed with a delay, by the time at which they are due: a sorted set beside the queue.
const DELAYED_VALUES: &str = ":__millpond:delayed";

/// The clients that wait for a lock, by the time at which they came: a sorted set beside the lock's name.
const LOCK_QUEUE: &str = ":__millpond:lock_queue";

/// When each waiter for a lock was last seen: a hash beside the lock's name.
const LOCK_LAST_SEEN: &str = ":__millpond:lock_seen";

/// The value that is gone once the server has lost its data.
const EPOCH: &str = "__millpond:epoch";

/// The number that rises beside writes.
const WRITE_COUNT: &str = "writes:__millpond:epoch";

pub(crate) fn leased_values(queue: &Key<'_>) -> Key<'static> {
    queue.with_suffix(LEASED_VALUES)
}

pub(crate) fn returned_values(queue: &Key<'_>) -> Key<'static> {
    queue.with_suffix(RETURNED_VALUES)
}

pub(crate) fn delayed_values(queue: &Key<'_>) -> Key<'static> {
    queue.with_suffix(DELAYED_VALUES)
}

/// Returns the queue beside which a key of its leases or of its delayed values is stored; `None` for any other key.
pub(crate) fn queue_beside(key: &str) -> Option<&str> {
    [LEASED_VALUES, RETURNED_VALUES, DELAYED_VALUES]
        .into_iter()
        .find_map(|suffix| key.strip_suffix(suffix))
        .or_else(|| Companion::Leases.strip_from(key))
}

/// The key that is set so that the server reports it, behind all earlier writes under `prefix`. It
/// exists for a moment only.
pub(crate) fn cut_fence(prefix: &str, id: u128) -> Key<'static> {
    let separator = if prefix.is_empty() || prefix.ends_with(':') { "" } else { ":" };
    Key::reserved(format!("{prefix}{separator}{RESERVED}:checkpoint:fence:{id:032x}"))
}

/// The beginning of the keys under which entries are staged until they replace others.
pub(crate) fn staged(id: u128) -> Key<'static> {
    Key::reserved(format!("{RESERVED}:staged:{id:032x}"))
}

pub(crate) fn lock_queue(name: &Key<'_>) -> Key<'static> {
    name.with_suffix(LOCK_QUEUE)
}

pub(crate) fn lock_last_seen(name: &Key<'_>) -> Key<'static> {
    name.with_suffix(LOCK_LAST_SEEN)
}

/// The leases of the queue whose leased values are stored under `key`; `None` for any other key.
pub(crate) fn leases_beside_values(key: &Key<'_>) -> Option<Key<'static>> {
    let queue = key.strip_suffix(LEASED_VALUES)?;
    Some(Key::listed(queue.to_owned()).companion(Companion::Leases))
}

/// The marker that records how much of a replay queue is done.
pub(crate) fn marker(identity: u128) -> Key<'static> {
    Key::reserved(format!("{RESERVED}:marker:{identity:032x}"))
}

/// The reply cache of a store: the last reply of each slot.
pub(crate) fn reply_cache(identity: u128) -> Key<'static> {
    Key::reserved(format!("{RESERVED}:replies:{identity:032x}"))
}

/// When each marker and reply cache without a TTL was last used: a sorted set (see `keep.lua`).
pub(crate) fn sessions() -> Key<'static> {
    Key::reserved(format!("{RESERVED}:sessions"))
}

/// The key by which the opening of a store checks that a marker could be set. It exists for a moment only.
pub(crate) fn replay_check(identity: u128) -> Key<'static> {
    Key::reserved(format!("{RESERVED}:check:{identity:032x}"))
}

/// The key of the count of writes, which is lower when the server has gone back to an earlier state. Like each key of
/// this crate, it has a reserved part.
pub(crate) fn write_count() -> Key<'static> {
    Key::reserved(WRITE_COUNT)
}

/// The key whose value changes when the server has lost its data.
pub(crate) fn epoch() -> Key<'static> {
    Key::reserved(EPOCH)
}

/// Returns the rule that the key of a queued operation breaks, or nothing. Besides the caller's keys, the keys
/// of leases and of receipts are allowed.
pub(crate) fn queued_key_fault(key: &str) -> Option<&'static str> {
    if let Some(event) = event_of_receipt(key) {
        return key_fault(&event);
    }
    let queue = Companion::Leases.strip_from(key).or_else(|| key.strip_suffix(LEASED_VALUES));
    key_fault(queue.unwrap_or(key))
}

/// Returns whether a reserved key goes when all keys that begin with `prefix` are cleared: what belongs to the leases
/// of a queue goes with the queue.
pub(crate) fn is_cleared(reserved: &[u8], prefix: &[u8]) -> bool {
    let queue = [LEASED_VALUES, RETURNED_VALUES, DELAYED_VALUES]
        .into_iter()
        .find_map(|suffix| reserved.strip_suffix(suffix.as_bytes()));
    queue.is_some_and(|queue| queue.starts_with(prefix)) || key::is_cleared(reserved, prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_server_has_its_name() {
        let key = Key::listed("a:b".to_owned());
        for (own, name) in [
            (leased_values(&key), "a:b:__millpond:leased"),
            (returned_values(&key), "a:b:__millpond:returned"),
            (delayed_values(&key), "a:b:__millpond:delayed"),
            (lock_queue(&key), "a:b:__millpond:lock_queue"),
            (lock_last_seen(&key), "a:b:__millpond:lock_seen"),
            (marker(10), "__millpond:marker:0000000000000000000000000000000a"),
            (reply_cache(10), "__millpond:replies:0000000000000000000000000000000a"),
            (sessions(), "__millpond:sessions"),
            (replay_check(10), "__millpond:check:0000000000000000000000000000000a"),
            (epoch(), "__millpond:epoch"),
            (write_count(), "writes:__millpond:epoch"),
        ] {
            assert_eq!(&*own, name);
            assert!(key::is_reserved(&own), "{name}");
        }
    }

    #[test]
    fn leased_values_are_found_beside_their_leases() {
        let queue = Key::listed("jobs".to_owned());
        let leases = queue.companion(Companion::Leases);
        assert_eq!(leases_beside_values(&leased_values(&queue)), Some(leases.clone()));
        assert_eq!(leases_beside_values(&leases), None);
        assert_eq!(leases_beside_values(&queue), None);
    }

    #[test]
    fn only_the_keys_of_leases_and_receipts_may_be_queued() {
        for (key, is_allowed) in [
            ("jobs", true),
            ("jobs:__millpond:leases", true),
            ("jobs:__millpond:leased", true),
            ("jobs:__millpond:returned", false),
            ("jobs:__millpond:lock", false),
            ("jobs:__millpond:lock_queue", false),
            (":__millpond:leased", false),
            ("a:__millpond:leases:__millpond:leased", false),
            ("__millpond:fence", false),
            ("__millpond:receipt:17", true),
            ("a:b:__millpond:receipt:17", true),
            ("__millpond:receipt:", false),
            ("__millpond:receipt:a:__millpond:lock", false),
        ] {
            assert_eq!(queued_key_fault(key).is_none(), is_allowed, "{key}");
        }
    }

    #[test]
    fn leases_and_their_values_are_cleared_with_the_queue() {
        for (reserved, prefix, goes) in [
            ("jobs:__millpond:leases", "jobs", true),
            ("jobs:__millpond:leased", "jobs", true),
            ("jobs:__millpond:leased", "jobs:", false),
            ("jobs:__millpond:returned", "jobs", true),
            ("jobs:__millpond:returned", "jobs:", false),
            ("jobs:__millpond:delayed", "jobs", true),
            ("jobs:a:__millpond:leased", "jobs:", true),
            ("jobs:__millpond:lock_queue", "", false),
            ("__millpond:epoch", "", false),
            ("p:a:__millpond:receipt:17", "p:a:", true),
            ("p:a:__millpond:receipt:17", "p:a:1", false),
        ] {
            assert_eq!(is_cleared(reserved.as_bytes(), prefix.as_bytes()), goes, "{reserved} {prefix}");
        }
    }
}

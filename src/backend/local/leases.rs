//! Owns how the leases of a queue are stored in one map beside it: the names of the fields, and which leases have expired.
//! Knows nothing of what is done with a lease.
//!
//! A lease has the field `<end>-<token>` with the leased value; that name is also the id of the lease. When a lease is
//! extended, the value moves to the field `<new end>-<id>`, and the field `x<token>` gets the new end, by which the id
//! still finds the value. Ends and tokens have 20 digits, so that the names of leases are sorted by their ends.
//!
//! A value that was pushed with a delay has the field `d<due>-<token>`, which is no lease.

use std::ops::Bound;

use smol_str::{SmolStr, format_smolstr};

use crate::backend::local::entry::MapValue;
use crate::clock::Now;
use crate::op::HeldLease;
use crate::value::Value;

/// At most this many values of expired leases come back at a time, and at most this many delayed values, since nobody else
/// can use the shards meanwhile.
const MOST_RETURNED: usize = 1000;

/// A lease in the map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredLease {
    /// The field with the leased value.
    pub(crate) field: SmolStr,
    /// The field with the end of a lease that was extended.
    pub(crate) end_field: Option<SmolStr>,
    pub(crate) value: Value,
}

/// Returns the id of a new lease.
pub(crate) fn new_id(until: u64, token: u64) -> SmolStr {
    format_smolstr!("{until:020}-{token:020}")
}

/// Returns the field of a delayed value.
pub(crate) fn delayed(due: u64, token: u64) -> SmolStr {
    format_smolstr!("d{due:020}-{token:020}")
}

/// Returns the fields of the lease `id` once it is extended, with their values.
pub(crate) fn extended(id: &str, until: u64, value: Value) -> Vec<(SmolStr, Value)> {
    let end = Value::json(until.to_string().as_bytes());
    vec![(format_smolstr!("{until:020}-{id}"), value), (end_field(id), end)]
}

/// Returns the id of the lease whose value is in this field; `None` for a field with the end of a lease, or with a
/// delayed value.
#[cfg(any(feature = "redis", test))]
pub(crate) fn id_of(field: &str) -> Option<&str> {
    if field.starts_with(['x', 'd']) {
        return None;
    }
    let first_end = field.rsplit('-').nth(1).map_or(0, |end| end.len() + 1);
    let id_begin = field.len().checked_sub(token_of(field).len() + first_end);
    id_begin.and_then(|begin| field.get(begin..))
}

/// Returns when the lease expires whose value is in this field, in milliseconds.
#[cfg(feature = "redis")]
pub(crate) fn end_of(field: &str) -> u64 {
    field.split('-').next().and_then(|end| end.parse().ok()).unwrap_or_default()
}

/// Returns the token of a lease. Tokens grow, so they give the order in which values were leased.
pub(crate) fn token_of(id: &str) -> &str {
    id.rsplit_once('-').map_or(id, |(_, token)| token)
}

fn end_field(id: &str) -> SmolStr {
    format_smolstr!("x{}", token_of(id))
}

impl MapValue {
    /// Returns the lease with this id.
    pub(crate) fn find_lease(&self, id: &str) -> Option<StoredLease> {
        let end_field = end_field(id);
        let end = self.fields().get(&end_field).and_then(|end| std::str::from_utf8(&end.bytes).ok());
        let Some(end) = end.and_then(|end| end.parse::<u64>().ok()) else {
            let value = self.fields().get(id)?.clone();
            return Some(StoredLease { field: SmolStr::new(id), end_field: None, value });
        };
        let field = format_smolstr!("{end:020}-{id}");
        let value = self.fields().get(&field)?.clone();
        Some(StoredLease { field, end_field: Some(end_field), value })
    }

    /// Returns the delayed values that are due and enter the queue now, in their order.
    pub(crate) fn due_values(&self, now: &Now<'_>) -> Vec<(SmolStr, Value)> {
        let first_open = format_smolstr!("d{:020}", now.millis().saturating_add(1));
        let due = self.fields().range::<str, _>((Bound::Included("d"), Bound::Excluded(first_open.as_str())));
        due.take(MOST_RETURNED).map(|(field, value)| (field.clone(), value.clone())).collect()
    }

    /// Returns the leased values, each with the token of its lease.
    pub(crate) fn leases(&self) -> impl Iterator<Item = (&str, &Value)> {
        let is_value = |(field, _): &(&SmolStr, &Value)| !field.starts_with(['x', 'd']);
        self.fields().iter().filter(is_value).map(|(field, value)| (token_of(field), value))
    }

    /// Returns the delayed values, each with the time at which it is due, the first that is due first.
    pub(crate) fn delayed(&self) -> impl Iterator<Item = (u64, &Value)> {
        self.fields().iter().filter_map(|(field, value)| {
            let (due, _) = field.strip_prefix('d')?.split_once('-')?;
            Some((due.parse().ok()?, value))
        })
    }

    /// Returns where the lease with this id is kept. `removed` other fields of the map will be removed with it.
    pub(crate) fn held_lease(&self, id: &str, removed: usize) -> Option<HeldLease> {
        let StoredLease { field, end_field, .. } = self.find_lease(id)?;
        let fields: Vec<_> = std::iter::once(field).chain(end_field).collect();
        let are_last = self.fields().len() == fields.len() + removed;
        Some(HeldLease::Locally { fields, are_last })
    }

    /// Returns the expired leases whose values come back now, in the order in which they were leased.
    ///
    /// If there are too many, these are the one that expired first, which is handed out now, and those that expired
    /// last: each later call puts earlier ones in front of them, so that all are handed out in the order in which
    /// they expired.
    pub(crate) fn expired_leases(&self, now: &Now<'_>) -> Vec<StoredLease> {
        let first_open = format_smolstr!("{:020}", now.millis().saturating_add(1));
        let mut expired =
            self.fields().range::<str, _>((Bound::Unbounded, Bound::Excluded(first_open.as_str())));
        let in_order_of_expiry: Vec<_> = expired.clone().take(MOST_RETURNED + 1).collect();
        let too_many = in_order_of_expiry.len() > MOST_RETURNED;
        let (first, mut rest): (Option<_>, Vec<_>) = if too_many {
            (expired.next(), expired.rev().take(MOST_RETURNED - 1).collect())
        } else {
            (None, in_order_of_expiry)
        };
        rest.sort_by(|(a, _), (b, _)| token_of(a).cmp(token_of(b)));
        let lease = |(field, value): (&SmolStr, &Value)| StoredLease {
            field: field.clone(),
            end_field: Some(end_field(field)).filter(|end| self.fields().contains_key(end)),
            value: value.clone(),
        };
        first.into_iter().chain(rest).map(lease).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value() -> Value {
        Value::json(b"1")
    }

    #[test]
    fn a_lease_is_found_by_its_id_after_every_extension() {
        let id = new_id(5, 17);
        let mut map = MapValue::new([(id.clone(), value())]);
        assert_eq!(id_of(&id), Some(id.as_str()));
        for until in [30, 20, 40] {
            let before = map.find_lease(&id).unwrap();
            map.remove(&before.field);
            for (field, value) in extended(&id, until, before.value) {
                map.set(field, value);
            }
            let found = map.find_lease(&id).unwrap();
            assert_eq!((found.field.split_once('-').unwrap().1, map.fields().len()), (id.as_str(), 2));
            assert_eq!(id_of(&found.field), Some(id.as_str()));
            assert_eq!(id_of(found.end_field.as_deref().unwrap()), None);
        }
        assert_eq!(map.expired_leases(&Now::at(39)), []);
        assert_eq!(map.expired_leases(&Now::at(40)), [map.find_lease(&id).unwrap()]);
    }

    #[test]
    fn delayed_values_are_no_leases_and_are_due_in_their_order() {
        let named = |due, token| (delayed(due, token), value());
        let map = MapValue::new([named(30, 1), named(20, 2), named(20, 3), (new_id(5, 4), value())]);
        let due = |now| map.due_values(&Now::at(now)).into_iter().map(|(field, _)| field).collect::<Vec<_>>();
        assert_eq!(due(19), [""; 0]);
        assert_eq!(due(20), [delayed(20, 2), delayed(20, 3)]);
        assert_eq!(due(30), [delayed(20, 2), delayed(20, 3), delayed(30, 1)]);
        assert_eq!(map.expired_leases(&Now::at(u64::MAX)).len(), 1);
        assert_eq!(id_of(&delayed(20, 2)), None);
    }

    /// A server gives its own ids to leases, which an outage may end.
    #[test]
    fn a_name_without_an_end_is_its_own_id() {
        for id in ["17", "2_17", ""] {
            assert_eq!(id_of(id), Some(id));
        }
    }
}

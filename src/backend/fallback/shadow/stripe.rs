//! Owns whether operations on one key overlapped, of the keys that share one stripe. Knows nothing of what the
//! operations read or wrote.

/// The operations in flight on the keys of one stripe.
#[derive(Default)]
pub(crate) struct Stripe(Vec<InFlightKey>);

/// The operations in flight on one key, which is identified by its hash.
struct InFlightKey {
    hash: u64,
    /// How many operations are in flight.
    operations: u32,
    /// How many of them are writes.
    writes: u32,
    /// How many writes have begun since no operation was in flight.
    writes_begun: u64,
}

/// What an operation found when it began.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Began {
    /// Whether no other write was in flight.
    was_alone: bool,
    writes_begun: u64,
}

impl Stripe {
    /// Begins an operation.
    pub(crate) fn enter(&mut self, hash: u64, is_write: bool) -> Began {
        let index = self.0.iter().position(|key| key.hash == hash).unwrap_or_else(|| {
            self.0.push(InFlightKey { hash, operations: 0, writes: 0, writes_begun: 0 });
            self.0.len() - 1
        });
        let key = &mut self.0[index];
        let was_alone = key.writes == 0;
        key.operations += 1;
        key.writes += u32::from(is_write);
        key.writes_begun += u64::from(is_write);
        Began { was_alone, writes_begun: key.writes_begun }
    }

    /// Returns whether an operation on the key is in flight.
    pub(crate) fn is_in_flight(&self, hash: u64) -> bool {
        self.0.iter().any(|key| key.hash == hash)
    }

    /// Returns whether no other write was in flight since an operation began, which stays in flight.
    pub(crate) fn is_alone(&self, hash: u64, began: Began) -> bool {
        let key = self.0.iter().find(|key| key.hash == hash);
        key.is_some_and(|key| began.was_alone && began.writes_begun == key.writes_begun)
    }

    /// Ends an operation, and returns whether no other write was in flight since it began.
    pub(crate) fn leave(&mut self, hash: u64, is_write: bool, began: Began) -> bool {
        let Some(index) = self.0.iter().position(|key| key.hash == hash) else {
            return false;
        };
        let key = &mut self.0[index];
        key.operations -= 1;
        key.writes -= u32::from(is_write);
        let was_alone = began.was_alone && began.writes_begun == key.writes_begun;
        if key.operations == 0 {
            self.0.swap_remove(index);
        }
        was_alone
    }

    /// Makes every operation in flight end as if a write had overlapped it.
    pub(crate) fn overlap_all(&mut self) {
        self.0.iter_mut().for_each(|key| key.writes_begun += 1);
    }
}

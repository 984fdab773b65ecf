//! Owns which keys a read has assumed to be absent during an outage, within a bound: a program may read any number of
//! keys of which nothing is known. Knows nothing of what is noted of a key that is written.

use hashbrown::HashSet;

/// A noted key takes at most about this many bytes, also while the set grows.
const BYTES_OF_KEY: u64 = 32;

/// The keys, by their hashes. Two keys with one hash count as one: the careful side, as when the set is full.
pub(crate) struct AssumedKeys {
    hashes: HashSet<u64>,
    most: usize,
    is_full: bool,
}

impl AssumedKeys {
    /// A set that takes at most about this many bytes.
    pub(crate) fn with_bytes(bytes: u64) -> Self {
        let most = usize::try_from(bytes / BYTES_OF_KEY).unwrap_or(usize::MAX);
        Self { hashes: HashSet::new(), most, is_full: false }
    }

    /// Notes a key. If there is no room for it, every key counts as noted from now on. Returns whether that began.
    #[must_use]
    pub(crate) fn note(&mut self, hash: u64) -> bool {
        if self.may_have(hash) {
            return false;
        }
        if self.hashes.len() < self.most {
            self.hashes.insert(hash);
            return false;
        }
        self.is_full = true;
        true
    }

    /// Returns whether the key is noted.
    pub(crate) fn has(&self, hash: u64) -> bool {
        self.hashes.contains(&hash)
    }

    /// Returns whether the key may have been assumed absent: it is noted, or there was no room to note it.
    pub(crate) fn may_have(&self, hash: u64) -> bool {
        self.is_full || self.has(hash)
    }

    pub(crate) fn forget(&mut self, hash: u64) {
        self.hashes.remove(&hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_set_may_have_every_key() {
        let mut keys = AssumedKeys::with_bytes(2 * BYTES_OF_KEY);
        _ = keys.note(1);
        _ = keys.note(2);
        _ = keys.note(2);
        assert!(keys.has(1) && keys.may_have(2) && !keys.may_have(3));
        keys.forget(2);
        assert!(!keys.may_have(2));
        _ = keys.note(2);
        _ = keys.note(3);
        assert!(!keys.has(3) && keys.may_have(3) && keys.may_have(4), "there was no room for the third key");
    }

    #[test]
    fn the_set_takes_no_more_than_its_bound() {
        let mut keys = AssumedKeys::with_bytes(1 << 20);
        for hash in 0..100_000_u64 {
            _ = keys.note(hash.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        }
        // Each place takes the hash and one more byte; a set that grows holds the old places too.
        let largest = (keys.hashes.capacity() as u64 * 8 / 7 + 1) * 9 * 3 / 2;
        assert!(largest <= 1 << 20, "{largest} bytes");
    }
}

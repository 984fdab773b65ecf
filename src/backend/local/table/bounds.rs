//! Owns how much a bounded table may hold, and how much it holds. Knows nothing of entries, and of which of them make room
//! for others.
//!
//! INVARIANT: what is counted is never less than what the table holds. A growth is counted before the change is made, and
//! what a change frees afterwards, both under the locks of the changed shards. So the bounds hold whatever other threads
//! do.

use std::ops::{AddAssign, Sub};

use parking_lot::Mutex;

use crate::config::MemoryOptions;

/// A number of entries, without reserved ones, and what they and the reserved ones take; or a difference of two of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Size {
    pub(crate) entries: i64,
    pub(crate) bytes: i64,
}

impl AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        self.entries += other.entries;
        self.bytes += other.bytes;
    }
}

impl Size {
    /// Returns the part of a difference that takes room.
    pub(crate) fn grown(self) -> Self {
        Self { entries: self.entries.max(0), bytes: self.bytes.max(0) }
    }

    /// Returns the part of a difference that frees room.
    pub(crate) fn freed(self) -> Self {
        self - self.grown()
    }
}

impl Sub for Size {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { entries: self.entries - other.entries, bytes: self.bytes - other.bytes }
    }
}

/// What a write makes of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Growth {
    /// By how much the table grows.
    pub(crate) by: Size,
    /// What the written entries are afterwards.
    pub(crate) written: Size,
}

/// A bound that a write would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exceeded {
    /// The name of the option.
    pub(crate) option: &'static str,
    pub(crate) limit: u64,
}

pub(crate) struct Bounds {
    max_entries: Option<u64>,
    max_bytes: Option<u64>,
    used: Mutex<Size>,
}

impl Bounds {
    pub(crate) fn new(options: &MemoryOptions) -> Self {
        Self { max_entries: options.max_entries, max_bytes: options.max_bytes, used: Mutex::default() }
    }

    /// Counts the growth of a write that is made next, unless it would exceed a bound; what it frees is counted once it is
    /// made. A write that frees as much as it takes is never refused, even if the bound is exceeded already.
    pub(crate) fn reserve(&self, growth: &Growth) -> Result<(), Exceeded> {
        let mut used = self.used.lock();
        self.check_growth(*used, growth.by)?;
        *used += growth.by.grown();
        Ok(())
    }

    /// Counts what has changed, whatever the bounds are.
    pub(crate) fn count(&self, by: Size) {
        *self.used.lock() += by;
    }

    /// Fails if there is no room for a write now.
    pub(crate) fn check(&self, growth: &Growth) -> Result<(), Exceeded> {
        self.check_growth(*self.used.lock(), growth.by)
    }

    /// Fails if there is no room for a write even in a table that holds nothing else.
    pub(crate) fn check_alone(&self, growth: &Growth) -> Result<(), Exceeded> {
        self.check_growth(Size::default(), growth.written)
    }

    fn check_growth(&self, used: Size, by: Size) -> Result<(), Exceeded> {
        let check = |option, limit: Option<u64>, used: i64, by: i64| match limit {
            Some(limit)
                if by > 0 && u64::try_from(used.saturating_add(by)).is_ok_and(|used| used > limit) =>
            {
                Err(Exceeded { option, limit })
            }
            Some(_) | None => Ok(()),
        };
        check("max_entries", self.max_entries, used.entries, by.entries)?;
        check("max_bytes", self.max_bytes, used.bytes, by.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth(entries: i64, bytes: i64) -> Growth {
        Growth { by: Size { entries, bytes }, written: Size { entries, bytes } }
    }

    #[test]
    fn a_bound_is_reached_and_never_exceeded() {
        let bounds = Bounds::new(&MemoryOptions::default().max_entries(2).max_bytes(2048));
        for (by, outcome) in [
            (growth(1, 1000), Ok(())),
            (growth(1, 1048), Ok(())),
            (growth(1, -1000), Err("max_entries")),
            (growth(-1, 0), Ok(())),
            (growth(1, 0), Err("max_entries")),
            (growth(0, 1), Err("max_bytes")),
        ] {
            assert_eq!(bounds.reserve(&by).map_err(|exceeded| exceeded.option), outcome, "{by:?}");
        }
        bounds.count(Size { entries: -1, bytes: -1048 });
        for (by, outcome) in
            [(growth(0, 1048), Ok(())), (growth(1, 1), Err("max_bytes")), (growth(1, 0), Ok(()))]
        {
            assert_eq!(bounds.reserve(&by).map_err(|exceeded| exceeded.option), outcome, "{by:?}");
        }
        bounds.count(Size { entries: 5, bytes: 5000 });
        assert_eq!(bounds.reserve(&growth(0, 0)), Ok(()), "what does not grow is not refused");
        assert!(bounds.check(&growth(0, 1)).is_err() && bounds.check_alone(&growth(1, 2048)).is_ok());
        assert!(bounds.check_alone(&growth(1, 2049)).is_err());
    }
}

//! Owns the check of an option against its limits. Knows none of the options.

use std::fmt::Debug;
use std::ops::RangeInclusive;

use crate::error::{Error, Result};

/// Checks the value of the option `field` against its limits.
#[expect(clippy::needless_pass_by_value, reason = "a literal range reads better at the call")]
pub(crate) fn in_range<T: PartialOrd + Debug>(field: &str, value: T, range: RangeInclusive<T>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let reason = format!("{value:?} is not between {:?} and {:?}", range.start(), range.end());
    Err(Error::invalid_config(field, reason))
}

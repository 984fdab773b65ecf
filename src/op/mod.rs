//! The vocabulary of the backends: what a caller can ask of entries, and the replies.

mod action;
mod page;
mod query;

#[cfg(feature = "redis")]
pub(crate) use self::action::Offline;
pub(crate) use self::action::{Action, End, Grant, Hold, Op, Reply};
pub(crate) use self::page::{Cursor, Page};
pub(crate) use self::query::{Answer, Presence, Query, ReadSource};

//! The vocabulary of the backends: the reads and mutations that a caller can request, and their replies.

mod accessors;
mod action;
mod page;
mod query;
mod reply;
#[cfg(feature = "redis")]
mod traits;
mod whole_entry;
pub(crate) mod window;

pub(crate) use self::action::{
    DeadLetters, End, EntryAction, Grant, LeaseAction, LockAction, Op, Permit, Write,
};
pub(crate) use self::page::{Cursor, Page};
pub(crate) use self::query::{Answer, HeldLease, Presence, Query, ReadSource};
pub(crate) use self::reply::{Hold, NewLease, Reply};
#[cfg(feature = "redis")]
pub(crate) use self::traits::{LostReply, Traits};
pub use self::whole_entry::Isolation;
pub(crate) use self::whole_entry::{Cut, Replaced, WholeContent, WholeEntry, WholeQueue};
pub(crate) use self::window::{WindowAdd, WindowBuckets, WindowSum};

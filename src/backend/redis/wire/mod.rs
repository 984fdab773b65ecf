//! What is sent to a server and what its replies mean. Nothing in this room does I/O.

pub(crate) mod action;
pub(crate) mod calls;
pub(crate) mod changes;
pub(crate) mod commands;
#[cfg(test)]
mod hostile_replies;
pub(crate) mod info;
pub(crate) mod lock_replies;
pub(crate) mod queries;
pub(crate) mod replies;
pub(crate) mod resp;
pub(crate) mod scan;
pub(crate) mod scripts;
pub(crate) mod whole_queue;
pub(crate) mod window_reply;

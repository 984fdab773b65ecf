//! Connections: how they are made, kept, and closed on the server's side if a reply is missing.

pub(crate) mod connection;
pub(crate) mod dialer;
pub(crate) mod epoch;
pub(crate) mod fork;
pub(crate) mod open_connections;
pub(crate) mod pool;
pub(crate) mod quarantine;
#[cfg(feature = "tls")]
pub(crate) mod tls;

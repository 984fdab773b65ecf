//! Connections: how they are made, kept, and closed on the server's side if a reply is missing.

#[cfg(feature = "tls")]
mod client_certificate;
pub(crate) mod connection;
mod credential_file;
pub(crate) mod credentials;
pub(crate) mod cutoff;
mod diagnosis;
pub(crate) mod dialer;
pub(crate) mod epoch;
pub(crate) mod epoch_exchange;
pub(crate) mod epoch_state;
pub(crate) mod fork;
pub(crate) mod greeting;
mod handshake;
pub(crate) mod identity;
pub(crate) mod invalidations;
pub(crate) mod keeper;
mod open_connections;
pub(crate) mod peer;
pub(crate) mod pool;
mod pool_slots;
pub(crate) mod pooled_connection;
pub(crate) mod quarantine;
mod read_error;
pub(crate) mod reentry;
mod reply_line;
mod reply_reader;
pub(crate) mod resolver;
pub(crate) mod server_link;
mod socket;
mod stream;
mod timed_socket;
#[cfg(feature = "tls")]
pub(crate) mod tls;
mod transaction_check;
mod whole_replies;
mod write_count;

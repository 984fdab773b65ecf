//! The Redis variant without a fallback.
//!
//! - `wire`: the keys, values and times to live that are stored on the server;
//! - `interop`: data that earlier systems keep in Redis, read and written byte for byte;
//! - `commands`: the commands that each operation sends;
//! - `client_certificates`: the certificate that a store shows to its server;
//! - `credentials`: passwords in files that are replaced while a store is open;
//! - `kinds`: maps and queues as the server stores them, and keys that hold another type;
//! - `queues`: queues that other programs also use, leases that run out, and waiting for values;
//! - `locks`: how locks are stored, acquired and lost;
//! - `renewed_locks`: processes that are stopped or killed while they hold renewed locks and permits;
//! - `transactions`: what transactions send, what they leave behind, and servers that fail during one;
//! - `waiting`: how a store waits for the server, and which connections it uses for that;
//! - `unix_socket`: servers behind a Unix socket;
//! - `unreachable`: servers that die, freeze or cannot be reached;
//! - `refusals`: servers that answer with an error;
//! - `limited_services`: services that lack a command, and servers on which a fallback cannot work;
//! - `cut`: all entries as of one instant, while others write;
//! - `cuts`: connections that are cut at every byte of a request and of a reply;
//! - `lost_replies`: a write whose reply was lost is not made again over the write of another client;
//! - `quarantine`: a write that is still in doubt never overtakes a newer one;
//! - `replies`: replies that come twice, in pieces, too large or malformed;
//! - `revisions`: revisions that several processes save, or that are saved during an outage;
//! - `restore`: entries that take the place of others in one step;
//! - `signals`: signals that interrupt the wait for a reply;
//! - `exactly_once`: with `exactly_once` a call is repeated, and applied once;
//! - `min_connections`: connections that are kept open;
//! - `misconfiguration`: servers that a configuration cannot mean, and users of a URL;
//! - `statistics`: retries, pipelines, scripts, connections and bytes are counted;
//! - `tls`: which certificates a store trusts.

#[cfg(feature = "tls")]
mod client_certificates;
mod commands;
#[cfg(unix)]
mod credentials;
mod cut;
mod cuts;
mod events;
mod exactly_once;
mod examination;
mod interop;
mod kinds;
mod limited_services;
mod locks;
mod lost_replies;
mod min_connections;
mod misconfiguration;
mod quarantine;
mod queues;
mod refusals;
#[cfg(unix)]
mod renewed_locks;
mod replies;
mod restore;
mod revisions;
#[cfg(unix)]
mod signals;
mod statistics;
mod tls;
mod transactions;
#[cfg(unix)]
mod unix_socket;
mod unreachable;
mod waiting;
mod windows;
mod wire;

//! Owns the kinds of failures that are told apart. Knows nothing of how a failure is recognised, nor of what follows
//! from it.

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// No connection could be made: refused, reset, closed, no such host.
    Unreachable,
    /// A connection was made and was in use, and it broke: reset or closed.
    Broken,
    /// A connection was found closed or out of step before anything was sent over it.
    FoundUseless,
    /// No reply in time.
    Timeout,
    /// The server replies, but cannot serve for now: it loads, fails over, runs a script, has too many clients.
    Busy,
    /// The server serves reads, and takes no writes for now: it is out of memory, or cannot save.
    NotWritable,
    /// The server does not take a request like this one: a value is too large, or there are too many arguments.
    Oversized,
    /// A value on the server is larger than this program reads.
    TooLarge {
        bytes: u64,
        limit: u64,
    },
    /// All connections of the pool were in use for as long as the operation could wait.
    Exhausted,
    /// Wrong password, no permission.
    Denied,
    WrongType,
    NotAnInteger,
    Overflow,
    /// The keys belong to other servers of a cluster.
    OtherServer,
    /// The server does not hold the script.
    NoScript,
    /// The server no longer holds the reply cache that records whether it has done a call.
    ReplyEvicted,
    /// The bytes received are not of the protocol, or not a reply to the command.
    Protocol,
    /// TLS was refused by either side: a certificate, a name, a setting.
    Tls,
    /// The server lacks a feature that this crate needs.
    Unsupported,
    /// The store was closed.
    Closed,
    /// Another process opened the store.
    Forked,
    /// Any other error reply.
    Other,
}

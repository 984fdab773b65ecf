//! Owns why a reply could not be read. Knows nothing of how replies are read.

use std::io;

use crate::backend::redis::connect::reply_line::Malformed;

/// Why a reply could not be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    Io(io::Error),
    /// The bytes are not of the protocol.
    Malformed,
    /// A string is longer than the limit. It was not read.
    TooLarge {
        bytes: u64,
        limit: u64,
    },
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Malformed> for ReadError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

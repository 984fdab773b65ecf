//! Owns the stream of bytes between this process and a server: a plain socket, or TLS over it. Knows nothing of the
//! protocol of the server.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::backend::redis::connect::cutoff::Cutoff;
use crate::backend::redis::connect::timed_socket::{Arrived, TimedSocket, WriteError};
#[cfg(feature = "tls")]
use crate::backend::redis::connect::tls::TlsStream;

pub(crate) enum Stream {
    Plain(TimedSocket),
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream>),
}

impl Stream {
    pub(crate) fn is_tls(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            #[cfg(feature = "tls")]
            Self::Tls(_) => true,
        }
    }

    /// From now on, waits end at the cutoff too.
    pub(crate) fn obey(&mut self, cutoff: Arc<Cutoff>) {
        match self {
            Self::Plain(socket) => socket.obey(cutoff),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.obey(cutoff),
        }
    }

    /// Reads at least one byte until `end`; 0 bytes are the end of the stream.
    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8], end: Instant) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer, end),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.read(buffer, end),
        }
    }

    /// Writes all bytes until `end`. If it fails, the peer has not received all of them.
    #[inline]
    pub(crate) fn write_all(&mut self, bytes: &[u8], end: Instant) -> Result<(), WriteError> {
        match self {
            Self::Plain(socket) => socket.write_all(bytes, end),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.write_all(bytes, end),
        }
    }

    /// Returns what has arrived, without waiting.
    #[inline]
    pub(crate) fn arrived(&mut self) -> Arrived {
        match self {
            Self::Plain(socket) => socket.peek(&mut [0]),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.arrived(),
        }
    }
}

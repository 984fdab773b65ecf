//! Owns a socket whose every read and write ends at a deadline. Knows nothing of TLS, nor of what is sent.

use std::io::{self, ErrorKind};
#[cfg(feature = "tls")]
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::redis::connect::cutoff::Cutoff;
use crate::backend::redis::connect::peer::PeerAddress;
use crate::backend::redis::connect::socket::Socket;
use crate::stats::counter::Counter;
use crate::stats::recorder::Recorder;

/// A smaller difference is not worth changing a socket's timeout.
const SLACK: Duration = Duration::from_millis(5);

/// A longer wait is made of waits of this length: the kernel ends a timeout of seconds late by a tenth of it.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// Less time than this is not worth another wait.
const LEAST: Duration = Duration::from_millis(1);

/// A socket. Signals do not end its waits.
pub(crate) struct TimedSocket {
    socket: Socket,
    /// The timeouts that the kernel knows; `None` is no timeout.
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    /// Ends the waits of a connection that the closing of the store may cut off.
    cutoff: Option<Arc<Cutoff>>,
    /// Counts the bytes, and the sockets that are open.
    recorder: Arc<Recorder>,
}

impl Drop for TimedSocket {
    fn drop(&mut self) {
        self.recorder.add(Counter::Closed, 1);
    }
}

/// What has arrived on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrived {
    Nothing,
    /// This many bytes, which were put into the buffer.
    Bytes(usize),
    /// The peer has closed the connection, or it broke.
    End,
}

/// A write that failed.
#[derive(Debug)]
pub(crate) struct WriteError {
    pub(crate) error: io::Error,
    /// Whether the kernel took any of the bytes.
    pub(crate) took_some: bool,
}

impl TimedSocket {
    /// Connects within `timeout`. `user_timeout`: after this long without an acknowledgement the kernel gives a TCP
    /// connection up.
    pub(crate) fn connect(
        address: &PeerAddress,
        timeout: Duration,
        user_timeout: Duration,
        recorder: Arc<Recorder>,
    ) -> io::Result<Self> {
        let socket = Socket::connect(address, timeout, user_timeout)?;
        recorder.add(Counter::Opened, 1);
        Ok(Self { socket, read_timeout: None, write_timeout: None, cutoff: None, recorder })
    }

    /// From now on, waits end at the cutoff too.
    pub(crate) fn obey(&mut self, cutoff: Arc<Cutoff>) {
        self.cutoff = Some(cutoff);
    }

    fn time_left(&self, end: Instant) -> io::Result<Duration> {
        time_left(self.cutoff.as_ref().map_or(end, |cutoff| cutoff.limit(end)))
    }

    /// Reads at least one byte until `end`; 0 bytes are the end of the stream.
    pub(crate) fn read(&mut self, buffer: &mut [u8], end: Instant) -> io::Result<usize> {
        loop {
            if let Some(timeout) = timeout_to_set(self.read_timeout, self.time_left(end)?) {
                self.socket.set_read_timeout(timeout)?;
                self.read_timeout = Some(timeout);
            }
            match self.socket.read(buffer) {
                Err(error) if is_momentary(&error) => {}
                outcome => {
                    let count = outcome?;
                    self.recorder.add(Counter::BytesRead, count as u64);
                    return Ok(count);
                }
            }
        }
    }

    /// Writes at least one byte until `end`.
    pub(crate) fn write(&mut self, bytes: &[u8], end: Instant) -> io::Result<usize> {
        loop {
            if let Some(timeout) = timeout_to_set(self.write_timeout, self.time_left(end)?) {
                self.socket.set_write_timeout(timeout)?;
                self.write_timeout = Some(timeout);
            }
            match self.socket.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Err(error) if is_momentary(&error) => {}
                outcome => {
                    let count = outcome?;
                    self.recorder.add(Counter::BytesWritten, count as u64);
                    return Ok(count);
                }
            }
        }
    }

    /// Writes all bytes until `end`.
    pub(crate) fn write_all(&mut self, bytes: &[u8], end: Instant) -> Result<(), WriteError> {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            let count = self.write(rest, end);
            written += count.map_err(|error| WriteError { error, took_some: written > 0 })?;
        }
        Ok(())
    }

    /// Looks at the bytes that have arrived and does not take them.
    pub(crate) fn peek(&self, buffer: &mut [u8]) -> Arrived {
        arrived(self.socket.receive_now(buffer, true))
    }

    /// Takes the bytes that have arrived.
    #[cfg(feature = "tls")]
    pub(crate) fn take_arrived(&self, buffer: &mut [u8]) -> Arrived {
        let arrived = arrived(self.socket.receive_now(buffer, false));
        if let Arrived::Bytes(count) = arrived {
            self.recorder.add(Counter::BytesRead, count as u64);
        }
        arrived
    }
}

/// A socket with the deadline of the present exchange, for code that reads and writes without one.
#[cfg(feature = "tls")]
pub(crate) struct Until<'a> {
    pub(crate) socket: &'a mut TimedSocket,
    pub(crate) end: Instant,
    /// How many bytes were written.
    pub(crate) written: &'a mut usize,
}

#[cfg(feature = "tls")]
impl Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.read(buffer, self.end)
    }
}

#[cfg(feature = "tls")]
impl Write for Until<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.socket.write(bytes, self.end)?;
        *self.written += count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn arrived(outcome: io::Result<usize>) -> Arrived {
    match outcome {
        Ok(0) => Arrived::End,
        Ok(count) => Arrived::Bytes(count),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Arrived::Nothing,
        Err(_) => Arrived::End,
    }
}

/// Returns whether a wait ended before anything happened: a signal came, or the kernel's timeout, which may be a
/// little shorter than the time that is left.
fn is_momentary(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn time_left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left < LEAST { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Returns the timeout to set on a socket that has `current` now, with `left` to go; `None` if `current` is close
/// enough.
fn timeout_to_set(current: Option<Duration>, left: Duration) -> Option<Duration> {
    let left = left.min(LONGEST_WAIT);
    let is_close = current.is_some_and(|current| current <= left + SLACK && current + SLACK >= left);
    (!is_close).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_set_only_if_it_differs_enough() {
        let ms = Duration::from_millis;
        for (current, left, wanted) in [
            (None, 3000, Some(100)),
            (Some(100), 3000, None),
            (Some(100), 97, None),
            (Some(100), 50, Some(50)),
            (Some(50), 3000, Some(100)),
            (Some(20), 2, Some(2)),
        ] {
            assert_eq!(timeout_to_set(current.map(ms), ms(left)), wanted.map(ms), "{current:?} {left}");
        }
    }
}

//! Owns one connection: sending, receiving within a limit, and what it still owes. Knows nothing of what the
//! commands mean, nor of the pool.

use std::time::{Duration, Instant};

use redis::Value;

use crate::backend::redis::connect::open_connections::Registration;
use crate::backend::redis::failure::{Failure, Stage, is_stale};
use crate::backend::redis::time_budget::{TimeBudget, timeout_to_set};
use crate::backend::redis::wire::resp::CommandWriter;

/// A buffer that grew beyond this is not kept.
const KEPT_BUFFER: usize = 1 << 20;

/// After this many answers the limit is looked at again, and after this many bytes sent.
const REPLIES_UNWATCHED: usize = 32;
const BYTES_UNWATCHED: usize = 64 << 10;

/// What a connection was asked for and has not yet answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outstanding {
    /// Nothing: it can be used.
    Nothing,
    /// Answers that nobody misses: it is dropped.
    Reads,
    /// The answers to mutations, which may run at any time from now on: it is buried.
    Mutations,
    /// As `Mutations`, with the last command cut off: nothing can be sent behind it.
    PartialMutation,
}

/// What is sent at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) replies: usize,
    pub(crate) mutation: bool,
    /// Nothing of it runs before all of it has arrived: one command, or one transaction.
    pub(crate) atomic: bool,
}

pub(crate) struct Connection {
    stream: redis::Connection,
    tls: bool,
    /// What the server calls this connection; `None` where it may not be asked.
    pub(crate) identity: Option<Identity>,
    /// Where that is noted for as long as the connection is open.
    pub(crate) registration: Option<Registration>,
    /// The generation of the pool to which it belongs.
    pub(crate) generation: u64,
    pub(crate) used: Instant,
    pub(crate) buffer: Vec<u8>,
    default_timeout: Duration,
    current_timeout: Duration,
    outstanding: Outstanding,
    replies_left: usize,
    stale: bool,
    /// Keys are watched: until the next EXEC, nobody else may have the connection.
    watching: bool,
}

/// How `CLIENT KILL` names a connection. The address guards against numbers used again after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: String,
    pub(crate) address: String,
}

impl Connection {
    /// Takes a connection on which nothing was said yet.
    pub(crate) fn new(
        stream: redis::Connection,
        tls: bool,
        generation: u64,
        default_timeout: Duration,
    ) -> Self {
        Self {
            stream,
            tls,
            identity: None,
            registration: None,
            generation,
            used: Instant::now(),
            buffer: Vec::new(),
            default_timeout,
            // The library leaves the socket without time-outs: it waits for ever.
            current_timeout: Duration::MAX,
            outstanding: Outstanding::Nothing,
            replies_left: 0,
            stale: false,
            watching: false,
        }
    }

    pub(crate) fn outstanding(&self) -> Outstanding {
        self.outstanding
    }

    /// Whether whoever comes next may use it.
    pub(crate) fn is_usable(&self) -> bool {
        self.outstanding == Outstanding::Nothing && !self.stale && !self.watching
    }

    /// Notes that keys are watched, before WATCH is sent; and that none are, after EXEC was answered.
    pub(crate) fn set_watching(&mut self, watching: bool) {
        self.watching = watching;
    }

    /// Lets the connection be dropped after use.
    pub(crate) fn discard(&mut self) {
        self.stale = true;
    }

    /// Brings the time-outs of the socket into line with what is left.
    pub(crate) fn apply_deadline(&mut self, limit: &TimeBudget) -> Result<(), Failure> {
        let left = limit.left().ok_or_else(|| Failure::timeout(self.stage()))?;
        if let Some(wanted) = timeout_to_set(self.current_timeout, left, self.default_timeout) {
            self.set_timeouts(wanted)?;
        }
        Ok(())
    }

    /// Gives the socket its usual time-outs back.
    pub(crate) fn reset_timeouts(&mut self) -> Result<(), Failure> {
        if self.current_timeout == self.default_timeout {
            Ok(())
        } else {
            self.set_timeouts(self.default_timeout)
        }
    }

    /// Lets the socket wait for as long as a command that blocks may take, beyond its usual time-outs.
    pub(crate) fn set_blocking_timeout(&mut self, wait: Duration) -> Result<(), Failure> {
        self.set_timeouts(wait)
    }

    fn set_timeouts(&mut self, timeout: Duration) -> Result<(), Failure> {
        let both = self.stream.set_read_timeout(Some(timeout));
        both.and_then(|()| self.stream.set_write_timeout(Some(timeout)))
            .map_err(|error| Failure::from_connection(error, self.stage(), self.tls))?;
        self.current_timeout = timeout;
        Ok(())
    }

    fn stage(&self) -> Stage {
        if self.outstanding == Outstanding::Nothing { Stage::NotSent } else { Stage::InDoubt }
    }

    /// Sends what the buffer holds. From here until the last answer was received, the connection owes.
    pub(crate) fn send(&mut self, unit: Request, limit: &TimeBudget) -> Result<(), Failure> {
        // INVARIANT: it owes before the first byte leaves, so that a panic between here and the last
        // answer leads to a burial and not back into the pool.
        self.outstanding = if unit.mutation { Outstanding::Mutations } else { Outstanding::Reads };
        self.replies_left = unit.replies;
        let buffer = std::mem::take(&mut self.buffer);
        let sent = self.write(&buffer, limit);
        let large = buffer.len() > BYTES_UNWATCHED;
        if buffer.capacity() <= KEPT_BUFFER {
            self.buffer = buffer;
        }
        if let Err(failure) = sent {
            // What the kernel did not take whole, the server cannot run. TLS has buffers in between.
            let incomplete = unit.atomic && !self.tls;
            self.outstanding = match (unit.mutation, incomplete) {
                (true, false) => Outstanding::PartialMutation,
                _ => Outstanding::Reads,
            };
            let stage = if incomplete { Stage::NotSent } else { Stage::InDoubt };
            return Err(Failure { stage, ..failure });
        }
        if large { self.apply_deadline(limit) } else { Ok(()) }
    }

    /// Writes it all. What is large goes piece by piece, so that a server that reads slowly holds nobody
    /// beyond the limit.
    fn write(&mut self, bytes: &[u8], limit: &TimeBudget) -> Result<(), Failure> {
        for piece in bytes.chunks(BYTES_UNWATCHED) {
            if bytes.len() > piece.len() {
                // Into a socket that is almost full two writes are made: one that waits in vain for room
                // for the rest of the piece, and one that waits in vain for any. Each gets half; where the
                // first of them finds no room at all, another attempt has the other half.
                let most = limit.left().unwrap_or_default() / 2;
                self.apply_deadline(&limit.within(most))?;
            }
            let sent = self.stream.send_packed_command(piece);
            sent.map_err(|error| Failure::from_connection(error, Stage::InDoubt, self.tls))?;
        }
        Ok(())
    }

    /// Receives the next answer.
    pub(crate) fn receive(&mut self, limit: &TimeBudget) -> Result<Value, Failure> {
        let value = self.receive_from_other_thread(limit)?;
        if let Value::ServerError(error) = &value {
            self.stale |= is_stale(error);
        }
        Ok(value)
    }

    /// As [`Connection::receive`], of what may be refused on a connection that is good for all else.
    pub(crate) fn receive_from_other_thread(&mut self, limit: &TimeBudget) -> Result<Value, Failure> {
        let value = loop {
            match self.stream.recv_response() {
                Ok(Value::Push { .. }) => {}
                Ok(value) => break value,
                Err(error) => return Err(Failure::from_connection(error, Stage::InDoubt, self.tls)),
            }
        };
        self.replies_left = self.replies_left.saturating_sub(1);
        if self.replies_left == 0 {
            self.outstanding = Outstanding::Nothing;
        } else if self.replies_left.is_multiple_of(REPLIES_UNWATCHED) {
            self.apply_deadline(limit)?;
        }
        Ok(value)
    }

    /// Sends one command that reads, and receives its answer.
    pub(crate) fn ask(&mut self, limit: &TimeBudget) -> Result<Value, Failure> {
        self.send(Request { replies: 1, mutation: false, atomic: true }, limit)?;
        self.receive(limit)
    }

    /// Says something behind what is still unanswered, and reads on until its echo comes.
    ///
    /// The library skips one answer for each time that it waited in vain. Each such wait is followed by one
    /// more echo asked for here, so what it skips is never the last one.
    pub(crate) fn echo(&mut self, token: &str, limit: &TimeBudget) -> Result<(), Failure> {
        self.apply_deadline(limit)?;
        self.buffer.clear();
        CommandWriter::new(&mut self.buffer, b"").command(2, "ECHO").arg(token.as_bytes());
        if let Err(error) = self.stream.send_packed_command(&self.buffer) {
            self.outstanding = Outstanding::PartialMutation;
            return Err(Failure::from_connection(error, Stage::InDoubt, self.tls));
        }
        loop {
            match self.stream.recv_response() {
                Ok(Value::BulkString(text)) if text == token.as_bytes() => return Ok(()),
                // A refusal of the echo itself comes behind the others all the same.
                Ok(Value::ServerError(error))
                    if error.code() == "NOPERM"
                        && error.details().is_some_and(|details| details.contains("'echo'")) =>
                {
                    return Ok(());
                }
                Ok(_) => self.apply_deadline(limit)?,
                Err(error) => return Err(Failure::from_connection(error, Stage::InDoubt, self.tls)),
            }
        }
    }
}

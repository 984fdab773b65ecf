//! Owns one connection: sending, receiving within a time budget, and which replies are outstanding. Knows nothing
//! of what the commands mean, nor of the pool.

use std::time::{Duration, Instant};

use redis::Value;

use crate::backend::redis::connect::identity::Identity;
use crate::backend::redis::connect::open_connections::Registration;
use crate::backend::redis::error_replies;
use crate::backend::redis::failure::{Failure, FailureKind, Stage};
use crate::backend::redis::time_budget::{TimeBudget, timeout_to_set};
use crate::backend::redis::wire::resp::CommandWriter;

/// A buffer that grew beyond this is not kept.
const KEPT_BUFFER: usize = 1 << 20;

/// After this many replies the time budget is checked again, and after this many bytes sent.
const REPLIES_PER_CHECK: usize = 32;
const BYTES_PER_CHECK: usize = 64 << 10;

/// Which replies a connection has not yet received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outstanding {
    /// None: the connection can be used again.
    Nothing,
    /// Replies to reads: the connection can be dropped.
    Reads,
    /// Replies to mutations, which may run at any later time: the connection must be quarantined.
    Mutations,
    /// As `Mutations`, with the last command incomplete: nothing can be sent behind it.
    PartialMutation,
}

impl Outstanding {
    /// Returns whether the server may still carry out a mutation sent over this connection.
    pub(crate) fn may_still_write(self) -> bool {
        match self {
            Self::Mutations | Self::PartialMutation => true,
            Self::Nothing | Self::Reads => false,
        }
    }
}

/// The commands that are sent together, before their replies are received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) replies: usize,
    pub(crate) mutation: bool,
    /// The server runs nothing of it before all of it has arrived: one command, or one transaction.
    pub(crate) atomic: bool,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the connection")]
pub(crate) struct Connection {
    stream: redis::Connection,
    tls: bool,
    /// `None` if the user lacks the permission to ask for it.
    pub(crate) identity: Option<Identity>,
    /// Keeps the identity registered for as long as the connection is open.
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
    /// Whether the end of the connection was seen: it was reset or closed.
    ended: bool,
    /// The error reply with which the server refused to read any further, if it sent one.
    last_words: Option<String>,
    /// Keys are watched: until the next EXEC, no other operation may use the connection.
    watching: bool,
}

impl Connection {
    /// Wraps a connection on which nothing was sent yet.
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
            // The library leaves the socket without timeouts: it waits for ever.
            current_timeout: Duration::MAX,
            outstanding: Outstanding::Nothing,
            replies_left: 0,
            stale: false,
            ended: false,
            last_words: None,
            watching: false,
        }
    }

    pub(crate) fn outstanding(&self) -> Outstanding {
        self.outstanding
    }

    /// Returns whether another operation may use the connection.
    pub(crate) fn is_usable(&self) -> bool {
        self.outstanding == Outstanding::Nothing && !self.stale && !self.watching
    }

    /// Returns whether the end of the connection was seen: the server has closed it, or its process is gone.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Must be set before WATCH is sent, and unset after the reply to EXEC.
    pub(crate) fn set_watching(&mut self, watching: bool) {
        self.watching = watching;
    }

    /// Makes the connection unusable for other operations: it is dropped after use.
    pub(crate) fn discard(&mut self) {
        self.stale = true;
    }

    /// Adjusts the timeouts of the socket to the time that is left.
    pub(crate) fn apply_deadline(&mut self, budget: &TimeBudget) -> Result<(), Failure> {
        let left = budget.left().ok_or_else(|| Failure::timeout(self.stage()))?;
        if let Some(wanted) = timeout_to_set(self.current_timeout, left, self.default_timeout) {
            self.set_timeouts(wanted)?;
        }
        Ok(())
    }

    /// Gives the socket its usual timeouts back.
    pub(crate) fn reset_timeouts(&mut self) -> Result<(), Failure> {
        if self.current_timeout == self.default_timeout {
            Ok(())
        } else {
            self.set_timeouts(self.default_timeout)
        }
    }

    /// Allows the socket to wait for as long as a blocking command may take, beyond its usual timeouts.
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

    /// Returns a writer of commands into the emptied buffer. Keys on the wire begin with `prefix`.
    pub(crate) fn writer<'a>(&'a mut self, prefix: &'a [u8]) -> CommandWriter<'a> {
        self.buffer.clear();
        CommandWriter::new(&mut self.buffer, prefix)
    }

    /// Sends the content of the buffer. From here until the last reply was received, replies are outstanding.
    pub(crate) fn send(&mut self, request: Request, budget: &TimeBudget) -> Result<(), Failure> {
        // INVARIANT: the replies are outstanding before the first byte is sent, so that a panic between here and
        // the last reply quarantines the connection instead of returning it to the pool.
        self.outstanding = if request.mutation { Outstanding::Mutations } else { Outstanding::Reads };
        self.replies_left = request.replies;
        let buffer = std::mem::take(&mut self.buffer);
        let sent = self.write(&buffer, budget);
        let buffer_len = buffer.len();
        if buffer.capacity() <= KEPT_BUFFER {
            self.buffer = buffer;
        }
        if let Err(failure) = sent {
            // The server cannot run a request that the kernel did not take whole. TLS has buffers in between.
            let incomplete = request.atomic && !self.tls;
            self.outstanding = if request.mutation && !incomplete {
                Outstanding::PartialMutation
            } else {
                Outstanding::Reads
            };
            let stage = if incomplete { Stage::NotSent } else { Stage::InDoubt };
            return Err(self.explain_broken_send(Failure { stage, ..failure }, request, buffer_len));
        }
        if buffer_len > BYTES_PER_CHECK { self.apply_deadline(budget) } else { Ok(()) }
    }

    /// Replaces the failure of a request during which the server closed the connection by the error reply that the
    /// server had sent before, if there is one. It can still be read after a reset.
    fn explain_broken_send(&mut self, failure: Failure, request: Request, bytes: usize) -> Failure {
        if failure.kind != FailureKind::Broken {
            return failure;
        }
        self.ended = true;
        for _ in 0..=request.replies {
            match self.stream.recv_response() {
                Ok(Value::ServerError(error)) if error_replies::makes_useless(&error) => {
                    let refused = Failure::from_error_reply(&error);
                    // Before the request that is refused, the server may have run others of the same pipeline.
                    let stage = if request.atomic { Stage::Rejected } else { failure.stage };
                    if request.atomic {
                        self.outstanding = Outstanding::Reads;
                    }
                    return Failure { stage, ..refused };
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        let cause = format!("{}, in a request of {bytes} bytes", failure.cause);
        Failure { cause: cause.into(), ..failure }
    }

    /// Writes all bytes. A large request is written piece by piece, so that a server that reads slowly cannot
    /// delay the operation beyond its time budget.
    fn write(&mut self, bytes: &[u8], budget: &TimeBudget) -> Result<(), Failure> {
        for piece in bytes.chunks(BYTES_PER_CHECK) {
            if bytes.len() > piece.len() {
                // On a socket that is almost full, the library writes twice: first it waits in vain for room for
                // the rest of the piece, then for any room. Each wait gets half of the time; if the first finds
                // no room at all, another attempt has the other half.
                let half = budget.left().unwrap_or_default() / 2;
                self.apply_deadline(&budget.within(half))?;
            }
            let sent = self.stream.send_packed_command(piece);
            sent.map_err(|error| Failure::from_connection(error, Stage::InDoubt, self.tls))?;
        }
        Ok(())
    }

    /// Receives the next reply.
    pub(crate) fn receive(&mut self, budget: &TimeBudget) -> Result<Value, Failure> {
        let value = self.receive_tolerantly(budget)?;
        if let Value::ServerError(error) = &value {
            self.stale |= error_replies::makes_useless(error);
            self.note_last_words(error);
        }
        Ok(value)
    }

    /// Notes the refusal of a request that the server cannot read: it runs nothing that was sent behind it.
    fn note_last_words(&mut self, error: &redis::ServerError) {
        let refused = Failure::from_error_reply(error);
        if refused.kind == FailureKind::Oversized {
            self.last_words = Some(refused.cause.to_string());
            self.outstanding = Outstanding::Nothing;
        }
    }

    /// As [`Connection::receive`], for a command whose refusal does not make the connection stale.
    pub(crate) fn receive_tolerantly(&mut self, budget: &TimeBudget) -> Result<Value, Failure> {
        if let Some(words) = &self.last_words {
            return Err(Failure::new(FailureKind::Oversized, Stage::Rejected, words.clone()));
        }
        let value = loop {
            match self.stream.recv_response() {
                Ok(Value::Push { .. }) => {}
                Ok(value) => break value,
                Err(error) => {
                    let failure = Failure::from_connection(error, Stage::InDoubt, self.tls);
                    self.ended |= failure.kind == FailureKind::Broken;
                    return Err(failure);
                }
            }
        };
        self.replies_left = self.replies_left.saturating_sub(1);
        if self.replies_left == 0 {
            self.outstanding = Outstanding::Nothing;
        } else if self.replies_left.is_multiple_of(REPLIES_PER_CHECK) {
            self.apply_deadline(budget)?;
        }
        Ok(value)
    }

    /// Sends one command that reads, and receives its reply.
    pub(crate) fn ask(&mut self, budget: &TimeBudget) -> Result<Value, Failure> {
        self.send(Request { replies: 1, mutation: false, atomic: true }, budget)?;
        self.receive(budget)
    }

    /// Sends an ECHO behind the outstanding commands, and reads until its reply comes.
    ///
    /// The library skips one reply for each receive that timed out. Each such timeout is followed by one more
    /// ECHO from here, so the last echo is never skipped.
    pub(crate) fn echo(&mut self, token: &str, budget: &TimeBudget) -> Result<(), Failure> {
        self.apply_deadline(budget)?;
        self.buffer.clear();
        CommandWriter::new(&mut self.buffer, b"").command(2, "ECHO").arg(token.as_bytes());
        if let Err(error) = self.stream.send_packed_command(&self.buffer) {
            self.outstanding = Outstanding::PartialMutation;
            return Err(Failure::from_connection(error, Stage::InDoubt, self.tls));
        }
        loop {
            match self.stream.recv_response() {
                Ok(Value::BulkString(text)) if text == token.as_bytes() => return Ok(()),
                // If the user may not run ECHO, its refusal comes behind the other replies all the same.
                Ok(Value::ServerError(error))
                    if error.code() == "NOPERM"
                        && error.details().is_some_and(|details| details.contains("'echo'")) =>
                {
                    return Ok(());
                }
                Ok(_) => self.apply_deadline(budget)?,
                Err(error) => return Err(Failure::from_connection(error, Stage::InDoubt, self.tls)),
            }
        }
    }
}

//! Owns one connection: sending, receiving within a time budget, and which replies are outstanding. Knows nothing
//! of what the commands mean, nor of the pool.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{PushKind, Value};

use crate::backend::redis::connect::cutoff::Cutoff;
use crate::backend::redis::connect::epoch::{Epoch, EpochProbe};
use crate::backend::redis::connect::identity::Identity;
use crate::backend::redis::connect::open_connections::Registration;
use crate::backend::redis::connect::read_error::ReadError;
use crate::backend::redis::connect::reply_reader::ReplyReader;
use crate::backend::redis::connect::stream::Stream;
use crate::backend::redis::connect::timed_socket::{Arrived, WriteError};
use crate::backend::redis::error_replies;
use crate::backend::redis::failure::{Failure, FailureKind, Stage};
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::resp::CommandWriter;
use crate::bytes::Bytes;
use crate::stats::recorder::Recorder;

/// A buffer that grew beyond this is not kept.
const KEPT_BUFFER: usize = 1 << 20;

/// In a buffer of up to this size, the count is put before the request. Before a larger one, it is written separately.
const MOVED_BUFFER: usize = 1 << 16;

/// How long to look for the reason why the server closed the connection while a request was written.
const REFUSAL_WAIT: Duration = Duration::from_millis(20);

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

/// A count of a write whose reply is outstanding.
struct PendingCount {
    probe: EpochProbe,
    /// Its reply comes before the replies of the request, not behind them.
    comes_first: bool,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the connection")]
pub(crate) struct Connection {
    stream: Stream,
    pub(super) reader: ReplyReader,
    /// `None` if the user lacks the permission to ask for it.
    pub(crate) identity: Option<Identity>,
    /// Keeps the identity registered for as long as the connection is open.
    pub(crate) registration: Option<Registration>,
    /// The generation of the pool to which it belongs.
    pub(crate) generation: u64,
    pub(crate) used: Instant,
    pub(crate) buffer: Vec<u8>,
    outstanding: Outstanding,
    replies_left: usize,
    /// How many bytes of a request were sent that has more commands.
    sent_part: usize,
    /// The last request was a mutation: if a reply comes that nobody has asked for, it may be the reply to that one.
    was_mutation: bool,
    /// The connection was found in step, and nothing was sent since.
    is_in_step: bool,
    stale: bool,
    /// Whether the end of the connection was seen: it was reset or closed.
    ended: bool,
    /// The error reply with which the server refused to read any further, if it sent one.
    last_words: Option<String>,
    /// Keys are watched: until the next EXEC, no other operation may use the connection.
    watching: bool,
    /// Why the server carries out no transactions of this connection, if that is so.
    pub(crate) transaction_refusal: Option<Failure>,
    /// Counts writes on the server.
    epoch: Option<Arc<Epoch>>,
    /// The count that is sent with the request, until its reply is received.
    count: Option<PendingCount>,
    /// The keys that the server reported as changed between its replies: `Nil`, or a list. `None` if it reports none.
    pub(super) invalidations: Option<Vec<Value>>,
    recorder: Arc<Recorder>,
}

impl Connection {
    /// Wraps a stream on which nothing was sent yet. `longest_reply`: how many bytes a string in a reply may have.
    pub(crate) fn new(stream: Stream, generation: u64, longest_reply: u64, recorder: Arc<Recorder>) -> Self {
        Self {
            stream,
            reader: ReplyReader::new(longest_reply),
            identity: None,
            registration: None,
            generation,
            used: Instant::now(),
            buffer: Vec::new(),
            outstanding: Outstanding::Nothing,
            replies_left: 0,
            sent_part: 0,
            was_mutation: false,
            // A server that accepts no client says so before it is asked anything.
            is_in_step: true,
            stale: false,
            ended: false,
            last_words: None,
            watching: false,
            transaction_refusal: None,
            epoch: None,
            count: None,
            invalidations: None,
            recorder,
        }
    }

    /// From now on, waits end at the cutoff too.
    pub(crate) fn obey(&mut self, cutoff: Arc<Cutoff>) {
        self.stream.obey(cutoff);
    }

    /// From now on, writes are counted on the server.
    pub(crate) fn count_writes(&mut self, epoch: Arc<Epoch>) {
        self.epoch = Some(epoch);
    }

    pub(crate) fn outstanding(&self) -> Outstanding {
        self.outstanding
    }

    /// Returns whether another operation may use the connection.
    pub(crate) fn is_usable(&self) -> bool {
        self.outstanding == Outstanding::Nothing && !self.stale && !self.ended && !self.watching
    }

    /// Returns whether the end of the connection was seen: the server has closed it, or its process is gone.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn is_watching(&self) -> bool {
        self.watching
    }

    /// Must be set before WATCH is sent, and unset after the reply to EXEC.
    pub(crate) fn set_watching(&mut self, watching: bool) {
        self.watching = watching;
    }

    /// Makes the connection unusable for other operations: it is dropped after use.
    pub(crate) fn discard(&mut self) {
        self.stale = true;
    }

    /// Returns whether the connection is open and in step: nothing has arrived since the last reply. If it is not, it
    /// must be disposed of.
    ///
    /// INVARIANT: asked before every request. A reply that nobody has asked for would be taken for the reply to the
    /// request, and each later reply for that of the request after it.
    pub(crate) fn check_in_step(&mut self) -> bool {
        let arrived = if self.reader.has_received() { Arrived::Bytes(1) } else { self.stream.arrived() };
        // What has arrived may be a report of changed keys. Anything else is found out when it is read.
        let may_be_told = self.invalidations.is_some() && matches!(arrived, Arrived::Bytes(_));
        self.is_in_step = arrived == Arrived::Nothing || may_be_told;
        if may_be_told {
            return true;
        }
        match arrived {
            Arrived::Nothing => {}
            Arrived::End => self.ended = true,
            Arrived::Bytes(_) => self.lose_step(),
        }
        self.is_in_step
    }

    /// The replies received so far may belong to other requests, so a mutation may still run.
    fn lose_step(&mut self) {
        self.stale = true;
        if self.was_mutation {
            self.outstanding = Outstanding::Mutations;
        }
    }

    /// Returns a writer of commands into the emptied buffer. Keys on the wire begin with `prefix`.
    pub(crate) fn writer<'a>(&'a mut self, prefix: &'a [u8]) -> CommandWriter<'a> {
        self.buffer.clear();
        CommandWriter::counting(&mut self.buffer, prefix, &self.recorder)
    }

    /// Sends the content of the buffer. From here until the last reply was received, replies are outstanding.
    pub(crate) fn send(&mut self, request: Request, budget: &TimeBudget) -> Result<(), Failure> {
        self.send_with(request, None, budget)
    }

    /// As [`Connection::send`], for commands that write: the count of writes on the server rises with them. Commands
    /// that are repeated until they find something to do must not be counted: most of them change nothing.
    pub(crate) fn send_counted(&mut self, request: Request, budget: &TimeBudget) -> Result<(), Failure> {
        let mut command = Vec::new();
        let epoch = self.epoch.as_ref();
        let probe = epoch
            .and_then(|epoch| epoch.write_count(budget.begun, &mut CommandWriter::new(&mut command, b"")));
        self.send_with(request, probe.map(|probe| (probe, command)), budget)
    }

    /// Sends the content of the buffer as a part of a request that has more commands, so that the server begins with
    /// it. If it fails in doubt, nothing more can be sent, and the replies to earlier parts may still be received.
    pub(crate) fn send_part(&mut self, part: Request, budget: &TimeBudget) -> Result<(), Failure> {
        self.begin_request(part)?;
        let sent = self.stream.write_all(&self.buffer, budget.end);
        let bytes = self.sent_part + self.buffer.len();
        sent.map_err(|failed| self.not_sent(part, bytes, &failed, budget))?;
        self.sent_part = bytes;
        Ok(())
    }

    fn send_with(
        &mut self,
        request: Request,
        count: Option<(EpochProbe, Vec<u8>)>,
        budget: &TimeBudget,
    ) -> Result<(), Failure> {
        self.begin_request(request)?;
        self.count =
            count.as_ref().map(|(probe, _)| PendingCount { probe: *probe, comes_first: request.atomic });
        let bytes = self.sent_part + self.buffer.len();
        let sent = self.write_buffer(request, count.map(|(_, command)| command), budget);
        if self.buffer.capacity() > KEPT_BUFFER {
            self.buffer = Vec::new();
        }
        sent.map_err(|failed| self.not_sent(request, bytes, &failed, budget))?;
        self.sent_part = 0;
        Ok(())
    }

    /// Makes the replies to a request, or to a part of one, outstanding.
    fn begin_request(&mut self, request: Request) -> Result<(), Failure> {
        if self.sent_part > 0 {
            self.replies_left += request.replies;
            return Ok(());
        }
        if !self.is_in_step && !self.check_in_step() {
            let cause = "the server closed the connection, or sent a reply that belongs to no command";
            return Err(Failure::new(FailureKind::FoundUseless, Stage::NotSent, cause));
        }
        self.is_in_step = false;
        // INVARIANT: the replies are outstanding before the first byte is sent, so that a panic between here and
        // the last reply quarantines the connection instead of returning it to the pool.
        self.outstanding = if request.mutation { Outstanding::Mutations } else { Outstanding::Reads };
        self.was_mutation = request.mutation;
        self.replies_left = request.replies;
        self.count = None;
        Ok(())
    }

    /// Writes the content of the buffer, and the command that counts it.
    ///
    /// A request that runs only as a whole comes behind its count: if a part is missing, at most the count runs, which
    /// does no harm. Any other request comes before its count: then the first reply belongs to its first command, and
    /// the replies that came before a cut show how much was done.
    fn write_buffer(
        &mut self,
        request: Request,
        count: Option<Vec<u8>>,
        budget: &TimeBudget,
    ) -> Result<(), WriteError> {
        match count {
            Some(command) if !request.atomic => self.buffer.extend(command),
            Some(command) if self.buffer.len() <= MOVED_BUFFER => _ = self.buffer.splice(0..0, command),
            Some(command) => self.stream.write_all(&command, budget.end)?,
            None => {}
        }
        self.stream.write_all(&self.buffer, budget.end)
    }

    /// Returns the failure of a request that the kernel did not take whole.
    fn not_sent(
        &mut self,
        request: Request,
        bytes: usize,
        failed: &WriteError,
        budget: &TimeBudget,
    ) -> Failure {
        // The server cannot run a command or a transaction of which a part is missing.
        let has_sent_part = std::mem::take(&mut self.sent_part) > 0;
        let nothing_runs = request.atomic || !(failed.took_some || has_sent_part);
        self.outstanding =
            if request.mutation && !nothing_runs { Outstanding::PartialMutation } else { Outstanding::Reads };
        self.stale = true;
        let stage = if nothing_runs { Stage::NotSent } else { Stage::InDoubt };
        let failure = Failure::from_io(&failed.error, stage, self.stream.is_tls());
        if failure.kind != FailureKind::Broken {
            return failure;
        }
        if has_sent_part {
            // The replies to the earlier parts come first, a refusal behind them, and then the end.
            return failure;
        }
        self.ended = true;
        match self.refusal(budget) {
            Some(refusal) if nothing_runs => refusal,
            // Before the command that is refused, the server may have run others.
            Some(refusal) => Failure { stage, ..refusal },
            None => {
                let cause = format!("{}, in a request of {bytes} bytes", failure.cause);
                Failure { cause: cause.into(), ..failure }
            }
        }
    }

    /// Returns the refusal that the server sent before it closed the connection, if it did: an error reply, or an alert
    /// of TLS. It can still be read after a reset.
    fn refusal(&mut self, budget: &TimeBudget) -> Option<Failure> {
        let end = budget.end.min(Instant::now() + REFUSAL_WAIT);
        loop {
            match self.reader.next(&mut self.stream, end) {
                Ok(Value::ServerError(error)) if error_replies::makes_useless(&error) => {
                    return Some(Failure::from_error_reply(&error));
                }
                Ok(_) => {}
                Err(ReadError::Io(error)) => {
                    let failure = Failure::from_io(&error, Stage::NotSent, self.stream.is_tls());
                    return (failure.kind == FailureKind::Tls).then_some(failure);
                }
                Err(ReadError::Malformed | ReadError::TooLarge { .. }) => return None,
            }
        }
    }

    /// Receives the reply to the count.
    fn receive_count(&mut self, probe: EpochProbe, budget: &TimeBudget) -> Result<(), Failure> {
        let reply = self.next_reply(budget)?;
        if let Some(epoch) = &self.epoch {
            epoch.on_count(probe, &reply);
        }
        Ok(())
    }

    /// Receives the next reply.
    pub(crate) fn receive(&mut self, budget: &TimeBudget) -> Result<Value, Failure> {
        if self.has_replies_behind_next() && self.reader.take_ok() {
            self.replies_left -= 1;
            return Ok(Value::Okay);
        }
        let value = self.receive_tolerantly(budget)?;
        if let Value::ServerError(error) = &value {
            self.stale |= error_replies::makes_useless(error);
            self.note_last_words(error);
        }
        Ok(value)
    }

    /// Receives the next reply if it is a string that has arrived already, without a copy in between.
    pub(crate) fn take_string(&mut self) -> Option<Bytes> {
        if !self.has_replies_behind_next() {
            return None;
        }
        let string = Bytes::from(self.reader.take_string()?);
        self.replies_left -= 1;
        Some(string)
    }

    /// Returns whether the next reply is one to the request, and neither the first nor the last thing to receive: then
    /// there is nothing to do but to count it.
    fn has_replies_behind_next(&self) -> bool {
        let count_comes_first = self.count.as_ref().is_some_and(|count| count.comes_first);
        self.replies_left > 1 && !count_comes_first && self.last_words.is_none()
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
        if let Some(count) = self.count.take_if(|count| count.comes_first) {
            self.receive_count(count.probe, budget)?;
        }
        let value = self.next_reply(budget)?;
        self.replies_left = self.replies_left.saturating_sub(1);
        if self.replies_left == 0 {
            // All commands of the request are done, also if the reply to their count is lost. It must not come late.
            if let Some(count) = self.count.take()
                && self.receive_count(count.probe, budget).is_err()
            {
                self.stale = true;
            } else if self.reader.has_received() && self.invalidations.is_none() {
                self.lose_step();
                let cause = "the server sent more replies than it was sent commands";
                return Err(Failure::new(FailureKind::Protocol, Stage::InDoubt, cause));
            }
            self.outstanding = Outstanding::Nothing;
        }
        Ok(value)
    }

    fn next_reply(&mut self, budget: &TimeBudget) -> Result<Value, Failure> {
        loop {
            if let Some(reply) = self.next_reply_or_push(budget)? {
                return Ok(reply);
            }
        }
    }

    /// Returns `None` for a message that is no reply. A report of changed keys is kept.
    pub(super) fn next_reply_or_push(&mut self, budget: &TimeBudget) -> Result<Option<Value>, Failure> {
        let value = self.reader.next(&mut self.stream, budget.end).map_err(|error| match error {
            ReadError::Io(error) => {
                let failure = Failure::from_io(&error, Stage::InDoubt, self.stream.is_tls());
                self.ended |= failure.kind == FailureKind::Broken;
                failure
            }
            ReadError::Malformed => Failure::foreign_protocol(),
            ReadError::TooLarge { bytes, limit } => Failure::too_large(bytes, limit),
        })?;
        let Value::Push { kind, data } = value else {
            return Ok(Some(value));
        };
        if let Some(told) = &mut self.invalidations
            && kind == PushKind::Invalidate
        {
            told.extend(data.into_iter().next());
        }
        Ok(None)
    }

    /// Sends one command that reads, and receives its reply.
    pub(crate) fn ask(&mut self, budget: &TimeBudget) -> Result<Value, Failure> {
        self.send(Request { replies: 1, mutation: false, atomic: true }, budget)?;
        self.receive(budget)
    }

    /// Sends an ECHO behind the outstanding commands, and reads until its reply comes.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a server may send any value of the protocol")]
    pub(crate) fn echo(&mut self, token: &str, budget: &TimeBudget) -> Result<(), Failure> {
        self.buffer.clear();
        CommandWriter::new(&mut self.buffer, b"").command(2, "ECHO").arg(token.as_bytes());
        if let Err(failed) = self.stream.write_all(&self.buffer, budget.end) {
            self.outstanding = Outstanding::PartialMutation;
            return Err(Failure::from_io(&failed.error, Stage::InDoubt, self.stream.is_tls()));
        }
        self.replies_left += 1;
        loop {
            let reply = self.next_reply(budget)?;
            self.replies_left = self.replies_left.saturating_sub(1);
            match reply {
                Value::BulkString(text) if text == token.as_bytes() => return Ok(()),
                // If ECHO is refused, or not known, its refusal comes behind the other replies all the same.
                Value::ServerError(error)
                    if self.replies_left == 0 || error.details().is_some_and(names_echo) =>
                {
                    return Ok(());
                }
                _ => {}
            }
        }
    }
}

/// Returns whether the text of an error names the command ECHO, as a refusal of it does.
fn names_echo(details: &str) -> bool {
    let details = details.to_ascii_lowercase();
    ["'echo'", "`echo`", "\"echo\""].iter().any(|name| details.contains(name))
}

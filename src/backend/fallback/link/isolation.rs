//! Owns how the cause is found if a chunk of queued operations does not pass: the chunk is halved until one group is left,
//! and a group that fails alone although an empty chunk passes is set aside. Knows nothing of what the operations are.

use std::time::Duration;

use crate::backend::fallback::link::replay_session::{Chunk, ReplaySession};
use crate::backend::redis::replay::outcome::{ReplayOutcome, ReplayReply};
use crate::backend::redis::replay::reconnect_error::{ReconnectError, ReconnectReason};

/// How often in succession a group must fail alone before it is set aside. A refusal in words needs a confirmation only
/// in case that it has just been withdrawn; connections break and servers are slow by chance too.
const REFUSALS: u32 = 2;
const BROKEN_CONNECTIONS: u32 = 4;
const TIMEOUTS: u32 = 8;

/// For how long a group must be denied before it is set aside, if no other operation is known to pass: the right may be
/// missing only for a moment, and on every operation.
const DENIED_FOR: Duration = Duration::from_secs(5);

/// At most this many other groups are asked about.
const OTHERS: usize = 32;

/// The pause after the first time that a group broke its connection. It doubles each time.
const PAUSE: Duration = Duration::from_millis(10);

/// What a failure of a chunk tells about the chunk.
struct Suspicion {
    /// How often a group must fail like this.
    times: u32,
    /// Whether the connection can be used again.
    keeps_connection: bool,
    pause: Duration,
}

impl Suspicion {
    /// Returns what follows from a failure; `None` if the operations of the chunk cannot be the cause.
    fn of(reason: ReconnectReason) -> Option<Self> {
        match reason {
            ReconnectReason::Denied => {
                Some(Self { times: REFUSALS, keeps_connection: true, pause: Duration::ZERO })
            }
            ReconnectReason::Refused => {
                Some(Self { times: REFUSALS, keeps_connection: false, pause: Duration::ZERO })
            }
            ReconnectReason::Broken => {
                Some(Self { times: BROKEN_CONNECTIONS, keeps_connection: false, pause: PAUSE })
            }
            ReconnectReason::TimedOut => {
                Some(Self { times: TIMEOUTS, keeps_connection: false, pause: Duration::ZERO })
            }
            ReconnectReason::StaleQueue | ReconnectReason::Failed => None,
        }
    }
}

impl ReplaySession<'_> {
    /// Handles the failure of a chunk. Returns the reply to take for the chunk's; `None` if another chunk must be tried.
    /// The error is returned if the chunk is not the cause, or if the next session must find it out.
    pub(super) fn find_cause(
        &mut self,
        chunk: &Chunk,
        error: ReconnectError,
    ) -> Result<Option<ReplayReply>, ReconnectError> {
        let Some(suspicion) = Suspicion::of(error.reason) else { return Err(error) };
        // While writers wait, there is no time for this.
        if self.is_cut_over {
            return Err(error);
        }
        let is_alone = chunk.groups.len() == 1;
        // The session began with a write that passed. The longer chunks are made shorter by the pace.
        if error.reason == ReconnectReason::TimedOut
            && (!is_alone || self.outage.pace.note_suspect(chunk.last) < suspicion.times)
        {
            return Err(error);
        }
        let empty = self.send_empty(chunk, suspicion.keeps_connection);
        match empty.inspect_err(|_| self.outage.pace.clear_suspect())? {
            ReplayReply::Applied(_) => {}
            // The server has applied the chunk, and only the reply was lost.
            applied @ ReplayReply::AlreadyAt { .. } => return Ok(Some(applied)),
        }
        if !is_alone {
            self.max_operations = (chunk.groups.len() / 2).max(1);
            return Ok(None);
        }
        if error.reason != ReconnectReason::TimedOut {
            let failures = self.outage.pace.note_suspect(chunk.last);
            if failures < suspicion.times {
                self.shared.reconnector.sleep(suspicion.pause * (1 << failures));
                return Ok(None);
            }
        }
        if error.reason == ReconnectReason::Denied
            && !self.has_passed
            && self.outage.pace.suspect_for() < DENIED_FOR
        {
            // The right may have come back since the group was denied, so the group gets another attempt.
            self.has_passed = self.may_others_pass(chunk)?;
            return if self.has_passed { Ok(None) } else { Err(error) };
        }
        self.set_aside(chunk, &error.cause).map(Some)
    }

    /// Returns whether the user of the connection may use the keys of another queued group.
    fn may_others_pass(&mut self, chunk: &Chunk) -> Result<bool, ReconnectError> {
        let others = self.outage.session().queue.sample_behind(chunk.last, OTHERS);
        for group in others {
            let keys: Vec<_> = group.ops.iter().map(|op| &op.key).collect();
            if self.connection.may_use(&keys)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sends a chunk without operations. If that does not pass, no operation is the cause.
    fn send_empty(&mut self, chunk: &Chunk, keeps_connection: bool) -> Result<ReplayReply, ReconnectError> {
        if !keeps_connection {
            self.connection = self.shared.redis.open_replay_connection()?;
        }
        self.send(chunk, chunk.done, &[])
    }

    /// Takes the only group of a chunk for done without applying it.
    fn set_aside(&mut self, chunk: &Chunk, cause: &str) -> Result<ReplayReply, ReconnectError> {
        let ops = chunk.groups.iter().flat_map(|group| group.ops.iter());
        let outcomes: Vec<_> = ops
            .map(|op| match op.in_doubt {
                // Nobody knows what an earlier attempt did.
                Some(_) => ReplayOutcome::Uncertain,
                None => ReplayOutcome::Rejected(cause.to_owned()),
            })
            .collect();
        self.connection.set_aside(&self.shared.marker.claimed(), chunk.done, chunk.last, &outcomes)
    }
}

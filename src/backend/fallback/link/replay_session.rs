//! Owns one attempt to replay the queue: chunk after chunk, in order, each operation once. Knows nothing of what is
//! served meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::fallback::outage::serving::Outage;
use crate::backend::fallback::queue::group::QueuedGroup;
use crate::backend::fallback::queue::queued_at::QueuedAt;
use crate::backend::fallback::queue::replay_queue::ChunkBounds;
use crate::backend::fallback::shadow::cache::Shadowed;
use crate::backend::fallback::shared::Shared;
use crate::backend::redis::client::DataLoss;
use crate::backend::redis::replay::args::ReplayStep;
use crate::backend::redis::replay::connection::ReplayConnection;
use crate::backend::redis::replay::kept_outcome::KeptOutcome;
use crate::backend::redis::replay::marker_claim::{ClaimedMarker, MarkerClaim};
use crate::backend::redis::replay::outcome::{Findings, ReplayOutcome, ReplayReply};
use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::backend::redis::replay::queued_op::QueuedOp;
use crate::backend::redis::replay::reconnect_error::{ReconnectError, ReconnectReason};
use crate::clock::Deadline;
use crate::config::OnConflict;
use crate::util::log_later::log_later;

/// The size of a chunk, unless chunks of this size take too long.
const CHUNK_OPERATIONS: usize = 1000;
const CHUNK_BYTES: u64 = 4 << 20;
/// A hosted service takes no command with more than 3,999 arguments.
const CHUNK_WORDS: usize = 3_900;
const MAX_HALVED: u32 = 10;

pub(crate) struct ReplaySession<'s> {
    pub(super) shared: &'s Shared,
    pub(super) outage: &'s Outage,
    pub(super) connection: ReplayConnection<'s>,
    has_applied: bool,
    /// Whether the server has taken a chunk with operations in this session, or would take one.
    pub(super) has_passed: bool,
    /// At most this many operations are sent as one chunk.
    pub(super) max_operations: usize,
    /// Writers wait until the rest of the queue is replayed.
    pub(super) is_cut_over: bool,
}

impl Drop for ReplaySession<'_> {
    fn drop(&mut self) {
        self.outage.pace.unthrottle();
        self.shared.report.log_rejections(self.shared.redis.server_name());
    }
}

/// A chunk that was taken from the front of the queue.
pub(super) struct Chunk {
    pub(super) groups: Vec<Arc<QueuedGroup>>,
    /// The number of the last operation that is done already.
    pub(super) done: u64,
    /// The number of the last operation of the chunk.
    pub(super) last: u64,
    /// The number of the last operation that was ever sent.
    sent: u64,
}

impl<'s> ReplaySession<'s> {
    /// Connects to the server, and compares the queue with the marker.
    pub(crate) fn begin(shared: &'s Shared, outage: &'s Outage) -> Result<Self, ReconnectError> {
        let connection = shared.redis.open_replay_connection()?;
        let mut session = Self {
            shared,
            outage,
            connection,
            has_applied: false,
            has_passed: false,
            max_operations: CHUNK_OPERATIONS,
            is_cut_over: false,
        };
        session.reconcile()?;
        Ok(session)
    }

    /// Notes that writers wait from now on.
    pub(crate) fn begin_cut_over(&mut self) {
        self.is_cut_over = true;
    }

    /// Returns whether the server has applied a chunk in this session.
    pub(crate) fn has_applied(&self) -> bool {
        self.has_applied
    }

    /// Claims the marker, and compares the queue with it: how much the server has done, and whether it has lost any of
    /// that.
    fn reconcile(&mut self) -> Result<(), ReconnectError> {
        let (done, sent) = {
            let session = self.outage.session();
            (session.queue.done(), session.queue.sent())
        };
        let marker = self.shared.marker.claimed();
        let claim = self.claim_marker(&marker, done, sent);
        let lost_data = self.shared.take_data_loss();
        if let Some(found) = lost_data {
            let queue = &mut self.outage.session().queue;
            match found {
                DataLoss::EpochGone | DataLoss::OtherEpoch => queue.forget_observed(),
                DataLoss::Rollback => queue.accept_older_values(),
            }
        }
        let (held, was_absent) = match claim {
            Ok(claim) => claim,
            Err(error) => {
                if let Some(found) = lost_data {
                    self.shared.marker.note_loss_told();
                    self.shared.report_data_loss(found.cause().to_owned());
                }
                return Err(error);
            }
        };
        let was_told = self.shared.marker.take_loss_told();
        let mut loss = None;
        if self.shared.marker.note_set() && was_absent {
            self.report_uncertain();
            loss = Some("the marker of replayed operations is gone".to_owned());
        } else if held < done {
            self.connection.reset_marker(&marker, done)?;
            loss = Some(format!("operation {done} was done on it, and its marker is at {held}"));
        }
        let loss = loss.filter(|_| !was_told);
        if let Some(cause) = lost_data.map(|found| found.cause().to_owned()).or(loss) {
            self.shared.report_data_loss(cause);
        }
        Ok(())
    }

    /// Makes this store the holder of the marker. Returns the number that the marker holds, and whether there was no
    /// marker before.
    fn claim_marker(
        &mut self,
        marker: &ClaimedMarker,
        done: u64,
        sent: u64,
    ) -> Result<(u64, bool), ReconnectError> {
        let holders = match &self.shared.queue_file {
            Some(file) => file.note_holder(marker.holder).map_err(|error| {
                let cause =
                    format!("cannot record in the replay queue's files who holds the marker: {error:#}");
                ReconnectError::new(ReconnectReason::Failed, cause)
            })?,
            None => vec![marker.holder],
        };
        let cause = match self.connection.claim_marker(&marker.key, done, sent, &holders)? {
            MarkerClaim::Held { done: held, was_absent } if held <= sent => return Ok((held, was_absent)),
            MarkerClaim::Held { done: held, .. } | MarkerClaim::HeldByAnother { done: held }
                if held > sent =>
            {
                format!(
                    "this is an old copy of a replay queue: the marker on the server is at operation {held}, and {sent} \
                     was the last one sent"
                )
            }
            MarkerClaim::Held { .. } | MarkerClaim::HeldByAnother { .. } => {
                "another store has opened a copy of this replay queue, and the server takes its operations"
                    .to_owned()
            }
        };
        Err(ReconnectError::new(ReconnectReason::StaleQueue, cause))
    }

    /// Replays the operations at the front of the queue.
    pub(crate) fn replay_chunk(&mut self) -> Result<(), ReconnectError> {
        let chunk = self.next_chunk();
        if let Some(file) = &self.shared.queue_file {
            file.note_sent(chunk.last).map_err(|error| {
                let cause = format!("cannot record in the replay queue's files what is sent: {error:#}");
                ReconnectError::new(ReconnectReason::Failed, cause)
            })?;
        }
        let steps: Vec<ReplayStep<'_>> = chunk.groups.iter().flat_map(|group| steps(group)).collect();
        let begun = Instant::now();
        let reply = self.send(&chunk, chunk.last, &steps);
        self.tune_chunk(begun.elapsed(), &reply);
        let reply = match reply {
            Ok(reply) => {
                self.max_operations = (self.max_operations * 2).min(CHUNK_OPERATIONS);
                self.has_passed = true;
                reply
            }
            Err(error) => match self.find_cause(&chunk, error)? {
                Some(reply) => reply,
                None => return Ok(()),
            },
        };
        let (upto, findings) = match reply {
            ReplayReply::Applied(findings) => (chunk.last, findings),
            // The reply to an earlier chunk was lost, and its findings come now. The findings of the chunks before it
            // are lost if the program was killed before it could keep them.
            ReplayReply::AlreadyAt { done: Some(done), done_before, findings }
                if done > chunk.done && done <= chunk.sent =>
            {
                if let Some(before) = done_before.filter(|before| (chunk.done + 1..done).contains(before)) {
                    self.acknowledge(before, Findings::default());
                }
                (done, findings)
            }
            ReplayReply::AlreadyAt { .. } => return self.reconcile(),
        };
        self.acknowledge(upto, findings);
        Ok(())
    }

    fn next_chunk(&self) -> Chunk {
        let mut session = self.outage.session();
        let done = session.queue.done();
        let halved = self.outage.pace.halved();
        let operations = (self.max_operations >> halved).max(1);
        let bytes = CHUNK_BYTES >> halved;
        let bounds = ChunkBounds { operations, bytes, words: CHUNK_WORDS, remote_wins: self.remote_wins() };
        let (groups, last) = session.queue.next_chunk(bounds);
        Chunk { groups, done, last, sent: session.queue.sent() }
    }

    pub(super) fn send(
        &mut self,
        chunk: &Chunk,
        last: u64,
        steps: &[ReplayStep<'_>],
    ) -> Result<ReplayReply, ReconnectError> {
        let marker = self.shared.marker.claimed();
        self.connection.replay(&marker, chunk.done, last, self.remote_wins(), steps)
    }

    fn remote_wins(&self) -> bool {
        self.shared.policy.on_conflict == OnConflict::RemoteWins
    }

    /// Adapts the size of the chunks to the time limit: on a slow network, a chunk that is too large never succeeds.
    fn tune_chunk(&self, elapsed: Duration, reply: &Result<ReplayReply, ReconnectError>) {
        let halved = self.outage.pace.halved();
        match reply {
            Err(error) if error.reason == ReconnectReason::TimedOut => {
                self.outage.pace.set_halved((halved + 1).min(MAX_HALVED));
            }
            Ok(_) if elapsed < self.shared.policy.timeout / 8 => {
                self.outage.pace.set_halved(halved.saturating_sub(1));
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// Removes the operations up to a number from the queue. Keeps their outcomes for the program, and their values for
    /// the next outage.
    fn acknowledge(&mut self, upto: u64, Findings { outcomes, absent }: Findings) {
        let groups = self.outage.session().queue.acknowledge(upto);
        let ops: Vec<(&QueuedOp, QueuedAt)> =
            groups.iter().flat_map(|group| group.ops.iter().map(|op| (op, group.queued_at))).collect();
        self.has_applied = true;
        self.outage.add_to_tally(self.shared.report.count_outcomes(ops.len() as u64, &outcomes));
        for (index, (op, queued_at)) in ops.iter().enumerate() {
            self.record_in_shadow(op, queued_at.age(), absent.binary_search(&index).is_err());
        }
        let mut kept = Vec::new();
        for (index, outcome) in outcomes {
            let Some((op, queued_at)) = ops.get(index) else { continue };
            self.apply_outcome(op, &outcome);
            kept.push(KeptOutcome { op: (*op).clone(), outcome, since: queued_at.wall });
        }
        self.note_done(upto, &kept);
    }

    /// Removes the operations up to a number from the queue's files, and keeps their outcomes for the program.
    fn note_done(&self, upto: u64, outcomes: &[KeptOutcome]) {
        let server = self.shared.redis.server_name();
        let report = || self.shared.report.keep_outcomes(outcomes, server);
        let Some(file) = &self.shared.queue_file else {
            return report();
        };
        if let Err(error) = file.note_done(upto, outcomes, report) {
            // The marker on the server records it too.
            log_later!(
                Warn,
                "cannot record in {} what was replayed to Redis {server}: {error:#}",
                file.path().display()
            );
        }
    }

    /// Records in the shadow what an operation left on the server, which found its key absent or present.
    fn record_in_shadow(&self, op: &QueuedOp, age: Duration, was_present: bool) {
        let write = self.shared.shadow.begin_write(&op.key);
        match op.action.after_waiting(age) {
            QueuedAction::Put { value, ttl } => {
                let now = self.outage.now();
                let deadline = ttl.map(|ttl| Deadline::after(&now, ttl));
                write.record_write(Shadowed::Value { bytes: value.bytes, deadline });
            }
            // The deadline of the value is not known, as after a read.
            QueuedAction::PutIfPresent { value } if was_present => {
                write.record_write(Shadowed::Value { bytes: value.bytes, deadline: None });
            }
            QueuedAction::PutIfPresent { .. } | QueuedAction::Delete => write.record_write(Shadowed::Absent),
            // The result is not known locally. A write that records nothing makes the shadow forget the key.
            QueuedAction::Incr { .. }
            | QueuedAction::Expire { .. }
            | QueuedAction::Renew { .. }
            | QueuedAction::Persist
            | QueuedAction::MapPut { .. }
            | QueuedAction::MapDelete { .. }
            | QueuedAction::MapIncr { .. }
            | QueuedAction::Push { .. }
            | QueuedAction::Pop { .. }
            | QueuedAction::Trim { .. }
            | QueuedAction::WindowAdd(_)
            | QueuedAction::SetLease { .. } => {}
        }
    }

    /// Adapts what is known of the key of an operation to its outcome.
    fn apply_outcome(&self, op: &QueuedOp, outcome: &ReplayOutcome) {
        match outcome {
            ReplayOutcome::Overwritten(_) => {}
            ReplayOutcome::Dropped(_) => {
                self.shared.shadow.forget(&op.key);
                self.outage.session().note_dropped(&op.key);
            }
            ReplayOutcome::Rejected(_) | ReplayOutcome::Uncertain => self.shared.shadow.forget(&op.key),
        }
    }

    /// Reports the operations that the server may have done before it lost its data, and that must not be done twice.
    fn report_uncertain(&self) {
        let server = self.shared.redis.server_name();
        self.outage.take_in_doubt(|uncertain| {
            for kept in uncertain {
                self.shared.shadow.forget(&kept.op.key);
            }
            self.shared.report.keep_outcomes(uncertain, server);
        });
    }
}

/// Returns the steps of a group on the server, with the TTLs that are left.
fn steps(group: &QueuedGroup) -> impl Iterator<Item = ReplayStep<'_>> {
    let age = group.queued_at.age();
    group.ops.iter().map(move |op| ReplayStep {
        key: &op.key,
        action: op.action.after_waiting(age),
        observed: &op.observed,
        in_doubt: op.in_doubt.as_ref(),
        age,
    })
}

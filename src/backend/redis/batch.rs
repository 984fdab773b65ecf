//! Owns operations on many keys: pipelines in chunks, and transactions. What a single command means stands
//! in `commands`.

use std::sync::Arc;

use crate::backend::redis::client::Redis;
use crate::backend::redis::connect::connection::{Connection, Request};
use crate::backend::redis::exactly_once::slots::SlotCall;
use crate::backend::redis::failure::{ErrorContext, Failure, FailureKind, Stage};
use crate::backend::redis::retry::{Job, READ, lost_reply};
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::action::error_context;
use crate::backend::redis::wire::scripts::ScriptCall;
use crate::backend::redis::wire::{commands, replies};
use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{Op, Reply, Write};

/// A chunk is cut once it holds this many bytes, whatever the number of its commands.
const CHUNK_BYTES: usize = 4 << 20;

/// How far a batch got.
pub(crate) struct Batch {
    /// Where it stopped, the last of these is the error.
    pub(crate) replies: Vec<Result<Reply>>,
    pub(crate) in_doubt: Option<BatchInDoubt>,
}

/// A call of which nobody knows whether it was done.
pub(crate) struct BatchInDoubt {
    pub(crate) call: Arc<SlotCall>,
    /// How many operations it is, from the one that has the error.
    pub(crate) length: usize,
}

/// What the server said to one command of a pipeline.
type WireResult<T> = Result<T, Failure>;

/// Tells an answer, a refusal among them, from the end of all answers.
fn split_fatal<T>(outcome: WireResult<T>) -> WireResult<WireResult<T>> {
    match outcome {
        Err(failure) if failure.stage == Stage::InDoubt => Err(failure),
        outcome => Ok(outcome),
    }
}

/// A server that refused everything because it cannot serve for now is worth another attempt.
fn unless_all_busy<T>(outcomes: &mut Vec<WireResult<T>>) -> WireResult<()> {
    let busy = |outcome: &WireResult<T>| matches!(outcome, Err(failure) if failure.kind == FailureKind::Busy);
    if !outcomes.is_empty()
        && outcomes.iter().all(busy)
        && let Some(Err(failure)) = outcomes.pop()
    {
        outcomes.clear();
        return Err(failure);
    }
    Ok(())
}

impl Redis {
    pub(crate) fn get_chunks(&self, keys: &[Key<'_>]) -> Vec<Result<Option<Bytes>>> {
        let mut found = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(self.options.pipeline_batch_size) {
            if let Err(error) = self.get_chunk(chunk, &mut found) {
                found.push(Err(error));
                break;
            }
        }
        found
    }

    fn get_chunk(&self, keys: &[Key<'_>], found: &mut Vec<Result<Option<Bytes>>>) -> Result<()> {
        let limit = self.budget();
        let about = |key| ErrorContext::reading("GET", key);
        let mut outcomes = Vec::with_capacity(keys.len());
        let outcome = self.run(READ, &limit, |connection, _| {
            outcomes.clear();
            let mut packer = self.writer(connection);
            for key in keys {
                packer.command(2, "GET").key(key);
            }
            connection.send(Request { replies: keys.len(), mutation: false, atomic: false }, &limit)?;
            for _ in keys {
                outcomes.push(split_fatal(connection.receive(&limit).and_then(replies::bytes))?);
            }
            unless_all_busy(&mut outcomes)
        });
        if let Err(failure) = outcome {
            return Err(failure.into_error(about(""), None));
        }
        let wrong = |outcome: &WireResult<_>| matches!(outcome, Err(failure) if failure.kind == FailureKind::WrongType);
        let strange: Vec<&str> =
            keys.iter().zip(&outcomes).filter(|(_, outcome)| wrong(outcome)).map(|(key, _)| &**key).collect();
        let mut kinds =
            if strange.is_empty() { Vec::new() } else { self.kinds(&strange, &limit) }.into_iter();
        found.extend(keys.iter().zip(outcomes).map(|(key, outcome)| {
            let kind = if wrong(&outcome) { kinds.next().flatten() } else { None };
            outcome.map_err(|failure| failure.into_error(about(key), kind))
        }));
        Ok(())
    }

    /// Carries out mutations chunk by chunk. `doubt` is what an earlier call of this left of the first of them.
    pub(crate) fn apply_chunks(&self, ops: &[Op<'_>], mut doubt: Option<BatchInDoubt>) -> Batch {
        let mut replies = Vec::with_capacity(ops.len());
        let mut rest = ops;
        while !rest.is_empty() {
            let doubted = doubt.take();
            let length = doubted.as_ref().map_or_else(|| self.chunk_length(rest), |doubt| doubt.length);
            let (chunk, behind) = rest.split_at(length.min(rest.len()));
            let turn = doubted.map(|doubt| doubt.call);
            let turn = turn
                .or_else(|| chunk.iter().all(|op| self.deduplicates(&op.action)).then(|| self.begin_call()));
            let outcome = match &turn {
                Some(turn) => self.call_chunk(turn, chunk, &mut replies),
                None => self.apply_chunk(chunk, &mut replies),
            };
            if let Err(error) = outcome {
                let is_doubtful = error.maybe_applied();
                replies.push(Err(error));
                let doubt = turn.filter(|_| is_doubtful).map(|turn| BatchInDoubt { call: turn, length });
                return Batch { replies, in_doubt: doubt };
            }
            rest = behind;
        }
        Batch { replies, in_doubt: None }
    }

    fn call_chunk(&self, turn: &SlotCall, ops: &[Op<'_>], replies: &mut Vec<Result<Reply>>) -> Result<()> {
        let limit = self.budget();
        let Some(first) = ops.first() else { return Ok(()) };
        let outcomes =
            self.call(turn, ops, &limit).map_err(|failure| failure.into_error(error_context(first), None))?;
        replies.extend(ops.iter().zip(outcomes).map(|(op, outcome)| {
            outcome.map_err(|failure| self.error_of(failure, error_context(op), &limit))
        }));
        Ok(())
    }

    fn chunk_length(&self, ops: &[Op<'_>]) -> usize {
        let mut bytes = 0;
        let fits = |op: &&Op<'_>| {
            bytes += commands::weight(&op.action);
            bytes <= CHUNK_BYTES
        };
        ops.iter().take(self.options.pipeline_batch_size).take_while(fits).count().max(1)
    }

    fn apply_chunk(&self, ops: &[Op<'_>], replies: &mut Vec<Result<Reply>>) -> Result<()> {
        let limit = self.budget();
        let job =
            Job { mutation: true, repeatable: ops.iter().all(|op| op.action.traits().repeat.is_harmless()) };
        let mut outcomes = Vec::with_capacity(ops.len());
        let mut repeated = false;
        let ended = self.run(job, &limit, |connection, lost| {
            outcomes.clear();
            repeated = lost;
            self.pipeline(ops, connection, &limit, &mut outcomes)?;
            unless_all_busy(&mut outcomes)
        });
        let answered = outcomes.len();
        for (op, outcome) in ops.iter().zip(outcomes) {
            replies.push(match outcome {
                Ok(reply) if repeated && !op.action.traits().repeat.reply_survives(&reply) => {
                    Err(lost_reply())
                }
                Ok(reply) => Ok(reply),
                Err(failure) => {
                    let stage = if repeated { Stage::InDoubt } else { failure.stage };
                    Err(self.error_of(Failure { stage, ..failure }, error_context(op), &limit))
                }
            });
        }
        match (ended, ops.get(answered)) {
            (Err(failure), Some(op)) => Err(failure.into_error(error_context(op), None)),
            _ => Ok(()),
        }
    }

    fn pipeline(
        &self,
        ops: &[Op<'_>],
        connection: &mut Connection,
        limit: &TimeBudget,
        outcomes: &mut Vec<WireResult<Reply>>,
    ) -> WireResult<()> {
        let mut packer = self.writer(connection);
        for op in ops {
            // Called by name, a script that the server lost would fail while the rest runs on.
            packer.entry_action(&op.key, &op.action, ScriptCall::ByText);
        }
        let answers = packer.commands();
        connection.send(Request { replies: answers, mutation: true, atomic: ops.len() == 1 }, limit)?;
        for op in ops {
            outcomes.push(split_fatal(replies::reply(&op.action, &mut || connection.receive(limit)))?);
        }
        Ok(())
    }

    pub(crate) fn commit_all(&self, writes: &[Op<'_, Write>]) -> Result<()> {
        let limit = self.budget();
        // Puts and deletes: to repeat them is harmless.
        let job = Job { mutation: true, repeatable: true };
        let work = |connection: &mut Connection, _| {
            let mut packer = self.writer(connection);
            packer.command(1, "MULTI");
            for op in writes {
                packer.write(&op.key, &op.action);
            }
            packer.command(1, "EXEC");
            let unit = Request { replies: packer.commands(), mutation: true, atomic: true };
            connection.send(unit, &limit)?;
            let answers = replies::transaction(unit.replies - 2, &mut || connection.receive(&limit))?;
            answers.into_iter().try_for_each(|answer| replies::refused(answer).map(drop))
        };
        let about = ErrorContext::writing("EXEC");
        self.run(job, &limit, work).map(|_| ()).map_err(|failure| failure.into_error(about, None))
    }
}

impl Redis {
    /// Deletes keys as they lie on the server, and tells how many were there. Where an answer was lost, all
    /// that are gone count: they were listed a moment ago.
    pub(crate) fn delete_listed(&self, keys: &[Vec<u8>], done: &mut u64) -> Result<()> {
        let job = Job { mutation: true, repeatable: true };
        for chunk in keys.chunks(self.options.pipeline_batch_size) {
            let limit = self.budget();
            let work = |connection: &mut Connection, _| {
                let mut packer = self.writer(connection);
                packer.command(1 + chunk.len(), "DEL");
                for key in chunk {
                    packer.arg(key);
                }
                connection.send(Request { replies: 1, mutation: true, atomic: true }, &limit)?;
                replies::number(connection.receive(&limit)?)
            };
            let about = ErrorContext::writing("DEL");
            let (removed, lost) = self
                .run(job, &limit, work)
                .map_err(|failure| Error::partial(*done, failure.into_error(about, None)))?;
            *done += if lost { chunk.len() as u64 } else { u64::try_from(removed).unwrap_or(0) };
        }
        Ok(())
    }
}

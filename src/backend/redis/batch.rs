//! Owns operations on many keys: pipelines in chunks, and batches that are applied as one. Knows nothing of what a
//! single command means.

use std::sync::Arc;

use crate::backend::redis::client::Redis;
use crate::backend::redis::connect::connection::{Connection, Request};
use crate::backend::redis::failure::{ErrorContext, Failure, FailureKind, Stage};
use crate::backend::redis::operation_error::OperationError;
use crate::backend::redis::retry::RetryRule;
use crate::backend::redis::slots::SlotCall;
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::action::{Left, WireAction as _, error_context};
use crate::backend::redis::wire::calls::{Deletion, Steps};
use crate::backend::redis::wire::resp::CommandWriter;
use crate::backend::redis::wire::scripts::ScriptCall;
use crate::backend::redis::wire::{commands, replies};
use crate::bytes::Bytes;
use crate::key::Key;
use crate::op::{Op, Reply, Write};
use crate::stats::counter::Counter;

/// A chunk ends once it holds this many bytes, whatever the number of its commands.
const CHUNK_BYTES: usize = 4 << 20;

/// The commands of a chunk are sent in parts of about this size: the server works on the first part while the next one
/// is encoded.
const PART_BYTES: usize = 8 << 10;

/// The outcome of one operation of a batch. The error is boxed, because it would make every outcome larger.
pub(crate) type Outcome<T> = Result<T, Box<OperationError>>;

/// How far a batch got.
pub(crate) struct Batch {
    /// If the batch had to stop, the last one is the error.
    pub(crate) replies: Vec<Outcome<Reply>>,
    pub(crate) in_doubt: Option<BatchInDoubt>,
}

/// A call whose reply was lost.
pub(crate) struct BatchInDoubt {
    pub(crate) call: Arc<SlotCall>,
    /// How many operations it covers, from the one that has the error.
    pub(crate) length: usize,
}

/// The outcome of one command of a pipeline.
type WireResult<T> = Result<T, Failure>;

/// Separates a failure of the whole pipeline (outer) from a reply to one command, refusals included (inner).
fn split_fatal<T>(outcome: WireResult<T>) -> WireResult<WireResult<T>> {
    match outcome {
        Err(failure) if failure.stage == Stage::InDoubt => Err(failure),
        outcome => Ok(outcome),
    }
}

/// Fails if the server refused all commands because it cannot serve for now: then another attempt makes sense.
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
    /// Reads values, each with its own outcome. If reading had to stop, the last one is the error. Passes each value to
    /// `on_value` as soon as it was received, with the index of its key. A value that had to be read again is passed
    /// again.
    pub(crate) fn get_many(
        &self,
        keys: &[Key<'_>],
        mut on_value: impl FnMut(usize, &Option<Bytes>),
    ) -> Vec<Outcome<Option<Bytes>>> {
        let mut found = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(self.options.pipeline_batch_size) {
            let first = found.len();
            let on_value = |index, value: &_| on_value(first + index, value);
            if let Err(error) = self.get_chunk(chunk, &mut found, on_value) {
                found.push(Err(Box::new(error)));
                break;
            }
        }
        found
    }

    fn get_chunk(
        &self,
        keys: &[Key<'_>],
        found: &mut Vec<Outcome<Option<Bytes>>>,
        mut on_value: impl FnMut(usize, &Option<Bytes>),
    ) -> Result<(), OperationError> {
        let budget = self.budget();
        self.recorder().add(Counter::Pipelines, 1);
        let context = |key| ErrorContext::reading("GET", key);
        let mut outcomes = Vec::with_capacity(keys.len());
        let outcome = self.run(RetryRule::Read, &budget, |connection, _| {
            outcomes.clear();
            let write = |writer: &mut CommandWriter<'_>, key: &Key<'_>| _ = writer.command(2, "GET").key(key);
            let mut cut = self.send_in_parts(connection, keys, false, write, &budget)?;
            for index in 0..keys.len() {
                let outcome = match connection.take_string() {
                    Some(bytes) => Ok(Some(bytes)),
                    None => split_fatal(connection.receive(&budget).and_then(replies::bytes))
                        .map_err(|failure| cut.take().unwrap_or(failure))?,
                };
                if let Ok(value) = &outcome {
                    on_value(index, value);
                }
                outcomes.push(outcome);
            }
            unless_all_busy(&mut outcomes)
        });
        if let Err(failure) = outcome {
            // The reply that is missing is the one about this key.
            let key = keys.get(outcomes.len()).map_or("", |key| &**key);
            return Err(OperationError::new(failure, context(key)));
        }
        let is_wrong_type = |outcome: &WireResult<_>| matches!(outcome, Err(failure) if failure.kind == FailureKind::WrongType);
        let wrong: Vec<&str> = keys
            .iter()
            .zip(&outcomes)
            .filter(|(_, outcome)| is_wrong_type(outcome))
            .map(|(key, _)| &**key)
            .collect();
        let mut kinds = if wrong.is_empty() { Vec::new() } else { self.kinds(&wrong, &budget) }.into_iter();
        found.extend(keys.iter().zip(outcomes).map(|(key, outcome)| {
            let kind = if is_wrong_type(&outcome) { kinds.next().flatten() } else { None };
            outcome.map_err(|failure| Box::new(OperationError::with_kind(failure, context(key), kind)))
        }));
        Ok(())
    }

    /// Carries out mutations chunk by chunk. `in_doubt`: the call that an earlier run of this left in doubt, which
    /// covers the first of them. Passes each reply to `on_reply` as soon as it was received, with the index of its
    /// mutation.
    pub(crate) fn apply_chunks(
        &self,
        ops: &[Op<'_>],
        mut in_doubt: Option<BatchInDoubt>,
        mut on_reply: impl FnMut(usize, &Reply),
    ) -> Batch {
        let mut replies = Vec::with_capacity(ops.len());
        let mut rest = ops;
        while !rest.is_empty() {
            let earlier = in_doubt.take();
            let length = earlier.as_ref().map_or_else(|| self.chunk_length(rest), |earlier| earlier.length);
            let (chunk, behind) = rest.split_at(length.min(rest.len()));
            let call = earlier.map(|earlier| earlier.call);
            let call = call.or_else(|| self.is_exact().then(|| self.begin_call()));
            let first = replies.len();
            let on_reply = |index, reply: &_| on_reply(first + index, reply);
            let outcome = match &call {
                Some(call) => self.call_chunk(call, chunk, &mut replies, on_reply),
                None => self.apply_chunk(chunk, &mut replies, on_reply),
            };
            if let Err(error) = outcome {
                let in_doubt =
                    call.filter(|_| error.maybe_applied()).map(|call| BatchInDoubt { call, length });
                replies.push(Err(Box::new(error)));
                return Batch { replies, in_doubt };
            }
            rest = behind;
        }
        Batch { replies, in_doubt: None }
    }

    fn call_chunk(
        &self,
        call: &SlotCall,
        ops: &[Op<'_>],
        replies: &mut Vec<Outcome<Reply>>,
        mut on_reply: impl FnMut(usize, &Reply),
    ) -> Result<(), OperationError> {
        let budget = self.budget();
        let Some(first) = ops.first() else { return Ok(()) };
        let outcomes = self
            .call(call, &Steps(ops), &budget)
            .map_err(|failure| OperationError::new(failure, error_context(first)))?;
        for (index, outcome) in outcomes.iter().enumerate() {
            if let Ok(reply) = outcome {
                on_reply(index, reply);
            }
        }
        replies.extend(ops.iter().zip(outcomes).map(|(op, outcome)| {
            outcome.map_err(|failure| Box::new(self.error_of(failure, error_context(op), &budget)))
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

    fn apply_chunk(
        &self,
        ops: &[Op<'_>],
        replies: &mut Vec<Outcome<Reply>>,
        mut on_reply: impl FnMut(usize, &Reply),
    ) -> Result<(), OperationError> {
        let budget = self.budget();
        self.recorder().add(Counter::Pipelines, 1);
        let mut outcomes = Vec::with_capacity(ops.len());
        let ended = self.run(RetryRule::AtMostOnce, &budget, |connection, _| {
            outcomes.clear();
            self.pipeline(ops, connection, &budget, &mut outcomes, &mut on_reply)?;
            unless_all_busy(&mut outcomes)
        });
        let done = outcomes.len();
        let rest = &ops[done..];
        replies.extend(ops.iter().zip(outcomes).map(|(op, outcome)| {
            outcome.map_err(|failure| Box::new(self.error_of(failure, error_context(op), &budget)))
        }));
        match (ended, rest.first()) {
            (Err(failure), Some(op)) => match self.replies_if_left(&failure, rest, &budget) {
                Some(rest) => {
                    for (index, reply) in (done..).zip(&rest) {
                        on_reply(index, reply);
                    }
                    replies.extend(rest.into_iter().map(Ok));
                    Ok(())
                }
                None => Err(OperationError::new(failure, error_context(op))),
            },
            _ => Ok(()),
        }
    }

    /// Returns the replies to mutations whose replies were lost, if the server holds what all of them leave.
    fn replies_if_left(&self, failure: &Failure, ops: &[Op<'_>], budget: &TimeBudget) -> Option<Vec<Reply>> {
        let left = ops.iter().map(|op| op.action.reply_if_left()).collect::<Option<Vec<_>>>()?;
        let keys = ops.iter().map(|op| &op.key);
        let (left, replies): (Vec<_>, Vec<_>) =
            keys.zip(left).map(|(key, (left, reply))| ((key, left), reply)).unzip();
        self.has_left(failure, &left, budget).then_some(replies)
    }

    fn pipeline(
        &self,
        ops: &[Op<'_>],
        connection: &mut Connection,
        budget: &TimeBudget,
        outcomes: &mut Vec<WireResult<Reply>>,
        on_reply: &mut impl FnMut(usize, &Reply),
    ) -> WireResult<()> {
        if ops.iter().any(|op| commands::is_transaction(&op.action)) {
            connection.ensure_transactions(budget)?;
        }
        // Called by its hash, a script that the server does not hold would fail while the rest runs on.
        let write = |writer: &mut CommandWriter<'_>, op: &Op<'_>| {
            writer.entry_action(&op.key, &op.action, ScriptCall::ByText);
        };
        let mut cut = self.send_in_parts(connection, ops, true, write, budget)?;
        for (index, op) in ops.iter().enumerate() {
            let outcome = split_fatal(replies::reply(&op.action, &mut || connection.receive(budget)));
            let outcome = outcome.map_err(|failure| cut.take().unwrap_or(failure))?;
            if let Ok(reply) = &outcome {
                on_reply(index, reply);
            }
            outcomes.push(outcome);
        }
        Ok(())
    }

    /// Sends the commands of all items. If a later part could not be sent, returns the failure: it is the cause once a
    /// reply is missing.
    fn send_in_parts<T>(
        &self,
        connection: &mut Connection,
        items: &[T],
        mutation: bool,
        write: impl Fn(&mut CommandWriter<'_>, &T),
        budget: &TimeBudget,
    ) -> WireResult<Option<Failure>> {
        let mut rest = items.iter();
        let mut is_first = true;
        loop {
            let mut writer = self.writer(connection);
            while writer.bytes() < PART_BYTES
                && let Some(item) = rest.next()
            {
                write(&mut writer, item);
            }
            let is_last = rest.as_slice().is_empty();
            let part = Request { replies: writer.commands(), mutation, atomic: items.len() == 1 };
            let sent = match (is_last, mutation) {
                (false, _) => connection.send_part(part, budget),
                (true, true) => connection.send_counted(part, budget),
                (true, false) => connection.send(part, budget),
            };
            match sent {
                Err(failure) if is_first => return Err(failure),
                Err(failure) => return Ok(Some(failure)),
                Ok(()) if is_last => return Ok(None),
                Ok(()) => is_first = false,
            }
        }
    }

    /// Carries out all writes or none. With a slot call they take effect once, however often this function is called
    /// with it.
    pub(crate) fn commit(
        &self,
        call: Option<&SlotCall>,
        ops: &[Op<'_, Write>],
    ) -> Result<(), OperationError> {
        let budget = self.budget();
        let context = ErrorContext::writing("EXEC");
        let write = |connection: &mut Connection, note: Option<&SlotCall>| {
            connection.ensure_transactions(&budget)?;
            let mut writer = self.writer(connection);
            writer.command(1, "MULTI");
            if let Some(call) = note {
                writer.note(call);
            }
            for op in ops {
                writer.write(&op.key, &op.action);
            }
            writer.command(1, "EXEC");
            let request = Request { replies: writer.commands(), mutation: true, atomic: true };
            connection.send_counted(request, &budget)?;
            let replies = replies::transaction(request.replies - 2, &mut || connection.receive(&budget))?;
            replies.into_iter().try_for_each(replies::written)
        };
        if let Some(call) = call {
            let outcome = self.transact_exactly(call, &budget, |connection| write(connection, Some(call)));
            return outcome.map(drop).map_err(|failure| OperationError::new(failure, context));
        }
        let outcome = self.run(RetryRule::AtMostOnce, &budget, |connection, _| write(connection, None));
        let Err(failure) = outcome else { return Ok(()) };
        let left: Vec<_> = ops.iter().map(|op| (&op.key, Left::by(&op.action))).collect();
        if self.has_left(&failure, &left, &budget) {
            return Ok(());
        }
        Err(OperationError::new(failure, context))
    }
}

impl Redis {
    /// Deletes keys as the server spells them, and adds to `done` how many existed.
    pub(crate) fn delete_listed(&self, keys: &[Vec<u8>], done: &mut u64) -> Result<(), OperationError> {
        for chunk in keys.chunks(self.options.pipeline_batch_size) {
            let budget = self.budget();
            let work = |connection: &mut Connection, _| {
                let mut writer = self.writer(connection);
                writer.command(1 + chunk.len(), "DEL");
                for key in chunk {
                    writer.arg(key);
                }
                connection.send_counted(Request { replies: 1, mutation: true, atomic: true }, &budget)?;
                replies::count(connection.receive(&budget)?)
            };
            let context = ErrorContext::writing("DEL");
            let removed = if self.is_exact() {
                self.call(&self.begin_call(), &Deletion(chunk), &budget)
            } else {
                self.run(RetryRule::AtMostOnce, &budget, work).map(|(removed, _)| removed)
            };
            let removed = removed
                .map_err(|failure| OperationError::partial(*done, OperationError::new(failure, context)))?;
            *done += removed;
        }
        Ok(())
    }
}

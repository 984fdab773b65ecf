//! Owns the calls that the server applies once however often they are sent. Knows nothing of what becomes of a call
//! that stays in doubt.

use std::sync::Arc;

use redis::Value;

use crate::backend::redis::client::Redis;
use crate::backend::redis::connect::connection::{Connection, Request};
use crate::backend::redis::failure::{Failure, FailureKind, Stage};
use crate::backend::redis::keys;
use crate::backend::redis::retry::{Attempt, RetryRule};
use crate::backend::redis::slots::{Recalled, SlotCall};
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::calls::{CallBody, Scripted, Steps};
use crate::backend::redis::wire::replies;
use crate::backend::redis::wire::resp::CommandWriter;
use crate::backend::redis::wire::scripts::{
    CREATE_REPLY_CACHE, CallHead, FORGET_REPLY, SESSION_TTL_MILLIS, ScriptCall,
};
use crate::key::Key;
use crate::op::{EntryAction, Op, Reply};
use crate::stats::recorder::Measured;
use crate::util::log_later::log_later;

/// After this many calls of a slot, the next one renews the TTL of the reply cache.
const CALLS_PER_RENEWAL: u64 = 256;

/// A reply of more bytes is forgotten by the server as soon as it was received.
const LARGE_REPLY: usize = 4096;

/// What the note of a transaction holds behind its sequence: an empty list of replies in `MessagePack`.
const NO_REPLIES: u8 = 0x90;

/// The failure of a call whose reply cache is gone as soon as it is created: the server evicts it.
fn out_of_memory() -> Failure {
    let cause =
        "OOM the server is out of memory: it evicts the reply cache of exactly_once as soon as it is created";
    Failure::new(FailureKind::NotWritable, Stage::Rejected, cause)
}

impl Redis {
    /// Begins a call, which has a slot to itself.
    pub(crate) fn begin_call(&self) -> Arc<SlotCall> {
        Arc::new(self.slots.begin_call())
    }

    /// Returns whether the options ask for deduplicated calls.
    pub(crate) fn is_exact(&self) -> bool {
        self.options.exactly_once
    }

    /// Makes a call that is one mutation of an entry.
    pub(crate) fn call_one(
        &self,
        call: &SlotCall,
        op: &Op<'_>,
        budget: &TimeBudget,
    ) -> Result<Reply, Failure> {
        if matches!(op.action, EntryAction::Swap { .. } | EntryAction::WindowAdd(_)) {
            return self.call(call, &Scripted(op), budget);
        }
        let mut replies = self.call(call, &Steps(std::slice::from_ref(op)), budget)?;
        replies.pop().unwrap_or_else(|| Err(Failure::unexpected_reply(&Value::Nil)))
    }

    /// Makes a call, or returns the reply that the server gave when it applied the call.
    pub(crate) fn call<B: CallBody>(
        &self,
        call: &SlotCall,
        body: &B,
        budget: &TimeBudget,
    ) -> Result<B::Reply, Failure> {
        let was_sent = call.cache_id_when_sent().is_some();
        let attempt = |attempt: Attempt| {
            // Half of the time is left for another attempt.
            let part = if attempt.earlier >= self.options.max_retries {
                *budget
            } else {
                budget.within(budget.left().unwrap_or_default() / 2)
            };
            match self.pool.checkout_for_write(&part) {
                // Nothing was attempted yet, so that the wait for a connection may take the whole time.
                Err(Failure { kind: FailureKind::Exhausted, .. }) => {
                    let mut connection = self.pool.checkout_for_write(budget)?;
                    connection.run(|connection| self.call_once(call, body, connection, budget))
                }
                connection => connection?.run(|connection| self.call_once(call, body, connection, &part)),
            }
        };
        let outcome = self.measure(Measured::Write, || self.retry(RetryRule::Recognised, budget, attempt));
        let outcome = outcome.map(|(reply, _)| reply);
        // The refusal of this attempt does not undo what an earlier use of this call may have applied.
        outcome.map_err(|failure| {
            let stage = if was_sent { Stage::InDoubt } else { failure.stage };
            Failure { stage, ..failure }
        })
    }

    fn call_once<B: CallBody>(
        &self,
        call: &SlotCall,
        body: &B,
        connection: &mut Connection,
        budget: &TimeBudget,
    ) -> Result<B::Reply, Failure> {
        let losses = self.link.epoch().loss_count();
        let was_sent = call.cache_id_when_sent();
        if was_sent.is_none() {
            call.set_loss_count(losses);
        }
        let cache_id = self.cache_id_for(call, connection, budget)?;
        match self.send_call(call, cache_id, was_sent.is_none(), body, connection, budget) {
            // The call was not sent before, or the server has lost its effect with the reply cache: it is made now.
            Err(failure)
                if failure.kind == FailureKind::ReplyEvicted
                    && (was_sent.is_none() || call.loss_count() != losses) =>
            {
                call.set_loss_count(losses);
                let cache_id = self.create_reply_cache(connection, budget)?;
                let again = self.send_call(call, cache_id, true, body, connection, budget);
                again.map_err(|failure| {
                    if failure.kind == FailureKind::ReplyEvicted { out_of_memory() } else { failure }
                })
            }
            Err(failure) if failure.kind == FailureKind::ReplyEvicted => {
                Err(Failure { stage: Stage::InDoubt, ..failure })
            }
            outcome => outcome,
        }
    }

    /// Returns the id of the reply cache for a call: the same for all its attempts.
    fn cache_id_for(
        &self,
        call: &SlotCall,
        connection: &mut Connection,
        budget: &TimeBudget,
    ) -> Result<u64, Failure> {
        match call.cache_id_when_sent().or(self.slots.cache_id()) {
            Some(cache_id) => Ok(cache_id),
            None => self.create_reply_cache(connection, budget),
        }
    }

    fn send_call<B: CallBody>(
        &self,
        call: &SlotCall,
        cache_id: u64,
        is_first: bool,
        body: &B,
        connection: &mut Connection,
        budget: &TimeBudget,
    ) -> Result<B::Reply, Failure> {
        call.mark_sent(Some(cache_id));
        let head = CallHead {
            cache: call.table().key(),
            cache_id,
            slot: call.slot,
            sequence: call.sequence,
            is_first,
            renews: call.sequence.is_multiple_of(CALLS_PER_RENEWAL),
        };
        let write =
            |writer: &mut CommandWriter<'_>, by: ScriptCall<'_>| body.write(writer, by.with_head(&head));
        let outcome = self.call_script(connection, budget, body.is_counted(), write, |next| {
            let reply = next()?;
            let length = replies::length(&reply);
            Ok((body.read(reply)?, length))
        });
        if is_first && matches!(&outcome, Err(failure) if failure.stage != Stage::InDoubt) {
            call.mark_sent(None);
        }
        let (reply, length) = outcome?;
        if length > LARGE_REPLY {
            self.forget_reply(call, connection, budget);
        }
        Ok(reply)
    }

    /// Lets the server forget a reply that was received. If that fails, the next call of the slot does it.
    fn forget_reply(&self, call: &SlotCall, connection: &mut Connection, budget: &TimeBudget) {
        let write = |writer: &mut CommandWriter<'_>, by: ScriptCall<'_>| {
            let arguments = writer.script(&FORGET_REPLY, by, &[call.table().key()], 2);
            arguments.number(u64::from(call.slot)).number(call.sequence);
        };
        let forgotten = self.call_script(connection, budget, false, write, |next| replies::number(next()?));
        if let Err(failure) = forgotten {
            log_later!(
                Debug,
                "Redis {} keeps a large reply for a while: {}",
                self.server_name(),
                failure.cause
            );
        }
    }

    /// Applies a transaction once, however often it must be sent. `send` sends it with a note of the call and reads the
    /// replies. Returns what that returned; `None` if the replies were lost, and the note shows that it was applied.
    pub(crate) fn transact_exactly<T>(
        &self,
        call: &SlotCall,
        budget: &TimeBudget,
        mut send: impl FnMut(&mut Connection) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        let was_sent = call.cache_id_when_sent().is_some();
        let work = |connection: &mut Connection, attempt: Attempt| {
            if was_sent || attempt.in_doubt {
                match self.recall(call, connection, budget)? {
                    Recalled::Applied => return Ok(None),
                    Recalled::NotApplied => {}
                    Recalled::Unknown => {
                        let cause = "the reply cache is another one";
                        return Err(Failure::new(FailureKind::ReplyEvicted, Stage::InDoubt, cause));
                    }
                }
            }
            self.prepare_note(call, connection, budget)?;
            send(connection).map(Some)
        };
        let outcome = self.run(RetryRule::Recognised, budget, work).map(|(done, _)| done);
        // The refusal of this attempt does not undo what an earlier use of this call may have applied.
        outcome.map_err(|failure| {
            let stage = if was_sent { Stage::InDoubt } else { failure.stage };
            Failure { stage, ..failure }
        })
    }

    /// Prepares a transaction that leaves a note in the reply cache, so that a lost reply can be recalled.
    pub(crate) fn prepare_note(
        &self,
        call: &SlotCall,
        connection: &mut Connection,
        budget: &TimeBudget,
    ) -> Result<(), Failure> {
        let cache_id = self.cache_id_for(call, connection, budget)?;
        call.mark_sent(Some(cache_id));
        Ok(())
    }

    /// Asks the server whether a transaction was applied that leaves a note.
    ///
    /// INVARIANT: the connection was checked out for a write, so that the transaction cannot be applied any more if it
    /// was not applied yet.
    pub(crate) fn recall(
        &self,
        call: &SlotCall,
        connection: &mut Connection,
        budget: &TimeBudget,
    ) -> Result<Recalled, Failure> {
        self.writer(connection)
            .command(4, "HMGET")
            .key(call.table().key())
            .arg(b"cache_id")
            .number(u64::from(call.slot));
        let [cache_id, note] = <[Value; 2]>::try_from(replies::array(connection.ask(budget)?)?)
            .map_err(|parts| Failure::unexpected_reply(&Value::Array(parts)))?;
        if replies::parsed(&cache_id).ok() != call.cache_id_when_sent() {
            return Ok(Recalled::Unknown);
        }
        let is_last = replies::noted_sequence(&note) == Some(call.sequence);
        Ok(if is_last { Recalled::Applied } else { Recalled::NotApplied })
    }

    /// Deletes the reply cache of a store that closes, and its marker, if it is not needed any more. If that fails, they
    /// stay until nobody has used them for their time.
    pub(crate) fn delete_session(&self, marker: Option<&Key<'_>>) {
        let cache = self.slots.cache_id().map(|_| self.slots.key());
        let keys: Vec<&Key<'_>> = cache.into_iter().chain(marker).collect();
        if keys.is_empty() || self.link.is_suspended() {
            return;
        }
        let budget = self.link.budget(self.probe_budget());
        let work = |connection: &mut Connection, _| {
            let mut writer = self.writer(connection);
            writer.command(1 + keys.len(), "DEL");
            for key in &keys {
                writer.key(key);
            }
            writer.command(2 + keys.len(), "ZREM").key(&keys::sessions());
            for key in &keys {
                writer.key(key);
            }
            connection.send(Request { replies: 2, mutation: true, atomic: false }, &budget)?;
            let deleted = connection.receive(&budget)?;
            connection.receive(&budget)?;
            replies::refused(deleted)
        };
        if let Err(failure) = self.run(RetryRule::Recognised, &budget, work) {
            log_later!(
                Debug,
                "the marker and the reply cache of this store stay on Redis {} for 30 days: {}",
                self.server_name(),
                failure.cause
            );
        }
    }

    /// Creates the reply cache on the server if there is none, and returns its id. If the id is another one later, or
    /// the cache is missing, the replies of earlier calls are lost.
    fn create_reply_cache(&self, connection: &mut Connection, budget: &TimeBudget) -> Result<u64, Failure> {
        let write = |writer: &mut CommandWriter<'_>, by: ScriptCall<'_>| {
            let arguments = writer.script(&CREATE_REPLY_CACHE, by, &[self.slots.key()], 2);
            arguments.number(fastrand::u64(1..)).number(SESSION_TTL_MILLIS);
        };
        let created = self.call_script(connection, budget, false, write, |next| {
            replies::parsed(&replies::refused(next()?)?)
        });
        // Whatever becomes of the cache, nothing of the call itself was sent.
        let cache_id = created.map_err(|failure| match failure.stage {
            Stage::InDoubt => Failure { stage: Stage::NotSent, ..failure },
            Stage::NotSent | Stage::Rejected => failure,
        })?;
        self.slots.set_cache_id(cache_id);
        Ok(cache_id)
    }
}

impl CommandWriter<'_> {
    /// Writes the command that leaves the note of a call: a transaction that contains it is recalled by it.
    pub(crate) fn note(&mut self, call: &SlotCall) {
        let mut note = call.sequence.to_string().into_bytes();
        note.extend([b'|', NO_REPLIES]);
        self.command(4, "HSET").key(call.table().key()).number(u64::from(call.slot)).arg(&note);
    }
}

//! Owns the calls that the server applies once however often they are sent. Knows nothing of what becomes of a call
//! that stays in doubt.

use std::sync::Arc;

use redis::Value;

use crate::backend::redis::client::Redis;
use crate::backend::redis::connect::connection::{Connection, Request};
use crate::backend::redis::failure::{Failure, FailureKind, Stage};
use crate::backend::redis::retry::{Attempt, RetryRule};
use crate::backend::redis::slots::SlotCall;
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::replies;
use crate::backend::redis::wire::resp::{CommandWriter, MAX_ARGS};
use crate::backend::redis::wire::scripts::{CALL, CREATE_REPLY_CACHE, SESSION_TTL_MILLIS, ScriptCall};
use crate::clock::Millis;
use crate::error::Result;
use crate::key::Key;
use crate::op::{EntryAction, Op, Reply};
use crate::util::log_later::log_later;
use crate::value::Value as Stored;

/// After this many calls of a slot, the next one renews the TTL of the reply cache.
const CALLS_PER_RENEWAL: u64 = 256;

/// What a step of a call sends behind its key.
#[derive(Debug, Clone, Copy)]
enum StepArgs<'a> {
    Pop,
    Incr { by: i64 },
    MapIncr { field: &'a str, by: i64 },
    Push { values: &'a [Stored] },
}

impl StepArgs<'_> {
    fn count(self) -> usize {
        match self {
            Self::Pop => 0,
            Self::Incr { .. } => 1,
            Self::MapIncr { .. } => 2,
            Self::Push { values } => values.len(),
        }
    }
}

/// Returns what a step sends, and the TTL of a key that it creates; `None` if the action cannot be a step of a call.
fn step(action: &EntryAction) -> Option<(StepArgs<'_>, Option<Millis>)> {
    match action {
        EntryAction::Pop { .. } => Some((StepArgs::Pop, None)),
        EntryAction::Incr { by, ttl_if_created } => Some((StepArgs::Incr { by: *by }, *ttl_if_created)),
        EntryAction::MapIncr { field, by, ttl_if_created } => {
            Some((StepArgs::MapIncr { field, by: *by }, *ttl_if_created))
        }
        EntryAction::Push { values, ttl_if_created, .. } if values.len() <= MAX_ARGS => {
            Some((StepArgs::Push { values }, *ttl_if_created))
        }
        EntryAction::Push { .. }
        | EntryAction::Put { .. }
        | EntryAction::PutIfAbsent { .. }
        | EntryAction::PutIfPresent { .. }
        | EntryAction::GetAndPut { .. }
        | EntryAction::Swap { .. }
        | EntryAction::Delete
        | EntryAction::GetAndDelete
        | EntryAction::Expire { .. }
        | EntryAction::Persist
        | EntryAction::Touch { .. }
        | EntryAction::MapPut { .. }
        | EntryAction::MapDelete { .. }
        | EntryAction::Trim { .. } => None,
    }
}

/// Returns whether an action can be a step of a call.
pub(crate) fn can_deduplicate(action: &EntryAction) -> bool {
    step(action).is_some()
}

impl CommandWriter<'_> {
    /// Writes a call of these operations, each of which can be a step of a call.
    fn call(
        &mut self,
        call: &SlotCall,
        cache_id: u64,
        is_first: bool,
        ops: &[Op<'_>],
        script_call: ScriptCall,
    ) {
        let steps = || ops.iter().filter_map(|op| Some((op, step(&op.action)?)));
        let arguments = 5 + steps().map(|(_, (args, _))| 3 + args.count()).sum::<usize>();
        let keys: Vec<&Key<'_>> =
            std::iter::once(call.table().key()).chain(ops.iter().map(|op| &op.key)).collect();
        self.script(&CALL, script_call, &keys, arguments).number(cache_id).number(u64::from(call.slot));
        self.number(call.sequence).arg(if is_first { b"1" } else { b"" });
        if call.sequence.is_multiple_of(CALLS_PER_RENEWAL) {
            self.number(SESSION_TTL_MILLIS);
        } else {
            self.arg(b"");
        }
        for (op, (args, ttl_if_created)) in steps() {
            self.arg(op.action.traits().command.as_bytes());
            self.ttl_or_empty(ttl_if_created).number(args.count() as u64);
            self.step_args(args);
        }
    }

    fn step_args(&mut self, args: StepArgs<'_>) {
        match args {
            StepArgs::Pop => {}
            StepArgs::Incr { by } => {
                self.integer(by);
            }
            StepArgs::MapIncr { field, by } => {
                self.arg(field.as_bytes()).integer(by);
            }
            StepArgs::Push { values } => {
                for value in values {
                    self.arg(&value.bytes);
                }
            }
        }
    }
}

/// Reads the reply to a step.
fn step_reply(action: &EntryAction, reply: Value) -> Result<Reply, Failure> {
    if matches!(action, EntryAction::Pop { .. }) {
        replies::bytes(reply).map(Reply::Found)
    } else {
        replies::integer(reply).map(Reply::Number)
    }
}

/// Reads the reply to a call: one reply of each step.
fn step_replies(ops: &[Op<'_>], reply: Value) -> Result<Vec<Result<Reply, Failure>>, Failure> {
    let replies = replies::array(reply)?;
    if replies.len() != ops.len() {
        return Err(Failure::unexpected_reply(&Value::Array(replies)));
    }
    Ok(ops.iter().zip(replies).map(|(op, reply)| step_reply(&op.action, reply)).collect())
}

impl Redis {
    /// Begins a call, which has a slot to itself.
    pub(crate) fn begin_call(&self) -> Arc<SlotCall> {
        Arc::new(self.slots.begin_call())
    }

    /// Returns whether an action can be deduplicated and the options ask for it.
    pub(crate) fn deduplicates(&self, action: &EntryAction) -> bool {
        self.options.exactly_once && can_deduplicate(action)
    }

    /// Returns whether the options ask for deduplicated calls.
    pub(crate) fn is_exact(&self) -> bool {
        self.options.exactly_once
    }

    /// Makes a call, or returns the replies that the server gave when it applied the call.
    pub(crate) fn call(
        &self,
        call: &SlotCall,
        ops: &[Op<'_>],
        budget: &TimeBudget,
    ) -> Result<Vec<Result<Reply, Failure>>, Failure> {
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
                    connection.run(|connection| self.call_once(call, ops, connection, budget))
                }
                connection => connection?.run(|connection| self.call_once(call, ops, connection, &part)),
            }
        };
        let outcome = self.retry(RetryRule::Recognised, budget, attempt).map(|(replies, _)| replies);
        // The refusal of this attempt does not undo what an earlier use of this call may have applied.
        outcome.map_err(|failure| {
            let stage = if was_sent { Stage::InDoubt } else { failure.stage };
            Failure { stage, ..failure }
        })
    }

    fn call_once(
        &self,
        call: &SlotCall,
        ops: &[Op<'_>],
        connection: &mut Connection,
        budget: &TimeBudget,
    ) -> Result<Vec<Result<Reply, Failure>>, Failure> {
        let losses = self.link.epoch().loss_count();
        let was_sent = call.cache_id_when_sent();
        if was_sent.is_none() {
            call.set_loss_count(losses);
        }
        let cache_id = match was_sent.or(self.slots.cache_id()) {
            Some(cache_id) => cache_id,
            None => self.create_reply_cache(connection, budget)?,
        };
        match self.send_call(call, cache_id, was_sent.is_none(), ops, connection, budget) {
            // The call was not sent before, or the server has lost its effect with the reply cache: it is made now.
            Err(failure)
                if failure.kind == FailureKind::ReplyEvicted
                    && (was_sent.is_none() || call.loss_count() != losses) =>
            {
                call.set_loss_count(losses);
                let cache_id = self.create_reply_cache(connection, budget)?;
                self.send_call(call, cache_id, true, ops, connection, budget)
            }
            Err(failure) if failure.kind == FailureKind::ReplyEvicted => {
                Err(Failure { stage: Stage::InDoubt, ..failure })
            }
            outcome => outcome,
        }
    }

    fn send_call(
        &self,
        call: &SlotCall,
        cache_id: u64,
        is_first: bool,
        ops: &[Op<'_>],
        connection: &mut Connection,
        budget: &TimeBudget,
    ) -> Result<Vec<Result<Reply, Failure>>, Failure> {
        call.mark_sent(Some(cache_id));
        let write = |writer: &mut CommandWriter<'_>, script_call| {
            writer.call(call, cache_id, is_first, ops, script_call);
        };
        let outcome = self.call_script(connection, budget, write, |next| step_replies(ops, next()?));
        if is_first && matches!(&outcome, Err(failure) if failure.stage != Stage::InDoubt) {
            call.mark_sent(None);
        }
        outcome
    }

    /// Deletes the reply cache of a store that closes. If that fails, its TTL deletes it.
    pub(crate) fn delete_reply_cache(&self) {
        if self.slots.cache_id().is_none() || self.link.is_suspended() {
            return;
        }
        let budget = TimeBudget::new(self.probe_budget());
        let work = |connection: &mut Connection, _| {
            self.writer(connection).command(2, "DEL").key(self.slots.key());
            connection.send(Request { replies: 1, mutation: true, atomic: true }, &budget)?;
            connection.receive(&budget).and_then(replies::refused)
        };
        if let Err(failure) = self.run(RetryRule::Recognised, &budget, work) {
            log_later!(
                Debug,
                "the reply cache stays on the Redis server {} until its TTL ends: {}",
                self.server_name(),
                failure.cause
            );
        }
    }

    /// Creates the reply cache on the server if there is none, and returns its id. If the id is another one later, or
    /// the cache is missing, the replies of earlier calls are lost.
    fn create_reply_cache(&self, connection: &mut Connection, budget: &TimeBudget) -> Result<u64, Failure> {
        let write = |writer: &mut CommandWriter<'_>, script_call| {
            let arguments = writer.script(&CREATE_REPLY_CACHE, script_call, &[self.slots.key()], 2);
            arguments.number(fastrand::u64(1..)).number(SESSION_TTL_MILLIS);
        };
        let created =
            self.call_script(connection, budget, write, |next| replies::parsed(&replies::refused(next()?)?));
        // Whatever becomes of the cache, nothing of the call itself was sent.
        let cache_id = created.map_err(|failure| match failure.stage {
            Stage::InDoubt => Failure { stage: Stage::NotSent, ..failure },
            Stage::NotSent | Stage::Rejected => failure,
        })?;
        self.slots.set_cache_id(cache_id);
        Ok(cache_id)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backend::redis::slots::SlotTable;
    use crate::backend::redis::wire::resp::words;
    use crate::op::End;

    fn op(key: &str, action: EntryAction) -> Op<'static> {
        Op { key: Key::listed(key.to_owned()), action }
    }

    fn push(values: usize) -> EntryAction {
        EntryAction::Push { end: End::Back, values: vec![Stored::json(b"1"); values], ttl_if_created: None }
    }

    #[test]
    fn a_call_names_its_cache_its_slot_its_sequence_and_its_steps() {
        let slots = SlotTable::new(7);
        let ttl_if_created = Millis::new(Duration::from_millis(1500)).ok();
        let ops = [
            op("n", EntryAction::Incr { by: -3, ttl_if_created }),
            op("m", EntryAction::MapIncr { field: "f".into(), by: 2, ttl_if_created: None }),
            op("q", push(2)),
            op("q", EntryAction::Pop { end: End::Back }),
        ];
        let text = |call: &SlotCall, is_first| {
            words(|writer| writer.call(call, 5, is_first, &ops, ScriptCall::BySha))
        };
        let keys = format!("EVALSHA {} 5 p:{} p:n p:m p:q p:q", CALL.sha(), &**slots.key());
        let steps = "INCRBY 1500 1 -3 HINCRBY  2 f 2 RPUSH  2 1 1 RPOP  0";
        assert_eq!(text(&slots.begin_call(), true), format!("{keys} 5 1 1 1  {steps}"));
        for _ in 2..CALLS_PER_RENEWAL {
            drop(slots.begin_call());
        }
        assert_eq!(text(&slots.begin_call(), false), format!("{keys} 5 1 256  2592000000 {steps}"));
    }

    #[test]
    fn each_step_has_its_own_reply() {
        let ops = [
            op("n", EntryAction::Incr { by: 1, ttl_if_created: None }),
            op("q", EntryAction::Pop { end: End::Front }),
        ];
        let read = |text: &[u8]| step_replies(&ops, redis::parse_redis_value(text).unwrap());
        let replies = read(b"*2\r\n$19\r\n9223372036854775807\r\n$-1\r\n").unwrap();
        let replies: Vec<Reply> = replies.into_iter().map(Result::unwrap).collect();
        assert_eq!(replies, [Reply::Number(i64::MAX), Reply::Found(None)]);
        let replies = read(b"*2\r\n-ERR increment or decrement would overflow\r\n$1\r\nx\r\n").unwrap();
        assert!(matches!(&replies[0], Err(failure) if failure.kind == FailureKind::Overflow));
        assert!(matches!(&replies[1], Ok(Reply::Found(Some(_)))));
        assert!(read(b"*1\r\n:1\r\n").is_err(), "a reply is missing");
        let refused = read(b"-OOM command not allowed\r\n").unwrap_err();
        assert_eq!(refused.stage, Stage::Rejected);
    }

    #[test]
    fn a_push_that_needs_several_commands_is_no_step() {
        assert!(can_deduplicate(&push(MAX_ARGS)));
        assert!(!can_deduplicate(&push(MAX_ARGS + 1)));
        assert!(!can_deduplicate(&EntryAction::GetAndDelete));
    }
}

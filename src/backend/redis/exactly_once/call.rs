//! Owns the calls that the server does once however often they are made. Knows nothing of what becomes of one
//! that nobody can be told the end of.

use std::sync::Arc;

use redis::Value;

use crate::backend::redis::client::Redis;
use crate::backend::redis::connect::connection::{Connection, Request};
use crate::backend::redis::failure::{Failure, FailureKind, Stage};
use crate::backend::redis::retry::{Attempt, RetryRule};
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::replies;
use crate::backend::redis::wire::resp::{CommandWriter, MAX_ARGS};

use crate::backend::redis::exactly_once::slots::SlotCall;
use crate::backend::redis::replay::connection::MARKER_LIFE;
use crate::backend::redis::wire::scripts::{NOTES, ONCE, ScriptCall};
use crate::error::Result;
use crate::key::Key;
use crate::op::{EntryAction, Op, Reply};

/// After so many calls of a lane the notes on the server live on for a month again.
const RENEWED_EVERY: u64 = 256;

/// Tells whether an action can be a step of such a call.
pub(crate) fn can_deduplicate(action: &EntryAction) -> bool {
    match action {
        EntryAction::Incr { .. } | EntryAction::MapIncr { .. } | EntryAction::Pop { .. } => true,
        EntryAction::Push { values, .. } => values.len() <= MAX_ARGS,
        EntryAction::Put { .. }
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
        | EntryAction::Trim { .. } => false,
    }
}

impl CommandWriter<'_> {
    /// Writes one call of these operations.
    fn call(&mut self, turn: &SlotCall, born: u64, is_first: bool, ops: &[Op<'_>], call: ScriptCall) {
        let arguments = 5 + ops.iter().map(|op| 3 + step_arguments(&op.action)).sum::<usize>();
        let keys: Vec<&Key<'_>> =
            std::iter::once(turn.table().key()).chain(ops.iter().map(|op| &op.key)).collect();
        self.script(&ONCE, call, &keys, arguments).number(born).number(u64::from(turn.slot));
        self.number(turn.sequence).arg(if is_first { b"1" } else { b"" });
        match turn.sequence.is_multiple_of(RENEWED_EVERY) {
            true => self.number(MARKER_LIFE),
            false => self.arg(b""),
        };
        for op in ops {
            self.step(&op.action);
        }
    }

    fn step(&mut self, action: &EntryAction) {
        let ttl_if_created = match action {
            EntryAction::Incr { ttl_if_created, .. }
            | EntryAction::MapIncr { ttl_if_created, .. }
            | EntryAction::Push { ttl_if_created, .. } => *ttl_if_created,
            _ => None,
        };
        self.arg(action.traits().command.as_bytes())
            .ttl_or_empty(ttl_if_created)
            .number(step_arguments(action) as u64);
        match action {
            EntryAction::Incr { by, .. } => _ = self.integer(*by),
            EntryAction::MapIncr { field, by, .. } => _ = self.arg(field.as_bytes()).integer(*by),
            EntryAction::Push { values, .. } => {
                for value in values {
                    self.arg(&value.bytes);
                }
            }
            // Nothing else has arguments: see `step_arguments`.
            _ => {}
        }
    }
}

/// How many words of a step stand behind its key.
fn step_arguments(action: &EntryAction) -> usize {
    match action {
        EntryAction::Incr { .. } => 1,
        EntryAction::MapIncr { .. } => 2,
        EntryAction::Push { values, .. } => values.len(),
        _ => 0,
    }
}

/// Reads what a step was answered with.
fn step_reply(action: &EntryAction, answer: Value) -> Result<Reply, Failure> {
    match action {
        EntryAction::Pop { .. } => replies::bytes(answer).map(Reply::Found),
        _ => replies::integer(answer).map(Reply::Number),
    }
}

/// Reads the answer to a call: one reply of each step.
fn step_replies(ops: &[Op<'_>], answer: Value) -> Result<Vec<Result<Reply, Failure>>, Failure> {
    let answers = replies::array(answer)?;
    if answers.len() != ops.len() {
        return Err(Failure::unexpected_reply(&Value::Array(answers)));
    }
    Ok(ops.iter().zip(answers).map(|(op, answer)| step_reply(&op.action, answer)).collect())
}

impl Redis {
    /// The turn of a call.
    pub(crate) fn begin_call(&self) -> Arc<SlotCall> {
        Arc::new(self.slots.begin_call())
    }

    /// Whether an action can be done in such a call, and is to be.
    pub(crate) fn deduplicates(&self, action: &EntryAction) -> bool {
        self.options.exactly_once && can_deduplicate(action)
    }

    /// Whether some actions are done in this way.
    pub(crate) fn is_exact(&self) -> bool {
        self.options.exactly_once
    }

    /// Does a call, or tells what was answered when it was done.
    pub(crate) fn call(
        &self,
        turn: &SlotCall,
        ops: &[Op<'_>],
        limit: &TimeBudget,
    ) -> Result<Vec<Result<Reply, Failure>>, Failure> {
        let was_sent = turn.cache_id_when_sent().is_some();
        let attempt = |attempt: Attempt| {
            // The other half is for another attempt.
            let part = if attempt.earlier >= self.options.max_retries {
                *limit
            } else {
                limit.within(limit.left().unwrap_or_default() / 2)
            };
            match self.pool.checkout_for_write(&part, attempt.is_retry()) {
                // Who waits for others has not made an attempt yet.
                Err(Failure { kind: FailureKind::Exhausted, .. }) => {
                    let mut lease = self.pool.checkout_for_write(limit, true)?;
                    lease.run(|connection| self.call_once(turn, ops, connection, limit))
                }
                lease => lease?.run(|connection| self.call_once(turn, ops, connection, &part)),
            }
        };
        let outcome = self.retry(RetryRule::Idempotent, limit, attempt).map(|(replies, _)| replies);
        // What a former call of this function may have done, this one's refusal does not undo.
        outcome.map_err(|failure| {
            let stage = if was_sent { Stage::InDoubt } else { failure.stage };
            Failure { stage, ..failure }
        })
    }

    fn call_once(
        &self,
        turn: &SlotCall,
        ops: &[Op<'_>],
        connection: &mut Connection,
        limit: &TimeBudget,
    ) -> Result<Vec<Result<Reply, Failure>>, Failure> {
        connection.apply_deadline(limit)?;
        let losses = self.link.epoch().loss_count();
        let was_sent = turn.cache_id_when_sent();
        if was_sent.is_none() {
            turn.set_loss_count(losses);
        }
        let born = match was_sent.or(self.slots.cache_id()) {
            Some(born) => born,
            None => self.create_reply_cache(connection, limit)?,
        };
        match self.send_call(turn, born, was_sent.is_none(), ops, connection, limit) {
            // It was not sent before, or what it may have done is gone with the notes: then it is done now.
            Err(failure)
                if failure.kind == FailureKind::ReplyEvicted
                    && (was_sent.is_none() || turn.loss_count() != losses) =>
            {
                turn.set_loss_count(losses);
                let born = self.create_reply_cache(connection, limit)?;
                self.send_call(turn, born, true, ops, connection, limit)
            }
            Err(failure) if failure.kind == FailureKind::ReplyEvicted => {
                Err(Failure { stage: Stage::InDoubt, ..failure })
            }
            outcome => outcome,
        }
    }

    fn send_call(
        &self,
        turn: &SlotCall,
        born: u64,
        is_first: bool,
        ops: &[Op<'_>],
        connection: &mut Connection,
        limit: &TimeBudget,
    ) -> Result<Vec<Result<Reply, Failure>>, Failure> {
        turn.mark_sent(Some(born));
        let pack = |packer: &mut CommandWriter<'_>, call| packer.call(turn, born, is_first, ops, call);
        let outcome = self.call_script(connection, limit, pack, |next| step_replies(ops, next()?));
        if is_first && matches!(&outcome, Err(failure) if failure.stage != Stage::InDoubt) {
            turn.mark_sent(None);
        }
        outcome
    }

    /// Takes the notes off the server: who is at the end asks for none of them. Where that fails they are gone in
    /// a month.
    pub(crate) fn delete_reply_cache(&self) {
        if self.slots.cache_id().is_none() || self.link.is_suspended() {
            return;
        }
        let limit = TimeBudget::new(self.probe_budget());
        let work = |connection: &mut Connection, _| {
            self.writer(connection).command(2, "DEL").key(self.slots.key());
            connection.send(Request { replies: 1, mutation: true, atomic: true }, &limit)?;
            connection.receive(&limit).and_then(replies::refused)
        };
        if let Err(failure) = self.run(RetryRule::Idempotent, &limit, work) {
            log::debug!("the notes on calls stay on the server: {}", failure.cause);
        }
    }

    /// Lets there be notes on the server, and learns what they are called. Where their name is another one
    /// later, or none, what was noted before is gone.
    fn create_reply_cache(&self, connection: &mut Connection, limit: &TimeBudget) -> Result<u64, Failure> {
        let pack = |packer: &mut CommandWriter<'_>, call| {
            let arguments = packer.script(&NOTES, call, &[self.slots.key()], 2);
            arguments.number(fastrand::u64(1..)).number(MARKER_LIFE);
        };
        let begun =
            self.call_script(connection, limit, pack, |next| replies::parsed(&replies::refused(next()?)?));
        // Whatever becomes of it, of the call itself nothing was sent.
        let born = begun.map_err(|failure| match failure.stage {
            Stage::InDoubt => Failure { stage: Stage::NotSent, ..failure },
            Stage::NotSent | Stage::Rejected => failure,
        })?;
        self.slots.set_cache_id(born);
        Ok(born)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backend::redis::wire::resp::words;
    use crate::clock::Millis;
    use crate::op::End;
    use crate::value::Value as Stored;

    fn op(key: &str, action: EntryAction) -> Op<'static> {
        Op { key: Key::listed(key.to_owned()), action }
    }

    fn push(values: usize) -> EntryAction {
        EntryAction::Push { end: End::Back, values: vec![Stored::json(b"1"); values], ttl_if_created: None }
    }

    #[test]
    fn a_call_names_its_notes_its_lane_its_number_and_its_steps() {
        let lanes = crate::backend::redis::exactly_once::slots::SlotTable::new(7);
        let ttl_if_created = Millis::new(Duration::from_millis(1500)).ok();
        let ops = [
            op("n", EntryAction::Incr { by: -3, ttl_if_created }),
            op("m", EntryAction::MapIncr { field: "f".into(), by: 2, ttl_if_created: None }),
            op("q", push(2)),
            op("q", EntryAction::Pop { end: End::Back }),
        ];
        let said =
            |turn: &SlotCall, first| words(|packer| packer.call(turn, 5, first, &ops, ScriptCall::BySha));
        let keys = format!("EVALSHA {} 5 p:{} p:n p:m p:q p:q", ONCE.sha, &**lanes.key());
        let steps = "INCRBY 1500 1 -3 HINCRBY  2 f 2 RPUSH  2 1 1 RPOP  0";
        assert_eq!(said(&lanes.begin_call(), true), format!("{keys} 5 1 1 1  {steps}"));
        for _ in 2..RENEWED_EVERY {
            drop(lanes.begin_call());
        }
        assert_eq!(said(&lanes.begin_call(), false), format!("{keys} 5 1 256  2592000000 {steps}"));
    }

    #[test]
    fn every_step_has_a_reply_of_its_own() {
        let ops = [
            op("n", EntryAction::Incr { by: 1, ttl_if_created: None }),
            op("q", EntryAction::Pop { end: End::Front }),
        ];
        let said = |text: &[u8]| step_replies(&ops, redis::parse_redis_value(text).unwrap());
        let replies = said(b"*2\r\n$19\r\n9223372036854775807\r\n$-1\r\n").unwrap();
        let replies: Vec<Reply> = replies.into_iter().map(Result::unwrap).collect();
        assert_eq!(replies, [Reply::Number(i64::MAX), Reply::Found(None)]);
        let replies = said(b"*2\r\n-ERR increment or decrement would overflow\r\n$1\r\nx\r\n").unwrap();
        assert!(matches!(&replies[0], Err(failure) if failure.kind == FailureKind::Overflow));
        assert!(matches!(&replies[1], Ok(Reply::Found(Some(_)))));
        assert!(said(b"*1\r\n:1\r\n").is_err(), "a reply is missing");
        let refused = said(b"-OOM command not allowed\r\n").unwrap_err();
        assert_eq!(refused.stage, Stage::Rejected);
    }

    #[test]
    fn what_is_too_long_for_one_command_is_not_covered() {
        assert!(can_deduplicate(&push(MAX_ARGS)));
        assert!(!can_deduplicate(&push(MAX_ARGS + 1)));
        assert!(!can_deduplicate(&EntryAction::GetAndDelete));
    }
}

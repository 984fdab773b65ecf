//! Owns the calls that the server does once however often they are made. Knows nothing of what becomes of one
//! that nobody can be told the end of.

use std::sync::Arc;

use redis::Value;

use crate::backend::redis::client::Redis;
use crate::backend::redis::connect::connection::{Connection, Unit};
use crate::backend::redis::failure::{Failure, Stage, Trouble};
use crate::backend::redis::retry::Job;
use crate::backend::redis::time_budget::Limit;
use crate::backend::redis::wire::replies;
use crate::backend::redis::wire::resp::{MOST_WORDS, Packer};

use crate::backend::redis::exactly_once::slots::Turn;
use crate::backend::redis::replay::connection::MARKER_LIFE;
use crate::backend::redis::wire::scripts::{Call, NOTES, ONCE};
use crate::error::Result;
use crate::key::Key;
use crate::op::{Action, Op, Reply};

/// Repeating it is harmless.
const TOLD: Job = Job { mutation: true, repeatable: true };

/// After so many calls of a lane the notes on the server live on for a month again.
const RENEWED_EVERY: u64 = 256;

/// Tells whether an action can be a step of such a call.
pub(crate) fn is_covered(action: &Action) -> bool {
    match action {
        Action::Incr { .. } | Action::MapIncr { .. } | Action::Pop { .. } => true,
        Action::Push { values, .. } => values.len() <= MOST_WORDS,
        Action::Put { .. }
        | Action::PutIfAbsent { .. }
        | Action::PutIfPresent { .. }
        | Action::PutAndGet { .. }
        | Action::Swap { .. }
        | Action::Delete
        | Action::Take
        | Action::Expire { .. }
        | Action::Persist
        | Action::Touch { .. }
        | Action::MapPut { .. }
        | Action::MapDelete { .. }
        | Action::Trim { .. }
        | Action::Lease { .. }
        | Action::EndLease { .. }
        | Action::NoteLease { .. }
        | Action::Lock { .. }
        | Action::Extend { .. }
        | Action::Unlock { .. } => false,
    }
}

impl Packer<'_> {
    /// Writes one call of these operations.
    fn call(&mut self, turn: &Turn, born: u64, is_first: bool, ops: &[Op<'_>], call: Call) {
        let arguments = 5 + ops.iter().map(|op| 3 + step_arguments(&op.action)).sum::<usize>();
        let keys: Vec<&Key<'_>> =
            std::iter::once(turn.lanes().key()).chain(ops.iter().map(|op| &op.key)).collect();
        self.script(&ONCE, call, &keys, arguments).number(born).number(u64::from(turn.lane));
        self.number(turn.number).word(if is_first { b"1" } else { b"" });
        match turn.number.is_multiple_of(RENEWED_EVERY) {
            true => self.number(MARKER_LIFE),
            false => self.word(b""),
        };
        for op in ops {
            self.step(&op.action);
        }
    }

    fn step(&mut self, action: &Action) {
        let birth_ttl = match action {
            Action::Incr { birth_ttl, .. }
            | Action::MapIncr { birth_ttl, .. }
            | Action::Push { birth_ttl, .. } => *birth_ttl,
            _ => None,
        };
        self.word(action.name().as_bytes()).birth(birth_ttl).number(step_arguments(action) as u64);
        match action {
            Action::Incr { by, .. } => _ = self.integer(*by),
            Action::MapIncr { field, by, .. } => _ = self.word(field.as_bytes()).integer(*by),
            Action::Push { values, .. } => {
                for value in values {
                    self.word(&value.bytes);
                }
            }
            // Nothing else has arguments: see `step_arguments`.
            _ => {}
        }
    }
}

/// How many words of a step stand behind its key.
fn step_arguments(action: &Action) -> usize {
    match action {
        Action::Incr { .. } => 1,
        Action::MapIncr { .. } => 2,
        Action::Push { values, .. } => values.len(),
        _ => 0,
    }
}

/// Reads what a step was answered with.
fn step_reply(action: &Action, answer: Value) -> Result<Reply, Failure> {
    match action {
        Action::Pop { .. } => replies::bytes(answer).map(Reply::Found),
        _ => replies::integer(answer).map(Reply::Number),
    }
}

/// Reads the answer to a call: one reply of each step.
fn step_replies(ops: &[Op<'_>], answer: Value) -> Result<Vec<Result<Reply, Failure>>, Failure> {
    let answers = replies::array(answer)?;
    if answers.len() != ops.len() {
        return Err(Failure::unexpected(&Value::Array(answers)));
    }
    Ok(ops.iter().zip(answers).map(|(op, answer)| step_reply(&op.action, answer)).collect())
}

impl Redis {
    /// The turn of a call.
    pub(crate) fn turn(&self) -> Arc<Turn> {
        Arc::new(self.lanes.turn())
    }

    /// Whether an action can be done in such a call, and is to be.
    pub(crate) fn takes_turns(&self, action: &Action) -> bool {
        self.options.exactly_once && is_covered(action)
    }

    /// Whether some actions are done in this way.
    pub(crate) fn is_exact(&self) -> bool {
        self.options.exactly_once
    }

    /// Does a call, or tells what was answered when it was done.
    pub(crate) fn call(
        &self,
        turn: &Turn,
        ops: &[Op<'_>],
        limit: &Limit,
    ) -> Result<Vec<Result<Reply, Failure>>, Failure> {
        let was_sent = turn.sent().is_some();
        let mut attempts = 0;
        let attempt = |late, _| {
            attempts += 1;
            // The other half is for another attempt.
            let part = match attempts > self.options.max_retries {
                true => *limit,
                false => limit.within(limit.left().unwrap_or_default() / 2),
            };
            match self.pool.lease(TOLD, &part, late) {
                // Who waits for others has not made an attempt yet.
                Err(Failure { trouble: Trouble::Exhausted, .. }) => {
                    let mut lease = self.pool.lease(TOLD, limit, true)?;
                    lease.work(|connection| self.call_once(turn, ops, connection, limit))
                }
                lease => lease?.work(|connection| self.call_once(turn, ops, connection, &part)),
            }
        };
        let outcome = self.retry(TOLD, limit, attempt).map(|(replies, _)| replies);
        // What a former call of this function may have done, this one's refusal does not undo.
        outcome.map_err(|failure| {
            let stage = if was_sent { Stage::Lost } else { failure.stage };
            Failure { stage, ..failure }
        })
    }

    fn call_once(
        &self,
        turn: &Turn,
        ops: &[Op<'_>],
        connection: &mut Connection,
        limit: &Limit,
    ) -> Result<Vec<Result<Reply, Failure>>, Failure> {
        connection.arm(limit)?;
        let losses = self.pool.epoch().losses();
        let was_sent = turn.sent();
        if was_sent.is_none() {
            turn.begin(losses);
        }
        let born = match was_sent.or(self.lanes.born()) {
            Some(born) => born,
            None => self.begin_notes(connection, limit)?,
        };
        match self.say_call(turn, born, was_sent.is_none(), ops, connection, limit) {
            // It was not sent before, or what it may have done is gone with the notes: then it is done now.
            Err(failure)
                if failure.trouble == Trouble::Forgotten
                    && (was_sent.is_none() || turn.losses() != losses) =>
            {
                turn.begin(losses);
                let born = self.begin_notes(connection, limit)?;
                self.say_call(turn, born, true, ops, connection, limit)
            }
            Err(failure) if failure.trouble == Trouble::Forgotten => {
                Err(Failure { stage: Stage::Lost, ..failure })
            }
            outcome => outcome,
        }
    }

    fn say_call(
        &self,
        turn: &Turn,
        born: u64,
        is_first: bool,
        ops: &[Op<'_>],
        connection: &mut Connection,
        limit: &Limit,
    ) -> Result<Vec<Result<Reply, Failure>>, Failure> {
        turn.send(Some(born));
        let pack = |packer: &mut Packer<'_>, call| packer.call(turn, born, is_first, ops, call);
        let outcome = self.say(connection, limit, pack, |next| step_replies(ops, next()?));
        if is_first && matches!(&outcome, Err(failure) if failure.stage != Stage::Lost) {
            turn.send(None);
        }
        outcome
    }

    /// Takes the notes off the server: who is at the end asks for none of them. Where that fails they are gone in
    /// a month.
    pub(crate) fn end_notes(&self) {
        if self.lanes.born().is_none() || self.pool.is_cut_off() {
            return;
        }
        let limit = Limit::new(self.verdict());
        let work = |connection: &mut Connection, _| {
            self.pack(connection).command(2, "DEL").key(self.lanes.key());
            connection.send(Unit { answers: 1, mutation: true, atomic: true }, &limit)?;
            connection.receive(&limit).and_then(replies::refused)
        };
        if let Err(failure) = self.run(TOLD, &limit, work) {
            log::debug!("the notes on calls stay on the server: {}", failure.cause);
        }
    }

    /// Lets there be notes on the server, and learns what they are called. Where their name is another one
    /// later, or none, what was noted before is gone.
    fn begin_notes(&self, connection: &mut Connection, limit: &Limit) -> Result<u64, Failure> {
        let pack = |packer: &mut Packer<'_>, call| {
            let arguments = packer.script(&NOTES, call, &[self.lanes.key()], 2);
            arguments.number(fastrand::u64(1..)).number(MARKER_LIFE);
        };
        let begun = self.say(connection, limit, pack, |next| replies::parsed(&replies::refused(next()?)?));
        // Whatever becomes of it, of the call itself nothing was sent.
        let born = begun.map_err(|failure| match failure.stage {
            Stage::Lost => Failure { stage: Stage::NotSent, ..failure },
            Stage::NotSent | Stage::Rejected => failure,
        })?;
        self.lanes.begin(born);
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

    fn op(key: &str, action: Action) -> Op<'static> {
        Op { key: Key::listed(key.to_owned()), action }
    }

    fn push(values: usize) -> Action {
        Action::Push { end: End::Back, values: vec![Stored::json(b"1"); values], birth_ttl: None }
    }

    #[test]
    fn a_call_names_its_notes_its_lane_its_number_and_its_steps() {
        let lanes = crate::backend::redis::exactly_once::slots::Lanes::new(7);
        let birth_ttl = Millis::new(Duration::from_millis(1500)).ok();
        let ops = [
            op("n", Action::Incr { by: -3, birth_ttl }),
            op("m", Action::MapIncr { field: "f".into(), by: 2, birth_ttl: None }),
            op("q", push(2)),
            op("q", Action::Pop { end: End::Back }),
        ];
        let said = |turn: &Turn, first| words(|packer| packer.call(turn, 5, first, &ops, Call::ByName));
        let keys = format!("EVALSHA {} 5 p:{} p:n p:m p:q p:q", ONCE.sha, &**lanes.key());
        let steps = "INCRBY 1500 1 -3 HINCRBY  2 f 2 RPUSH  2 1 1 RPOP  0";
        assert_eq!(said(&lanes.turn(), true), format!("{keys} 5 1 1 1  {steps}"));
        for _ in 2..RENEWED_EVERY {
            drop(lanes.turn());
        }
        assert_eq!(said(&lanes.turn(), false), format!("{keys} 5 1 256  2592000000 {steps}"));
    }

    #[test]
    fn every_step_has_a_reply_of_its_own() {
        let ops =
            [op("n", Action::Incr { by: 1, birth_ttl: None }), op("q", Action::Pop { end: End::Front })];
        let said = |text: &[u8]| step_replies(&ops, redis::parse_redis_value(text).unwrap());
        let replies = said(b"*2\r\n$19\r\n9223372036854775807\r\n$-1\r\n").unwrap();
        let replies: Vec<Reply> = replies.into_iter().map(Result::unwrap).collect();
        assert_eq!(replies, [Reply::Number(i64::MAX), Reply::Found(None)]);
        let replies = said(b"*2\r\n-ERR increment or decrement would overflow\r\n$1\r\nx\r\n").unwrap();
        assert!(matches!(&replies[0], Err(failure) if failure.trouble == Trouble::Overflow));
        assert!(matches!(&replies[1], Ok(Reply::Found(Some(_)))));
        assert!(said(b"*1\r\n:1\r\n").is_err(), "a reply is missing");
        let refused = said(b"-OOM command not allowed\r\n").unwrap_err();
        assert_eq!(refused.stage, Stage::Rejected);
    }

    #[test]
    fn what_is_too_long_for_one_command_is_not_covered() {
        assert!(is_covered(&push(MOST_WORDS)));
        assert!(!is_covered(&push(MOST_WORDS + 1)));
        assert!(!is_covered(&Action::Take));
    }
}

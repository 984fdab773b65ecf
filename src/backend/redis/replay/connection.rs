//! Owns the way back: a connection of its own on which the operations that waited are done, each once. Knows
//! nothing of where they wait.

use std::time::Duration;

use redis::Value;

use crate::backend::redis::client::Redis;
use crate::backend::redis::connect::connection::{Connection, Request};
use crate::backend::redis::exactly_once::slots::CallId;
use crate::backend::redis::failure;
use crate::backend::redis::failure::{ErrorContext, Failure, FailureKind, Stage};
use crate::backend::redis::keys;
use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::backend::redis::replay::queued_op::{InDoubt, Observed, QueuedOp, ReplayOutcome};
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::replies;
use crate::backend::redis::wire::replies::refused;
use crate::backend::redis::wire::resp::CommandWriter;
use crate::backend::redis::wire::scripts::{REPLAY, ScriptCall};
use crate::clock::Millis;
use crate::error::Error;
use crate::key::Key;
use crate::op::End;

/// For how long a marker stays that nobody renews: 30 days.
pub(crate) const MARKER_LIFE: u64 = 30 * 24 * 3600 * 1000;

/// How a queue and its marker on the server fit together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReplayReply {
    /// The chunk was done, now.
    Applied(Vec<(usize, ReplayOutcome)>),
    /// The marker holds another number than was expected, or none, and beside it lies what became of the
    /// chunk that it was set for, and behind which number that begins.
    AlreadyAt { at: Option<u64>, from: Option<u64>, outcomes: Vec<(usize, ReplayOutcome)> },
}

/// One operation of a chunk.
pub(crate) struct ReplayStep<'s> {
    pub(crate) key: &'s Key<'static>,
    pub(crate) action: QueuedAction,
    pub(crate) observed: &'s Observed,
    /// Where it may have been done before.
    pub(crate) in_doubt: Option<&'s InDoubt>,
    /// For how long it has waited: what it creates has lived since.
    pub(crate) age: Duration,
}

/// The error of an operation that waited and was refused.
pub(crate) fn rejection_error(op: &QueuedOp, cause: String) -> Error {
    let (code, details) = cause.split_once(' ').unwrap_or((&cause, ""));
    let trouble = failure::kind_of_code(code, details);
    let about =
        ErrorContext { command: op.command(), key: &op.key, mutation: true, expected: op.action.kind() };
    Failure::new(trouble, Stage::Rejected, cause).into_error(about, None)
}

/// A fresh connection to a server that is back.
pub(crate) struct ReplayConnection<'r> {
    redis: &'r Redis,
    connection: Option<Connection>,
}

/// Why the way back is not open.
#[derive(Debug)]
pub(crate) struct ReconnectError {
    pub(crate) timed_out: bool,
    /// What was said is not permitted.
    pub(crate) denied: bool,
    /// The server knows more of what waits than is known here: that is an old copy.
    pub(crate) stale: bool,
    pub(crate) cause: String,
}

impl ReconnectError {
    /// Closed from this side.
    pub(crate) fn local(cause: String) -> Self {
        Self { timed_out: false, denied: false, stale: false, cause }
    }
}

impl From<Failure> for ReconnectError {
    fn from(failure: Failure) -> Self {
        let (timed_out, denied) = (failure.kind == FailureKind::Timeout, failure.kind == FailureKind::Denied);
        Self { timed_out, denied, stale: false, cause: failure.cause.to_string() }
    }
}

impl Redis {
    /// Reaches the server, and makes sure that nothing that was sent to it before can run from here on.
    pub(crate) fn open_replay_connection(&self) -> Result<ReplayConnection<'_>, ReconnectError> {
        let limit = TimeBudget::new(self.options.connect_timeout);
        let connection = self.link.dial_even_if_suspended(&limit)?;
        let mut bridge = ReplayConnection { redis: self, connection: Some(connection) };
        bridge.kill_older()?;
        self.link.kill_orphans_even_if_suspended(&self.budget())?;
        Ok(bridge)
    }
}

impl ReplayConnection<'_> {
    /// Sets the marker where there is none; tells whether there was none, and the number that it holds then.
    /// The server has to take a write for this: one that only answers is not back.
    pub(crate) fn init_marker(&mut self, marker: &Key<'_>, at: u64) -> Result<(bool, u64), ReconnectError> {
        let epoch = self.redis.link.epoch();
        let look = epoch.begin_probe();
        let mut answers = self.call_script(5, |packer| {
            epoch.write_create(packer);
            packer.command(4, "HSETNX").key(marker).arg(b"at").number(at);
            packer.command(3, "PEXPIRE").key(marker).number(MARKER_LIFE);
            packer.command(3, "HGET").key(marker).arg(b"at");
        })?;
        // Before the marker: what is lost now may be both.
        if let [made, found] = &mut answers[..2] {
            epoch.on_create(look, made, std::mem::replace(found, Value::Nil));
        }
        let answers = answers.into_iter().skip(2).map(refused).collect::<Result<Vec<_>, _>>()?;
        match (answers.first(), number(answers.last())) {
            (Some(Value::Int(made)), Some(held)) => Ok((*made == 1, held)),
            _ => Err(Failure::new(
                FailureKind::Protocol,
                Stage::InDoubt,
                "a marker was not answered as it should",
            )
            .into()),
        }
    }

    /// Sets the marker to a number, whatever it holds.
    pub(crate) fn reset_marker(&mut self, marker: &Key<'_>, at: u64) -> Result<(), ReconnectError> {
        let answers = self.call_script(3, |packer| {
            packer.command(2, "DEL").key(marker);
            packer.command(4, "HSET").key(marker).arg(b"at").number(at);
            packer.command(3, "PEXPIRE").key(marker).number(MARKER_LIFE);
        })?;
        answers.into_iter().try_for_each(|answer| refused(answer).map(drop)).map_err(ReconnectError::from)
    }

    /// Does a chunk of operations if the marker holds `done`, and lets it hold `last` then.
    pub(crate) fn replay(
        &mut self,
        marker: &Key<'_>,
        done: u64,
        last: u64,
        remote_wins: bool,
        steps: &[ReplayStep<'_>],
    ) -> Result<ReplayReply, ReconnectError> {
        // Whoever was on its way when the outage began may have given up only since.
        if !self.redis.link.quarantine().is_empty() {
            self.redis.link.kill_orphans_even_if_suspended(&self.redis.budget())?;
        }
        let mut words = ScriptArgs::default();
        let mut notes = Vec::new();
        let now = self.redis.link.epoch().loss_count();
        for step in steps {
            if let Some(told) = step.in_doubt
                && !notes.contains(&told.call.store_id)
            {
                notes.push(told.call.store_id);
            }
            let is_lost = step.in_doubt.and_then(InDoubt::loss_count).is_some_and(|losses| losses != now);
            words.step(step, remote_wins, &notes, is_lost);
        }
        let notes: Vec<Key<'_>> = notes.into_iter().map(keys::reply_cache).collect();
        let pack = |packer: &mut CommandWriter<'_>| {
            let keys: Vec<&Key<'_>> =
                std::iter::once(marker).chain(steps.iter().map(|step| step.key)).chain(&notes).collect();
            packer.script(&REPLAY, ScriptCall::ByText, &keys, 5 + words.ends.len());
            packer.number(done).number(last).number(MARKER_LIFE);
            packer.arg(if remote_wins { b"1" } else { b"0" }).number(notes.len() as u64);
            words.each(|word| _ = packer.arg(word));
        };
        let answer = self.call_script(1, pack)?.pop().unwrap_or(Value::Nil);
        let answer = refused(answer)?;
        let Value::Array(parts) = answer else {
            return Err(Failure::unexpected_reply(&answer).into());
        };
        let [at, told, from] = <[Value; 3]>::try_from(parts).map_err(|_| {
            Failure::new(FailureKind::Protocol, Stage::InDoubt, "a replay was not answered as it should")
        })?;
        let outcomes = outcomes(told)?;
        Ok(match (number(Some(&at)), number(Some(&from))) {
            (Some(at), Some(from)) if (at, from) == (last, done) => ReplayReply::Applied(outcomes),
            (at, from) => ReplayReply::AlreadyAt { at, from, outcomes },
        })
    }

    /// Lets the server close all connections of the time before the outage, in use or not.
    fn kill_older(&mut self) -> Result<(), ReconnectError> {
        for identity in self.redis.link.older_connections() {
            let answers = self.call_script(1, |packer| {
                packer.command(6, "CLIENT").arg(b"KILL").arg(b"ID").arg(identity.id.as_bytes());
                packer.arg(b"ADDR").arg(identity.address.as_bytes());
            })?;
            for answer in answers {
                match refused(answer) {
                    Ok(_) => self.redis.link.forget(&identity),
                    // Without the right to, each is outlived when its turn comes.
                    Err(failure) if failure.kind == FailureKind::Denied => return Ok(()),
                    Err(failure) => return Err(failure.into()),
                }
            }
        }
        Ok(())
    }

    /// Says something that may write, and reads so many answers.
    fn call_script(
        &mut self,
        answers: usize,
        pack: impl FnOnce(&mut CommandWriter<'_>),
    ) -> Result<Vec<Value>, ReconnectError> {
        let limit = self.redis.budget();
        let Some(connection) = &mut self.connection else {
            return Err(
                Failure::new(FailureKind::Unreachable, Stage::NotSent, "the connection is gone").into()
            );
        };
        connection.apply_deadline(&limit)?;
        pack(&mut self.redis.writer(connection));
        connection.send(Request { replies: answers, mutation: true, atomic: false }, &limit)?;
        let answers = (0..answers).map(|_| connection.receive(&limit)).collect::<Result<Vec<_>, _>>()?;
        Ok(answers)
    }
}

impl Drop for ReplayConnection<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.redis.link.dispose(connection);
        }
    }
}

fn number(value: Option<&Value>) -> Option<u64> {
    match value {
        Some(Value::BulkString(text)) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

fn outcomes(told: Value) -> Result<Vec<(usize, ReplayOutcome)>, Failure> {
    let Value::Array(told) = told else {
        return Err(Failure::unexpected_reply(&told));
    };
    told.into_iter().map(outcome).collect()
}

fn outcome(told: Value) -> Result<(usize, ReplayOutcome), Failure> {
    let garbage =
        || Failure::new(FailureKind::Protocol, Stage::InDoubt, "an outcome of a replay makes no sense");
    let Value::Array(parts) = told else { return Err(garbage()) };
    let mut parts = parts.into_iter();
    let (index, kind, rest) = (parts.next(), parts.next(), parts.next());
    let index = match index {
        Some(index) => usize::try_from(replies::number(index)?).map_err(|_| garbage())?,
        None => return Err(garbage()),
    };
    let rest = match rest {
        Some(Value::BulkString(bytes)) => Some(bytes),
        _ => None,
    };
    let outcome = match kind {
        Some(Value::BulkString(kind)) => match kind.as_slice() {
            b"overwritten" => ReplayOutcome::Overwritten(rest),
            b"dropped" => ReplayOutcome::Dropped(rest),
            b"uncertain" => ReplayOutcome::Uncertain,
            b"rejected" => {
                ReplayOutcome::Rejected(String::from_utf8_lossy(&rest.unwrap_or_default()).into_owned())
            }
            _ => return Err(garbage()),
        },
        _ => return Err(garbage()),
    };
    Ok((index, outcome))
}

/// A digest in digits, two for each byte.
fn hex(sha: &[u8; 20]) -> [[u8; 2]; 20] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| DIGITS[usize::from(half)];
    sha.map(|byte| [digit(byte >> 4), digit(byte & 15)])
}

/// The arguments of a replay, one behind the other.
#[derive(Default)]
struct ScriptArgs {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl ScriptArgs {
    fn arg(&mut self, word: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(word);
        self.ends.push(self.bytes.len());
        self
    }

    fn number(&mut self, number: impl std::fmt::Display) -> &mut Self {
        self.arg(number.to_string().as_bytes())
    }

    fn each(&self, mut take: impl FnMut(&[u8])) {
        let mut from = 0;
        for to in &self.ends {
            take(&self.bytes[from..*to]);
            from = *to;
        }
    }

    /// `notes`: whose notes may be asked; `is_lost`: the server has lost its memory since it was sent.
    fn step(&mut self, step: &ReplayStep<'_>, remote_wins: bool, notes: &[u128], is_lost: bool) {
        if let Some(told) = step.in_doubt {
            self.in_doubt(told, &step.action, notes);
            self.arg(if is_lost { b"1" } else { b"" });
            if matches!(step.action, QueuedAction::Pop { .. }) {
                return;
            }
        }
        match step.action {
            QueuedAction::Put { .. } | QueuedAction::Delete => self.observed(step.observed),
            _ => self.arg(b""),
        };
        // What is made in any case is said shorter.
        if let QueuedAction::Put { value, ttl: None } = &step.action
            && !remote_wins
            && *step.observed != Observed::AssumedAbsent
        {
            self.arg(b"P").arg(&value.bytes);
            return;
        }
        let age = u64::try_from(step.age.as_millis()).unwrap_or(u64::MAX);
        let left = |ttl: Millis| ttl.get().saturating_sub(age).to_string();
        let birth = |ttl: &Option<Millis>| ttl.map(left).unwrap_or_default();
        let ttl = match &step.action {
            QueuedAction::Incr { ttl_if_created, .. }
            | QueuedAction::MapPut { ttl_if_created, .. }
            | QueuedAction::MapIncr { ttl_if_created, .. }
            | QueuedAction::Push { ttl_if_created, .. } => birth(ttl_if_created),
            _ => String::new(),
        };
        self.arg(ttl.as_bytes());
        self.commands(&step.action);
    }

    /// How the server is asked whether it has done a step, and where what it popped goes back to.
    fn in_doubt(&mut self, told: &InDoubt, action: &QueuedAction, notes: &[u128]) {
        let CallId { store_id: whose, cache_id: born, slot: lane, sequence: number } = told.call;
        let place = notes.iter().position(|notes| *notes == whose).unwrap_or_default();
        self.arg(b"").arg(b"T").number(place + 1).number(born).number(lane).number(number);
        self.number(told.step + 1).arg(match action {
            QueuedAction::Pop { end: End::Front } => b"LPUSH",
            QueuedAction::Pop { end: End::Back } => b"RPUSH",
            _ => b"",
        });
    }

    /// What may lie under the key without somebody else having written it.
    fn observed(&mut self, seen: &Observed) -> &mut Self {
        fn observed_one(seen: &Observed) -> Vec<u8> {
            match seen {
                Observed::OwnWrite => b"own".to_vec(),
                Observed::Absent | Observed::Nothing => b"absent".to_vec(),
                Observed::NotAValue => b"other absent".to_vec(),
                // A delete of what was assumed absent deletes nothing that was seen.
                Observed::AssumedAbsent => b"assumed".to_vec(),
                Observed::Hash(sha) => hex(sha).concat(),
                Observed::AnyOf(all) => all.iter().map(observed_one).collect::<Vec<_>>().join(&b' '),
            }
        }
        match seen {
            // The way of most.
            Observed::Hash(sha) => self.arg(hex(sha).as_flattened()),
            other => self.arg(&observed_one(other)),
        }
    }

    /// How many commands the action becomes, and each with its arguments behind the key.
    fn commands(&mut self, action: &QueuedAction) {
        match action {
            QueuedAction::Put { value, ttl: None } => self.one("SET", 1).arg(&value.bytes),
            QueuedAction::Put { value, ttl: Some(ttl) } => {
                self.one("SET", 3).arg(&value.bytes).arg(b"PX").number(ttl.get())
            }
            QueuedAction::PutIfPresent { value } => {
                self.one("SET", 4).arg(&value.bytes).arg(b"XX").arg(b"GET").arg(b"KEEPTTL")
            }
            QueuedAction::Delete => self.one("DEL", 0),
            QueuedAction::Incr { by, .. } => self.one("INCRBY", 1).number(by),
            QueuedAction::Expire { ttl } => self.one("PEXPIRE", 1).number(ttl.get()),
            QueuedAction::Persist => self.one("PERSIST", 0),
            QueuedAction::MapPut { fields, .. } => {
                self.one("HSET", fields.len() * 2);
                for (name, value) in fields {
                    self.arg(name.as_bytes()).arg(&value.bytes);
                }
                self
            }
            QueuedAction::MapDelete { field } => self.one("HDEL", 1).arg(field.as_bytes()),
            QueuedAction::MapIncr { field, by, .. } => {
                self.one("HINCRBY", 2).arg(field.as_bytes()).number(by)
            }
            QueuedAction::Push { end, values, .. } => {
                self.one(if *end == End::Back { "RPUSH" } else { "LPUSH" }, values.len());
                for value in values {
                    self.arg(&value.bytes);
                }
                self
            }
            QueuedAction::Pop { end: End::Front } => self.one("LPOP", 0),
            QueuedAction::Pop { end: End::Back } => self.one("RPOP", 0),
            QueuedAction::Trim { most: 0 } => self.one("LTRIM", 2).number(1).number(0),
            QueuedAction::Trim { most } => self.one("LTRIM", 2).arg(format!("-{most}").as_bytes()).number(-1),
            QueuedAction::SetLease { id, left: None } => self.one("ZREM", 1).arg(id.as_bytes()),
            QueuedAction::SetLease { id, left: Some(left) } => {
                self.one("LEASE", 2).arg(id.as_bytes()).number(left.get())
            }
        };
    }

    fn one(&mut self, name: &str, arguments: usize) -> &mut Self {
        self.number(1).arg(name.as_bytes()).number(arguments)
    }
}

//! Owns how an exchange with the server is tried, tried again, and given up. Knows nothing of what is said.

use std::thread;

use redis::Value;

use crate::backend::redis::client::Redis;
use crate::backend::redis::connect::connection::{Connection, Request};
use crate::backend::redis::connect::pool::{Pool, PooledConnection};
use crate::backend::redis::failure::{ErrorContext, Failure, FailureKind, Stage};
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::action::WireAction;
use crate::backend::redis::wire::queries;
use crate::backend::redis::wire::replies;
use crate::backend::redis::wire::resp::CommandWriter;
use crate::backend::redis::wire::scripts::ScriptCall;
use crate::error::{Error, Kind, Result};
use crate::key::Key;
use crate::op::{Answer, Op, Query, Reply};

/// What an operation needs to know of its attempts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    pub(crate) mutation: bool,
    /// Carrying it out twice leaves the same state as once.
    pub(crate) repeatable: bool,
}

pub(crate) const READ: Job = Job { mutation: false, repeatable: true };

/// A mutation that is never repeated after a lost answer.
pub(crate) const ONCE: Job = Job { mutation: true, repeatable: false };

impl Redis {
    /// Attempts `work` until it is done, or trying again is harmful, useless or too late. `work` and the
    /// caller are told whether the answer to an earlier attempt was lost.
    pub(crate) fn run<T>(
        &self,
        job: Job,
        limit: &TimeBudget,
        mut work: impl FnMut(&mut Connection, bool) -> Result<T, Failure>,
    ) -> Result<(T, bool), Failure> {
        self.retry(job, limit, |late, lost| {
            let mut lease = self.pool.checkout_for(job, limit, late)?;
            lease.run(|connection| work(connection, lost))
        })
    }

    /// As [`Redis::run`], for attempts that look after their connection themselves. They are told whether
    /// time has gone by already, and whether an answer was lost.
    pub(crate) fn retry<T>(
        &self,
        job: Job,
        limit: &TimeBudget,
        mut attempt: impl FnMut(bool, bool) -> Result<T, Failure>,
    ) -> Result<(T, bool), Failure> {
        let mut lost = false;
        let mut delay = self.options.retry_delay;
        let mut attempts = 0;
        loop {
            let failure = match attempt(attempts > 0, lost) {
                Ok(done) => return Ok((done, lost)),
                Err(failure) => failure,
            };
            lost |= job.mutation && failure.stage == Stage::InDoubt;
            let pause = delay.mul_f64(0.5 + fastrand::f64() / 2.0);
            let can_wait = limit.left().is_some_and(|left| left > pause);
            let may = failure.may_be_retried(job.repeatable)
                && attempts < self.options.max_retries
                // Somebody else has found out meanwhile that no attempt can help.
                && !self.pool.is_suspended();
            if !may || !can_wait {
                // What an earlier attempt may have done, this one's refusal does not undo.
                let stage = if lost { Stage::InDoubt } else { failure.stage };
                return Err(Failure { stage, ..failure });
            }
            thread::sleep(pause);
            delay = (delay * 2).min(self.options.max_retry_delay);
            attempts += 1;
        }
    }

    /// One command that reads.
    pub(crate) fn read<T>(
        &self,
        limit: &TimeBudget,
        pack: impl Fn(&mut CommandWriter<'_>),
        convert: impl Fn(Value) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let work = |connection: &mut Connection, _| {
            pack(&mut self.writer(connection));
            convert(connection.ask(limit)?)
        };
        self.run(READ, limit, work).map(|(found, _)| found)
    }

    pub(crate) fn answer(&self, key: &Key<'_>, query: &Query, limit: &TimeBudget) -> Result<Answer, Failure> {
        let work = |connection: &mut Connection, _| {
            let mut packer = self.writer(connection);
            packer.query(key, query);
            let answers = packer.commands();
            connection.send(Request { replies: answers, mutation: false, atomic: answers == 1 }, limit)?;
            queries::answer(query, &mut || connection.receive(limit))
        };
        self.run(READ, limit, work).map(|(answer, _)| answer)
    }

    pub(crate) fn exchange<A: WireAction>(
        &self,
        op: &Op<'_, A>,
        connection: &mut Connection,
        limit: &TimeBudget,
    ) -> Result<Reply, Failure> {
        let say = |packer: &mut CommandWriter<'_>, call| op.action.write(&op.key, packer, call);
        self.call_script(connection, limit, say, |next| op.action.read(next))
    }

    /// Says what may call a script: by its name, and where the server does not know it, with its text.
    pub(crate) fn call_script<T>(
        &self,
        connection: &mut Connection,
        limit: &TimeBudget,
        pack: impl Fn(&mut CommandWriter<'_>, ScriptCall),
        read: impl Fn(&mut dyn FnMut() -> Result<Value, Failure>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut say = |call| {
            let mut packer = self.writer(connection);
            pack(&mut packer, call);
            let unit = Request { replies: packer.commands(), mutation: true, atomic: true };
            connection.send(unit, limit)?;
            read(&mut || connection.receive(limit))
        };
        match say(ScriptCall::BySha) {
            Err(Failure { kind: FailureKind::NoScript, .. }) => say(ScriptCall::ByText),
            outcome => outcome,
        }
    }

    /// Makes the error of a failure; for a wrong kind it asks which one lies there.
    pub(crate) fn error_of(&self, failure: Failure, about: ErrorContext<'_>, limit: &TimeBudget) -> Error {
        let found = match (failure.kind, failure.stage) {
            (FailureKind::WrongType, Stage::Rejected) => self.kinds(&[about.key], limit).pop().flatten(),
            _ => None,
        };
        failure.into_error(about, found)
    }

    /// Which kinds of things lie under keys; `None` where it is not known.
    pub(crate) fn kinds(&self, keys: &[&str], limit: &TimeBudget) -> Vec<Option<Kind>> {
        let work = |connection: &mut Connection| {
            let mut packer = self.writer(connection);
            for key in keys {
                packer.command(2, "TYPE").key(key);
            }
            connection.send(Request { replies: keys.len(), mutation: false, atomic: false }, limit)?;
            keys.iter().map(|_| connection.receive(limit).map(|answer| replies::kind(&answer))).collect()
        };
        let outcome = self.pool.checkout_for(READ, limit, true).and_then(|mut lease| lease.run(work));
        outcome.unwrap_or_else(|_| vec![None; keys.len()])
    }
}

impl Pool {
    /// Takes a connection on which the job may be done.
    pub(crate) fn checkout_for(
        &self,
        job: Job,
        limit: &TimeBudget,
        late: bool,
    ) -> Result<PooledConnection<'_>, Failure> {
        let mut late = late;
        loop {
            let lease = self.checkout(limit, late)?;
            // INVARIANT: no mutation leaves while one without an answer may still run on another
            // connection; it would run afterwards and bring its old value back.
            if !job.mutation || self.quarantine().is_empty() {
                return Ok(lease);
            }
            drop(lease);
            self.kill_orphans(limit)?;
            late = true;
        }
    }
}

impl PooledConnection<'_> {
    /// Uses the connection, and draws the conclusions where that fails.
    pub(crate) fn run<T>(
        &mut self,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let outcome = work(self.connection()?);
        if let Err(failure) = &outcome {
            self.note_failure(failure);
        }
        outcome
    }
}

/// The error for an answer that was lost, though a later attempt was answered.
pub(crate) fn lost_reply() -> Error {
    let source = "the answer to an earlier attempt was lost, and the later one does not tell what it did";
    Error::Unavailable { maybe_applied: true, source: source.into() }
}

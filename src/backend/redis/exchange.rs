//! Owns one exchange with the server: a connection, a request, its replies, and the retries around them. Knows
//! nothing of what the replies are used for.

use std::time::Instant;

use redis::Value;

use crate::backend::redis::client::Redis;
use crate::backend::redis::connect::connection::{Connection, Request};
use crate::backend::redis::failure::{ErrorContext, Failure, FailureKind, Stage};
use crate::backend::redis::operation_error::OperationError;
use crate::backend::redis::retry::{Attempt, RetryRule, retry};
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::action::WireAction;
use crate::backend::redis::wire::queries;
use crate::backend::redis::wire::replies;
use crate::backend::redis::wire::resp::CommandWriter;
use crate::backend::redis::wire::scripts::ScriptCall;
use crate::error::Kind;
use crate::key::Key;
use crate::op::{Answer, Op, Query, Reply};
use crate::stats::attempts::note_retry;
use crate::stats::counter::Counter;
use crate::stats::recorder::Measured;

impl Redis {
    /// Runs `work` on a connection, with retries.
    pub(crate) fn run<T>(
        &self,
        rule: RetryRule,
        budget: &TimeBudget,
        mut work: impl FnMut(&mut Connection, Attempt) -> Result<T, Failure>,
    ) -> Result<(T, Attempt), Failure> {
        let measured = if rule.is_mutation() { Measured::Write } else { Measured::Read };
        self.measure(measured, || self.run_unmeasured(rule, budget, &mut work))
    }

    /// Measures an exchange with the server.
    pub(crate) fn measure<R>(&self, measured: Measured, exchange: impl FnOnce() -> R) -> R {
        let begun = Instant::now();
        let outcome = exchange();
        self.recorder().record(measured, begun.elapsed());
        outcome
    }

    fn run_unmeasured<T>(
        &self,
        rule: RetryRule,
        budget: &TimeBudget,
        work: &mut impl FnMut(&mut Connection, Attempt) -> Result<T, Failure>,
    ) -> Result<(T, Attempt), Failure> {
        self.retry(rule, budget, |attempt| {
            let mut connection = if rule.is_mutation() {
                self.pool.checkout_for_write(budget)?
            } else {
                self.pool.checkout(budget)?
            };
            connection.run(|connection| work(connection, attempt))
        })
    }

    /// As [`Redis::run`], for attempts that check their connection out themselves.
    pub(crate) fn retry<T>(
        &self,
        rule: RetryRule,
        budget: &TimeBudget,
        mut make: impl FnMut(Attempt) -> Result<T, Failure>,
    ) -> Result<(T, Attempt), Failure> {
        let counted = |attempt: Attempt| {
            if attempt.earlier > 0 {
                self.recorder().add(Counter::Retries, 1);
                note_retry();
            }
            make(attempt)
        };
        retry(rule, &self.options, budget, || self.link.is_suspended(), counted)
    }

    /// Sends one command that reads, and converts its reply.
    pub(crate) fn read<T>(
        &self,
        budget: &TimeBudget,
        write: impl Fn(&mut CommandWriter<'_>),
        convert: impl Fn(Value) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let work = |connection: &mut Connection, _| {
            write(&mut self.writer(connection));
            convert(connection.ask(budget)?)
        };
        self.run(RetryRule::Read, budget, work).map(|(found, _)| found)
    }

    pub(crate) fn answer(
        &self,
        key: &Key<'_>,
        query: &Query,
        budget: &TimeBudget,
    ) -> Result<Answer, Failure> {
        let work = |connection: &mut Connection, _| {
            let mut writer = self.writer(connection);
            writer.query(key, query);
            let replies = writer.commands();
            connection.send(Request { replies, mutation: false, atomic: replies == 1 }, budget)?;
            queries::answer(query, &mut || connection.receive(budget))
        };
        self.run(RetryRule::Read, budget, work).map(|(answer, _)| answer)
    }

    pub(crate) fn exchange<A: WireAction>(
        &self,
        op: &Op<'_, A>,
        connection: &mut Connection,
        budget: &TimeBudget,
    ) -> Result<Reply, Failure> {
        if op.action.is_transaction() {
            connection.ensure_transactions(budget)?;
        }
        let write =
            |writer: &mut CommandWriter<'_>, call: ScriptCall<'_>| op.action.write(&op.key, writer, call);
        self.call_script(connection, budget, op.action.is_counted(), write, |next| op.action.read(next))
    }

    /// Sends a command that may call a script: first by its hash, and with its text if the server does not hold
    /// it. `is_counted`: whether the count of writes rises with it.
    pub(crate) fn call_script<T>(
        &self,
        connection: &mut Connection,
        budget: &TimeBudget,
        is_counted: bool,
        write: impl Fn(&mut CommandWriter<'_>, ScriptCall<'_>),
        read: impl Fn(&mut dyn FnMut() -> Result<Value, Failure>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut call_as = |call| {
            let mut writer = self.writer(connection);
            write(&mut writer, call);
            let request = Request { replies: writer.commands(), mutation: true, atomic: true };
            if is_counted {
                connection.send_counted(request, budget)?;
            } else {
                connection.send(request, budget)?;
            }
            read(&mut || connection.receive(budget))
        };
        match call_as(ScriptCall::BySha) {
            Err(Failure { kind: FailureKind::NoScript, .. }) => call_as(ScriptCall::ByText),
            outcome => outcome,
        }
    }

    /// Converts a failure into the error of an operation. For a wrong kind it asks the server which kind the key
    /// holds.
    pub(crate) fn error_of(
        &self,
        failure: Failure,
        context: ErrorContext<'_>,
        budget: &TimeBudget,
    ) -> OperationError {
        let found = if failure.kind == FailureKind::WrongType && failure.stage == Stage::Rejected {
            self.kinds(&[context.key], budget).pop().flatten()
        } else {
            None
        };
        OperationError::with_kind(failure, context, found)
    }

    /// Returns which kind each key holds; `None` if that is not known.
    pub(crate) fn kinds(&self, keys: &[&str], budget: &TimeBudget) -> Vec<Option<Kind>> {
        let work = |connection: &mut Connection| {
            let mut writer = self.writer(connection);
            for key in keys {
                writer.command(2, "TYPE").key(key);
            }
            connection.send(Request { replies: keys.len(), mutation: false, atomic: false }, budget)?;
            keys.iter().map(|_| connection.receive(budget).map(|reply| replies::kind(&reply))).collect()
        };
        let outcome = self.pool.checkout(budget).and_then(|mut connection| connection.run(work));
        outcome.unwrap_or_else(|_| vec![None; keys.len()])
    }
}

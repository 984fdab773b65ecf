//! Owns transactions that read: they watch what they read, on one connection, and their changes are made if it is
//! still valid. Knows nothing of which commands the changes become.

use std::collections::HashMap;
use std::time::Duration;

use crate::backend::TransactionBody;
use crate::backend::local::change::Change;
use crate::backend::redis::client::Redis;
use crate::backend::redis::connect::connection::{Connection, Request};
use crate::backend::redis::connect::pooled_connection::PooledConnection;
use crate::backend::redis::connect::reentry::ReentryGuard;
use crate::backend::redis::failure::{ErrorContext, Failure, FailureKind, Stage};
use crate::backend::redis::operation_error::OperationError;
use crate::backend::redis::retry::RetryRule;
use crate::backend::redis::slots::{Recalled, SlotCall};
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::queries;
use crate::backend::redis::wire::replies;
use crate::clock::{Deadline, Now};
use crate::error::{Kind, Result};
use crate::key::Key;
use crate::op::{Answer, Presence, Query, ReadSource};
use crate::stats::recorder::Measured;

/// What a transaction has observed of a key that it watches.
#[derive(Debug, Clone, Copy)]
struct WatchedKey {
    exists: bool,
    deadline: Option<Deadline>,
    kind: WatchedKind,
}

/// Which kind of entry a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WatchedKind {
    NotAsked,
    /// `None` is a kind that this crate has no name for.
    Is(Option<Kind>),
}

/// The reads of one run of a transaction. The first read checks the connection out.
struct WatchedSource<'r> {
    redis: &'r Redis,
    connection: Option<(PooledConnection<'r>, ReentryGuard)>,
    watched: HashMap<Key<'static>, WatchedKey>,
    /// How long the run may still wait for the server. The time of the caller's closure does not count.
    time_left: Duration,
    /// Why a read failed: the transaction can change nothing then.
    failed: Option<Failure>,
}

impl Redis {
    /// Runs a transaction once. Returns `false` if what it read was no longer valid at its end.
    pub(crate) fn transact(&self, work: &mut TransactionBody<'_>) -> Result<bool, OperationError> {
        let mut run = WatchedSource {
            redis: self,
            connection: None,
            watched: HashMap::new(),
            time_left: self.time_limit(),
            failed: None,
        };
        // The server's time is not known: a deadline is the remaining TTL, counted from zero.
        let changes = work(&mut run, &Now::at(0));
        let WatchedSource { connection, watched, time_left, failed, .. } = run;
        let budget = TimeBudget::new(time_left);
        if let Some(failure) = failed {
            // No change was sent. The connection, which may still watch keys, is closed.
            return Err(OperationError::new(failure, ErrorContext::reading("WATCH", "")));
        }
        let context = ErrorContext { mutation: !changes.is_empty(), ..ErrorContext::writing("EXEC") };
        let outcome = match connection {
            Some((connection, reentry_guard)) => {
                drop(reentry_guard);
                self.commit_watched(connection, &budget, &changes, &watched)
            }
            None if changes.is_empty() => return Ok(true),
            None => self.commit_unconditionally(&budget, &changes),
        };
        outcome.map_err(|failure| OperationError::new(failure, context))
    }

    /// Makes changes that depend on no read.
    fn commit_unconditionally(
        &self,
        budget: &TimeBudget,
        changes: &[(Key<'static>, Change)],
    ) -> Result<bool, Failure> {
        let nothing = HashMap::new();
        if self.is_exact() {
            let call = self.begin_call();
            let send = |connection: &mut Connection| {
                self.execute(connection, budget, changes, &nothing, Some(&call))
            };
            let committed = self.transact_exactly(&call, budget, send)?;
            return Ok(committed.unwrap_or(true));
        }
        let work = |connection: &mut Connection, _| self.execute(connection, budget, changes, &nothing, None);
        self.run(RetryRule::AtMostOnce, budget, work).map(|(committed, _)| committed)
    }

    /// Makes changes if everything read is still valid, and returns whether it was, even if there are no changes.
    fn commit_watched(
        &self,
        mut connection: PooledConnection<'_>,
        budget: &TimeBudget,
        changes: &[(Key<'static>, Change)],
        watched: &HashMap<Key<'static>, WatchedKey>,
    ) -> Result<bool, Failure> {
        // The store may have been closed since the connection was checked out, perhaps by the closure.
        self.link.check_open()?;
        // INVARIANT: as in `Pool::checkout_for_write`, no mutation without a reply may run after these changes.
        while !changes.is_empty() && !self.link.quarantine().is_empty() {
            self.link.kill_orphans(budget)?;
        }
        connection.renew();
        let call = (self.is_exact() && !changes.is_empty()).then(|| self.begin_call());
        let commit = |connection: &mut Connection| {
            if let Some(call) = &call {
                self.prepare_note(call, connection, budget)?;
            }
            let committed = self.execute(connection, budget, changes, watched, call.as_deref())?;
            connection.set_watching(false);
            Ok(committed)
        };
        let outcome = self.measure(Measured::Write, || connection.run(commit));
        // INVARIANT: a connection with a lost reply is in the quarantine before the server is asked about it.
        drop(connection);
        match (outcome, call) {
            (Err(failure), Some(call)) if failure.stage == Stage::InDoubt => {
                self.committed_after_all(&call, budget).ok_or(failure)
            }
            (outcome, _) => outcome,
        }
    }

    /// Returns whether changes were made whose reply was lost; `None` if nobody knows. Changes that were not made can
    /// no longer be made: nothing is watched any more, so that the transaction must read again.
    fn committed_after_all(&self, call: &SlotCall, budget: &TimeBudget) -> Option<bool> {
        let recall = |connection: &mut Connection, _| self.recall(call, connection, budget);
        match self.run(RetryRule::Recognised, budget, recall) {
            Ok((Recalled::Applied, _)) => Some(true),
            Ok((Recalled::NotApplied, _)) => Some(false),
            Ok((Recalled::Unknown, _)) | Err(_) => None,
        }
    }

    /// Sends all changes at once, and with them the note of a call, if there is one.
    fn execute(
        &self,
        connection: &mut Connection,
        budget: &TimeBudget,
        changes: &[(Key<'static>, Change)],
        watched: &HashMap<Key<'static>, WatchedKey>,
        note: Option<&SlotCall>,
    ) -> Result<bool, Failure> {
        if !connection.is_watching() {
            connection.ensure_transactions(budget)?;
        }
        let mut writer = self.writer(connection);
        writer.command(1, "MULTI");
        if let Some(call) = note {
            writer.note(call);
        }
        writer.changes(changes, |key| watched.get(key).and_then(|watched| watched.deadline));
        writer.command(1, "EXEC");
        let count = writer.commands();
        let request = Request { replies: count, mutation: !changes.is_empty(), atomic: true };
        if request.mutation {
            connection.send_counted(request, budget)?;
        } else {
            connection.send(request, budget)?;
        }
        match replies::watched_transaction(count - 2, &mut || connection.receive(budget))? {
            None => Ok(false),
            Some(replies) => {
                replies.into_iter().try_for_each(replies::written)?;
                Ok(true)
            }
        }
    }
}

impl ReadSource for WatchedSource<'_> {
    fn ask(&mut self, key: &Key<'_>, query: &Query) -> Result<Answer> {
        let context = queries::error_context(key, query);
        if let Some(failed) = &self.failed {
            return Err(failed.repeated().into_error(context, None));
        }
        match self.read(&key.clone().into_owned(), query) {
            Ok(WatchedReply::Answer(answer)) => Ok(answer),
            Ok(WatchedReply::Other(kind)) => {
                let wrong =
                    Failure::new(FailureKind::WrongType, Stage::Rejected, "the key holds another kind");
                Err(wrong.into_error(context, kind))
            }
            Err(failure) => {
                let reported = failure.repeated();
                self.failed = Some(failure);
                Err(reported.into_error(context, None))
            }
        }
    }
}

/// The outcome of reading a watched key.
enum WatchedReply {
    Answer(Answer),
    /// The key holds another kind than the query asks for.
    Other(Option<Kind>),
}

impl WatchedSource<'_> {
    /// Answers from earlier reads, or asks the server.
    fn read(&mut self, key: &Key<'static>, query: &Query) -> Result<WatchedReply, Failure> {
        if let Some(found) = self.watched.get(key).and_then(|watched| watched.answer(query)) {
            return Ok(found);
        }
        let is_new = !self.watched.contains_key(key);
        let (watched, answer) = self.ask_server(key, query, is_new)?;
        let mut watched = watched.or_else(|| self.watched.get(key).copied()).unwrap_or(WatchedKey::ABSENT);
        match answer {
            Asked::Answer(answer) => {
                watched.learn(query, &answer);
                self.watched.insert(key.clone(), watched);
                // A key may appear or vanish between PTTL and the query; EXEC detects that.
                Ok(WatchedReply::Answer(answer))
            }
            Asked::WrongType => {
                self.watched.insert(key.clone(), watched);
                let (_, presence) = self.ask_server(key, &Query::Presence, false)?;
                let Asked::Answer(answer) = presence else {
                    return Ok(WatchedReply::Other(None));
                };
                watched.learn(&Query::Presence, &answer);
                self.watched.insert(key.clone(), watched);
                Ok(WatchedReply::Other(match watched.kind {
                    WatchedKind::Is(kind) => kind,
                    WatchedKind::NotAsked => None,
                }))
            }
        }
    }

    /// Asks the server on the one connection, which the first query checks out. A new key is watched before
    /// anything is read of it.
    fn ask_server(
        &mut self,
        key: &Key<'static>,
        query: &Query,
        is_new: bool,
    ) -> Result<(Option<WatchedKey>, Asked), Failure> {
        let budget = TimeBudget::new(self.time_left);
        let redis = self.redis;
        let asked = redis.measure(Measured::Read, || self.ask_within(&budget, key, query, is_new));
        self.time_left = self.time_left.saturating_sub(budget.begun.elapsed());
        asked
    }

    fn ask_within(
        &mut self,
        budget: &TimeBudget,
        key: &Key<'static>,
        query: &Query,
        is_new: bool,
    ) -> Result<(Option<WatchedKey>, Asked), Failure> {
        let redis = self.redis;
        if let Some((connection, _)) = &mut self.connection {
            connection.renew();
            return connection.run(|connection| redis.ask_watched(connection, budget, key, query, is_new));
        }
        let ((connection, asked), _) = redis.retry(RetryRule::Read, budget, |_| {
            let mut connection = redis.pool.checkout(budget)?;
            let asked =
                connection.run(|connection| redis.ask_watched(connection, budget, key, query, is_new))?;
            Ok((connection, asked))
        })?;
        self.connection = Some((connection, redis.pool.enter_user_code()));
        Ok(asked)
    }
}

/// The server's reply to a query.
enum Asked {
    Answer(Answer),
    WrongType,
}

impl Redis {
    fn ask_watched(
        &self,
        connection: &mut Connection,
        budget: &TimeBudget,
        key: &Key<'static>,
        query: &Query,
        is_new: bool,
    ) -> Result<(Option<WatchedKey>, Asked), Failure> {
        if is_new && !connection.is_watching() {
            connection.ensure_transactions(budget)?;
        }
        if is_new {
            // INVARIANT: from here on the connection returns to the pool only after an EXEC.
            connection.set_watching(true);
        }
        let mut writer = self.writer(connection);
        if is_new {
            writer.command(2, "WATCH").key(key);
            if *query != Query::Presence {
                writer.command(2, "PTTL").key(key);
            }
        }
        writer.query(key, query);
        let request = Request { replies: writer.commands(), mutation: false, atomic: false };
        connection.send(request, budget)?;
        let mut watched = None;
        if is_new {
            replies::done(connection.receive(budget)?)?;
            if *query != Query::Presence {
                let left = replies::ttl(connection.receive(budget)?)?;
                let deadline = left.and_then(replies::deadline);
                watched = Some(WatchedKey { exists: left.is_some(), deadline, kind: WatchedKind::NotAsked });
            }
        }
        match queries::answer(query, &mut || connection.receive(budget)) {
            Ok(answer) => Ok((watched, Asked::Answer(answer))),
            Err(Failure { kind: FailureKind::WrongType, .. }) => Ok((watched, Asked::WrongType)),
            Err(failure) => Err(failure),
        }
    }
}

impl WatchedKey {
    const ABSENT: Self = Self { exists: false, deadline: None, kind: WatchedKind::NotAsked };

    /// Answers a query without asking the server, if that is possible.
    fn answer(&self, query: &Query) -> Option<WatchedReply> {
        if !self.exists {
            return Some(WatchedReply::Answer(queries::nothing(query)));
        }
        let WatchedKind::Is(kind) = self.kind else { return None };
        if *query == Query::Presence {
            let presence = Presence { kind, deadline: self.deadline };
            return Some(WatchedReply::Answer(Answer::Presence(Some(presence))));
        }
        match query.kind() {
            Some(expected) if kind != Some(expected) => Some(WatchedReply::Other(kind)),
            Some(_) | None => None,
        }
    }

    /// Records what an answer says of the key itself.
    fn learn(&mut self, query: &Query, answer: &Answer) {
        match (query.kind(), answer) {
            (None, Answer::Presence(None)) => *self = Self::ABSENT,
            (None, Answer::Presence(Some(presence))) => {
                // The deadline that was read first is the one to compare with.
                let deadline = if self.exists { self.deadline } else { presence.deadline };
                *self = Self { exists: true, deadline, kind: WatchedKind::Is(presence.kind) };
            }
            // The server answers a query of this kind only if the key holds this kind.
            (Some(kind), _) if self.exists => self.kind = WatchedKind::Is(Some(kind)),
            (Some(_) | None, _) => {}
        }
    }
}

//! Owns transactions that read: what they read is watched, on one connection, and their changes are made if
//! it still holds. Which commands the changes become stands in `changes`.

use std::collections::HashMap;

use crate::backend::TransactionBody;
use crate::backend::local::change::Change;
use crate::backend::redis::client::Redis;
use crate::backend::redis::connect::connection::{Connection, Request};
use crate::backend::redis::connect::pool::{PooledConnection, ReentryGuard};
use crate::backend::redis::failure::{ErrorContext, Failure, FailureKind, Stage};
use crate::backend::redis::retry::{ONCE, READ};
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::queries;
use crate::backend::redis::wire::replies;
use crate::backend::redis::wire::replies::refused;
use crate::clock::{Deadline, Now};
use crate::error::{Kind, Result};
use crate::key::Key;
use crate::op::{Answer, Presence, Query, ReadSource};

/// What a transaction knows of a key that it watches.
#[derive(Debug, Clone, Copy)]
struct ObservedKey {
    /// Whether anything is there, and until when.
    there: bool,
    deadline: Option<Deadline>,
    kind: What,
}

/// Which kind of thing lies under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    NotAsked,
    /// `None` is one that this crate has no name for.
    Is(Option<Kind>),
}

/// One run of a transaction. Its connection is taken with the first read.
struct WatchedSource<'r> {
    redis: &'r Redis,
    held: Option<(PooledConnection<'r>, ReentryGuard)>,
    known: HashMap<Key<'static>, ObservedKey>,
    /// Why reading failed: nothing can be changed then.
    failed: Option<Failure>,
}

impl Redis {
    pub(crate) fn run_transaction(&self, work: &mut TransactionBody<'_>) -> Result<bool> {
        let mut run = WatchedSource { redis: self, held: None, known: HashMap::new(), failed: None };
        // The time that the server has is not known: what is left of an entry is its deadline.
        let changes = work(&mut run, &Now::at(0));
        let WatchedSource { held, known, failed, .. } = run;
        if let Some(failure) = failed {
            // Nothing was sent that changes anything. The connection, which may still watch, is closed.
            return Err(failure.into_error(ErrorContext::reading("WATCH", ""), None));
        }
        let about = ErrorContext { mutation: !changes.is_empty(), ..ErrorContext::writing("EXEC") };
        let outcome = match held {
            Some((mut lease, inside)) => {
                drop(inside);
                self.commit_watched(&mut lease, &changes, &known)
            }
            None if changes.is_empty() => return Ok(true),
            None => self.commit_blindly(&changes),
        };
        outcome.map_err(|failure| failure.into_error(about, None))
    }

    /// Makes changes that depend on nothing.
    fn commit_blindly(&self, changes: &[(Key<'static>, Change)]) -> Result<bool, Failure> {
        let limit = self.budget();
        let work =
            |connection: &mut Connection, _| self.execute(connection, &limit, changes, &HashMap::new());
        self.run(ONCE, &limit, work).map(|(held, _)| held)
    }

    /// Makes changes if what was read still holds; with no changes, tells whether it does.
    fn commit_watched(
        &self,
        lease: &mut PooledConnection<'_>,
        changes: &[(Key<'static>, Change)],
        known: &HashMap<Key<'static>, ObservedKey>,
    ) -> Result<bool, Failure> {
        let limit = self.budget();
        // The connection was taken before the store was closed, perhaps by the caller's own work.
        self.pool.check_open()?;
        // INVARIANT: as for every mutation, none without an answer may run after these changes.
        while !changes.is_empty() && !self.pool.quarantine().is_empty() {
            self.pool.kill_orphans(&limit)?;
        }
        lease.renew();
        lease.run(|connection| {
            connection.apply_deadline(&limit)?;
            let held = self.execute(connection, &limit, changes, known)?;
            connection.set_watching(false);
            Ok(held)
        })
    }

    /// Sends all changes at once.
    fn execute(
        &self,
        connection: &mut Connection,
        limit: &TimeBudget,
        changes: &[(Key<'static>, Change)],
        known: &HashMap<Key<'static>, ObservedKey>,
    ) -> Result<bool, Failure> {
        let mut packer = self.writer(connection);
        packer.command(1, "MULTI");
        packer.changes(changes, |key| known.get(key).and_then(|known| known.deadline));
        packer.command(1, "EXEC");
        let answers = packer.commands();
        connection.send(Request { replies: answers, mutation: !changes.is_empty(), atomic: true }, limit)?;
        match replies::watched_transaction(answers - 2, &mut || connection.receive(limit))? {
            None => Ok(false),
            Some(answers) => {
                answers.into_iter().try_for_each(|answer| refused(answer).map(drop))?;
                Ok(true)
            }
        }
    }
}

impl ReadSource for WatchedSource<'_> {
    fn ask(&mut self, key: &Key<'_>, query: &Query) -> Result<Answer> {
        let about = queries::error_context(key, query);
        if let Some(failed) = &self.failed {
            let again = Failure::new(failed.kind, failed.stage, failed.cause.to_string());
            return Err(again.into_error(about, None));
        }
        match self.look(&key.clone().into_owned(), query) {
            Ok(WatchedReply::Answer(answer)) => Ok(answer),
            Ok(WatchedReply::Other(kind)) => {
                let wrong = Failure::new(FailureKind::WrongType, Stage::Rejected, "another kind of thing");
                Err(wrong.into_error(about, kind))
            }
            Err(failure) => {
                let told = Failure::new(failure.kind, failure.stage, failure.cause.to_string());
                self.failed = Some(failure);
                Err(told.into_error(about, None))
            }
        }
    }
}

/// What a look at a key finds.
enum WatchedReply {
    Answer(Answer),
    /// Another kind of thing than was asked for.
    Other(Option<Kind>),
}

impl WatchedSource<'_> {
    /// Answers from what is known already, or asks the server.
    fn look(&mut self, key: &Key<'static>, query: &Query) -> Result<WatchedReply, Failure> {
        if let Some(found) = self.known.get(key).and_then(|known| known.answer(query)) {
            return Ok(found);
        }
        let is_new = !self.known.contains_key(key);
        let (known, answer) = self.ask_server(key, query, is_new)?;
        let mut known = known.or_else(|| self.known.get(key).copied()).unwrap_or(ObservedKey::NOTHING);
        match answer {
            Asked::Answer(answer) => {
                known.learn(query, &answer);
                self.known.insert(key.clone(), known);
                // What is gone by now was there when it was asked for, or the other way round: the end of
                // the transaction tells.
                Ok(WatchedReply::Answer(answer))
            }
            Asked::WrongType => {
                self.known.insert(key.clone(), known);
                let (_, presence) = self.ask_server(key, &Query::Presence, false)?;
                let Asked::Answer(answer) = presence else {
                    return Ok(WatchedReply::Other(None));
                };
                known.learn(&Query::Presence, &answer);
                self.known.insert(key.clone(), known);
                Ok(WatchedReply::Other(match known.kind {
                    What::Is(kind) => kind,
                    What::NotAsked => None,
                }))
            }
        }
    }

    /// Asks the server on the one connection, which the first question takes. A key that is new is watched
    /// before anything is read of it.
    fn ask_server(
        &mut self,
        key: &Key<'static>,
        query: &Query,
        is_new: bool,
    ) -> Result<(Option<ObservedKey>, Asked), Failure> {
        let redis = self.redis;
        let limit = redis.budget();
        if let Some((lease, _)) = &mut self.held {
            lease.renew();
            return lease.run(|connection| {
                connection.apply_deadline(&limit)?;
                redis.ask_watched(connection, &limit, key, query, is_new)
            });
        }
        let ((lease, asked), _) = redis.retry(READ, &limit, |late, _| {
            let mut lease = redis.pool.checkout_for(READ, &limit, late)?;
            let asked = lease.run(|connection| redis.ask_watched(connection, &limit, key, query, is_new))?;
            Ok((lease, asked))
        })?;
        self.held = Some((lease, redis.pool.enter_user_code()));
        Ok(asked)
    }
}

/// What the server said to a question.
enum Asked {
    Answer(Answer),
    WrongType,
}

impl Redis {
    fn ask_watched(
        &self,
        connection: &mut Connection,
        limit: &TimeBudget,
        key: &Key<'static>,
        query: &Query,
        is_new: bool,
    ) -> Result<(Option<ObservedKey>, Asked), Failure> {
        if is_new {
            // INVARIANT: from here on the connection goes back to the pool only after an EXEC.
            connection.set_watching(true);
        }
        let mut packer = self.writer(connection);
        if is_new {
            packer.command(2, "WATCH").key(key);
            if *query != Query::Presence {
                packer.command(2, "PTTL").key(key);
            }
        }
        packer.query(key, query);
        let answers = packer.commands();
        connection.send(Request { replies: answers, mutation: false, atomic: false }, limit)?;
        let mut known = None;
        if is_new {
            refused(connection.receive(limit)?)?;
            if *query != Query::Presence {
                let left = replies::ttl(connection.receive(limit)?)?;
                let deadline = left.and_then(replies::deadline);
                known = Some(ObservedKey { there: left.is_some(), deadline, kind: What::NotAsked });
            }
        }
        match queries::answer(query, &mut || connection.receive(limit)) {
            Ok(answer) => Ok((known, Asked::Answer(answer))),
            Err(Failure { kind: FailureKind::WrongType, .. }) => Ok((known, Asked::WrongType)),
            Err(failure) => Err(failure),
        }
    }
}

impl ObservedKey {
    const NOTHING: Self = Self { there: false, deadline: None, kind: What::NotAsked };

    /// Answers a question without asking the server, where that can be.
    fn answer(&self, query: &Query) -> Option<WatchedReply> {
        if !self.there {
            return Some(WatchedReply::Answer(queries::nothing(query)));
        }
        match (query, self.kind, query.kind()) {
            (Query::Presence, What::Is(kind), _) => {
                Some(WatchedReply::Answer(Answer::Presence(Some(Presence { kind, deadline: self.deadline }))))
            }
            (_, What::Is(kind), Some(expected)) if kind != Some(expected) => Some(WatchedReply::Other(kind)),
            _ => None,
        }
    }

    /// Takes in what an answer tells of the key itself.
    fn learn(&mut self, query: &Query, answer: &Answer) {
        match (query.kind(), answer) {
            (None, Answer::Presence(None)) => *self = Self::NOTHING,
            (None, Answer::Presence(Some(presence))) => {
                // The deadline that was read first is the one that is compared with.
                let deadline = if self.there { self.deadline } else { presence.deadline };
                *self = Self { there: true, deadline, kind: What::Is(presence.kind) };
            }
            // Where something is there and the question was none of another kind, it is of this kind.
            (Some(kind), _) if self.there => self.kind = What::Is(Some(kind)),
            _ => {}
        }
    }
}

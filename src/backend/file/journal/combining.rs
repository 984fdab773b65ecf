//! Owns how operations of threads that meet at the journal are written together. Knows nothing of what a line
//! looks like.
//!
//! Who finds the journal taken posts its operation. The first of those that gets the journal does what all of them
//! have posted: in one line, and one call to the operating system. That is flat combining (Hendler, Incze, Shavit and
//! Tzafrir, "Flat Combining and the Synchronization-Parallelism Tradeoff", SPAA 2010). Where each of them waits for a
//! sync anyway it is left out: they share the sync.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use crate::backend::file::core::{Changes, Core, throttle};
use crate::backend::file::journal::writer::Journal;
use crate::backend::local::change::Change;
use crate::backend::local::entry::Entry;
use crate::backend::local::plan::{is_blind, plan};
use crate::backend::local::table::shards::Table;
use crate::backend::local::view::LiveEntry;
use crate::clock::Now;
use crate::config::SyncPolicy;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{EntryAction, Op, Reply};

/// How often a thread tries to get the journal, and lets others run, before it sleeps.
const TRIES: usize = 50;

/// Operations that wait for whoever gets the journal, in the order in which they came.
#[derive(Default)]
pub(crate) struct Combiner {
    pub(crate) posted: Mutex<VecDeque<Arc<CommitRequest>>>,
    /// Whether there are any.
    any: AtomicBool,
}

/// One operation, which a thread waits for.
pub(crate) struct CommitRequest {
    state: Mutex<RequestState>,
    done: AtomicBool,
}

enum RequestState {
    Posted(Op<'static>),
    /// Somebody carries it out, or its thread has the outcome.
    Taken,
    Done(Result<Reply>),
}

impl Combiner {
    fn post(&self, op: Op<'static>) -> Arc<CommitRequest> {
        let request = Arc::new(CommitRequest {
            state: Mutex::new(RequestState::Posted(op)),
            done: AtomicBool::new(false),
        });
        let mut posted = self.posted.lock();
        posted.push_back(Arc::clone(&request));
        self.any.store(true, Ordering::Release);
        request
    }

    /// Takes all of them, to carry them out.
    fn take(&self) -> PostedRequests<'_> {
        let mut posted = self.posted.lock();
        self.any.store(false, Ordering::Release);
        PostedRequests { combiner: self, requests: mem::take(&mut *posted) }
    }
}

/// Operations of which some thread carries out the first ones; the others are posted again.
struct PostedRequests<'c> {
    combiner: &'c Combiner,
    requests: VecDeque<Arc<CommitRequest>>,
}

impl PostedRequests<'_> {
    fn next(&mut self) -> Option<(Op<'static>, PendingReply)> {
        let request = self.requests.pop_front()?;
        let state = mem::replace(&mut *request.state.lock(), RequestState::Taken);
        match state {
            RequestState::Posted(op) => Some((op, PendingReply(request))),
            // Nobody else takes what was posted.
            RequestState::Taken | RequestState::Done(_) => None,
        }
    }

    /// Lets the one that was taken last be the first again.
    fn put_back(&mut self, op: Op<'static>, debt: &PendingReply) {
        *debt.0.state.lock() = RequestState::Posted(op);
        self.requests.push_front(Arc::clone(&debt.0));
    }
}

impl Drop for PostedRequests<'_> {
    fn drop(&mut self) {
        if self.requests.is_empty() {
            return;
        }
        let mut posted = self.combiner.posted.lock();
        self.requests.append(&mut posted);
        mem::swap(&mut self.requests, &mut *posted);
        self.combiner.any.store(true, Ordering::Release);
    }
}

impl CommitRequest {
    fn answer(&self, outcome: Result<Reply>) {
        *self.state.lock() = RequestState::Done(outcome);
        self.done.store(true, Ordering::Release);
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    fn outcome(&self) -> Option<Result<Reply>> {
        if !self.is_done() {
            return None;
        }
        match mem::replace(&mut *self.state.lock(), RequestState::Taken) {
            RequestState::Done(outcome) => Some(outcome),
            RequestState::Posted(_) | RequestState::Taken => None,
        }
    }
}

/// An answer that is owed to who waits for it.
struct PendingReply(Arc<CommitRequest>);

impl PendingReply {
    fn complete(self, outcome: Result<Reply>) {
        self.0.answer(outcome);
    }
}

/// Nobody waits for ever for a thread that panicked.
impl Drop for PendingReply {
    fn drop(&mut self) {
        let is_owed = matches!(*self.0.state.lock(), RequestState::Taken) && !self.0.is_done();
        if is_owed {
            let source = "the thread that carried it out together with others panicked".into();
            self.0.answer(Err(Error::Unavailable { maybe_applied: true, source }));
        }
    }
}

/// What several operations change, which makes up one line, and whom to answer what once that is written.
#[derive(Default)]
struct Group {
    changes: Vec<(Key<'static>, Change)>,
    replies: Vec<(PendingReply, Reply)>,
    weight: u64,
}

impl Group {
    /// Whether an operation comes behind this line: because it has to see what that changes, or the line would be
    /// heavier than `most`.
    fn ends_before(&self, op: &Op<'_>, most: u64) -> bool {
        let sees = || !is_blind(&op.action) && self.changes.iter().any(|(key, _)| *key == op.key);
        let weight = (op.key.len() + op.action.bytes()) as u64;
        !self.changes.is_empty() && (self.weight + weight > most || sees())
    }

    fn add(&mut self, key: Key<'static>, change: Change, debt: PendingReply, reply: Reply) {
        self.weight += change.weight(&key);
        self.changes.push((key, change));
        self.replies.push((debt, reply));
    }
}

impl Core {
    /// Carries out an operation on one entry.
    pub(crate) fn apply(self: &Arc<Self>, op: Op<'_>) -> Result<Reply> {
        let combines = match self.sync {
            SyncPolicy::Always => false,
            SyncPolicy::Every(_) | SyncPolicy::Never => true,
        };
        if combines && (self.journal.is_locked() || self.combiner.any.load(Ordering::Acquire)) {
            return self.apply_combined(op);
        }
        self.commit(|table, now| {
            let (change, reply) = decide(&op.key, op.action, table, now)?;
            Ok((Changes::One([(op.key, change)]), reply))
        })
    }

    /// As [`Core::apply`]: posts it, and if nobody else has done it by then does all that is posted.
    pub(crate) fn apply_combined(self: &Arc<Self>, op: Op<'_>) -> Result<Reply> {
        let request = self.combiner.post(Op { key: op.key.into_owned(), action: op.action });
        let mut tries = 0;
        loop {
            if let Some(outcome) = request.outcome() {
                return outcome;
            }
            tries += 1;
            let journal = if tries <= TRIES {
                self.journal.try_lock()
            } else {
                // Answers come before that begins: who has none by now gets it afterwards.
                if self.compactor.is_throttling() && !request.is_done() {
                    self.compactor.wait_for_room();
                }
                Some(self.journal.lock())
            };
            match journal {
                // It may have been done before this thread woke up.
                Some(mut journal) if !request.is_done() => {
                    let pause = self.combine(&mut journal);
                    drop(journal);
                    throttle(pause);
                }
                Some(_) => {}
                None => thread::yield_now(),
            }
        }
    }

    /// Carries out what is posted, unless writers wait for a compaction, and tells for how long this one rests then.
    pub(crate) fn combine(self: &Arc<Self>, journal: &mut Journal) -> Duration {
        let mut posted = self.combiner.take();
        // Not before the last of them was posted.
        let now = Now::of(&self.clock);
        let mut combined = Group::default();
        let mut pause = Duration::ZERO;
        while !self.compactor.is_throttling()
            && let Some((op, debt)) = posted.next()
        {
            if combined.ends_before(&op, self.compactor.step()) {
                pause += self.commit_group(journal, mem::take(&mut combined), &now);
                // The line may have been the last that there is room for.
                if self.compactor.is_throttling() {
                    posted.put_back(op, &debt);
                    break;
                }
            }
            let Op { key, action } = op;
            match self.check_open(journal).and_then(|()| decide(&key, action, &self.state.table, &now)) {
                Ok((Change::Nothing, reply)) => debt.complete(Ok(reply)),
                Ok((change, reply)) => combined.add(key, change, debt, reply),
                Err(error) => debt.complete(Err(error)),
            }
        }
        pause + self.commit_group(journal, combined, &now)
    }

    /// Makes changes, all in one line or, where that cannot be written, each in its own, and answers who asked for
    /// them. Tells for how long the writer rests then.
    fn commit_group(self: &Arc<Self>, journal: &mut Journal, combined: Group, now: &Now<'_>) -> Duration {
        let Group { changes, replies, .. } = combined;
        let mut replies = replies.into_iter();
        match self.check_open(journal).and_then(|()| self.append(journal, &changes, now)) {
            Ok(None) => Duration::ZERO,
            Ok(Some(written)) => {
                let freed = self.publish(Changes::Many(changes), now);
                // Before writers may have to wait.
                replies.for_each(|(debt, reply)| debt.complete(Ok(reply)));
                self.check_size(journal, written, freed)
            }
            Err(error) if changes.len() == 1 => {
                if let Some((debt, _)) = replies.next() {
                    debt.complete(Err(error));
                }
                Duration::ZERO
            }
            // There may be room for some of them.
            Err(_) => changes.into_iter().zip(replies).fold(Duration::ZERO, |pause, (change, reply)| {
                let alone = Group { changes: vec![change], replies: vec![reply], weight: 0 };
                pause + self.commit_group(journal, alone, now)
            }),
        }
    }
}

/// Decides what an operation on one entry makes of a table.
fn decide(key: &Key<'_>, action: EntryAction, table: &Table, now: &Now<'_>) -> Result<(Change, Reply)> {
    let blind = is_blind(&action);
    let plan = |found: Option<&Entry>| plan(key, action, &mut LiveEntry::new(key, found, now), now);
    match blind {
        true => plan(None),
        false => table.read(key, plan),
    }
}

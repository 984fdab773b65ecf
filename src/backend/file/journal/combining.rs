//! Owns the requests of threads that meet at the journal, and which of them share a line. Knows nothing of how a
//! request is run and of the bytes of a line.
//!
//! A thread that finds the journal locked posts its operation as a request. The first of those threads to get the
//! journal runs all posted requests: in one line, with one system call. This is flat combining (Hendler, Incze,
//! Shavit and Tzafrir, "Flat Combining and the Synchronization-Parallelism Tradeoff", SPAA 2010).

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::backend::local::change::Change;
use crate::backend::local::plan::is_blind;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{Op, Reply};

/// Posted requests, in the order of posting.
#[derive(Default)]
pub(crate) struct Combiner {
    posted: Mutex<VecDeque<Arc<CommitRequest>>>,
    has_requests: AtomicBool,
}

/// One operation, and the outcome that a thread waits for.
pub(crate) struct CommitRequest {
    state: Mutex<RequestState>,
    is_done: AtomicBool,
}

enum RequestState {
    Posted(Op<'static>),
    /// A thread runs it, or the outcome was taken.
    Taken,
    Done(Result<Reply>),
}

impl Combiner {
    pub(crate) fn post(&self, op: Op<'static>) -> Arc<CommitRequest> {
        let request = Arc::new(CommitRequest {
            state: Mutex::new(RequestState::Posted(op)),
            is_done: AtomicBool::new(false),
        });
        let mut posted = self.posted.lock();
        posted.push_back(Arc::clone(&request));
        self.has_requests.store(true, Ordering::Release);
        request
    }

    pub(crate) fn has_requests(&self) -> bool {
        self.has_requests.load(Ordering::Acquire)
    }

    /// Takes all posted requests.
    pub(crate) fn take(&self) -> PostedRequests<'_> {
        let mut posted = self.posted.lock();
        self.has_requests.store(false, Ordering::Release);
        PostedRequests { combiner: self, requests: mem::take(&mut *posted) }
    }

    #[cfg(test)]
    pub(crate) fn count_posted(&self) -> usize {
        self.posted.lock().len()
    }
}

/// Requests that one thread has taken to run; those that it leaves are posted again.
pub(crate) struct PostedRequests<'c> {
    combiner: &'c Combiner,
    requests: VecDeque<Arc<CommitRequest>>,
}

impl PostedRequests<'_> {
    pub(crate) fn next(&mut self) -> Option<(Op<'static>, PendingReply)> {
        let request = self.requests.pop_front()?;
        let state = mem::replace(&mut *request.state.lock(), RequestState::Taken);
        match state {
            RequestState::Posted(op) => Some((op, PendingReply(request))),
            // Unreachable: only the thread that holds these requests takes them.
            RequestState::Taken | RequestState::Done(_) => None,
        }
    }

    /// Undoes the last [`PostedRequests::next`].
    pub(crate) fn put_back(&mut self, op: Op<'static>, pending: &PendingReply) {
        *pending.0.state.lock() = RequestState::Posted(op);
        self.requests.push_front(Arc::clone(&pending.0));
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
        self.combiner.has_requests.store(true, Ordering::Release);
    }
}

impl CommitRequest {
    fn complete(&self, outcome: Result<Reply>) {
        *self.state.lock() = RequestState::Done(outcome);
        self.is_done.store(true, Ordering::Release);
    }

    pub(crate) fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }

    pub(crate) fn take_outcome(&self) -> Option<Result<Reply>> {
        if !self.is_done() {
            return None;
        }
        match mem::replace(&mut *self.state.lock(), RequestState::Taken) {
            RequestState::Done(outcome) => Some(outcome),
            RequestState::Posted(_) | RequestState::Taken => None,
        }
    }
}

/// The reply owed to the thread that posted a request.
pub(crate) struct PendingReply(Arc<CommitRequest>);

impl PendingReply {
    pub(crate) fn complete(self, outcome: Result<Reply>) {
        self.0.complete(outcome);
    }
}

/// INVARIANT: a reply that is dropped by a panic is sent as an error, so that no thread waits for ever.
impl Drop for PendingReply {
    fn drop(&mut self) {
        let is_owed = matches!(*self.0.state.lock(), RequestState::Taken) && !self.0.is_done();
        if is_owed {
            let source = "the thread that ran it together with others panicked";
            self.0.complete(Err(Error::in_doubt(source)));
        }
    }
}

/// Changes that share one journal line, and the replies to send once it is written.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) changes: Vec<(Key<'static>, Change)>,
    pub(crate) replies: Vec<(PendingReply, Reply)>,
    pub(crate) weight: u64,
}

impl Group {
    /// Whether an operation must be in a later line: because it reads a key that this group changes, or because the
    /// line would exceed `max_weight`.
    pub(crate) fn ends_before(&self, op: &Op<'_>, max_weight: u64) -> bool {
        let reads_changed_key =
            || !is_blind(&op.action) && self.changes.iter().any(|(key, _)| *key == op.key);
        let weight = (op.key.len() + op.action.bytes()) as u64;
        !self.changes.is_empty() && (self.weight + weight > max_weight || reads_changed_key())
    }

    pub(crate) fn add(&mut self, key: Key<'static>, change: Change, pending: PendingReply, reply: Reply) {
        self.weight += change.weight(&key);
        self.changes.push((key, change));
        self.replies.push((pending, reply));
    }
}

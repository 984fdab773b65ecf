//! Owns the cut: all entries under a prefix as of one instant, also while other clients write. Knows nothing of where a
//! cut is stored.
//!
//! The entries are read, and the server tells which keys are changed meanwhile; those are read again, until few are left.
//! These are read at the instant of the cut: while the server holds back all writers, or else in one transaction, if no
//! other key was changed before it.

mod closing;
mod reading;
mod tracking;

use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use redis::Value;
use smol_str::SmolStr;

use crate::backend::redis::client::Redis;
use crate::backend::redis::cut::reading::{DeadlineFrom, Found, Layout, Outcome};
use crate::backend::redis::cut::tracking::TrackingConnection;
use crate::backend::redis::failure::{ErrorContext, Failure, FailureKind, Stage};
use crate::backend::redis::operation_error::OperationError;
use crate::backend::redis::retry::RetryRule;
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::resp::CommandWriter;
use crate::backend::redis::wire::{scan, window_reply};
use crate::clock::Now;
use crate::op::{Cut, Isolation, WholeEntry};

/// When so few entries are left to be read again, the cut is made.
const FEW: usize = 1000;

/// How often changed entries are read again before the cut, at most.
const MOST_PASSES: usize = 16;

/// How often a cut begins again because all keys of the server were deleted.
const MOST_BEGINNINGS: usize = 16;

/// How often a key is read again because it holds something of another kind.
const MOST_GUESSES: usize = 16;

/// How many keys are read at once, at first and at most, and how many bytes are wanted of one request.
const FIRST_KEYS: usize = 128;
const MOST_KEYS: usize = 1000;
const WANTED_BYTES: usize = 4 << 20;

/// A cut has no time limit of its own: each exchange has one.
const NO_LIMIT: Duration = Duration::from_secs(24 * 3600);

impl Redis {
    /// Returns all that is stored under `prefix`, as of one instant if the server reports the writes of all clients.
    /// Where it does not report them to this user, each entry is whole, and the entries are of different times between the
    /// beginning and the end of the call.
    pub(crate) fn cut(&self, prefix: &str) -> Result<Cut<'static>, OperationError> {
        let budget = TimeBudget::new(NO_LIMIT);
        self.retry(RetryRule::Read, &budget, |_| Copying::new(self, prefix)?.finish())
            .map(|(cut, _)| cut)
            .map_err(|failure| OperationError::new(failure, ErrorContext::reading("SCAN", "")))
    }
}

/// A cut in the making.
struct Copying<'c> {
    redis: &'c Redis,
    prefix: &'c str,
    connection: TrackingConnection<'c>,
    found: HashMap<SmolStr, Found>,
    /// How entries are read that are not values.
    layouts: HashMap<SmolStr, Layout>,
    /// Queues beside which something was stored.
    has_companions: HashSet<SmolStr>,
    /// Entries that must be read, for the first time or again.
    wanted: HashSet<SmolStr>,
    /// The key of the fence, while the server is to tell of it.
    fence: Option<Vec<u8>>,
    /// All keys were deleted at once.
    is_flushed: bool,
    keys_per_request: usize,
}

impl<'c> Copying<'c> {
    fn new(redis: &'c Redis, prefix: &'c str) -> Result<Self, Failure> {
        Ok(Self {
            redis,
            prefix,
            connection: TrackingConnection::open(redis, prefix)?,
            found: HashMap::new(),
            layouts: HashMap::new(),
            has_companions: HashSet::new(),
            wanted: HashSet::new(),
            fence: None,
            is_flushed: false,
            keys_per_request: FIRST_KEYS,
        })
    }

    fn finish(mut self) -> Result<Cut<'static>, Failure> {
        let end = Instant::now() + self.redis.time_limit();
        if self.connection.is_told {
            for _ in 0..MOST_BEGINNINGS {
                if let Some(at) = self.copy_and_close(end)? {
                    return Ok(self.into_cut(at, Isolation::Exact));
                }
                if !self.is_flushed {
                    break;
                }
                self.begin_again();
            }
        }
        if !self.connection.is_told || self.is_flushed {
            self.begin_again();
            self.scan()?;
        }
        self.read_wanted()?;
        let at = self.time()?;
        Ok(self.into_cut(at, Isolation::Process))
    }

    fn begin_again(&mut self) {
        self.found.clear();
        self.wanted.clear();
        self.is_flushed = false;
    }

    /// Returns the time of the cut; `None` if all keys were deleted meanwhile, or if the cut could not be closed.
    fn copy_and_close(&mut self, end: Instant) -> Result<Option<u64>, Failure> {
        self.scan()?;
        self.read_wanted()?;
        let mut last = usize::MAX;
        for _ in 0..MOST_PASSES {
            self.time()?;
            let left = self.wanted.len();
            if self.is_flushed || left <= FEW || left >= last {
                break;
            }
            last = left;
            self.read_wanted()?;
        }
        if self.is_flushed { Ok(None) } else { self.close(end) }
    }

    /// Finds all entries, and wants all of them.
    fn scan(&mut self) -> Result<(), Failure> {
        let pattern = scan::pattern(&[&self.redis.prefix, self.prefix.as_bytes()].concat());
        let count = self.redis.options.scan_count as u64;
        let mut cursor = 0;
        loop {
            let mut replies = self.connection.exchange(|writer| {
                writer.command(6, "SCAN").number(cursor).arg(b"MATCH").arg(&pattern);
                writer.arg(b"COUNT").number(count);
            })?;
            let (next, keys) = scan::page(replies.pop().unwrap_or(Value::Nil))?;
            for key in keys {
                self.want(&key);
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// Notes that a key on the server must be read.
    fn want(&mut self, wire: &[u8]) {
        let Some((key, layout)) = reading::entry_of(wire, &self.redis.prefix, self.prefix) else { return };
        if layout == Layout::Queue && self.has_companions.insert(key.clone()) {
            self.layouts.insert(key.clone(), Layout::Queue);
        }
        self.wanted.insert(key);
    }

    /// Wants what the server has told.
    fn note_told(&mut self) {
        for told in self.connection.take_told() {
            let Value::Array(keys) = told else {
                self.is_flushed = true;
                continue;
            };
            for key in keys {
                let Value::BulkString(key) = key else { continue };
                if self.fence.as_ref() == Some(&key) {
                    self.fence = None;
                } else {
                    self.want(&key);
                }
            }
        }
    }

    /// Returns the time of the server, once the server has reported all writes before this call.
    fn time(&mut self) -> Result<u64, Failure> {
        let mut replies = self.connection.exchange(|writer| _ = writer.command(1, "TIME"))?;
        self.note_told();
        window_reply::time(replies.pop().unwrap_or(Value::Nil))
    }

    fn layout(&self, key: &str) -> Layout {
        self.layouts.get(key).copied().unwrap_or(Layout::Value)
    }

    /// Reads all that is wanted now. What is changed meanwhile is wanted afterwards.
    fn read_wanted(&mut self) -> Result<(), Failure> {
        let mut keys: Vec<SmolStr> = self.wanted.drain().collect();
        for _ in 0..MOST_GUESSES {
            let mut others = Vec::new();
            let mut rest = keys.as_slice();
            while !rest.is_empty() {
                let (chunk, behind) = rest.split_at(self.keys_per_request.min(rest.len()));
                self.read_chunk(chunk, &mut others)?;
                rest = behind;
            }
            if others.is_empty() {
                return Ok(());
            }
            keys = others;
        }
        let cause = "the server says of each kind that a key is of another";
        Err(Failure::new(FailureKind::Protocol, Stage::Rejected, cause))
    }

    fn read_chunk(&mut self, keys: &[SmolStr], others: &mut Vec<SmolStr>) -> Result<(), Failure> {
        let from = self.deadline_from();
        let layouts: Vec<Layout> = keys.iter().map(|key| self.layout(key)).collect();
        let read = keys.iter().zip(&layouts);
        let write = |writer: &mut CommandWriter<'_>| {
            for (key, layout) in read.clone() {
                reading::write(writer, key, *layout, from);
            }
        };
        // The server reports each key that changes while it is read, so that it is read again.
        let replies = if self.connection.is_told && from == DeadlineFrom::ExpireTime {
            self.connection.exchange(write)?
        } else {
            self.connection.transact(write)?
        };
        self.note_told();
        let mut replies = replies.into_iter();
        let mut bytes = 0;
        for (key, layout) in keys.iter().zip(layouts) {
            let mut own = replies.by_ref().take(reading::replies(layout, from));
            let outcome = reading::read(layout, from, &mut own)?;
            own.for_each(drop);
            if let Outcome::Found(found) = &outcome {
                bytes += found.bytes();
            }
            if !self.note(key, layout, outcome) {
                others.push(key.clone());
            }
        }
        let per_key = bytes / keys.len().max(1) + 1;
        self.keys_per_request = (WANTED_BYTES / per_key).clamp(1, MOST_KEYS);
        Ok(())
    }

    fn deadline_from(&self) -> DeadlineFrom {
        if self.connection.knows_deadlines { DeadlineFrom::ExpireTime } else { DeadlineFrom::TtlAndTime }
    }

    /// Notes what a key holds. Returns `false` if it must be read in another way.
    fn note(&mut self, key: &SmolStr, layout: Layout, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Found(found) => {
                self.found.insert(key.clone(), found);
                true
            }
            // Without its list, a queue is what is stored beside it.
            Outcome::Nothing
                if matches!(layout, Layout::Value | Layout::Map) && self.has_companions.contains(key) =>
            {
                self.layouts.insert(key.clone(), Layout::Queue);
                false
            }
            Outcome::Nothing => {
                self.found.remove(key);
                true
            }
            Outcome::Other(other) => {
                self.layouts.insert(key.clone(), other);
                false
            }
        }
    }

    fn into_cut(self, at: u64, isolation: Isolation) -> Cut<'static> {
        let now = Now::at(at);
        let mut entries: Vec<WholeEntry> =
            self.found.into_iter().filter_map(|(key, found)| found.at(key, &now)).collect();
        entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Cut { at, isolation, entries: Box::new(entries.into_iter()) }
    }
}

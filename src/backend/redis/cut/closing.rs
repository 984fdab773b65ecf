//! Owns the instant of a cut: how the last entries are read when no other is changed. Knows nothing of how the entries
//! before them were read.

use std::time::{Duration, Instant};

use hashbrown::HashSet;
use redis::Value;
use smol_str::SmolStr;

use crate::backend::redis::cut::reading::{self, Layout};
use crate::backend::redis::cut::tracking::PAUSE_MILLIS;
use crate::backend::redis::cut::{Copying, FEW};
use crate::backend::redis::failure::{Failure, Stage};
use crate::backend::redis::keys;
use crate::backend::redis::wire::replies::done;
use crate::backend::redis::wire::window_reply;
use crate::util::unique_id::unique_id;

/// How many entries the transaction at the fence reads at most.
const MOST_AT_FENCE: usize = 4 * FEW;

/// The server deletes the key of the fence after this time.
const FENCE_MILLIS: u64 = 10_000;

impl Copying<'_> {
    /// Reads what is left at one instant, and returns that time; `None` if all keys were deleted meanwhile, or if
    /// it did not succeed until `end`.
    pub(super) fn close(&mut self, end: Instant) -> Result<Option<u64>, Failure> {
        while self.connection.may_pause {
            let closed = self.close_paused()?;
            if closed.is_some() || self.is_flushed || Instant::now() >= end {
                return Ok(closed);
            }
            // The pause was too short for what is left.
            self.read_wanted()?;
        }
        match self.close_at_fence(end) {
            // It may not write, or is a replica, or is out of memory.
            Err(Failure { stage: Stage::Rejected, .. }) => Ok(None),
            closed => closed,
        }
    }

    /// Reads what is left while the server holds back all writers.
    fn close_paused(&mut self) -> Result<Option<u64>, Failure> {
        let begun = Instant::now();
        let closed = match self.connection.pause() {
            Ok(()) => self.read_paused(begun + Duration::from_millis(PAUSE_MILLIS)),
            Err(Failure { stage: Stage::Rejected, .. }) => {
                self.connection.may_pause = false;
                return Ok(None);
            }
            Err(failure) => Err(failure),
        };
        self.connection.unpause();
        closed
    }

    fn read_paused(&mut self, end: Instant) -> Result<Option<u64>, Failure> {
        loop {
            // Asked after the last read: if nothing was changed until then, all was read at that time.
            let at = self.time()?;
            if self.is_flushed || Instant::now() >= end {
                return Ok(None);
            }
            if self.wanted.is_empty() {
                return Ok(Some(at));
            }
            self.read_wanted()?;
        }
    }

    /// Reads what is left in one transaction, which also sets a key: the fence. The keys that the server reports before
    /// the fence were changed before the transaction, or in the same turn of the server. If the transaction has read all
    /// of them, the cut is the instant of the transaction.
    ///
    /// What was changed lately is read too, since it may be changed again.
    fn close_at_fence(&mut self, end: Instant) -> Result<Option<u64>, Failure> {
        let mut keys: HashSet<SmolStr> = HashSet::new();
        if self.found.len() + self.wanted.len() <= MOST_AT_FENCE {
            // Few enough to read all of them at that instant.
            keys.extend(self.found.keys().cloned());
        }
        loop {
            if keys.len() + self.wanted.len() > MOST_AT_FENCE {
                self.read_wanted()?;
                keys.clear();
            }
            keys.extend(self.wanted.drain());
            let (at, are_read) = self.read_at_fence(&keys)?;
            if self.is_flushed {
                return Ok(None);
            }
            if are_read && self.wanted.iter().all(|key| keys.contains(key)) {
                return Ok(Some(at));
            }
            if Instant::now() >= end {
                return Ok(None);
            }
        }
    }

    /// Returns the time, and whether all of these entries were read.
    fn read_at_fence(&mut self, keys: &HashSet<SmolStr>) -> Result<(u64, bool), Failure> {
        let fence = keys::cut_fence(self.prefix, unique_id());
        let from = self.deadline_from();
        let read: Vec<(&SmolStr, Layout)> = keys.iter().map(|key| (key, self.layout(key))).collect();
        self.fence = Some([&self.redis.prefix, fence.as_bytes()].concat());
        let replies = self.connection.transact(|writer| {
            for (key, layout) in &read {
                reading::write(writer, key, *layout, from);
            }
            // Behind the reads: what was found to expire during them has expired at this time.
            writer.command(1, "TIME");
            writer.command(5, "SET").key(&fence).arg(b"").arg(b"PX").number(FENCE_MILLIS);
        })?;
        let mut replies = replies.into_iter();
        let mut are_read = true;
        for (key, layout) in read {
            let mut own = replies.by_ref().take(reading::replies(layout, from));
            let outcome = reading::read(layout, from, &mut own)?;
            own.for_each(drop);
            are_read &= self.note(key, layout, outcome);
        }
        let at = window_reply::time(replies.next().unwrap_or(Value::Nil))?;
        done(replies.next().unwrap_or(Value::Nil))?;
        self.note_told();
        while self.fence.is_some() && !self.is_flushed {
            self.connection.wait()?;
            self.note_told();
        }
        Ok((at, are_read))
    }
}

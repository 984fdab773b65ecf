//! Owns how a table is kept within its bounds: a write that would exceed them is refused, or other entries are evicted
//! first. Knows nothing of what the writes mean.
//!
//! What is evicted is the least recently used entry of a random sample, as Redis does it (`maxmemory-policy allkeys-lru`,
//! `maxmemory-samples 10`; antirez.com/news/109): of ten entries it is nearly as good as the least recently used of all.

use std::cmp::Reverse;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hashbrown::HashSet;
use parking_lot::Mutex;
use smol_str::SmolStr;

use crate::backend::local::change::Change;
use crate::backend::local::entry::Entry;
use crate::backend::local::table::bounds::{Bounds, Exceeded, Growth, Size};
use crate::backend::local::table::growth::growth_of;
use crate::backend::local::table::locked::LockedShards;
use crate::backend::local::table::recency::Recency;
use crate::backend::local::table::shard_index::{SHARDS, shard_index};
use crate::backend::local::table::shards::{Slot, Table};
use crate::backend::local::table::usage::OVERHEAD;
use crate::clock::Now;
use crate::config::{MemoryOptions, WhenFull};
use crate::error::{Error, Kind, Result};
use crate::key::{Companion, Key, is_reserved};

/// How many entries are compared to find one that goes. Each is drawn for itself: neighbours in a shard have survived
/// earlier samples together, and are not a random sample.
const SAMPLE: usize = 10;

/// At most this many places are looked at for a sample, since a table may be nearly empty.
const MOST_PROBES: usize = 80;

/// Of so few entries, all are compared.
const FEW: usize = 64;

/// What an entry takes at least, about.
const LEAST_ENTRY: u64 = OVERHEAD + 32;

/// The least time between two reports of evictions.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What became of a write for which there may be no room.
pub(crate) enum Admission {
    /// It is counted, and must be made before the shards are unlocked.
    Counted(Growth),
    NoRoom(Growth),
}

/// Whether a write may exceed the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    Bounded,
    /// It hands out, returns or ends what the store holds already.
    Unbounded,
}

/// What was evicted since the last report.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Evictions {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

/// The room that a table may take.
pub(crate) struct Room {
    bounds: Bounds,
    /// `None` if nothing is evicted.
    recency: Option<Recency>,
    evicted: AtomicU64,
    unreported: Mutex<(Evictions, Option<Instant>)>,
}

/// An entry that may be evicted.
struct Candidate {
    age: u32,
    key: SmolStr,
}

impl Room {
    /// Returns the room that the options allow; `None` if they set no bound.
    pub(crate) fn new(options: &MemoryOptions) -> Option<Self> {
        let recency = match options.when_full {
            WhenFull::Refuse => None,
            WhenFull::Evict => {
                let by_bytes = options.max_bytes.map_or(u64::MAX, |bytes| bytes / LEAST_ENTRY);
                Some(options.max_entries.unwrap_or(u64::MAX).min(by_bytes))
            }
        };
        options.is_bounded().then(|| Self {
            bounds: Bounds::new(options),
            recency: recency.map(Recency::new),
            evicted: AtomicU64::new(0),
            unreported: Mutex::default(),
        })
    }

    /// Returns how many entries were evicted.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Notes that a key was read.
    pub(crate) fn note_read(&self, table: &Table, key: &str) {
        if let Some(recency) = &self.recency {
            recency.note_read(table.hasher.hash_one(key));
        }
    }

    fn note_write(&self, hash: u64) {
        if let Some(recency) = &self.recency {
            recency.note_write(hash);
        }
    }

    /// Applies the change that `decide` makes of the entry of `key`, in one step, as [`Table::commit`] does. If there is
    /// no room for it, room is made and the change is decided again, or the write fails.
    pub(crate) fn commit<R>(
        &self,
        table: &Table,
        key: &Key<'_>,
        now: &Now<'_>,
        decide: impl Fn(Option<&Entry>) -> Result<(Change, R)>,
    ) -> Result<R> {
        let hash = table.hasher.hash_one(&**key);
        self.note_write(hash);
        loop {
            let mut guard = table.shards[shard_index(hash)].0.write();
            let shard = &mut *guard;
            let entry = shard.find(hash, key);
            let (change, reply) = decide(entry)?;
            let growth = growth_of(key, entry, &change);
            if self.bounds.reserve(&growth).is_ok() {
                let before = shard.measure();
                let (garbage, _) = table.apply_to(shard, hash, key, change);
                table.reclaim(shard, now);
                self.bounds.count(shard.measure().uncounted(growth.by, before));
                drop(guard);
                drop(garbage);
                return Ok(reply);
            }
            drop(guard);
            self.make_room(table, &growth, &[&**key], now).map_err(|exceeded| full(key, exceeded))?;
        }
    }

    /// Counts changes of locked keys, if there is room for them.
    pub(crate) fn admit<K: AsRef<str>>(
        &self,
        locked: &LockedShards<'_>,
        changes: &[(K, Change)],
        demand: Demand,
    ) -> Admission {
        let growth = locked.growth_of(changes);
        match demand {
            Demand::Bounded if self.bounds.reserve(&growth).is_err() => Admission::NoRoom(growth),
            Demand::Bounded => Admission::Counted(growth),
            Demand::Unbounded => {
                self.bounds.count(growth.by.grown());
                Admission::Counted(growth)
            }
        }
    }

    /// Applies changes of locked keys that were counted.
    pub(crate) fn apply(
        &self,
        table: &Table,
        locked: &mut LockedShards<'_>,
        changes: Vec<(Key<'static>, Change)>,
        growth: &Growth,
        now: &Now<'_>,
    ) {
        for (key, _) in &changes {
            self.note_write(table.hasher.hash_one(&**key));
        }
        let before = locked.measure();
        locked.apply(changes, now);
        self.bounds.count(locked.measure().uncounted(growth.by, before));
    }

    /// Makes room for a write to the keys `kept`, which are not evicted. The caller holds no lock.
    pub(crate) fn make_room(
        &self,
        table: &Table,
        growth: &Growth,
        kept: &[&str],
        now: &Now<'_>,
    ) -> Result<(), Exceeded> {
        self.bounds.check_alone(growth)?;
        self.reclaim_expired(table, now);
        let kept: HashSet<&str> = kept.iter().copied().collect();
        while let Err(exceeded) = self.bounds.check(growth) {
            let recency = self.recency.as_ref().ok_or(exceeded)?;
            if !self.evict_one(table, recency, &kept, now) {
                return Err(exceeded);
            }
        }
        Ok(())
    }

    /// Removes all expired entries, and returns how many there were, without reserved ones.
    pub(crate) fn reclaim_expired(&self, table: &Table, now: &Now<'_>) -> u64 {
        let mut removed = 0;
        for shard in &table.shards {
            while shard.0.read().expirations.first().is_some_and(|(deadline, _)| deadline.has_passed(now)) {
                let mut shard = shard.0.write();
                let before = shard.measure();
                removed += table.reclaim_some(&mut shard, now).unwrap_or_default();
                self.bounds.count(shard.measure().uncounted(Size::default(), before));
            }
        }
        removed
    }

    /// Evicts one entry; returns `false` if none may go.
    fn evict_one(&self, table: &Table, recency: &Recency, kept: &HashSet<&str>, now: &Now<'_>) -> bool {
        let mut candidates = Candidates { table, recency, kept, found: Vec::with_capacity(SAMPLE) };
        if table.keys.read().len() > FEW {
            candidates.draw();
            if self.evict_oldest(candidates.take(), table, now) {
                return true;
            }
        }
        candidates.add_all();
        self.evict_oldest(candidates.take(), table, now)
    }

    fn evict_oldest(&self, mut candidates: Vec<Candidate>, table: &Table, now: &Now<'_>) -> bool {
        candidates.sort_unstable_by_key(|candidate| Reverse(candidate.age));
        candidates.into_iter().any(|Candidate { key, .. }| self.evict(table, &Key::listed(key.into()), now))
    }

    /// Removes an entry, unless it is gone or must stay: a queue of which values are leased, or will be added later.
    fn evict(&self, table: &Table, key: &Key<'static>, now: &Now<'_>) -> bool {
        let leases = key.companion(Companion::Leases);
        let mut locked = table.lock([&**key, &*leases]);
        let must_stay = |entry: &Entry| entry.kind() == Kind::Queue && locked.find(&leases).is_some();
        if locked.find(key).is_none_or(must_stay) {
            return false;
        }
        let changes = vec![(key.clone(), Change::Remove)];
        let growth = locked.growth_of(&changes);
        let before = locked.measure();
        locked.apply(changes, now);
        self.bounds.count(locked.measure().uncounted(growth.by, before));
        drop(locked);
        self.evicted.fetch_add(1, Ordering::Relaxed);
        let (evictions, _) = &mut *self.unreported.lock();
        evictions.entries += 1;
        evictions.bytes += growth.by.bytes.unsigned_abs();
        true
    }

    /// Returns what was evicted since the last report, if a report is due. The caller must report it then.
    pub(crate) fn take_report(&self) -> Option<Evictions> {
        self.recency.as_ref()?;
        let (evictions, reported) = &mut *self.unreported.lock();
        if evictions.entries == 0 || reported.is_some_and(|reported| reported.elapsed() < REPORT_INTERVAL) {
            return None;
        }
        *reported = Some(Instant::now());
        Some(std::mem::take(evictions))
    }
}

/// The error of a write for which there is no room.
pub(crate) fn full(key: &str, exceeded: Exceeded) -> Error {
    Error::Full { key: key.to_owned(), option: exceeded.option, limit: exceeded.limit }
}

/// Entries that may be evicted.
struct Candidates<'c> {
    table: &'c Table,
    recency: &'c Recency,
    /// The keys that must stay.
    kept: &'c HashSet<&'c str>,
    found: Vec<Candidate>,
}

impl Candidates<'_> {
    fn take(&mut self) -> Vec<Candidate> {
        std::mem::take(&mut self.found)
    }

    /// Adds about [`SAMPLE`] random entries; fewer if the table is nearly empty.
    fn draw(&mut self) {
        for _ in 0..MOST_PROBES {
            if self.found.len() >= SAMPLE {
                return;
            }
            let shard = self.table.shards[fastrand::usize(..SHARDS)].0.read();
            let places = shard.slots.num_buckets();
            if places > 0
                && let Some(slot) = shard.slots.get_bucket(fastrand::usize(..places))
            {
                self.add(slot);
            }
        }
    }

    fn add_all(&mut self) {
        for shard in &self.table.shards {
            shard.0.read().slots.iter().for_each(|slot| self.add(slot));
        }
    }

    fn add(&mut self, slot: &Slot) {
        if !is_reserved(&slot.key) && !self.kept.contains(&*slot.key) {
            let age = self.recency.age(self.table.hasher.hash_one(&*slot.key));
            self.found.push(Candidate { age, key: slot.key.clone() });
        }
    }
}

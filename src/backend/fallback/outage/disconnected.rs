//! Owns what is served while the server is away: the state as it is known here, and the operations that wait
//! to be done there. Knows nothing of connections and of when an outage begins or ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};
use smol_str::SmolStr;

use crate::backend::fallback::outage::absolute_actions::absolute_action;
use crate::backend::fallback::outage::leases;
use crate::backend::fallback::outage::sent::Sent;
use crate::backend::fallback::outage::touched::{Session, TouchedKey};
use crate::backend::fallback::queue::file::QueueFile;
use crate::backend::fallback::queue::group::QueuedGroup;
use crate::backend::fallback::queue::queued_at::QueuedAt;
use crate::backend::fallback::queue::replay_queue::{Capacity, Coalesced, ReplayQueue};
use crate::backend::fallback::report::counts::Counts;
use crate::backend::fallback::shadow::cache::{Shadow, Shadowed};
use crate::backend::local::change::Change;
use crate::backend::local::plan::{is_blind, plan, plan_write};
use crate::backend::local::table::shards::Table;
use crate::backend::local::view::LiveEntry;
use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::backend::redis::replay::queued_op::{InDoubt, Observed, QueuedOp};
use crate::bytes::Bytes;
use crate::clock::{Clock, Now, Ttl};
use crate::error::{Cause, Error, Result};
use crate::key::Key;
use crate::op::{Answer, EntryAction, Op, Query, Reply, Write};

/// How an outage is lived through.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutageRules {
    /// A key of which nothing is known reads as absent; otherwise it cannot be read.
    pub(crate) unknown_is_absent: bool,
    /// Nobody else writes under this prefix.
    pub(crate) exclusive: bool,
    /// After this long nothing more may wait.
    pub(crate) max_away: Option<Duration>,
}

/// One outage.
pub(crate) struct Outage {
    pub(crate) since: SystemTime,
    /// Why the server was taken to be away.
    pub(crate) cause: String,
    /// What became of what waited, as far as that is known.
    tally: Mutex<Tally>,
    begun: Instant,
    rules: OutageRules,
    clock: Arc<dyn Clock>,
    shadow: Arc<Shadow>,
    table: Table,
    state: Mutex<Session>,
    pace: Pace,
    /// How often that was halved which is done on the server in one step.
    halved: AtomicU32,
    /// Where what waits is kept as well, for a program that is killed.
    queue_file: Option<Arc<QueueFile>>,
    counts: Arc<Counts>,
}

/// How writers are slowed while what waits is done on the server. The two need not change together.
struct Pace {
    /// Above so many that wait.
    most: AtomicU64,
    /// By so many microseconds.
    pause: AtomicU64,
}

/// How many operations that waited were done, and how many were refused or met what others had written.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) replayed: u64,
    pub(crate) rejected: u64,
    pub(crate) conflicts: u64,
}

/// An action that is to wait, and where the server may have done it already, how it is asked.
pub(crate) type OpToQueue = (Key<'static>, QueuedAction, Option<InDoubt>);

impl Outage {
    /// Begins with what was seen before, and with what waits already.
    pub(crate) fn begin(
        cause: &str,
        rules: OutageRules,
        queue: ReplayQueue,
        clock: Arc<dyn Clock>,
        shadow: Arc<Shadow>,
        queue_file: Option<Arc<QueueFile>>,
        counts: Arc<Counts>,
    ) -> Self {
        let since = clock.now();
        let away = Self {
            since,
            cause: cause.to_owned(),
            tally: Mutex::default(),
            begun: Instant::now(),
            rules,
            shadow,
            table: Table::default(),
            state: Mutex::new(Session { queue, touched: HashMap::new() }),
            pace: Pace { most: AtomicU64::new(u64::MAX), pause: AtomicU64::new(0) },
            clock,
            halved: AtomicU32::new(0),
            queue_file,
            counts,
        };
        let now = away.now();
        for (key, known) in away.shadow.all() {
            if let Some(entry) = known.entry() {
                away.table.apply(&key, Change::Set(entry), &now);
            }
        }
        away.apply_restored(&now);
        away
    }

    /// Does here what waits already: a program that was started again finds what it wrote.
    fn apply_restored(&self, now: &Now<'_>) {
        let mut state = self.state.lock();
        let Session { queue, touched } = &mut *state;
        for pending in queue.iter() {
            let age = pending.queued.age();
            for op in pending.ops.iter() {
                let action = op.action.after_waiting(age);
                let touched = touched.entry(SmolStr::new(&*op.key));
                let touched = touched.or_insert(TouchedKey {
                    observed: Observed::OwnWrite,
                    known: op.observed == Observed::Absent,
                });
                touched.known |= action.replaces_all();
                let Some(action) = action.to_entry().filter(|_| !op.undoes_pop()) else { continue };
                // An action that fails on the part that is known locally may still succeed on the server.
                let key = leases::local_key(&op.key);
                if let Ok((change, _)) = self.plan(&key, action, now) {
                    self.table.apply(&key, change, now);
                }
            }
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        *self.tally.lock()
    }

    pub(crate) fn add(&self, more: Tally) {
        let mut tally = self.tally.lock();
        tally.replayed += more.replayed;
        tally.rejected += more.rejected;
        tally.conflicts += more.conflicts;
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, Session> {
        self.state.lock()
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    pub(crate) fn now(&self) -> Now<'_> {
        Now::of(&*self.clock)
    }

    pub(crate) fn is_exclusive(&self) -> bool {
        self.rules.exclusive
    }

    /// Whether a key of which nothing is known reads as absent.
    pub(crate) fn assumes_absence(&self) -> bool {
        self.rules.unknown_is_absent
    }

    /// What was known of a key before an answer on its way was lost.
    pub(crate) fn before_in_doubt(&self, key: &str, now: &Now<'_>) -> Option<Shadowed> {
        self.shadow.before_in_doubt(key, now)
    }

    fn queued_at(&self) -> QueuedAt {
        QueuedAt::now(self.clock.now())
    }

    /// Takes over what is known of a key by now, unless it was written here: an operation that was under way on
    /// the server when the outage began may have ended since.
    pub(crate) fn refresh_from_shadow(&self, key: &Key<'_>) {
        let mut state = self.state.lock();
        match state.touched.get(&**key).map(|touched| &touched.observed) {
            _ if state.queue.has(key) => return,
            // It was only read, and assumed absent; now more is known.
            Some(Observed::AssumedAbsent) => drop(state.touched.remove(&**key)),
            Some(
                Observed::Hash(_)
                | Observed::Absent
                | Observed::NotAValue
                | Observed::Nothing
                | Observed::OwnWrite
                | Observed::AnyOf(_),
            ) => return,
            None => {}
        }
        let now = self.now();
        let known = self.shadow.get(key, &now).and_then(Shadowed::entry);
        let change = known.map_or(Change::Remove, Change::Set);
        self.table.apply(key, change, &now);
    }

    pub(crate) fn get(&self, key: &Key<'_>) -> Result<Option<Bytes>> {
        match self.table.get(key, &self.now())? {
            Some(found) => Ok(Some(found)),
            None => self.check_absent(key).map(|()| None),
        }
    }

    pub(crate) fn ttl(&self, key: &Key<'_>) -> Result<Option<Ttl>> {
        match self.table.ttl(key, &self.now()) {
            Some(ttl) => Ok(Some(ttl)),
            None => self.check_absent(key).map(|()| None),
        }
    }

    pub(crate) fn ask(&self, key: &Key<'_>, query: &Query) -> Result<Answer> {
        let now = self.now();
        if self.table.ttl(key, &now).is_none() {
            self.check_absent(key)?;
        }
        self.table.ask(key, query, &now)
    }

    /// As [`Away::ask`], of a key that has to be known whole.
    pub(crate) fn ask_complete(&self, key: &Key<'_>, query: &Query) -> Result<Answer> {
        self.check_absent(key)?;
        self.table.ask(key, query, &self.now())
    }

    /// Nothing lies here under the key: tells whether that is known, or may be assumed.
    pub(crate) fn check_absent(&self, key: &Key<'_>) -> Result<()> {
        let mut state = self.state.lock();
        let touched = state.touched.get(&**key);
        let is_known = match touched {
            Some(touched) => touched.known,
            None => self.shadow.get(key, &self.now()).as_ref().is_some_and(Shadowed::is_complete),
        };
        if is_known {
            return Ok(());
        }
        if !self.rules.unknown_is_absent {
            return Err(unknown(key));
        }
        if touched.is_none() {
            state
                .touched
                .insert(SmolStr::new(&**key), TouchedKey { observed: Observed::AssumedAbsent, known: true });
        }
        Ok(())
    }

    /// Applies an operation locally and queues it for the server, or refuses it.
    pub(crate) fn apply(&self, op: &Op<'_>, sent: Sent) -> Result<Reply> {
        let Op { key, action } = op;
        let queued = QueuedAction::from_entry(action);
        if queued.is_none() {
            if !self.rules.exclusive {
                return Err(refused());
            }
            // The local entry may be only the part of it that was written in this outage.
            self.check_absent(key)?;
        }
        if matches!(action, EntryAction::Touch { .. }) && self.table.ttl(key, &self.now()).is_none() {
            self.check_absent(key)?;
        }
        let mut session = self.reserve()?;
        let now = self.now();
        let (change, reply) = self.plan(key, action.clone(), &now)?;
        let written = match queued.or_else(|| absolute_action(&change, action, &now)) {
            Some(queued) => self.queue_one(&mut session, key, queued, sent, &now)?,
            None => None,
        };
        self.table.apply(key, change, &now);
        drop(session);
        self.wait_durable(written)?;
        Ok(reply)
    }

    /// Decides what an action makes of the local entry. Nobody else changes the table while the session is locked.
    pub(crate) fn plan(&self, key: &Key<'_>, action: EntryAction, now: &Now<'_>) -> Result<(Change, Reply)> {
        if is_blind(&action) {
            return plan(key, action, &mut LiveEntry::new(key, None, now), now);
        }
        self.table.read(key, |found| plan(key, action, &mut LiveEntry::new(key, found, now), now))
    }

    /// Applies writes locally, all at once, and queues them as one.
    pub(crate) fn commit(&self, writes: &[Op<'_, Write>], sent: Sent) -> Result<()> {
        let mut session = self.reserve()?;
        let now = self.now();
        let changes =
            writes.iter().map(|op| (op.key.clone(), plan_write(op.action.clone(), &now))).collect::<Vec<_>>();
        let ops = writes.iter().map(|op| (op.key.clone().into_owned(), op.action.clone().into(), None));
        let written = self.enqueue(&mut session, ops.collect(), sent, &now)?;
        self.table.apply_all(changes, &now);
        drop(session);
        self.wait_durable(written)
    }

    /// Queues one action, and makes it one with the last action on its key if it can.
    fn queue_one(
        &self,
        session: &mut Session,
        key: &Key<'_>,
        action: QueuedAction,
        sent: Sent,
        now: &Now<'_>,
    ) -> Result<Option<u64>> {
        let action = match sent {
            Sent::InDoubt => action,
            Sent::Not => {
                let queued_at = || self.queued_at();
                match session.queue.coalesce(key, action, queued_at, self.queue_file.as_deref())? {
                    Coalesced::Yes { written } => {
                        self.counts.queued.fetch_add(1, Ordering::Relaxed);
                        return Ok(written);
                    }
                    Coalesced::No(action) => action,
                }
            }
        };
        self.enqueue(session, vec![(key.clone().into_owned(), action, None)], sent, now)
    }

    /// Queues actions as one group, after writing them to the queue's file if there is one. Returns what
    /// [`wait_durable`](Self::wait_durable) must wait for.
    pub(crate) fn enqueue(
        &self,
        session: &mut Session,
        actions: Vec<OpToQueue>,
        sent: Sent,
        now: &Now<'_>,
    ) -> Result<Option<u64>> {
        if actions.is_empty() {
            return Ok(None);
        }
        let count = actions.len() as u64;
        let mut before = Vec::new();
        if self.queue_file.is_some() {
            let keys = actions.iter().map(|(key, ..)| SmolStr::new(&**key));
            before.extend(keys.map(|key| (session.touched.get(&key).cloned(), key)));
        }
        let ops = actions.into_iter().map(|(key, action, in_doubt)| {
            let observed = session.observe_before_write(&key, &action, sent, &self.shadow, now);
            QueuedOp { key, action, observed, in_doubt }
        });
        let group = QueuedGroup::new(ops.collect(), self.queued_at());
        let written = self.persist(session.queue.next(), &group).inspect_err(|_| {
            // Nothing is queued after all. Of several actions on one key the first one comes last, and counts.
            for (touched, key) in before.into_iter().rev() {
                match touched {
                    Some(touched) => drop(session.touched.insert(key, touched)),
                    None => drop(session.touched.remove(&key)),
                }
            }
        })?;
        session.queue.add(group);
        self.counts.queued.fetch_add(count, Ordering::Relaxed);
        Ok(written)
    }

    fn persist(&self, number: u64, pending: &QueuedGroup) -> Result<Option<u64>> {
        self.queue_file.as_ref().map(|journal| journal.persist(number, pending)).transpose()
    }

    /// Takes out of what may have been done there the operations that must not be done twice.
    pub(crate) fn take_in_doubt(&self) -> Vec<QueuedOp> {
        let mut state = self.state.lock();
        let doubtful = state.queue.take_in_doubt();
        let kept = state
            .queue
            .sent_groups()
            .try_for_each(|(number, pending)| self.persist(number, pending).map(drop));
        if let Err(error) = kept {
            log::warn!("what must not be done twice could not be taken out of the queue's files: {error}");
        }
        doubtful
    }

    /// Returns once what was entered is as durable as it has to be. No lock is held meanwhile: threads wait
    /// together.
    pub(crate) fn wait_durable(&self, written: Option<u64>) -> Result<()> {
        match (&self.queue_file, written) {
            (Some(journal), Some(written)) => journal.wait_durable(written),
            _ => Ok(()),
        }
    }

    /// Slows writers by this much while more than `most` wait.
    pub(crate) fn throttle(&self, most: u64, pause: Duration) {
        let micros = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        self.pace.pause.store(micros, Ordering::Relaxed);
        self.pace.most.store(most, Ordering::Relaxed);
    }

    /// How often that is to be halved which is done on the server in one step.
    pub(crate) fn halved(&self) -> u32 {
        self.halved.load(Ordering::Relaxed)
    }

    /// Notes how often: more where a step took too long, less where it was quick.
    pub(crate) fn shrink_chunk(&self, times: u32) {
        self.halved.store(times, Ordering::Relaxed);
    }

    /// Slows writers no longer.
    pub(crate) fn unthrottle(&self) {
        self.pace.most.store(u64::MAX, Ordering::Relaxed);
    }

    /// Waits where the queue is filling up, or is not emptied fast enough; refuses where it is full, or the
    /// server is away for too long.
    pub(crate) fn reserve(&self) -> Result<MutexGuard<'_, Session>> {
        if self.rules.max_away.is_some_and(|most| self.begun.elapsed() > most) {
            return Err(too_long());
        }
        let mut has_waited = false;
        loop {
            let state = self.state.lock();
            let pause = match state.queue.capacity() {
                Capacity::Full => return Err(full(&state.queue)),
                Capacity::Scarce(pause) => pause,
                Capacity::Plenty => Duration::ZERO,
            };
            let pause = match state.queue.len() > self.pace.most.load(Ordering::Relaxed) {
                true => pause.max(Duration::from_micros(self.pace.pause.load(Ordering::Relaxed))),
                false => pause,
            };
            if has_waited || pause.is_zero() {
                return Ok(state);
            }
            drop(state);
            thread::sleep(pause);
            has_waited = true;
        }
    }
}

fn unavailable(cause: impl Into<Cause>) -> Error {
    Error::Unavailable { maybe_applied: false, source: cause.into() }
}

fn unknown(key: &Key<'_>) -> Error {
    unavailable(format!("the server is away, and this process has not seen the key {:?}", &**key))
}

pub(crate) fn refused() -> Error {
    unavailable("the server is away, and the answer depends on what others may have changed there")
}

fn too_long() -> Error {
    unavailable("the server is away for longer than max_away, and no more operations can wait for it")
}

fn full(queue: &ReplayQueue) -> Error {
    let (operations, bytes) = (queue.len(), queue.bytes());
    let source = format!(
        "the server is away, and no more operations can wait for it: {operations} of {bytes} bytes do (see max_pending \
         and max_pending_bytes)"
    );
    unavailable(source)
}

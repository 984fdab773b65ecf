//! Owns what is served during one outage: the local state, and the operations that are queued for the server.
//! Knows nothing of connections, nor of when an outage begins or ends.

use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Mutex, MutexGuard};

use crate::backend::fallback::granted_leases::GrantedLeases;
use crate::backend::fallback::outage::absolute_actions::absolute_action;
use crate::backend::fallback::outage::knowledge::{Knowledge, Needs};
use crate::backend::fallback::outage::pace::Pace;
use crate::backend::fallback::outage::refusal::{outage_too_long, queue_full, refused, unknown_key};
use crate::backend::fallback::outage::rules::OutageRules;
use crate::backend::fallback::outage::sent::Sent;
use crate::backend::fallback::outage::session::{Queued, Session};
use crate::backend::fallback::queue::file::QueueFile;
use crate::backend::fallback::queue::group::OpToQueue;
use crate::backend::fallback::queue::queued_at::QueuedAt;
use crate::backend::fallback::queue::replay_queue::{Capacity, ReplayQueue};
use crate::backend::fallback::report::counts::{Counts, Tally};
use crate::backend::fallback::shadow::cache::{Shadow, Shadowed};
use crate::backend::local::change::Change;
use crate::backend::local::plan::plan_write;
use crate::backend::local::table::shards::Table;
use crate::backend::redis::replay::kept_outcome::KeptOutcome;
use crate::backend::redis::replay::observed::Observed;
use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::bytes::Bytes;
use crate::clock::{Clock, Now, Ttl};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{Answer, EntryAction, Op, Query, Reply, Write};
use crate::util::log_later::log_later;

/// One outage.
pub(crate) struct Outage {
    pub(crate) since: SystemTime,
    /// Why the server was taken to be unreachable.
    pub(crate) cause: String,
    /// How log lines name the server.
    server: Arc<str>,
    pub(crate) begun: Instant,
    rules: OutageRules,
    clock: Arc<dyn Clock>,
    shadow: Arc<Shadow>,
    pub(crate) granted_leases: Arc<GrantedLeases>,
    knowledge: Arc<Knowledge>,
    session: Mutex<Session>,
    pub(crate) pace: Pace,
    /// What the replay has done so far.
    tally: Mutex<Tally>,
    /// Why the queue will never be replayed, if the server has shown that its files are a copy.
    stale_queue: OnceLock<String>,
}

/// What an outage has in common with the store.
pub(crate) struct OutageContext {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shadow: Arc<Shadow>,
    pub(crate) granted_leases: Arc<GrantedLeases>,
    pub(crate) queue_file: Option<Arc<QueueFile>>,
    pub(crate) counts: Arc<Counts>,
    /// How log lines name the server.
    pub(crate) server: Arc<str>,
}

impl Outage {
    /// Begins an outage with the values in the shadow, and with the operations that are queued already.
    pub(crate) fn begin(cause: &str, rules: OutageRules, queue: ReplayQueue, context: OutageContext) -> Self {
        let OutageContext { clock, shadow, granted_leases, queue_file, counts, server } = context;
        let knowledge = Arc::new(Knowledge::new(Arc::clone(&shadow)));
        let outage = Self {
            since: clock.now(),
            cause: cause.to_owned(),
            begun: Instant::now(),
            rules,
            session: Mutex::new(Session::new(
                queue,
                queue_file,
                counts,
                Arc::clone(&knowledge),
                Arc::clone(&server),
            )),
            server,
            knowledge,
            pace: Pace::default(),
            tally: Mutex::default(),
            stale_queue: OnceLock::new(),
            shadow,
            granted_leases,
            clock,
        };
        let now = outage.now();
        for (key, shadowed) in outage.shadow.all() {
            if let Some(entry) = shadowed.entry() {
                outage.table().apply(&key, Change::Set(entry), &now);
            }
        }
        outage.apply_restored(&now);
        outage
    }

    pub(crate) fn tally(&self) -> Tally {
        *self.tally.lock()
    }

    pub(crate) fn add_to_tally(&self, more: Tally) {
        self.tally.lock().add(more);
    }

    /// Returns why the queue will never be replayed, if that is known. Then nothing more may be served.
    pub(crate) fn stale_queue(&self) -> Option<&str> {
        self.stale_queue.get().map(String::as_str)
    }

    /// Notes that the queue will never be replayed. Returns whether that was not known before.
    pub(crate) fn note_stale_queue(&self, cause: &str) -> bool {
        self.stale_queue.set(cause.to_owned()).is_ok()
    }

    pub(crate) fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock()
    }

    /// Returns how long the outage has lasted.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(crate) fn table(&self) -> &Table {
        &self.knowledge.table
    }

    pub(crate) fn now(&self) -> Now<'_> {
        Now::of(&*self.clock)
    }

    pub(crate) fn queued_at(&self) -> QueuedAt {
        QueuedAt::now(self.clock.now())
    }

    pub(crate) fn is_exclusive(&self) -> bool {
        self.rules.exclusive
    }

    /// Returns whether a key of which nothing is known reads as absent.
    pub(crate) fn unknown_is_absent(&self) -> bool {
        self.rules.unknown_is_absent
    }

    /// Takes over what the shadow holds of a key, unless the key was written locally: an operation that was under way
    /// on the server when the outage began may have ended since.
    pub(crate) fn refresh_from_shadow(&self, key: &Key<'_>) {
        let session = self.session();
        if session.queue.has(key) {
            return;
        }
        match self.knowledge.observed(key) {
            // The key was only read, and assumed to be absent; now more is known.
            Some(Observed::AssumedAbsent) => self.knowledge.forget(key),
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
        let entry = self.shadow.get(key, &now).and_then(Shadowed::entry);
        self.table().apply(key, entry.map_or(Change::Remove, Change::Set), &now);
    }

    /// Sets a key that is absent locally to what was known of it before a write in doubt.
    pub(crate) fn restore_before_in_doubt(&self, key: &Key<'_>, now: &Now<'_>) {
        if self.table().ttl(key, now).is_some() {
            return;
        }
        match self.shadow.before_in_doubt(key, now) {
            Some(Shadowed::Absent) => self.knowledge.note_absent(key, now),
            before => {
                if let Some(entry) = before.and_then(Shadowed::entry) {
                    self.table().apply(key, Change::Set(entry), now);
                }
            }
        }
    }

    pub(crate) fn get(&self, key: &Key<'_>) -> Result<Option<Bytes>> {
        let now = self.now();
        self.read(key, Needs::Entry, &now, |table| table.get(key, &now))?
    }

    pub(crate) fn ttl(&self, key: &Key<'_>) -> Result<Option<Ttl>> {
        let now = self.now();
        self.read(key, Needs::Entry, &now, |table| table.ttl(key, &now))
    }

    pub(crate) fn ask(&self, key: &Key<'_>, query: &Query) -> Result<Answer> {
        let now = self.now();
        if let Query::Lease { id, .. } = query {
            return self.ask_lease(id, &self.session(), || self.table().ask(key, query, &now));
        }
        self.read(key, Needs::of(query), &now, |table| table.ask(key, query, &now))?
    }

    /// Reads what is known of a key. A key that is not known is assumed to be absent, or cannot be read. The assumption
    /// is noted, since the replay must not overwrite a value that disproves it.
    fn read<R>(
        &self,
        key: &Key<'_>,
        needs: Needs<'_>,
        now: &Now<'_>,
        read: impl Fn(&Table) -> R,
    ) -> Result<R> {
        let unknown_is_absent = self.rules.unknown_is_absent;
        loop {
            if let Some(known) = self.knowledge.read(key, needs, unknown_is_absent, now, &read) {
                return Ok(known);
            }
            if !unknown_is_absent {
                return Err(unknown_key(key));
            }
            if self.knowledge.note_assumed_absent(key) {
                log_later!(
                    Info,
                    "Redis {}: more unknown keys were read during the outage than shadow_bytes has room to note: a put \
                     to a key of which nothing is known is applied only if the server has no such key",
                    self.server
                );
            }
        }
    }

    /// Returns `Ok` if what is needed of a key is known, or if an unknown key is assumed to be absent.
    pub(crate) fn check_known(&self, key: &Key<'_>, needs: Needs<'_>) -> Result<()> {
        self.read(key, needs, &self.now(), |_| ())
    }

    /// Fails if a write to a key is in doubt, and nothing has made the whole entry known since. Such a key must not be
    /// assumed absent where a decision depends on it.
    pub(crate) fn check_not_in_doubt(&self, key: &Key<'_>) -> Result<()> {
        if self.shadow.has_in_doubt(key) && !self.knowledge.is_whole(key) {
            return Err(unknown_key(key));
        }
        Ok(())
    }

    /// Returns whether only a part of what the key holds is known, and what is not known does not count as absent.
    pub(crate) fn is_partial(&self, key: &Key<'_>) -> bool {
        !self.rules.unknown_is_absent && self.knowledge.is_partial(key)
    }

    /// Applies an operation locally and queues it for the server, or refuses it.
    pub(crate) fn apply(&self, op: &Op<'_>, sent: Sent) -> Result<Reply> {
        let Op { key, action } = op;
        let queued = QueuedAction::from_entry(action);
        if queued.is_none() && !self.rules.exclusive {
            return Err(refused());
        }
        // These reply with the value; the other actions that are not queued decide on what the key holds.
        let reads = matches!(action, EntryAction::Touch { .. } | EntryAction::Renew { .. });
        if queued.is_none() || reads {
            self.check_known(key, Needs::Entry)?;
        }
        let mut session = self.reserve()?;
        let now = self.now();
        let planned = self.table().plan(key, action.clone(), &now);
        let (change, reply) = planned.map_err(|error| self.unless_unknown(error, key, action))?;
        // A read that found nothing has nothing to renew. Whether a value has a deadline is known on the server alone.
        let queued = queued.filter(|_| !reads || reply != Reply::Found(None));
        let queued = match queued.or_else(|| absolute_action(&change, action, &now)) {
            Some(action) => session.queue_one(key, action, sent, &now, || self.queued_at())?,
            None => Queued::NOTHING,
        };
        self.table().apply(key, change, &now);
        Session::complete(session, queued)?;
        Ok(reply)
    }

    /// Returns the error of an action. That a counter leaves its range is certain only if its value is known.
    fn unless_unknown(&self, error: Error, key: &Key<'_>, action: &EntryAction) -> Error {
        if !matches!(error, Error::Overflow { .. }) {
            return error;
        }
        let needs = if let EntryAction::MapIncr { field, .. } = action {
            Needs::Fields(std::slice::from_ref(field))
        } else {
            Needs::Entry
        };
        self.check_known(key, needs).err().unwrap_or(error)
    }

    /// Applies writes locally, all at once, and queues them as one group.
    pub(crate) fn commit(&self, writes: &[Op<'_, Write>], sent: Sent) -> Result<()> {
        let mut session = self.reserve()?;
        let now = self.now();
        let changes: Vec<_> =
            writes.iter().map(|op| (op.key.clone(), plan_write(op.action.clone(), &now))).collect();
        let ops = writes.iter().map(|op| OpToQueue::new(&op.key, op.action.clone().into()));
        let queued = session.enqueue(ops.collect(), sent, &now, self.queued_at())?;
        self.table().apply_all(changes, &now);
        Session::complete(session, queued)
    }

    /// Removes from the queue the operations that the server may have done and that must not be done twice. Calls
    /// `report` with them.
    pub(crate) fn take_in_doubt(&self, report: impl FnOnce(&[KeptOutcome])) {
        self.session().take_in_doubt(self.since, report);
    }

    /// Locks the session for a write. Slows the writer if the queue fills up, or is not emptied fast enough; refuses
    /// it if the queue is full, or the outage is too long.
    pub(crate) fn reserve(&self) -> Result<MutexGuard<'_, Session>> {
        if self.rules.max_outage.is_some_and(|longest| self.elapsed() > longest) {
            return Err(outage_too_long());
        }
        let mut has_waited = false;
        loop {
            let session = self.session();
            let pause = match session.queue.capacity() {
                Capacity::Full => return Err(queue_full(&session.queue)),
                Capacity::Scarce(pause) => pause,
                Capacity::Plenty => Duration::ZERO,
            };
            let pause = pause.max(self.pace.writer_pause(session.queue.len()));
            if has_waited || pause.is_zero() {
                return Ok(session);
            }
            drop(session);
            thread::sleep(pause);
            has_waited = true;
        }
    }
}

//! Owns what is served while the server is away: the state as it is known here, and the operations that wait
//! to be done there. Knows nothing of connections and of when an outage begins or ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Mutex, MutexGuard};
use smol_str::SmolStr;

use super::queue::{Bounds, Queue, Room, Stamp};
use super::shadow::{Known, Shadow};
use crate::backend::local::change::{Change, Content, Entry};
use crate::backend::local::found::Here;
use crate::backend::local::plan::{plan, plan_write};
use crate::backend::local::table::Table;
use crate::bytes::Bytes;
use crate::clock::{Clock, Now, Ttl};
use crate::deferred::{Deferred, Seen};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{Action, Offline, Op, Reply};
use crate::query::{Answer, Query};
use crate::value::Value;

/// How an outage is lived through.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// A key of which nothing is known reads as absent; otherwise it cannot be read.
    pub(super) unknown_is_absent: bool,
    /// Nobody else writes under this prefix.
    pub(super) exclusive: bool,
    pub(super) bounds: Bounds,
    /// After this long nothing more may wait.
    pub(super) max_away: Option<Duration>,
}

/// One outage.
pub(super) struct Away {
    pub(super) since: SystemTime,
    begun: Instant,
    rules: Rules,
    clock: Arc<dyn Clock>,
    shadow: Arc<Shadow>,
    table: Table,
    state: Mutex<State>,
    pace: Mutex<Pace>,
}

/// How writers are slowed while what waits is done on the server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Above so many that wait.
    pub(super) most: u64,
    pub(super) pause: Duration,
}

impl Pace {
    pub(super) const FREE: Self = Self { most: u64::MAX, pause: Duration::ZERO };
}

/// What changes together with the table.
pub(super) struct State {
    pub(super) queue: Queue,
    /// The keys that were written or assumed absent here.
    touched: HashMap<SmolStr, Touched>,
}

/// What is known of a key that was written or assumed absent here.
struct Touched {
    /// What the next write to it finds there, as far as this process knows.
    seen: Seen,
    /// Whether all of it is known: it was before, or all of it was written here.
    known: bool,
}

impl Away {
    /// Begins with what was seen before, and with numbers behind `done`.
    pub(super) fn begin(rules: Rules, done: u64, clock: Arc<dyn Clock>, shadow: Arc<Shadow>) -> Self {
        let since = clock.now();
        let away = Self {
            since,
            begun: Instant::now(),
            rules,
            shadow,
            table: Table::new(),
            state: Mutex::new(State { queue: Queue::new(rules.bounds, done), touched: HashMap::new() }),
            pace: Mutex::new(Pace::FREE),
            clock,
        };
        let now = away.now();
        for (key, known) in away.shadow.all() {
            if let Known::Value { bytes, deadline } = known {
                // Whose text it is does not matter: nothing is written down.
                let entry = Entry::value(Value::raw(&bytes), deadline);
                away.table.apply(&key, Change::Set(entry), &now);
            }
        }
        away
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    pub(super) fn now(&self) -> Now<'_> {
        Now::of(&*self.clock)
    }

    pub(super) fn is_exclusive(&self) -> bool {
        self.rules.exclusive
    }

    pub(super) fn see(&self, state: &mut State, key: &str, action: &Action, now: &Now<'_>) -> Seen {
        state.see(key, action, false, &self.shadow, now)
    }

    pub(super) fn stamp(&self) -> Stamp {
        Stamp::now(self.clock.now())
    }

    /// Takes over what is known of a key by now, unless it was written here: an operation that was under way on
    /// the server when the outage began may have ended since.
    pub(super) fn learn(&self, key: &Key<'_>) {
        let mut state = self.state.lock();
        match state.touched.get(&**key).map(|touched| &touched.seen) {
            _ if state.queue.has(key) => return,
            // It was only read, and assumed absent; now more is known.
            Some(Seen::Assumed) => drop(state.touched.remove(&**key)),
            Some(Seen::Value(_) | Seen::Absent | Seen::Unknown | Seen::Own | Seen::Either(_)) => return,
            None => {}
        }
        let now = self.now();
        let change = match self.shadow.get(key, &now) {
            Some(Known::Value { bytes, deadline }) => Change::Set(Entry::value(Value::raw(&bytes), deadline)),
            Some(Known::Absent) | None => Change::Remove,
        };
        self.table.apply(key, change, &now);
    }

    pub(super) fn get(&self, key: &Key<'_>) -> Result<Option<Bytes>> {
        match self.table.get(key, &self.now())? {
            Some(found) => Ok(Some(found)),
            None => self.absent(key).map(|()| None),
        }
    }

    pub(super) fn ttl(&self, key: &Key<'_>) -> Result<Option<Ttl>> {
        match self.table.ttl(key, &self.now()) {
            Some(ttl) => Ok(Some(ttl)),
            None => self.absent(key).map(|()| None),
        }
    }

    pub(super) fn ask(&self, key: &Key<'_>, query: &Query) -> Result<Answer> {
        let now = self.now();
        if self.table.ttl(key, &now).is_none() {
            self.absent(key)?;
        }
        self.table.ask(key, query, &now)
    }

    /// As [`Away::ask`], of a key that has to be known whole.
    pub(super) fn ask_whole(&self, key: &Key<'_>, query: &Query) -> Result<Answer> {
        self.absent(key)?;
        self.table.ask(key, query, &self.now())
    }

    /// Nothing lies here under the key: tells whether that is known, or may be assumed.
    fn absent(&self, key: &Key<'_>) -> Result<()> {
        let mut state = self.state.lock();
        let touched = state.touched.get(&**key);
        let is_known = match touched {
            Some(touched) => touched.known,
            None => self.shadow.get(key, &self.now()).is_some(),
        };
        if is_known {
            return Ok(());
        }
        if !self.rules.unknown_is_absent {
            return Err(unknown());
        }
        if touched.is_none() {
            state.touched.insert(SmolStr::new(&**key), Touched { seen: Seen::Assumed, known: true });
        }
        Ok(())
    }

    /// Does an operation here and lets it wait to be done there, or refuses it.
    ///
    /// `lost`: it may have been done there already.
    pub(super) fn apply(&self, op: Op<'_>, lost: bool) -> Result<Reply> {
        let Op { key, action } = op;
        let as_fact = match action.offline() {
            Offline::Queued | Offline::Estimated => false,
            Offline::Exclusive if self.rules.exclusive => {
                // What lies here may be but the part of it that was written here.
                self.absent(&key)?;
                true
            }
            Offline::Exclusive | Offline::Refused => return Err(refused()),
        };
        if matches!(action, Action::Touch { .. }) && self.table.ttl(&key, &self.now()).is_none() {
            self.absent(&key)?;
        }
        let mut state = self.admit()?;
        let now = self.now();
        let mut fact = None;
        let reply = self.table.commit(&key, &now, |found| {
            let (change, reply) = plan(&key, action.clone(), &mut Here::new(&key, found, &now), &now)?;
            if as_fact {
                fact = self::fact(&change, &action, &now);
            }
            Ok((change, reply))
        })?;
        let action = if as_fact { fact } else { Some(action) };
        if let Some(action) = action {
            let seen = state.see(&key, &action, lost, &self.shadow, &now);
            let op = Deferred { key: key.into_owned(), action, seen };
            state.queue.push(op, self.stamp());
        }
        Ok(reply)
    }

    /// Makes puts and deletes all at once.
    pub(super) fn commit(&self, writes: Vec<Op<'_>>, lost: bool) -> Result<()> {
        let mut state = self.admit()?;
        let now = self.now();
        let changes = writes
            .iter()
            .map(|op| plan_write(op.action.clone(), &now).map(|change| (op.key.clone(), change)))
            .collect::<Result<Vec<_>>>()?;
        self.table.apply_all(changes, &now);
        let deferred = writes.into_iter().map(|Op { key, action }| {
            let seen = state.see(&key, &action, lost, &self.shadow, &now);
            Deferred { key: key.into_owned(), action, seen }
        });
        let deferred = deferred.collect();
        state.queue.push_all(deferred, self.stamp());
        Ok(())
    }

    /// Slows writers, or no longer.
    pub(super) fn pace(&self, pace: Pace) {
        *self.pace.lock() = pace;
    }

    /// Waits where the queue is filling up, or is not emptied fast enough; refuses where it is full, or the
    /// server is away for too long.
    pub(super) fn admit(&self) -> Result<MutexGuard<'_, State>> {
        if self.rules.max_away.is_some_and(|most| self.begun.elapsed() > most) {
            return Err(too_long());
        }
        let mut has_waited = false;
        loop {
            let state = self.state.lock();
            let pause = match state.queue.room() {
                Room::None => return Err(full()),
                Room::Scarce(pause) => pause,
                Room::Plenty => Duration::ZERO,
            };
            let pace = *self.pace.lock();
            let pause = if state.queue.len() > pace.most { pause.max(pace.pause) } else { pause };
            if has_waited || pause.is_zero() {
                return Ok(state);
            }
            drop(state);
            thread::sleep(pause);
            has_waited = true;
        }
    }
}

impl State {
    /// What was seen of a key before the operation that is queued now. The next one finds there what this one
    /// leaves, however soon this one is done.
    fn see(&mut self, key: &str, action: &Action, lost: bool, shadow: &Shadow, now: &Now<'_>) -> Seen {
        let touched = self.touched.entry(SmolStr::new(key)).or_insert_with(|| {
            let (before, is_sure) = shadow.before(key, now);
            let known = is_sure && before.is_some();
            let seen = match before {
                Some(Known::Value { bytes, .. }) => {
                    Seen::Value(sha1_smol::Sha1::from(&*bytes).digest().bytes())
                }
                Some(Known::Absent) => Seen::Absent,
                None => Seen::Unknown,
            };
            Touched { seen, known }
        });
        touched.known |= matches!(action, Action::Put { .. } | Action::Delete);
        let seen = std::mem::replace(&mut touched.seen, Seen::Own);
        match (lost, &seen) {
            (false, _) => seen,
            (true, Seen::Own) => {
                // Several were on their way: any of them may lie there.
                if let Some(first) = self.queue.next_on(key) {
                    first.seen = std::mem::replace(&mut first.seen, Seen::Own).or_done(action);
                }
                seen
            }
            (true, _) => seen.or_done(action),
        }
    }

    /// Notes that a write was dropped because of what somebody else had written: the next one to the key
    /// does not find there what that one would have left.
    pub(super) fn note_dropped(&mut self, key: &str) {
        if let Some(next) = self.queue.next_on(key) {
            if next.seen == Seen::Own {
                next.seen = Seen::Assumed;
            }
        } else if let Some(touched) = self.touched.get_mut(key) {
            touched.seen = Seen::Assumed;
        }
    }
}

/// The action that makes true on the server what a change made true here.
fn fact(change: &Change, action: &Action, now: &Now<'_>) -> Option<Action> {
    match change {
        Change::Nothing => None,
        Change::Set(Entry { content: Content::Value(value), deadline }) => {
            let ttl = deadline.and_then(|deadline| deadline.ttl(now));
            Some(Action::Put { value: value.clone(), ttl })
        }
        Change::Remove if action.kind() == crate::error::Kind::Value => Some(Action::Delete),
        // What is done to a part of a map or a queue is as true there as it is here.
        Change::Set(_)
        | Change::Remove
        | Change::SetDeadline(_)
        | Change::SetFields(_)
        | Change::RemoveField(_)
        | Change::SetItems { .. }
        | Change::DropBefore(_)
        | Change::DropFrom(_) => Some(action.clone()),
    }
}

fn unavailable(cause: &'static str) -> Error {
    Error::Unavailable { maybe_applied: false, source: cause.into() }
}

fn unknown() -> Error {
    unavailable("the server is away, and this process has not seen the key")
}

pub(super) fn refused() -> Error {
    unavailable("the server is away, and the answer depends on what others may have changed there")
}

fn too_long() -> Error {
    unavailable("the server is away for longer than max_away, and no more operations can wait for it")
}

fn full() -> Error {
    unavailable("the server is away, and no more operations can wait for it")
}

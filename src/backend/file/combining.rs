//! Owns how operations of threads that meet at the journal are written together. Knows nothing of what a line
//! looks like.
//!
//! Whoever has the journal does what those ask who wait for it: one line, and one call to the operating system, for
//! all of them. That is flat combining (Hendler, Incze, Shavit and Tzafrir, "Flat Combining and the
//! Synchronization-Parallelism Tradeoff", SPAA 2010). Where each of them waits for a sync anyway it is left out:
//! they share the sync.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::journal::Journal;
use super::{Changes, Core, rest};
use crate::backend::local::change::{Change, Entry};
use crate::backend::local::found::Here;
use crate::backend::local::plan::{is_blind, plan};
use crate::backend::local::table::Table;
use crate::clock::Now;
use crate::config::SyncPolicy;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{Action, Op, Reply};

/// How often a thread looks whether its operation is done, and lets others run, before it sleeps.
const LOOKS: usize = 50;

/// Operations that wait for whoever has the journal, in the order in which they came.
#[derive(Default)]
pub(super) struct Combiner {
    asked: Mutex<Vec<Arc<Asked>>>,
    /// Whether there are any.
    any: AtomicBool,
}

/// One operation, which a thread waits for.
struct Asked {
    state: Mutex<State>,
    done: AtomicBool,
}

enum State {
    Waits(Op<'static>),
    /// Somebody carries it out. Where nobody has the journal any more, whoever did is gone.
    Taken,
    Done(Result<Reply>),
}

impl Combiner {
    fn ask(&self, op: Op<'static>) -> Arc<Asked> {
        let asked = Arc::new(Asked { state: Mutex::new(State::Waits(op)), done: AtomicBool::new(false) });
        let mut all = self.asked.lock();
        all.push(Arc::clone(&asked));
        self.any.store(true, Ordering::Release);
        asked
    }

    fn take(&self) -> Vec<Arc<Asked>> {
        let mut all = self.asked.lock();
        self.any.store(false, Ordering::Release);
        mem::take(&mut *all)
    }
}

impl Asked {
    fn take(&self) -> Option<Op<'static>> {
        match mem::replace(&mut *self.state.lock(), State::Taken) {
            State::Waits(op) => Some(op),
            State::Taken | State::Done(_) => None,
        }
    }

    fn answer(&self, outcome: Result<Reply>) {
        *self.state.lock() = State::Done(outcome);
        self.done.store(true, Ordering::Release);
    }

    fn outcome(&self) -> Option<Result<Reply>> {
        if !self.done.load(Ordering::Acquire) {
            return None;
        }
        match mem::replace(&mut *self.state.lock(), State::Taken) {
            State::Done(outcome) => Some(outcome),
            State::Waits(_) | State::Taken => None,
        }
    }
}

/// Changes of several operations that make up one line, and whom to answer what once they are made.
#[derive(Default)]
struct Together {
    changes: Vec<(Key<'static>, Change)>,
    replies: Vec<(Arc<Asked>, Reply)>,
}

impl Core {
    /// Carries out an operation on one entry.
    pub(super) fn apply(self: &Arc<Self>, op: Op<'_>) -> Result<Reply> {
        let combines = match self.sync {
            SyncPolicy::Always => false,
            SyncPolicy::Every(_) | SyncPolicy::Never => true,
        };
        if combines && (self.journal.is_locked() || self.combiner.any.load(Ordering::Acquire)) {
            return self.apply_together(op);
        }
        self.commit(|table, now| {
            let (change, reply) = decide(&op.key, op.action, table, now)?;
            Ok((Changes::One([(op.key, change)]), reply))
        })
    }

    /// Leaves an operation to whoever has the journal, or does it with all the others that wait.
    fn apply_together(self: &Arc<Self>, op: Op<'_>) -> Result<Reply> {
        let asked = self.combiner.ask(Op { key: op.key.into_owned(), action: op.action });
        for _ in 0..LOOKS {
            if let Some(outcome) = asked.outcome() {
                return outcome;
            }
            match self.journal.try_lock().filter(|_| !self.compactor.is_pacing()) {
                Some(mut journal) => {
                    let pause = self.combine(&mut journal);
                    drop(journal);
                    rest(pause);
                }
                None => thread::yield_now(),
            }
        }
        let mut journal = self.lock();
        let pause = self.combine(&mut journal);
        drop(journal);
        rest(pause);
        // It is answered, unless another thread was torn out of its midst: what it made of this nobody knows.
        asked.outcome().unwrap_or_else(|| Err(Error::Poisoned { path: self.layout.dir.clone() }))
    }

    /// Carries out all that others ask for, and tells for how long the writer rests then.
    fn combine(self: &Arc<Self>, journal: &mut Journal) -> Duration {
        let now = Now::of(&self.clock);
        let mut together = Together::default();
        let mut pause = Duration::ZERO;
        for asked in self.combiner.take() {
            let Some(Op { key, action }) = asked.take() else { continue };
            // What has to see the one before waits until that is made.
            if !is_blind(&action) && together.changes.iter().any(|(other, _)| *other == key) {
                pause = pause.max(self.make(journal, mem::take(&mut together), &now));
            }
            match self.check_open(journal).and_then(|()| decide(&key, action, &self.table, &now)) {
                Ok((change, reply)) => {
                    together.changes.push((key, change));
                    together.replies.push((asked, reply));
                }
                Err(error) => asked.answer(Err(error)),
            }
        }
        pause.max(self.make(journal, together, &now))
    }

    /// Makes changes, all in one line or, where that cannot be written, each in its own, and answers who asked for
    /// them. Tells for how long the writer rests then.
    fn make(self: &Arc<Self>, journal: &mut Journal, together: Together, now: &Now<'_>) -> Duration {
        let Together { changes, replies } = together;
        let line = self.check_open(journal).and_then(|()| self.log(journal, &changes, now));
        let mut all = changes.into_iter().zip(replies);
        match line {
            Ok(line) => {
                let mut freed = 0;
                for ((key, change), (asked, reply)) in all {
                    freed += self.publish_one(&key, change, now);
                    asked.answer(Ok(reply));
                }
                line.map_or(Duration::ZERO, |written| self.look(journal, written, freed))
            }
            Err(error) if all.len() == 1 => {
                if let Some((_, (asked, _))) = all.next() {
                    asked.answer(Err(error));
                }
                Duration::ZERO
            }
            // There may be room for some of them.
            Err(_) => all.fold(Duration::ZERO, |pause, (change, reply)| {
                let alone = Together { changes: vec![change], replies: vec![reply] };
                pause.max(self.make(journal, alone, now))
            }),
        }
    }
}

/// Decides what an operation on one entry makes of a table.
fn decide(key: &Key<'_>, action: Action, table: &Table, now: &Now<'_>) -> Result<(Change, Reply)> {
    let blind = is_blind(&action);
    let plan = |found: Option<&Entry>| plan(key, action, &mut Here::new(key, found, now), now);
    match blind {
        true => plan(None),
        false => table.read(key, plan),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::super::File;
    use super::super::tests::{faulty, key, open};
    use super::*;
    use crate::backend::Backend as _;
    use crate::bytes::Bytes;
    use crate::op::End;
    use crate::value::Value;

    fn put(name: &str, json: &[u8]) -> Op<'static> {
        Op { key: key(name), action: Action::Put { value: Value::json(json), ttl: None } }
    }

    fn incr(name: &str) -> Op<'static> {
        Op { key: key(name), action: Action::Incr { by: 1, birth_ttl: None } }
    }

    /// Lets threads ask for operations, one after another, while the journal is somebody else's, and tells their
    /// outcomes, in that order.
    fn together(
        store: &File,
        ops: Vec<Op<'static>>,
        meanwhile: impl FnOnce(&mut Journal),
    ) -> Vec<Result<Reply>> {
        let mut journal = store.core.journal.lock();
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for op in ops {
                threads.push(scope.spawn(|| store.apply(op)));
                while store.core.combiner.asked.lock().len() < threads.len() {
                    thread::yield_now();
                }
            }
            meanwhile(&mut journal);
            drop(journal);
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    fn values(store: &File, names: &[&str]) -> Vec<Option<Bytes>> {
        names.iter().map(|name| store.get(&key(name)).unwrap()).collect()
    }

    #[test]
    fn what_waits_for_the_journal_is_one_line_unless_one_has_to_see_another() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), SyncPolicy::Never);
        let push = Action::Push { end: End::Back, values: vec![Value::integer(1)], birth_ttl: None };
        let ops =
            vec![put("a", b"1"), put("b", b"\"x\""), incr("n"), Op { key: key("q"), action: push.clone() }];
        let outcomes: Vec<_> = together(&store, ops, |_| ()).into_iter().map(Result::unwrap).collect();
        assert_eq!(outcomes, [Reply::Done, Reply::Done, Reply::Number(1), Reply::Number(1)]);
        assert_eq!(store.core.journal.lock().sequence, 1);

        let ops = vec![put("a", b"7"), put("a", b"8"), incr("a"), incr("b"), incr("a"), incr("n")];
        let outcomes = together(&store, ops, |_| ());
        assert!(
            matches!(
                outcomes[..],
                [
                    Ok(Reply::Done),
                    Ok(Reply::Done),
                    Ok(Reply::Number(9)),
                    Err(Error::NotAnInteger { .. }),
                    Ok(Reply::Number(10)),
                    Ok(Reply::Number(2))
                ]
            ),
            "{outcomes:?}"
        );
        assert_eq!(store.core.journal.lock().sequence, 4);
        let before = values(&store, &["a", "b", "n"]);
        drop(store);
        assert_eq!(values(&open(dir.path(), SyncPolicy::Never), &["a", "b", "n"]), before);
    }

    #[test]
    fn what_there_is_no_room_for_fails_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (store, disk) = faulty(dir.path(), SyncPolicy::Never);
        let large = format!("\"{}\"", "x".repeat(1000));
        let ops = vec![put("a", b"1"), put("large", large.as_bytes()), put("b", b"2"), incr("n")];
        let outcomes = together(&store, ops, |_| disk.room.store(500, Ordering::SeqCst));
        assert!(
            matches!(
                outcomes[..],
                [Ok(Reply::Done), Err(Error::StorageFull { .. }), Ok(Reply::Done), Ok(Reply::Number(1))]
            ),
            "{outcomes:?}"
        );
        let names = ["a", "b", "n", "large"];
        let before = values(&store, &names);
        assert_eq!(before.iter().flatten().count(), 3);
        drop(store);
        assert_eq!(values(&open(dir.path(), SyncPolicy::Never), &names), before);
    }

    #[test]
    fn all_are_told_where_the_store_was_closed_or_poisoned_meanwhile() {
        let ops = || vec![put("a", b"1"), incr("n"), put("b", b"2")];
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), SyncPolicy::Never);
        let outcomes = together(&store, ops(), |journal| journal.state = super::super::State::Closed);
        let is_closed =
            |outcome: &Result<_>| matches!(outcome, Err(Error::Unavailable { maybe_applied: false, .. }));
        assert!(outcomes.iter().all(is_closed), "{outcomes:?}");
        drop(store);

        let dir = tempfile::tempdir().unwrap();
        let (store, disk) = faulty(dir.path(), SyncPolicy::Never);
        let outcomes = together(&store, ops(), |_| {
            disk.room.store(0, Ordering::SeqCst);
            disk.no_cut.store(true, Ordering::SeqCst);
        });
        let is_poisoned = |outcome: &Result<_>| matches!(outcome, Err(Error::Poisoned { .. }));
        assert!(outcomes.iter().all(is_poisoned), "{outcomes:?}");
    }

    /// Counters of many threads, with compactions in between: every number is handed out once.
    #[test]
    fn nothing_is_lost_and_nothing_is_done_twice() {
        const THREADS: usize = 8;
        const EACH: usize = 2_000;
        let dir = tempfile::tempdir().unwrap();
        for sync in [SyncPolicy::Never, SyncPolicy::Every(Duration::from_millis(5))] {
            let store = open(dir.path(), sync);
            let before = store.core.journal.lock().sequence;
            let seen: Vec<AtomicUsize> = (0..=THREADS * EACH).map(|_| AtomicUsize::new(0)).collect();
            let name = format!("n {sync}");
            thread::scope(|scope| {
                for thread in 0..THREADS {
                    let (store, seen, name) = (&store, &seen, &name);
                    scope.spawn(move || {
                        for at in 0..EACH {
                            let Reply::Number(number) = store.apply(incr(name)).unwrap() else { panic!() };
                            seen[usize::try_from(number).unwrap()].fetch_add(1, Ordering::Relaxed);
                            store.apply(put(&format!("k{thread}"), at.to_string().as_bytes())).unwrap();
                        }
                    });
                }
            });
            assert!(seen[1..].iter().all(|times| times.load(Ordering::Relaxed) == 1), "{sync}");
            let lines = store.core.journal.lock().sequence - before;
            assert!(lines <= (2 * THREADS * EACH) as u64, "{sync}: {lines} lines");
            drop(store);
            let store = open(dir.path(), sync);
            let total = store.get(&key(&name)).unwrap().unwrap();
            assert_eq!(*total, *(THREADS * EACH).to_string().as_bytes(), "{sync}");
            for thread in 0..THREADS {
                let last = store.get(&key(&format!("k{thread}"))).unwrap().unwrap();
                assert_eq!(*last, *(EACH - 1).to_string().as_bytes(), "{sync}");
            }
        }
    }
}

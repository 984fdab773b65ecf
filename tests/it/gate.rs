//! The gate of a store: threads that enter, close it and panic, in any order.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use millpond::{Error, Gate, StateStore};

use crate::support::seeds::seeds;
use crate::support::wait_until;

const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until a thread waits to close the gate: newcomers are held from then on.
fn wait_until_asked_for(gate: &Gate) {
    wait_until("somebody waits to close the gate", PATIENCE, || format!("{gate:?}").contains("closing: 1"));
}

#[test]
fn a_closed_gate_holds_newcomers_and_opens_again() {
    let gate = StateStore::memory().gate();
    let entered = AtomicBool::new(false);
    thread::scope(|scope| {
        let closed = gate.close(PATIENCE).unwrap();
        scope.spawn(|| {
            let _inside = gate.enter();
            entered.store(true, Ordering::SeqCst);
        });
        wait_until("the newcomer waits", PATIENCE, || format!("{gate:?}").contains("entering: 1"));
        assert!(!entered.load(Ordering::SeqCst));
        drop(closed);
    });
    assert!(entered.into_inner());
}

#[test]
fn the_gate_closes_when_the_last_one_has_left_and_holds_newcomers_meanwhile() {
    let gate = StateStore::memory().gate();
    let (is_closed, was_closed) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let inside = gate.enter();
        scope.spawn(|| {
            let closed = gate.close(PATIENCE).unwrap();
            is_closed.store(true, Ordering::SeqCst);
            thread::yield_now();
            is_closed.store(false, Ordering::SeqCst);
            was_closed.store(true, Ordering::SeqCst);
            drop(closed);
        });
        wait_until_asked_for(&gate);
        let newcomer = scope.spawn(|| {
            let _inside = gate.enter();
            assert!(!is_closed.load(Ordering::SeqCst) && was_closed.load(Ordering::SeqCst));
        });
        // This thread is inside, so it does not wait for itself.
        drop(gate.enter());
        assert!(!was_closed.load(Ordering::SeqCst));
        drop(inside);
        newcomer.join().unwrap();
    });
}

#[test]
fn who_would_wait_for_itself_gets_an_error_at_once() {
    let store = StateStore::memory();
    let gate = store.gate();
    let inside = gate.enter();
    let error = assert_error!(gate.close(PATIENCE), Error::Unsupported { .. });
    assert!(error.to_string().contains("inside"), "{error}");
    drop(inside);
    let closed = gate.close(PATIENCE).unwrap();
    assert_error!(store.namespace("other").gate().close(PATIENCE), Error::Unsupported { .. });
    let inside = gate.enter();
    drop(closed);
    drop(inside);
    drop(gate.close(Duration::ZERO).unwrap());
}

#[test]
fn a_close_in_vain_is_an_error_and_lets_newcomers_in() {
    let gate = StateStore::memory().gate();
    let (leave, left) = channel::<()>();
    let (inside, is_inside) = channel();
    thread::scope(|scope| {
        let gate = &gate;
        scope.spawn(move || {
            let _inside = gate.enter();
            inside.send(()).unwrap();
            left.recv().unwrap();
        });
        is_inside.recv().unwrap();
        for timeout in [Duration::ZERO, Duration::from_millis(20)] {
            let error = assert_error!(gate.close(timeout), Error::Busy { waited, .. } if *waited >= timeout);
            assert!(
                error.is_transient() && error.to_string().starts_with("the gate is still in use"),
                "{error}"
            );
        }
        drop(gate.enter());
        leave.send(()).unwrap();
        drop(gate.close(PATIENCE).unwrap());
    });
}

#[test]
fn a_panic_leaves_and_opens() {
    let gate = StateStore::memory().gate();
    let panics = |work: &dyn Fn()| assert!(catch_unwind(AssertUnwindSafe(work)).is_err());
    panics(&|| {
        let _inside = gate.enter();
        panic!("inside");
    });
    panics(&|| {
        let _closed = gate.close(PATIENCE).unwrap();
        panic!("closed");
    });
    drop(gate.enter());
    drop(gate.close(Duration::ZERO).unwrap());
}

#[test]
fn every_opened_store_has_a_gate_of_its_own() {
    let (one, other) = (StateStore::memory(), StateStore::memory());
    let _closed = one.gate().close(PATIENCE).unwrap();
    thread::spawn(move || drop(other.gate().enter())).join().unwrap();
    let clone = one.clone();
    thread::spawn(move || assert_error!(clone.gate().close(Duration::ZERO), Error::Busy { .. }))
        .join()
        .unwrap();
}

/// Enters and closes a gate when it is dropped, and sends that it could.
struct AtTheEnd(Gate, Sender<()>);

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        drop(self.0.enter());
        drop(self.0.close(PATIENCE).unwrap());
        self.1.send(()).unwrap();
    }
}

thread_local! {
    static AT_THE_END: RefCell<Option<AtTheEnd>> = const { RefCell::new(None) };
}

#[test]
fn a_gate_works_in_the_destructor_of_a_thread_local() {
    let gate = StateStore::memory().gate();
    let (done, is_done) = channel();
    let at_the_end = AtTheEnd(gate, done);
    thread::spawn(move || AT_THE_END.with_borrow_mut(|place| *place = Some(at_the_end))).join().unwrap();
    is_done.recv().unwrap();
}

/// What the threads of the storm check against each other.
#[derive(Default)]
struct Storm {
    inside: AtomicI64,
    closed: AtomicI64,
    entered: AtomicU64,
    closings: AtomicU64,
}

impl Storm {
    fn enter(&self, gate: &Gate, random: &mut Rng, depth: u32) {
        let _inside = gate.enter();
        self.inside.fetch_add(1, Ordering::SeqCst);
        let leaving = Leaving(&self.inside);
        assert_eq!(self.closed.load(Ordering::SeqCst), 0, "nobody is inside a closed gate");
        self.entered.fetch_add(1, Ordering::Relaxed);
        match random.u32(..8) {
            0 => thread::yield_now(),
            1 if depth < 3 => self.enter(gate, random, depth + 1),
            2 => drop(assert_error!(gate.close(PATIENCE), Error::Unsupported { .. })),
            3 => std::panic::resume_unwind(Box::new("a panic inside")),
            _ => {}
        }
        drop(leaving);
    }

    fn close(&self, gate: &Gate, random: &mut Rng) {
        let timeout = if random.bool() { Duration::from_micros(random.u64(..200)) } else { PATIENCE };
        let closed = match gate.close(timeout) {
            Ok(closed) => closed,
            Err(error) => {
                assert!(error.is_busy() && timeout < PATIENCE, "{error}");
                return;
            }
        };
        assert_eq!(self.closed.fetch_add(1, Ordering::SeqCst), 0, "one thread closes at a time");
        assert_eq!(self.inside.load(Ordering::SeqCst), 0, "nobody is inside a closed gate");
        let leaving = Leaving(&self.closed);
        self.closings.fetch_add(1, Ordering::Relaxed);
        match random.u32(..4) {
            0 => thread::yield_now(),
            1 => drop(gate.enter()),
            2 => std::panic::resume_unwind(Box::new("a panic behind a closed gate")),
            _ => {}
        }
        drop(leaving);
        drop(closed);
    }
}

/// Counts down when it is dropped, also by a panic.
struct Leaving<'c>(&'c AtomicI64);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One thread of the storm, until it is over.
fn weather(storm: &Storm, gate: &Gate, over: &AtomicBool, turns: &AtomicU64, mut random: Rng) {
    while !over.load(Ordering::Relaxed) {
        let closes = random.u32(..4) == 0;
        let turn = catch_unwind(AssertUnwindSafe(|| {
            if closes { storm.close(gate, &mut random) } else { storm.enter(gate, &mut random, 0) }
        }));
        // The panics of the storm; that of an assertion ends the thread.
        if let Err(panic) = turn
            && !panic.downcast_ref::<&str>().is_some_and(|text| text.starts_with("a panic"))
        {
            std::panic::resume_unwind(panic);
        }
        turns.fetch_add(1, Ordering::Relaxed);
    }
}

/// 16 threads enter, nest, panic, and close the gate. They never meet where they must not, and all of them go on.
#[test]
fn threads_that_enter_close_and_panic_never_hang() {
    for seed in seeds(0, 3) {
        let (gate, storm, over) =
            (StateStore::memory().gate(), Arc::<Storm>::default(), Arc::<AtomicBool>::default());
        let start = |at: u64| {
            let (gate, storm, over) = (gate.clone(), storm.clone(), over.clone());
            let turns = Arc::<AtomicU64>::default();
            let counted = turns.clone();
            let random = Rng::with_seed(seed * 100 + at);
            // A thread that hangs must not keep the test from failing, so nothing waits for it without a limit.
            (turns, thread::spawn(move || weather(&storm, &gate, &over, &counted, random)))
        };
        let threads: Vec<_> = (0..16).map(start).collect();
        wait_until(&format!("every thread has had 100 turns (seed {seed})"), PATIENCE, || {
            assert!(
                !threads.iter().any(|(_, thread)| thread.is_finished()),
                "a thread has failed (seed {seed})"
            );
            threads.iter().all(|(turns, _)| turns.load(Ordering::Relaxed) >= 100)
        });
        over.store(true, Ordering::Relaxed);
        wait_until(&format!("every thread ends (seed {seed})"), PATIENCE, || {
            threads.iter().all(|(_, thread)| thread.is_finished())
        });
        for (_, thread) in threads {
            thread.join().unwrap();
        }
        assert!(storm.entered.load(Ordering::Relaxed) > 0 && storm.closings.load(Ordering::Relaxed) > 0);
        assert_eq!((storm.inside.load(Ordering::SeqCst), storm.closed.load(Ordering::SeqCst)), (0, 0));
        drop(gate.close(Duration::ZERO).unwrap());
    }
}

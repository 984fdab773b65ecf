//! The rounds. Every round measures each contender for one short slice, in a rotating order, so that other
//! load on the machine affects all contenders alike. Only ratios within a round are compared.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::report::{self, Bar, Outcome};
use crate::settings::{rounds, slice};

/// The group of the measured crate; the peers have other groups.
const OURS: &str = "millpond";

/// The first part of a slice that is not counted, as a divisor.
const WARM_UP: u32 = 5;

/// One of several programs that do the same work.
pub struct Contender<'a> {
    pub name: &'static str,
    pub group: &'static str,
    /// Set if it differs from the cell's number.
    threads: Option<usize>,
    settle: Box<dyn Fn() + 'a>,
    slice: Box<Slice<'a>>,
}

/// Runs one slice of this length with that many threads, and returns the operations per second.
type Slice<'a> = dyn Fn(&Cell, Duration, usize) -> f64 + 'a;

/// How often and for how long contenders are measured.
#[derive(Clone, Copy)]
pub struct Timing {
    pub rounds: usize,
    pub slice: Duration,
    /// The pause between two slices, so that background work of one contender does not affect the next.
    pub pause: Duration,
}

impl Timing {
    pub fn usual() -> Self {
        Self { rounds: rounds(), slice: slice(), pause: Duration::ZERO }
    }

    /// For contenders with much background work: a slice must be long compared with the work that they do
    /// after its end, which is not measured.
    pub fn long() -> Self {
        Self { slice: 5 * slice(), pause: slice() / 2, ..Self::usual() }
    }

    /// With another number of rounds, for contenders that measure the time themselves.
    #[must_use]
    pub fn rounds(self, rounds: usize) -> Self {
        Self { rounds, ..self }
    }
}

impl<'a> Contender<'a> {
    /// `prepare` makes the state of one thread, before the measured time; `step` does one step of the work on
    /// the key with that index.
    pub fn new<S: Send>(
        name: &'static str,
        group: &'static str,
        prepare: impl Fn() -> S + 'a,
        step: impl Fn(&mut S, usize) + Sync + 'a,
    ) -> Self {
        let slice = move |cell: &Cell, length, threads| run_slice(cell, length, threads, &prepare, &step);
        Self { name, group, threads: None, settle: Box::new(|| ()), slice: Box::new(slice) }
    }

    /// A contender that measures the time itself: `slice` returns operations per second.
    pub fn timed(name: &'static str, group: &'static str, slice: impl Fn() -> f64 + 'a) -> Self {
        let slice = move |_: &Cell, _, _| slice();
        Self { name, group, threads: None, settle: Box::new(|| ()), slice: Box::new(slice) }
    }

    /// Like [`Contender::timed`], for the contender that the others are compared with.
    pub fn ours_timed(slice: impl Fn() -> f64 + 'a) -> Self {
        Self::timed("millpond", OURS, slice)
    }

    /// The contender that the others are compared with.
    pub fn ours<S: Send>(prepare: impl Fn() -> S + 'a, step: impl Fn(&mut S, usize) + Sync + 'a) -> Self {
        Self::new("millpond", OURS, prepare, step)
    }

    /// Runs `settle` before each of its slices, outside the measured time.
    #[must_use]
    pub fn settling(self, settle: impl Fn() + 'a) -> Self {
        Self { settle: Box::new(settle), ..self }
    }

    /// Uses this many threads, whatever the cell says: the comparison is between numbers of threads.
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        Self { threads: Some(threads), ..self }
    }
}

/// One row of work that all contenders do.
pub struct Cell {
    pub name: &'static str,
    pub threads: usize,
    /// Steps use the keys `0..keys` at random.
    pub keys: usize,
    /// Steps between two readings of the clock.
    pub steps: u64,
    /// Operations per step.
    pub operations: u64,
    pub bars: &'static [Bar],
}

impl Cell {
    /// Measures all rounds and prints the rows.
    pub fn compare(&self, contenders: &[Contender<'_>]) {
        self.compare_in(Timing::usual(), contenders);
    }

    /// Like [`Cell::compare`], with another timing.
    pub fn compare_in(&self, timing: Timing, contenders: &[Contender<'_>]) {
        let rounds: Vec<Vec<f64>> = (0..timing.rounds)
            .map(|round| {
                let mut rates = vec![0.0; contenders.len()];
                for turn in 0..contenders.len() {
                    let at = (round + turn) % contenders.len();
                    let Contender { threads, settle, slice, .. } = &contenders[at];
                    settle();
                    std::thread::sleep(timing.pause);
                    rates[at] = slice(self, timing.slice, threads.unwrap_or(self.threads));
                }
                rates
            })
            .collect();
        let ours = contenders.iter().position(|contender| contender.group == OURS);
        let named: Vec<_> = contenders.iter().map(|contender| (contender.name, contender.group)).collect();
        let (name, threads, bars) = (self.name, self.threads, self.bars);
        report::rows(&Outcome { name, threads, bars, contenders: &named, ours, rounds: &rounds });
    }
}

/// Prints the latency of a call: the median of many calls in each round.
pub fn latency(name: &str, bar_micros: f64, mut call: impl FnMut(usize)) {
    let medians: Vec<f64> = (0..rounds())
        .map(|_| {
            let mut micros = Vec::new();
            let start = Instant::now();
            while start.elapsed() < slice() {
                let before = Instant::now();
                call(micros.len());
                micros.push(before.elapsed().as_secs_f64() * 1e6);
            }
            report::median(&micros)
        })
        .collect();
    report::latency_row(name, &medians, bar_micros);
}

/// Prints the time of an operation that is done once in each round.
pub fn time(name: &str, bar: Duration, mut once: impl FnMut() -> Duration) {
    let micros: Vec<f64> = (0..rounds()).map(|_| once().as_secs_f64() * 1e6).collect();
    report::latency_row(name, &micros, bar.as_secs_f64() * 1e6);
}

/// Runs the threads of one contender and returns its operations per second.
fn run_slice<S: Send>(
    cell: &Cell,
    slice: Duration,
    threads: usize,
    prepare: &impl Fn() -> S,
    step: &(impl Fn(&mut S, usize) + Sync),
) -> f64 {
    let states: Vec<S> = (0..threads).map(|_| prepare()).collect();
    // The threads wait for each other at this barrier only: if one panics later, no other thread hangs.
    let barrier = Barrier::new(threads);
    let barrier = &barrier;
    std::thread::scope(|scope| {
        let workers: Vec<_> = states
            .into_iter()
            .zip(1..)
            .map(|(mut state, seed)| {
                scope.spawn(move || {
                    let mut random = Random::new(seed);
                    let mut work_until = |end: Instant| {
                        let mut steps = 0;
                        loop {
                            for _ in 0..cell.steps {
                                step(&mut state, random.below(cell.keys));
                            }
                            steps += cell.steps;
                            let now = Instant::now();
                            if now >= end {
                                return (steps, now);
                            }
                        }
                    };
                    barrier.wait();
                    let (_, start) = work_until(Instant::now() + slice / WARM_UP);
                    let (steps, end) = work_until(start + slice);
                    (steps, start, end)
                })
            })
            .collect();
        let done: Vec<(u64, Instant, Instant)> =
            workers.into_iter().map(|worker| worker.join().expect("a worker")).collect();
        let steps: u64 = done.iter().map(|(steps, ..)| steps).sum();
        let start = done.iter().map(|(_, start, _)| *start).min().expect("a thread");
        let end = done.iter().map(|(.., end)| *end).max().expect("a thread");
        (steps * cell.operations) as f64 / (end - start).as_secs_f64()
    })
}

/// A Weyl sequence and a multiplication: good enough to pick keys, and very cheap.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let product = u128::from(self.0) * u128::from(self.0 ^ 0xd1b5_4a32_d192_ed03);
        let mixed = ((product >> 64) ^ product) as u64;
        ((u128::from(mixed) * limit as u128) >> 64) as usize
    }
}

//! Outages of several kinds, one after the other and sometimes one during the return from another, while
//! threads write all the time: every acknowledged write is on the server once.
//!
//! `MILLPOND_SOAK` sets the number of outages, by default 20 (8 with `exactly_once`), and after an `@` the
//! seed of a run, to repeat it: `MILLPOND_SOAK=500 cargo test outage::soak -- --nocapture`. The run prints
//! its statistics.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use millpond::stats::OutageStats;
use millpond::{Event, Fallback, StateStore, Status};

use crate::support::Ending;
use crate::support::ledger::{Faults, Figures, Ledger, audit};
use crate::support::proxy::{Mode, Proxy, Way};
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{CONNECT_LIMIT, LIMIT, open, options, wait_for};

const OUTAGES: usize = 20;
const OUTAGES_EXACTLY_ONCE: usize = 8;
const WRITERS: u8 = 4;

/// Without this pause, writers would queue more in an outage than they write in all the time between.
const BREATH: Duration = Duration::from_micros(200);

/// What happens to the server, or to the connection to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It is killed and started again.
    Kill,
    /// It freezes, and later continues with the data that was sent to it in the meantime.
    Freeze,
    /// New connections are closed, and one connection is cut during a reply.
    Refuse,
    /// Nothing is delivered, and later everything is.
    Hold,
}

const FAULTS: [Fault; 4] = [Fault::Kill, Fault::Freeze, Fault::Refuse, Fault::Hold];

/// A server, and two stores that use it: one directly, one through a proxy.
struct Setup {
    server: RedisServer,
    proxy: Proxy,
    near: StateStore,
    far: StateStore,
    forgotten: Arc<Mutex<Vec<String>>>,
}

impl Setup {
    fn new(exactly_once: bool) -> Self {
        let server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
        let proxy = Proxy::to(server.port());
        let forgotten: Arc<Mutex<Vec<String>>> = Arc::default();
        let [near, far] = [server.url(0), proxy.url()].map(|url| {
            let store = open(&url, options().fallback(Fallback::Memory).exactly_once(exactly_once)).unwrap();
            let forgotten = Arc::clone(&forgotten);
            store.on_event(move |event| {
                if let Event::DataLost { cause, .. } = event {
                    forgotten.lock().unwrap().push(cause.clone());
                }
            });
            store
        });
        Self { server, proxy, near, far, forgotten }
    }

    fn stores(&self) -> [&StateStore; 2] {
        [&self.near, &self.far]
    }

    fn begin(&mut self, fault: Fault, random: &mut fastrand::Rng) {
        match fault {
            Fault::Kill => self.server.kill(),
            Fault::Freeze => self.server.pause(),
            Fault::Refuse => {
                self.proxy.set(Mode::Refuse);
                self.proxy.cut(Way::Answer, random.usize(..200));
            }
            Fault::Hold => self.proxy.set(Mode::Hold),
        }
    }

    fn end(&mut self, fault: Fault) {
        match fault {
            Fault::Kill => self.server.restart(),
            Fault::Freeze => self.server.resume(),
            Fault::Refuse => {
                self.proxy.set(Mode::Pass);
                self.proxy.cancel_cut();
            }
            Fault::Hold => self.proxy.set(Mode::Pass),
        }
    }

    /// The stores that a fault disconnects.
    fn disconnected_stores(&self, fault: Fault) -> Vec<&StateStore> {
        match fault {
            Fault::Kill | Fault::Freeze => self.stores().to_vec(),
            Fault::Refuse | Fault::Hold => vec![&self.far],
        }
    }

    fn is_connected(&self) -> bool {
        self.stores().iter().all(|store| store.status() == Status::Connected)
    }

    fn sum(&self, of: impl Fn(&OutageStats) -> u64) -> u64 {
        self.stores().iter().map(|store| of(&store.stats().outages)).sum()
    }
}

/// One outage: it lasts until operations are queued, and ends when they are replayed, or just before.
fn run_outage(setup: &mut Setup, fault: Fault, random: &mut fastrand::Rng, done: &AtomicU64) {
    setup.begin(fault, random);
    let is_away = || {
        setup
            .disconnected_stores(fault)
            .iter()
            .all(|store| matches!(store.status(), Status::Disconnected { .. }))
    };
    wait_for("the server is unreachable", is_away);
    let enough = setup.sum(|stats| stats.queued) + random.u64(10..1500);
    // A store that was just about to reconnect has done so, and must notice the outage again.
    wait_for("operations are queued", || setup.sum(|stats| stats.queued) >= enough && is_away());
    let replayed = setup.sum(|stats| stats.replayed);
    setup.end(fault);
    if random.bool() {
        wait_for("the server is back", || setup.is_connected());
        let enough = done.load(Ordering::Relaxed) + random.u64(10..500);
        wait_for("the server is used", || done.load(Ordering::Relaxed) >= enough);
    } else {
        // The next outage begins in the middle of the replay.
        wait_for("the replay begins", || {
            setup.sum(|stats| stats.replayed) > replayed || setup.is_connected()
        });
    }
}

/// Runs writers through all outages; returns the ledgers of their results.
fn run_writers(setup: &mut Setup, outages: usize, seed: u64) -> Vec<Ledger> {
    let (ended, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut random = fastrand::Rng::with_seed(seed);
    thread::scope(|scope| {
        let ending = Ending(&ended);
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let store = setup.stores()[usize::from(writer % 2)].clone();
                let mut random = random.fork();
                let (ended, done) = (&ended, &done);
                scope.spawn(move || {
                    let mut ledger = Ledger::new(writer.into());
                    while !ended.load(Ordering::Relaxed) {
                        ledger.step(&store, &mut random);
                        done.fetch_add(1, Ordering::Relaxed);
                        thread::sleep(BREATH);
                    }
                    ledger
                })
            })
            .collect();
        for fault in FAULTS.into_iter().cycle().take(outages) {
            run_outage(setup, fault, &mut random, &done);
        }
        wait_for("the server is back for good", || setup.is_connected());
        drop(ending);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    })
}

#[test]
fn acknowledged_writes_survive_many_outages_exactly_once() {
    run_soak(OUTAGES, false);
}

#[test]
fn with_exactly_once_no_outage_leaves_a_call_in_doubt() {
    let doubtful = run_soak(OUTAGES_EXACTLY_ONCE, true);
    assert_eq!(doubtful, 0, "calls whose result is unknown");
}

/// Returns how many calls reported an unknown result.
fn run_soak(outages: usize, exactly_once: bool) -> u64 {
    let told = std::env::var("MILLPOND_SOAK").unwrap_or_default();
    let (number, seed) = told.split_once('@').unwrap_or((&told, ""));
    let outages = number.parse().unwrap_or(outages);
    let seed = seed.parse().unwrap_or(20_260_801);
    // A failing test shows what it printed.
    println!("MILLPOND_SOAK={outages}@{seed}");
    let begun = Instant::now();
    let mut setup = Setup::new(exactly_once);
    let ledgers = run_writers(&mut setup, outages, seed);

    let [near, far] = setup.stores().map(|store| store.stats().outages);
    for store in setup.stores() {
        store.close().unwrap();
    }
    let plain = open(&setup.server.url(0), options()).unwrap();
    let faults = audit(&plain, &ledgers);
    let figures = ledgers.iter().fold(Figures::default(), |sum, ledger| sum.and(ledger.figures));
    println!("{figures:?} in {:?}\nnear {near:?}\nfar {far:?}", begun.elapsed());
    println!(
        "lost {}, doubled {}, disordered {}",
        faults.lost.len(),
        faults.doubled.len(),
        faults.disordered.len()
    );
    assert_eq!(faults, Faults::default());
    for stats in [near, far] {
        assert_eq!((stats.pending, stats.rejected, stats.uncertain), (0, 0, 0));
        assert!(stats.queued > 0 && stats.replayed > 0);
    }
    assert_eq!(*setup.forgotten.lock().unwrap(), Vec::<String>::new());
    let bound = 2 * (LIMIT + CONNECT_LIMIT) + Duration::from_secs(1);
    assert!(figures.longest < bound, "a call took {:?}", figures.longest);
    figures.doubtful
}

/// Found by the soak: a put that was on its way to the server when an outage began, and was acknowledged
/// later, was not visible to reads during the outage. They returned the value that was known before.
#[test]
fn a_put_acknowledged_after_an_outage_began_is_read_back() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), options().fallback(Fallback::Memory)).unwrap();
    store.put("k", 1).unwrap();
    let before = proxy.requests();
    proxy.hold_old();
    thread::scope(|scope| {
        let late = scope.spawn(|| store.put("k", 2));
        wait_for("the put is on its way", || proxy.requests() > before);
        proxy.set(Mode::Refuse);
        store.put("other", 1).unwrap();
        assert!(matches!(store.status(), Status::Disconnected { .. }));
        assert_eq!(store.get::<i64>("k").unwrap(), Some(1));
        proxy.release_old();
        late.join().unwrap().unwrap();
    });
    assert_eq!(store.get::<i64>("k").unwrap(), Some(2));
    assert!(matches!(store.status(), Status::Disconnected { pending: 1, .. }));
    proxy.set(Mode::Pass);
    wait_for("the server is back", || store.status() == Status::Connected);
    assert_eq!(store.get::<i64>("k").unwrap(), Some(2));
    store.close().unwrap();
}

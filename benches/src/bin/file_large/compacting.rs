//! How long puts stall during a compaction, and how large the directory becomes.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use millpond::StateStore;
use millpond_benches::data::NewReading;
use millpond_benches::databases::{Append, Sync};
use millpond_benches::directory;
use millpond_benches::latency::Latencies;
use millpond_benches::measure::Random;
use millpond_benches::report::{self, Limit};
use millpond_benches::settings;

use crate::ROUNDS;
use crate::entries::{Entries, open};
use crate::opening::COUNT;

const STALL_BAR_MILLIS: f64 = 50.0;
const ROOM_KEYS: usize = 100_000;
const ROOM_WRITERS: usize = 4;
const ROOM_BAR: f64 = 3.0;
const SLACK: f64 = 1_048_576.0;
const PATIENCE: Duration = Duration::from_secs(120);

/// The longest put of a round during which a whole compaction runs. The floor is the longest append to a
/// plain file while another thread writes a file as large as the snapshot and syncs it.
pub fn stalls(directory: &Path) {
    let store = open(directory, "sync=never");
    for writers in [1, 4] {
        let (mut ours, mut floor) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(puts(&store, directory, writers));
            directory::wait_for_compaction(directory);
            floor.push(appends(writers, directory::look(directory).snapshot_bytes));
        }
        let row = |name: &str, rounds: &[Latencies], limit| {
            let longest: Vec<f64> = rounds.iter().map(Latencies::longest).collect();
            report::quantity(&format!("longest {name}"), writers, &longest, "ms", limit);
            let tail: Vec<f64> = rounds.iter().map(|round| round.percentile(99.99) / 1e3).collect();
            report::quantity(&format!("99.99 %, {name}"), writers, &tail, "ms", Limit::None);
        };
        row("put while 1 000 000 are compacted", &ours, Limit::Each(STALL_BAR_MILLIS));
        row("bare append beside a written file", &floor, Limit::None);
    }
    store.close().unwrap();
}

fn puts(store: &StateStore, directory: &Path, writers: usize) -> Latencies {
    let before = directory::look(directory).snapshot;
    put_during(
        writers,
        || {
            let start = Instant::now();
            let compacted = |look: directory::Look| look.snapshot > before && !look.compacts;
            while !compacted(directory::look(directory)) {
                assert!(start.elapsed() < PATIENCE, "no compaction");
                thread::sleep(Duration::from_millis(5));
            }
            // The work after the last file may delay a put too.
            thread::sleep(Duration::from_millis(200));
        },
        |entries, index| entries.put(store, index),
    )
}

fn appends(writers: usize, bytes: u64) -> Latencies {
    let scratch = millpond_benches::scratch();
    let append = Append::open(scratch.path(), Sync::Never);
    put_during(
        writers,
        || {
            thread::sleep(Duration::from_millis(500));
            let mut file = File::create(scratch.path().join("other")).unwrap();
            let chunk = [b'.'; 1 << 15];
            for _ in 0..bytes.div_ceil(chunk.len() as u64) {
                file.write_all(&chunk).unwrap();
            }
            file.sync_all().unwrap();
        },
        |entries, index| {
            let value = serde_json::to_vec(&NewReading::of(index, 0)).unwrap();
            append.put(entries.key(index), &value);
        },
    )
}

/// Makes threads put one entry of a million after another until `meanwhile` returns.
fn put_during(
    threads: usize,
    meanwhile: impl FnOnce(),
    put: impl Fn(&mut Entries, usize) + std::marker::Sync,
) -> Latencies {
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        let (ends, put) = (&ends, &put);
        let worker = |seed| {
            move || {
                let (mut random, mut entries) = (Random::new(seed), Entries::default());
                let mut latencies = Latencies::default();
                while !ends.load(Ordering::Relaxed) {
                    latencies.time(|| put(&mut entries, random.below(COUNT)));
                }
                latencies
            }
        };
        let workers: Vec<_> = (0..threads as u64).map(|seed| scope.spawn(worker(seed))).collect();
        meanwhile();
        ends.store(true, Ordering::Relaxed);
        let mut all = Latencies::default();
        workers.into_iter().for_each(|worker| all.merge(&worker.join().expect("a worker")));
        all
    })
}

/// The largest size of the directory while all entries are overwritten again and again, for `BENCH_SECONDS`
/// seconds. The live data is taken to be as large as the last snapshot.
pub fn room() {
    let scratch = millpond_benches::scratch();
    let directory = scratch.path().join("room");
    let store = open(&directory, "sync=never");
    Entries::default().fill(&store, ROOM_KEYS);
    directory::wait_for_compaction(&directory);
    let before = directory::look(&directory).snapshot;
    let mut largest = 0;
    let end = Instant::now() + Duration::from_secs(settings::setting("BENCH_SECONDS", 15) as u64);
    let watch = || {
        while Instant::now() < end {
            largest = directory::look(&directory).bytes.max(largest);
            thread::sleep(Duration::from_millis(1));
        }
    };
    let latencies = put_during(ROOM_WRITERS, watch, |entries, index| entries.put(&store, index % ROOM_KEYS));
    directory::wait_for_compaction(&directory);
    let look = directory::look(&directory);
    let compactions = look.snapshot - before;
    assert!(compactions > 0, "no compaction");
    store.close().unwrap();
    let times = (largest as f64 - SLACK) / look.snapshot_bytes as f64;
    let name = format!(
        "directory but for 1 MiB, in live data; {compactions} compactions, {} puts",
        latencies.count()
    );
    report::quantity(&name, ROOM_WRITERS, &[times], "", Limit::Each(ROOM_BAR));
    let name = "longest put under steady overwriting";
    report::quantity(name, ROOM_WRITERS, &[latencies.longest()], "ms", Limit::None);
}

//! Compares puts into a store of 3 000 000 entries with puts into one of 10 000: first without compactions,
//! then from the end of one compaction to the end of the next, so that each put pays its share of the
//! compaction.

use std::path::Path;
use std::time::{Duration, Instant};

use millpond::StateStore;
use millpond_benches::directory;
use millpond_benches::measure::{Cell, Contender, Random, Timing};
use millpond_benches::report::Bar;

use crate::ROUNDS;
use crate::entries::{Entries, JOURNAL_ONLY, open};

const MANY: usize = 3_000_000;
const FEW: usize = 10_000;
const GROUP: &str = "10 000 entries";
/// A put into the large store may take one and a half times as long.
const BARS: &[Bar] = &[Bar { group: GROUP, at_least: 0.667 }];
/// How many puts are made between two looks at the directory.
const STEPS: usize = 2048;
const AT_LEAST: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(120);

pub fn puts() {
    let scratch = millpond_benches::scratch();
    let (large, small) = (scratch.path().join("large"), scratch.path().join("small"));
    let stores = [(&large, MANY), (&small, FEW)].map(|(directory, count)| {
        let store = open(directory, JOURNAL_ONLY);
        Entries::default().fill(&store, count);
        store
    });
    let cell = |name| Cell { name, threads: 1, keys: MANY, steps: 16, operations: 1, bars: BARS };
    cell("put at 3 000 000 entries, no compaction").compare_in(
        Timing::usual(),
        &[
            Contender::ours(Entries::default, |entries, index| entries.put(&stores[0], index)),
            Contender::new(GROUP, GROUP, Entries::default, |entries, index| {
                entries.put(&stores[1], index % FEW);
            }),
        ],
    );
    stores.iter().for_each(|store| store.close().unwrap());

    let stores = [&large, &small].map(|directory| {
        let store = open(directory, "sync=never");
        directory::wait_for_compaction(directory);
        store
    });
    cell("put at 3 000 000 entries, whole compactions").compare_in(
        Timing::usual().rounds(ROUNDS),
        &[
            Contender::ours_timed(|| put_until_compacted(&stores[0], &large, MANY)),
            Contender::timed(GROUP, GROUP, || put_until_compacted(&stores[1], &small, FEW)),
        ],
    );
    stores.iter().for_each(|store| store.close().unwrap());
}

/// Puts until a compaction has begun and ended, and returns the puts per second.
fn put_until_compacted(store: &StateStore, directory: &Path, keys: usize) -> f64 {
    let (mut random, mut entries) = (Random::new(1), Entries::default());
    let before = directory::look(directory).snapshot;
    let start = Instant::now();
    let mut puts = 0;
    loop {
        for _ in 0..STEPS {
            entries.put(store, random.below(keys));
        }
        puts += STEPS;
        let look = directory::look(directory);
        if look.snapshot > before && !look.compacts && start.elapsed() > AT_LEAST {
            return puts as f64 / start.elapsed().as_secs_f64();
        }
        assert!(start.elapsed() < PATIENCE, "no compaction");
    }
}

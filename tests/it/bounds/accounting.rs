//! Whatever is done, the store is never beyond its bounds, and what it counts is what it holds.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use millpond::{Error, ManualClock, MemoryOptions, OpenOptions, StateConfig, StateStore, WriteBatch};

use super::{bytes, evicting, open};
use crate::support::seeds::any_seeds;

const MINUTE: Duration = Duration::from_secs(60);

/// One random operation; an error other than `Full` is a failure. Returns whether it may exceed the bounds.
fn step(store: &StateStore, random: &mut fastrand::Rng) -> bool {
    let key = format!("k{}", random.u32(..40));
    let other = format!("k{}", random.u32(..40));
    let text = "x".repeat(random.usize(..400));
    let chosen = random.u32(..20);
    let outcome = match chosen {
        0 => store.put(key, text),
        1 => store.put_with_ttl(key, text, MINUTE * random.u32(1..4)),
        2 => store.delete(key).map(drop),
        3 => store.map_put(key, format!("f{}", random.u32(..5)), text).map(drop),
        4 => store.map_delete(key, format!("f{}", random.u32(..5))).map(drop),
        5 => store.push_back_many(key, [&text, &text]).map(drop),
        6 => store.push_front(key, text).map(drop),
        7 => store.pop_back::<String>(key).map(drop),
        8 => store.queue_trim(key, random.u64(..3)).map(drop),
        9 => store.get::<String>(key).map(drop),
        10 => store.get_and_put::<String>(key, text).map(drop),
        11 => store.expire(key, MINUTE).map(drop),
        12 => store.lease::<String>(key, MINUTE).and_then(|leased| match leased {
            Some(leased) if random.bool() => leased.ack().map(drop),
            Some(leased) if random.bool() => leased.nack().map(drop),
            Some(_) | None => Ok(()),
        }),
        13 => store.push_after(key, text, MINUTE).map(drop),
        14 => {
            let mut batch = WriteBatch::new();
            batch.put(&key, &text).unwrap().delete(&other).unwrap().put(&other, text).unwrap();
            store.write(&batch)
        }
        15 => store.transaction(|tx| {
            let found: Option<String> = tx.get(&key).ok().flatten();
            tx.put(&other, found.unwrap_or_default() + &text[..text.len() / 2])?;
            tx.delete(&key)?;
            tx.push_back(&key, 1)?;
            tx.push_back(&key, 2).map(drop)
        }),
        16 => store.try_lock(key, MINUTE).map(drop),
        17 => store.window(format!("w{}", random.u32(..5)), MINUTE).add(1).map(drop),
        18 => store.cleanup_expired().map(drop),
        _ => store.clear().map(drop),
    };
    match outcome {
        Ok(()) | Err(Error::Full { .. } | Error::WrongType { .. } | Error::Decode { .. }) => {}
        Err(other) => panic!("{other:?}"),
    }
    chosen == 12
}

#[test]
fn random_operations_leave_the_store_within_its_bounds() {
    let bounds: [fn(MemoryOptions) -> MemoryOptions; 3] =
        [|o| o.max_entries(12), |o| o.max_bytes(6000), |o| o.max_entries(20).max_bytes(9000)];
    for seed in any_seeds(12) {
        let mut random = fastrand::Rng::with_seed(seed);
        let base = if random.bool() { MemoryOptions::default() } else { evicting() };
        let options = bounds[random.usize(..3)](base);
        let clock = Arc::new(ManualClock::default());
        let config = StateConfig::default().memory(options.clone());
        let store = OpenOptions::new().clock(clock.clone()).with_config(config).unwrap();
        for _ in 0..3000 {
            let before = (store.memory_usage().unwrap().entries, bytes(&store));
            let may_exceed = step(&store, &mut random);
            clock.advance(Duration::from_secs(random.u64(..10)));
            let after = (store.memory_usage().unwrap().entries, bytes(&store));
            let is_within = |most: Option<u64>, before: u64, after: u64| {
                may_exceed || most.is_none_or(|most| after <= most.max(before))
            };
            assert!(is_within(options.max_entries, before.0, after.0), "seed {seed}: {after:?}");
            assert!(is_within(options.max_bytes, before.1, after.1), "seed {seed}: {after:?}");
        }
        // After all that, there is room for as much as the bounds say.
        clock.advance(10 * MINUTE);
        store.clear().unwrap();
        store.cleanup_expired().unwrap();
        store.put("probe", "0").unwrap();
        let one = store.memory_usage_of("probe").unwrap();
        for n in 0..500 {
            if let Err(error) = store.put(format!("n{n:04}"), "0") {
                assert!(error.is_full(), "seed {seed}: {error}");
            }
        }
        let (entries, taken) = (store.len().unwrap(), bytes(&store));
        let most_left = one.bytes + one.overhead;
        let is_full = options.max_entries.is_some_and(|most| entries == most)
            || options.max_bytes.is_some_and(|most| taken <= most && taken + most_left > most);
        assert!(is_full, "seed {seed}: {entries} entries, {taken} bytes");
    }
}

#[test]
fn a_store_counts_right_after_everything_is_gone() {
    let options = MemoryOptions::default().max_bytes(64 << 10).max_entries(300);
    let store = open(options.clone());
    for round in 0..20 {
        let mut written = 0;
        while store.put(format!("k{written}"), "x".repeat(100 + round)).is_ok() {
            written += 1;
        }
        assert!(written >= 150, "round {round}: {written}");
        assert_eq!(store.clear().unwrap(), written);
    }
    assert_eq!(bytes(&store), 0);
}

#[test]
fn eight_threads_never_exceed_the_bounds() {
    for options in [MemoryOptions::default(), evicting()] {
        let store = open(options.max_entries(100).max_bytes(64 << 10));
        thread::scope(|scope| {
            for number in 0..8 {
                let store = &store;
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(number);
                    for n in 0..2000 {
                        let key = format!("{number}:{}", random.u32(..60));
                        let outcome = match n % 4 {
                            0 => store.put(&key, "x".repeat(random.usize(..1000))),
                            1 => store.delete(&key).map(drop),
                            2 => store.transaction(|tx| {
                                tx.put(&key, n)?;
                                tx.put(format!("{key}:more"), n)
                            }),
                            _ => store.put_bytes(&key, b"x"),
                        };
                        match outcome {
                            Ok(()) | Err(Error::Full { .. } | Error::Conflict { .. }) => {}
                            Err(other) => panic!("{other:?}"),
                        }
                        let entries = store.memory_usage().unwrap().entries;
                        assert!(entries <= 100, "{entries} entries");
                    }
                });
            }
        });
        assert!(bytes(&store) <= 64 << 10, "{} bytes", bytes(&store));
        store.clear().unwrap();
        assert_eq!(bytes(&store), 0);
        for n in 0..100 {
            store.put(n.to_string(), n).unwrap();
        }
        assert_eq!(store.len().unwrap(), 100, "no room was lost");
    }
}

/// The memory is that of a process of its own.
#[cfg(target_os = "linux")]
#[test]
fn a_process_takes_about_what_max_bytes_allows() {
    use crate::support::child_process::{Process, job, report};
    use crate::support::resident;
    const THIS: &str = "bounds::accounting::a_process_takes_about_what_max_bytes_allows";
    const BOUND: u64 = 32 << 20;
    if let Some((mode, _)) = job() {
        let options = if mode == "evict" { evicting() } else { MemoryOptions::default() };
        let store = open(options.max_bytes(BOUND));
        let before = resident();
        for n in 0..300_000 {
            match store.put(format!("key:{n}"), n) {
                Ok(()) | Err(Error::Full { .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        return report(&format!("{} {}", resident() - before, bytes(&store)));
    }
    for mode in ["refuse", "evict"] {
        let reports = Process::start_test(THIS, mode, "").read_all_reports();
        let numbers: Vec<u64> = reports[0].split(' ').map(|number| number.parse().unwrap()).collect();
        let [taken, counted] = numbers[..] else { panic!("{reports:?}") };
        assert!((BOUND - 4096..=BOUND).contains(&counted), "{mode}: {counted} bytes are counted");
        assert!((BOUND / 2..BOUND + BOUND / 2).contains(&taken), "{mode}: {taken} bytes are taken");
    }
}

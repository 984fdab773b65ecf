//! A transaction of several steps returns and stores the same as the same steps one after another, on every
//! backend: the overlay of a transaction gives every operation the same meaning as the store.

use std::time::{Duration, Instant};

use fastrand::Rng;
use millpond::{Error, Result, StateStore, Transaction, Ttl};

use crate::support::backends::{Backend, Case, Context};

const KEYS: [&str; 2] = ["a", "b"];
const FIELDS: [&str; 3] = ["", "f", "g"];
const TTLS: [Duration; 2] = [Duration::from_secs(3600), Duration::from_secs(7200)];

/// One step, derived from a seed so that it can be repeated.
#[derive(Debug, Clone, Copy)]
struct Step(u64);

/// The result of a step as text; an error is represented by its variant.
fn describe<T: std::fmt::Debug>(outcome: Result<T>) -> String {
    match outcome {
        Ok(value) => format!("{value:?}"),
        Err(Error::WrongType { expected, found, .. }) => format!("wrong type {expected:?} {found:?}"),
        Err(Error::NotAnInteger { .. }) => "not an integer".into(),
        Err(Error::Overflow { .. }) => "overflow".into(),
        Err(error) => panic!("{error:?}"),
    }
}

/// The deadline, in hours, without the time that has already passed.
fn hours(ttl: Result<Option<Ttl>>) -> String {
    describe(ttl.map(|ttl| {
        ttl.map(|ttl| match ttl {
            Ttl::Never => 0,
            Ttl::In(left) => left.as_secs().div_ceil(1800),
        })
    }))
}

/// A store and a transaction have methods of the same names.
macro_rules! take_step {
    ($on:expr, $step:expr) => {{
        let random = &mut Rng::with_seed($step.0);
        let key = KEYS[random.usize(..KEYS.len())];
        let field = FIELDS[random.usize(..FIELDS.len())];
        let ttl = TTLS[random.usize(..TTLS.len())];
        let n = random.i64(0..4);
        let range = random.u64(0..4)..random.u64(0..6);
        match random.u32(0..38) {
            0 => describe($on.put(key, n)),
            1 => describe($on.put_with_ttl(key, n, ttl)),
            2 => describe($on.get::<i64>(key)),
            3 => describe($on.update(key, n)),
            4 | 5 => describe($on.delete(key)),
            6 => describe($on.contains(key)),
            7 => describe($on.set_if_not_exists(key, n, Some(ttl))),
            8 => describe($on.compare_and_set(key, Some(&n), &(n + 1))),
            9 => describe($on.compare_and_set(key, None::<&i64>, &n)),
            10 => describe($on.get_and_delete::<i64>(key)),
            11 => describe($on.get_and_put::<i64>(key, n)),
            12 => describe($on.modify::<i64>(key, |found| found.filter(|found| *found != n).map(|n| n + 1))),
            13 => describe($on.modify::<i64>(key, |found| Some(found.unwrap_or(n) * 2))),
            14 => describe($on.incr(key, n)),
            15 => describe($on.incr_with_ttl(key, n, ttl)),
            16 => hours($on.ttl(key)),
            17 => describe($on.expire(key, ttl)),
            18 => describe($on.persist(key)),
            19 => describe($on.get_and_touch::<i64>(key, ttl)),
            20 | 21 => describe($on.map_put(key, field, n)),
            22 => describe($on.map_put_many(key, FIELDS[..random.usize(..4)].iter().map(|field| (field, n)))),
            23 => describe($on.map_get::<i64>(key, field)),
            24 => describe($on.map_get_many::<i64>(key, FIELDS)),
            25 | 26 => describe($on.map_delete(key, field)),
            27 => describe($on.map_entries::<i64>(key)),
            28 => describe($on.map_len(key)),
            29 => describe($on.map_incr(key, field, n)),
            30 | 31 => describe($on.push_back(key, n)),
            32 => describe($on.push_front(key, n)),
            33 => describe($on.push_back_many(key, 0..n)),
            34 => describe($on.pop_front::<i64>(key)),
            35 => describe($on.pop_back::<i64>(key)),
            36 => describe($on.queue_range::<i64>(key, range)),
            _ => describe($on.queue_trim(key, n.unsigned_abs())),
        }
    }};
}

fn on_store(store: &StateStore, step: Step) -> String {
    take_step!(store, step)
}

fn in_transaction(tx: &mut Transaction<'_>, step: Step) -> String {
    take_step!(tx, step)
}

/// Everything that a store holds.
fn state(store: &StateStore) -> Vec<String> {
    KEYS.iter()
        .map(|key| {
            let value = describe(store.get::<i64>(key));
            let map = describe(store.map_entries::<i64>(key));
            let queue = describe(store.queue_range::<i64>(key, ..));
            format!("{value} {map} {queue} {}", hours(store.ttl(key)))
        })
        .collect()
}

fn assert_equivalent(backend: Backend, seeds: std::ops::Range<u64>) {
    for default_ttl in [None, Some(Duration::from_secs(1800))] {
        let context = Context::new(Case { backend, default_ttl });
        for seed in seeds.clone() {
            let plain = Context::new(Case { backend: Backend::Memory, default_ttl });
            let (plain, store) = (plain.store(), context.store());
            store.clear().unwrap();
            let random = &mut Rng::with_seed(seed);
            for _ in 0..4 {
                let steps: Vec<Step> = (0..random.usize(1..9)).map(|_| Step(random.u64(..))).collect();
                let expected: Vec<String> = steps.iter().map(|step| on_store(&plain, *step)).collect();
                let answers = store
                    .transaction(|tx| {
                        Ok(steps.iter().map(|step| in_transaction(tx, *step)).collect::<Vec<_>>())
                    })
                    .unwrap();
                assert_eq!(answers, expected, "seed {seed}, default_ttl {default_ttl:?}");
                assert_eq!(state(&store), state(&plain), "seed {seed}, default_ttl {default_ttl:?}");
            }
        }
    }
}

#[test]
fn transactions_equal_single_steps_on_memory() {
    assert_equivalent(Backend::Memory, 0..4000);
}

#[test]
fn transactions_equal_single_steps_on_file() {
    assert_equivalent(Backend::FileReopened, 0..100);
}

#[cfg(feature = "redis")]
#[test]
fn transactions_equal_single_steps_on_redis() {
    assert_equivalent(Backend::Redis, 0..500);
}

/// Each change of a field once looked at all the fields that were changed before, and searched a list of
/// replies for each. Two thousand fields took half a minute, and the same number of expired leases, which
/// come back in the same way, blocked a queue for as long.
#[test]
fn a_change_of_a_field_does_not_slow_down_later_ones() {
    const MANY: u32 = 5000;
    let store = StateStore::memory();
    store.map_put("m", "first", 0).unwrap();
    store.push_back_many("q", 0..MANY).unwrap();
    let begun = Instant::now();
    let length = store.transaction(|tx| {
        for number in 0..MANY {
            tx.map_put("m", number.to_string(), number)?;
        }
        assert!(tx.map_delete("m", "first")?);
        while tx.pop_front::<u32>("q")?.is_some() {}
        tx.map_len("m")
    });
    assert_eq!(length.unwrap(), u64::from(MANY));
    assert_eq!(store.map_len("m").unwrap(), u64::from(MANY));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

//! Owns random histories of maps, queues and leases, with compactions meanwhile: a killed store must open with the
//! state that it had.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use smol_str::{SmolStr, format_smolstr};

use crate::backend::Backend;
use crate::backend::file::contents::Contents;
use crate::backend::file::store::File;
use crate::backend::file::tests::support::{op, state};
use crate::clock::{ManualClock, Millis};
use crate::config::{FileOptions, SyncPolicy};
use crate::error::Result;
use crate::key::Key;
use crate::op::{End, EntryAction, LeaseAction, Op, Reply};
use crate::store_clock::StoreClock;
use crate::value::Value;

const KEYS: [&str; 5] = ["large map", "large queue", "small", "other", "third"];

/// More parts of a map or queue than one item of a fuzzy scan has.
const LARGE: u64 = 600;

fn open_compacting(dir: &Path, clock: &Arc<ManualClock>) -> File {
    let options = FileOptions::default().sync(SyncPolicy::Never).compact_min_bytes(4096).compact_ratio(0.3);
    File::open(
        dir,
        &options,
        StoreClock::Trusted(Arc::<ManualClock>::clone(clock)),
        &mut |_| (),
        Contents::Store,
        Arc::default(),
    )
    .unwrap()
}

/// Copies the directory as a killed process leaves it: without the last line, which a close writes.
fn copy_as_killed(store: &File) -> tempfile::TempDir {
    store.core.stop_compaction();
    let copy = tempfile::tempdir().unwrap();
    for item in std::fs::read_dir(&store.core.layout.dir).unwrap() {
        let item = item.unwrap();
        std::fs::copy(item.path(), copy.path().join(item.file_name())).unwrap();
    }
    copy
}

fn values(random: &mut Rng, max: u64) -> Vec<Value> {
    let value = |random: &mut Rng| {
        if random.u32(..4) == 0 {
            Value::raw(&vec![random.u8(..); random.usize(..40)])
        } else {
            Value::integer(random.i64(..))
        }
    };
    (0..random.u64(1..=max)).map(|_| value(random)).collect()
}

fn fields(random: &mut Rng, max: u64) -> Vec<(SmolStr, Value)> {
    let from = random.u64(..LARGE);
    values(random, max).into_iter().zip(from..).map(|(value, n)| (format_smolstr!("{n}\n"), value)).collect()
}

/// One operation of a history.
#[derive(Clone)]
enum HistoryStep {
    Entry(Op<'static>),
    Lease(Op<'static, LeaseAction>),
}

fn random_step(random: &mut Rng, leases: &[(Key<'static>, SmolStr)]) -> HistoryStep {
    let name = KEYS[random.usize(..KEYS.len())];
    let is_permanent = name.starts_with("large");
    let end = if random.bool() { End::Front } else { End::Back };
    let millis = |millis| Millis::new(Duration::from_millis(millis)).unwrap();
    let ttl_if_created = (!is_permanent && random.u32(..4) == 0).then(|| millis(random.u64(1..500)));
    let action = match random.u32(..if is_permanent { 88 } else { 100 }) {
        0..20 => EntryAction::Push { end, values: values(random, 20), ttl_if_created },
        20..40 => EntryAction::Pop { end },
        40 => EntryAction::Trim { most: random.u64(LARGE / 2..LARGE) },
        41..60 => EntryAction::MapPut { fields: fields(random, 20), ttl_if_created },
        60..75 => EntryAction::MapDelete { field: format_smolstr!("{}\n", random.u64(..LARGE)) },
        75..80 => {
            EntryAction::MapIncr { field: format_smolstr!("n{}", random.u64(..3)), by: 2, ttl_if_created }
        }
        80..84 => {
            let action =
                LeaseAction::Lease { lease: millis(random.u64(1..500)), dead_letters: None, ttl_if_created };
            return HistoryStep::Lease(Op { key: Key::listed(name.to_owned()), action });
        }
        84..88 => match random.choice(leases) {
            Some((key, id)) => {
                let action = LeaseAction::EndLease { id: id.clone(), back: random.bool(), ttl_if_created };
                return HistoryStep::Lease(Op { key: key.clone(), action });
            }
            None => EntryAction::Persist,
        },
        88..91 => EntryAction::Delete,
        91..94 => EntryAction::Put { value: Value::integer(1), ttl: ttl_if_created },
        94..97 => EntryAction::Expire { ttl: millis(random.u64(1..500)) },
        _ => EntryAction::Persist,
    };
    HistoryStep::Entry(op(name, action))
}

/// Applies some operations, in one line if none of them is about a lease.
fn apply_steps(store: &impl Backend, steps: &[HistoryStep]) -> Vec<Result<Reply>> {
    let entry_op = |step: &HistoryStep| match step {
        HistoryStep::Entry(op) => Some(op.clone()),
        HistoryStep::Lease(_) => None,
    };
    match steps.iter().map(entry_op).collect::<Option<Vec<_>>>() {
        Some(ops) => store.apply_each(ops),
        None => steps.iter().cloned().map(|step| apply_step(store, step)).collect(),
    }
}

fn apply_step(store: &impl Backend, step: HistoryStep) -> Result<Reply> {
    match step {
        HistoryStep::Entry(op) => store.apply(op),
        HistoryStep::Lease(op) => store.apply_lease(op, None),
    }
}

#[test]
fn a_killed_store_opens_with_its_state_whatever_was_compacted() {
    let (mut compactions, mut longest) = (0, 0);
    for seed in 0..12 {
        let random = &mut Rng::with_seed(seed);
        let clock = Arc::new(ManualClock::default());
        let mut dir = tempfile::tempdir().unwrap();
        let mut leases = Vec::new();
        for round in 0..6 {
            let store = open_compacting(dir.path(), &clock);
            for _ in 0..random.u32(1..600) {
                let steps: Vec<_> = (0..random.u32(1..4)).map(|_| random_step(random, &leases)).collect();
                let replies = apply_steps(&store, &steps);
                for (step, reply) in steps.into_iter().zip(replies) {
                    match (step, reply) {
                        (HistoryStep::Lease(op), Ok(Reply::Leased(Some(item)))) => {
                            leases.push((op.key, item.id));
                        }
                        (
                            HistoryStep::Entry(Op { action: EntryAction::Push { .. }, .. }),
                            Ok(Reply::Number(length)),
                        ) => longest = longest.max(length),
                        _ => {}
                    }
                }
                clock.advance(Duration::from_millis(random.u64(..3)));
            }
            let (copy, expected) = (copy_as_killed(&store), state(&store, &KEYS));
            compactions += store.core.journal.lock().number - 1;
            drop(store);
            dir = copy;
            let store = open_compacting(dir.path(), &clock);
            assert_eq!(state(&store, &KEYS), expected, "seed {seed}, round {round}");
        }
    }
    assert!(compactions > 50, "{compactions} compactions are too few");
    assert!(longest > 300, "{longest} values fit in one item of a fuzzy scan");
}

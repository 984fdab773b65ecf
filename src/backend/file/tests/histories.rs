//! Owns random histories of maps, queues and leases over files that are compacted meanwhile: what they hold is
//! what was there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use smol_str::{SmolStr, format_smolstr};

use crate::backend::Backend;
use crate::backend::file::store::File;
use crate::clock::{ManualClock, Millis};
use crate::config::{FileOptions, SyncPolicy};
use crate::error::Result;
use crate::key::{Companion, Key};
use crate::op::{End, EntryAction, LeaseAction, Op, Query, Reply};
use crate::value::Value;

const KEYS: [&str; 5] = ["large map", "large queue", "small", "other", "third"];

/// A piece of a snapshot has fewer parts.
const LARGE: u64 = 600;

fn open(dir: &Path, clock: &Arc<ManualClock>) -> File {
    let options = FileOptions::default().sync(SyncPolicy::Never).compact_min_bytes(4096).compact_ratio(0.3);
    File::open(dir, &options, clock.clone(), &mut |_| ()).unwrap()
}

/// A directory as it is when the process is killed: without the last line that a close writes.
fn killed(store: &File) -> tempfile::TempDir {
    store.core.stop_compaction();
    let copy = tempfile::tempdir().unwrap();
    for item in std::fs::read_dir(&store.core.layout.dir).unwrap() {
        let item = item.unwrap();
        std::fs::copy(item.path(), copy.path().join(item.file_name())).unwrap();
    }
    copy
}

fn values(random: &mut Rng, most: u64) -> Vec<Value> {
    let value = |random: &mut Rng| match random.u32(..4) {
        0 => Value::raw(&vec![random.u8(..); random.usize(..40)]),
        _ => Value::integer(random.i64(..)),
    };
    (0..random.u64(1..=most)).map(|_| value(random)).collect()
}

fn fields(random: &mut Rng, most: u64) -> Vec<(SmolStr, Value)> {
    let from = random.u64(..LARGE);
    values(random, most).into_iter().zip(from..).map(|(value, n)| (format_smolstr!("{n}\n"), value)).collect()
}

/// One operation of a history.
#[derive(Clone)]
enum Step {
    Entry(Op<'static>),
    Lease(Op<'static, LeaseAction>),
}

fn step(random: &mut Rng, leases: &[(Key<'static>, SmolStr)]) -> Step {
    let key = KEYS[random.usize(..KEYS.len())];
    let stays = key.starts_with("large");
    let end = if random.bool() { End::Front } else { End::Back };
    let millis = |millis| Millis::new(Duration::from_millis(millis)).unwrap();
    let ttl_if_created = (!stays && random.u32(..4) == 0).then(|| millis(random.u64(1..500)));
    let action = match random.u32(..if stays { 88 } else { 100 }) {
        0..20 => EntryAction::Push { end, values: values(random, 20), ttl_if_created },
        20..40 => EntryAction::Pop { end },
        40 => EntryAction::Trim { most: random.u64(LARGE / 2..LARGE) },
        41..60 => EntryAction::MapPut { fields: fields(random, 20), ttl_if_created },
        60..75 => EntryAction::MapDelete { field: format_smolstr!("{}\n", random.u64(..LARGE)) },
        75..80 => {
            EntryAction::MapIncr { field: format_smolstr!("n{}", random.u64(..3)), by: 2, ttl_if_created }
        }
        80..84 => {
            let action = LeaseAction::Lease { lease: millis(random.u64(1..500)), ttl_if_created };
            return Step::Lease(Op { key: Key::listed(key.to_owned()), action });
        }
        84..88 => match random.choice(leases) {
            Some((key, id)) => {
                let action = LeaseAction::EndLease { id: id.clone(), back: random.bool(), ttl_if_created };
                return Step::Lease(Op { key: key.clone(), action });
            }
            None => EntryAction::Persist,
        },
        88..91 => EntryAction::Delete,
        91..94 => EntryAction::Put { value: Value::integer(1), ttl: ttl_if_created },
        94..97 => EntryAction::Expire { ttl: millis(random.u64(1..500)) },
        _ => EntryAction::Persist,
    };
    Step::Entry(Op { key: Key::listed(key.to_owned()), action })
}

/// All that lies in a store under some keys, leases included.
pub(crate) fn state(store: &impl Backend, keys: &[&str]) -> Vec<String> {
    let keys: Vec<_> = keys.iter().map(|key| Key::listed((*key).to_owned())).collect();
    let leases: Vec<_> = keys.iter().map(|key| key.companion(Companion::Leases)).collect();
    let whole = [Query::Presence, Query::Value, Query::Map, Query::Items { from: 0, to: u64::MAX }];
    let ask = |key: &Key<'_>| format!("{key:?} {:?}", whole.clone().map(|query| store.ask(key, &query)));
    keys.iter().chain(&leases).map(ask).collect()
}

/// Carries out some operations, as one line if they are all about single entries.
fn apply(store: &impl Backend, steps: &[Step]) -> Vec<Result<Reply>> {
    let entry = |step: &Step| match step {
        Step::Entry(op) => Some(op.clone()),
        Step::Lease(_) => None,
    };
    match steps.iter().map(entry).collect::<Option<Vec<_>>>() {
        Some(ops) => store.apply_each(ops),
        None => steps.iter().cloned().map(|step| apply_step(store, step)).collect(),
    }
}

fn apply_step(store: &impl Backend, step: Step) -> Result<Reply> {
    match step {
        Step::Entry(op) => store.apply(op),
        Step::Lease(op) => store.apply_lease(op, None),
    }
}

#[test]
fn a_history_goes_on_where_it_was_killed_whatever_was_compacted_meanwhile() {
    let (mut compacted, mut longest) = (0, 0);
    for seed in 0..12 {
        let random = &mut Rng::with_seed(seed);
        let clock = Arc::new(ManualClock::default());
        let mut dir = tempfile::tempdir().unwrap();
        let mut leases = Vec::new();
        for round in 0..6 {
            let store = open(dir.path(), &clock);
            for _ in 0..random.u32(1..600) {
                let steps: Vec<_> = (0..random.u32(1..4)).map(|_| step(random, &leases)).collect();
                let replies = apply(&store, &steps);
                for (step, reply) in steps.into_iter().zip(replies) {
                    match (step, reply) {
                        (Step::Lease(op), Ok(Reply::Leased(Some(leased)))) => leases.push((op.key, leased.0)),
                        (
                            Step::Entry(Op { action: EntryAction::Push { .. }, .. }),
                            Ok(Reply::Number(length)),
                        ) => longest = longest.max(length),
                        _ => {}
                    }
                }
                clock.advance(Duration::from_millis(random.u64(..3)));
            }
            let (copy, expected) = (killed(&store), state(&store, &KEYS));
            compacted += store.core.journal.lock().number - 1;
            drop(store);
            dir = copy;
            assert_eq!(state(&open(dir.path(), &clock), &KEYS), expected, "seed {seed}, round {round}");
        }
    }
    assert!(compacted > 50, "{compacted} compactions are too few");
    assert!(longest > 300, "{longest} values fit in one piece of a snapshot");
}

//! Owns random histories of maps, queues and leases over files that are compacted meanwhile: what they hold is
//! what was there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use smol_str::{SmolStr, format_smolstr};

use crate::backend::Backend;
use crate::backend::file::core::File;
use crate::backend::local::plan_multi;
use crate::clock::{ManualClock, Millis};
use crate::config::{FileOptions, SyncPolicy};
use crate::error::Result;
use crate::key::{Companion, Key};
use crate::op::Query;
use crate::op::{Action, End, Op, Reply};
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
    store.core.compactor.stop();
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

fn op(random: &mut Rng, leases: &[(Key<'static>, SmolStr)]) -> Op<'static> {
    let key = KEYS[random.usize(..KEYS.len())];
    let stays = key.starts_with("large");
    let end = if random.bool() { End::Front } else { End::Back };
    let millis = |millis| Millis::new(Duration::from_millis(millis)).unwrap();
    let ttl_if_created = (!stays && random.u32(..4) == 0).then(|| millis(random.u64(1..500)));
    let action = match random.u32(..if stays { 88 } else { 100 }) {
        0..20 => Action::Push { end, values: values(random, 20), ttl_if_created },
        20..40 => Action::Pop { end },
        40 => Action::Trim { most: random.u64(LARGE / 2..LARGE) },
        41..60 => Action::MapPut { fields: fields(random, 20), ttl_if_created },
        60..75 => Action::MapDelete { field: format_smolstr!("{}\n", random.u64(..LARGE)) },
        75..80 => Action::MapIncr { field: format_smolstr!("n{}", random.u64(..3)), by: 2, ttl_if_created },
        80..84 => Action::Lease { lease: millis(random.u64(1..500)), ttl_if_created },
        84..88 => match random.choice(leases) {
            Some((key, id)) => {
                let action = Action::EndLease { id: id.clone(), back: random.bool(), ttl_if_created };
                return Op { key: key.clone(), action };
            }
            None => Action::Persist,
        },
        88..91 => Action::Delete,
        91..94 => Action::Put { value: Value::integer(1), ttl: ttl_if_created },
        94..97 => Action::Expire { ttl: millis(random.u64(1..500)) },
        _ => Action::Persist,
    };
    Op { key: Key::listed(key.to_owned()), action }
}

/// All that lies in a store under some keys, leases included.
pub(crate) fn state(store: &impl Backend, keys: &[&str]) -> Vec<String> {
    let keys: Vec<_> = keys.iter().map(|key| Key::listed((*key).to_owned())).collect();
    let leases: Vec<_> = keys.iter().map(|key| key.companion(Companion::Leases)).collect();
    let whole = [Query::Presence, Query::Value, Query::Map, Query::Items { from: 0, to: u64::MAX }];
    let ask = |key: &Key<'_>| format!("{key:?} {:?}", whole.clone().map(|query| store.ask(key, &query)));
    keys.iter().chain(&leases).map(ask).collect()
}

/// Carries out some operations, as one line where that is possible.
fn apply(store: &impl Backend, ops: &[Op<'static>]) -> Vec<Result<Reply>> {
    match ops.iter().any(|op| plan_multi::keys_to_lock(op).is_some()) {
        true => ops.iter().map(|op| store.apply(op.clone())).collect(),
        false => store.apply_each(ops.to_vec()),
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
                let ops: Vec<Op<'_>> = (0..random.u32(1..4)).map(|_| op(random, &leases)).collect();
                let replies = apply(&store, &ops);
                for (op, reply) in ops.into_iter().zip(replies) {
                    match (op.action, reply) {
                        (Action::Lease { .. }, Ok(Reply::Leased(Some(taken)))) => {
                            leases.push((op.key, taken.0));
                        }
                        (Action::Push { .. }, Ok(Reply::Number(length))) => longest = longest.max(length),
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

//! Owns what the tests of the File variant share: opening a store, operations, and the comparison of states.

use std::path::Path;
use std::sync::Arc;

use crate::backend::Backend;
use crate::backend::file::contents::Contents;
use crate::backend::file::layout::Layout;
use crate::backend::file::store::File;
use crate::backend::file::tests::simulated_fs::SimulatedFs;
use crate::clock::{Clock, ManualClock, SystemClock};
use crate::config::{FileOptions, SyncPolicy};
use crate::error::Result;
use crate::key::{Companion, Key};
use crate::op::{End, EntryAction, Op, Query};
use crate::store_clock::StoreClock;
use crate::value::Value;

pub(crate) fn open(dir: &Path, sync: SyncPolicy) -> File {
    open_with_clock(dir, sync, Arc::new(SystemClock))
}

pub(crate) fn open_with_clock(dir: &Path, sync: SyncPolicy, clock: Arc<dyn Clock>) -> File {
    let options = FileOptions::default().sync(sync);
    File::open(dir, &options, StoreClock::Trusted(clock), &mut |_| (), Contents::Store, Arc::default())
        .unwrap()
}

/// A directory that exists in every simulated file system.
pub(crate) fn simulated_dir() -> &'static Path {
    Path::new("/simulated")
}

/// Opens the store in a simulated file system. It compacts only if a test does.
pub(crate) fn open_simulated(fs: &SimulatedFs, sync: SyncPolicy) -> Result<File> {
    open_simulated_in(&simulated_dir().join("store"), fs, sync)
}

/// Like [`open_simulated`], in another directory.
pub(crate) fn open_simulated_in(dir: &Path, fs: &SimulatedFs, sync: SyncPolicy) -> Result<File> {
    let options = FileOptions::default().sync(sync).compact_ratio(1.0).compact_min_bytes(1 << 30);
    let layout = Layout::create(dir, fs, Contents::Store)?;
    File::open_in(
        layout,
        &options,
        StoreClock::Trusted(Arc::new(ManualClock::default())),
        &mut |_| (),
        Arc::default(),
    )
}

pub(crate) fn key(name: &str) -> Key<'static> {
    Key::listed(name.to_owned())
}

pub(crate) fn op(name: &str, action: EntryAction) -> Op<'static> {
    Op { key: key(name), action }
}

pub(crate) fn put(name: &str, number: i64) -> Op<'static> {
    op(name, EntryAction::Put { value: Value::integer(number), ttl: None })
}

pub(crate) fn put_json(name: &str, json: &[u8]) -> Op<'static> {
    op(name, EntryAction::Put { value: Value::json(json), ttl: None })
}

pub(crate) fn incr(name: &str) -> Op<'static> {
    op(name, EntryAction::Incr { by: 1, ttl_if_created: None })
}

/// Pushes the integers below `count`.
pub(crate) fn push(name: &str, count: i64) -> Op<'static> {
    let values = (0..count).map(Value::integer).collect();
    op(name, EntryAction::Push { end: End::Back, values, ttl_if_created: None })
}

pub(crate) fn map_put(name: &str, field: &str, bytes: usize) -> Op<'static> {
    let fields = vec![(field.into(), Value::raw(&vec![7; bytes]))];
    op(name, EntryAction::MapPut { fields, ttl_if_created: None })
}

/// The content of some keys, including their leases.
pub(crate) fn state(store: &impl Backend, keys: &[&str]) -> Vec<String> {
    let keys: Vec<_> = keys.iter().map(|name| key(name)).collect();
    let leases: Vec<_> = keys.iter().map(|key| key.companion(Companion::Leases)).collect();
    let queries = [Query::Presence, Query::Value, Query::Map, Query::Items { from: 0, to: u64::MAX }];
    let ask = |key: &Key<'_>| format!("{key:?} {:?}", queries.clone().map(|query| store.ask(key, &query)));
    keys.iter().chain(&leases).map(ask).collect()
}

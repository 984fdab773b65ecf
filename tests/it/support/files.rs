//! The directory of a File store, seen from outside: its files, their bytes, and a copy in the state that a
//! crash leaves.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use millpond::{Error, FileOptions, OpenOptions, StateBackend, StateConfig, StateStore, SyncPolicy};
use tempfile::TempDir;

pub(crate) fn config(dir: &Path, sync: SyncPolicy) -> StateConfig {
    StateConfig::default()
        .backend(StateBackend::file(dir))
        .file(FileOptions::default().sync(sync).compact_min_bytes(4096))
}

pub(crate) fn open(dir: &Path, sync: SyncPolicy) -> Result<StateStore, Error> {
    StateStore::with_config(config(dir, sync))
}

pub(crate) fn open_read_only(dir: &Path) -> Result<StateStore, Error> {
    OpenOptions::new().read_only(true).with_config(config(dir, SyncPolicy::Never))
}

pub(crate) fn all(store: &StateStore) -> BTreeMap<String, Vec<u8>> {
    let keys = store.keys("").unwrap();
    keys.into_iter().map(|key| (key.clone(), store.get_bytes(&key).unwrap().unwrap().to_vec())).collect()
}

pub(crate) fn journal(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("journal-{number}.jsonl"))
}

pub(crate) fn snapshot(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("snapshot-{number}.jsonl"))
}

/// Every file of the directory with its bytes.
pub(crate) fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let items = fs::read_dir(dir).unwrap().map(|item| item.unwrap());
    items.map(|item| (item.file_name().into_string().unwrap(), fs::read(item.path()).unwrap())).collect()
}

pub(crate) fn restore(dir: &Path, files: &BTreeMap<String, Vec<u8>>) {
    for item in fs::read_dir(dir).unwrap() {
        fs::remove_file(item.unwrap().path()).unwrap();
    }
    for (name, bytes) in files {
        fs::write(dir.join(name), bytes).unwrap();
    }
}

/// The total size of the files. A file that is renamed during the listing counts once.
pub(crate) fn size(dir: &Path) -> u64 {
    let items = fs::read_dir(dir).unwrap().filter_map(|item| item.ok()?.metadata().ok());
    #[cfg(unix)]
    let sizes: BTreeMap<u64, u64> =
        items.map(|file| (std::os::unix::fs::MetadataExt::ino(&file), file.len())).collect();
    #[cfg(not(unix))]
    let sizes: BTreeMap<usize, u64> = items.map(|file| file.len()).enumerate().collect();
    sizes.values().sum()
}

/// A copy of a store's directory in the state that a crash leaves: without the last line that a close writes,
/// and without the zeros of a preallocated journal. The store must be too small to be compacted during the
/// copy.
pub(crate) fn crashed_copy(dir: &Path) -> TempDir {
    let mut files = files(dir);
    files.values_mut().for_each(trim);
    let copy = tempfile::tempdir().unwrap();
    restore(copy.path(), &files);
    copy
}

/// Removes the zeros at the end.
fn trim(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
}

/// A line of the format, with a valid checksum.
pub(crate) fn line(fields: &str) -> String {
    let rest = format!("\"{fields}}}");
    format!("{{\"c\":\"{:08x}{rest}\n", crc32fast::hash(rest.as_bytes()))
}

/// The header of the replay queue in a directory, as the newest line states it.
#[cfg(feature = "redis")]
pub(crate) fn queue_header(dir: &Path) -> String {
    const KEY: &str = "\"k\":\"header\",\"v\":";
    // A snapshot holds the state before the journal of its number.
    let mut files: Vec<_> = files(dir)
        .into_iter()
        .filter(|(name, _)| name.starts_with("journal") || name.starts_with("snapshot"))
        .collect();
    files.sort_by_key(|(name, _)| (name.split('-').nth(1).map(str::to_owned), name.starts_with("journal")));
    let text: String = files.iter().map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).collect();
    let (_, header) = text.rsplit_once(KEY).expect("a journal with a header");
    let (fields, _) = header.split_once('}').expect("a whole header");
    format!("{fields}}}")
}

/// Adds a line with this header to the replay queue in the directory of a store that is not open.
#[cfg(feature = "redis")]
pub(crate) fn set_queue_header(dir: &Path, header: &str) {
    let (path, text) = newest_journal(dir);
    let (mut kept, mut last) = (String::new(), 0);
    for whole in text.lines().filter(|line| !line.contains("\"closed\":true")) {
        let fields: serde_json::Value = serde_json::from_str(whole).unwrap();
        last = fields["s"].as_u64().unwrap();
        kept += whole;
        kept += "\n";
    }
    let sequence = last + 1;
    kept += &line(&format!(",\"s\":{sequence},\"d\":0,\"w\":[{{\"k\":\"header\",\"v\":{header}}}]"));
    fs::write(path, kept).unwrap();
    // What a closing noted of the journal's end.
    fs::write(dir.join("LOCK"), "").unwrap();
}

/// The journal with the highest number, and its text without the zeros of a preallocated journal.
#[cfg(feature = "redis")]
fn newest_journal(dir: &Path) -> (std::path::PathBuf, String) {
    let number = |name: &str| name.strip_prefix("journal-")?.strip_suffix(".jsonl")?.parse::<u64>().ok();
    let mut journals: Vec<_> =
        files(dir).into_iter().filter_map(|(name, bytes)| Some((number(&name)?, name, bytes))).collect();
    journals.sort();
    let (_, name, mut bytes) = journals.pop().expect("a journal");
    trim(&mut bytes);
    (dir.join(name), String::from_utf8(bytes).unwrap())
}

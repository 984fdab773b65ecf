//! Opening a million entries, from a journal and from a snapshot, compared with reading the same lines as
//! `serde_json::Value`s into a map; and the memory of the opened store, in a process that does nothing else.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use millpond_benches::directory;
use millpond_benches::measure::{Cell, Contender, Timing};
use millpond_benches::report::{self, Bar, Limit};
use serde_json::Value;
use tempfile::TempDir;

use crate::ROUNDS;
use crate::entries::{Entries, JOURNAL_ONLY, open};

pub const COUNT: usize = 1_000_000;
const VALUES: &str = "lines as Value";
const BARS: &[Bar] = &[Bar { group: VALUES, at_least: 2.0 }];
const OPEN_ROUNDS: usize = 5;
/// Resident bytes per byte of keys and values.
const MEMORY_BAR: f64 = 2.2;

/// With this argument the program opens one directory and prints how much memory that took.
pub const RESIDENT: &str = "--resident";

/// The same entries, once as a journal and once as a snapshot. Each opening adds two lines.
pub struct Stores {
    scratch: TempDir,
    /// The number of bytes in all keys and values.
    bytes: u64,
}

impl Stores {
    pub fn fill() -> Self {
        let mut stores = Self { scratch: millpond_benches::scratch(), bytes: 0 };
        let store = open(&stores.journal(), JOURNAL_ONLY);
        stores.bytes = Entries::default().fill(&store, COUNT);
        store.close().unwrap();
        assert_eq!(directory::look(&stores.journal()).snapshot, 0);

        fs::create_dir(stores.snapshot()).unwrap();
        for item in fs::read_dir(stores.journal()).unwrap() {
            let item = item.unwrap();
            fs::copy(item.path(), stores.snapshot().join(item.file_name())).unwrap();
        }
        // More than a tenth of a journal is syntax around the entries, so opening begins a compaction.
        let store = open(&stores.snapshot(), "sync=never&compact_ratio=0.1&compact_min_bytes=4096");
        directory::wait_for_compaction(&stores.snapshot());
        store.close().unwrap();
        assert!(directory::look(&stores.snapshot()).snapshot > 0, "opening began no compaction");
        stores
    }

    fn journal(&self) -> PathBuf {
        self.scratch.path().join("journal")
    }

    pub fn snapshot(&self) -> PathBuf {
        self.scratch.path().join("snapshot")
    }

    fn both(&self) -> [(&'static str, PathBuf); 2] {
        [("journal", self.journal()), ("snapshot", self.snapshot())]
    }
}

/// In this cell, one operation is one entry.
pub fn times(stores: &Stores) {
    for (name, directory) in stores.both() {
        let name = match name {
            "journal" => "open 1 000 000 entries, journal",
            _ => "open 1 000 000 entries, snapshot",
        };
        let ours = Contender::ours_timed(|| {
            let start = Instant::now();
            let store = open(&directory, JOURNAL_ONLY);
            let taken = start.elapsed();
            Entries::default().get(&store, COUNT / 2);
            store.close().unwrap();
            COUNT as f64 / taken.as_secs_f64()
        });
        let peer = Contender::timed(VALUES, VALUES, || {
            let start = Instant::now();
            let values = read_lines(&directory);
            let taken = start.elapsed();
            assert_eq!(values.len(), COUNT);
            COUNT as f64 / taken.as_secs_f64()
        });
        Cell { name, threads: 1, keys: COUNT, steps: 1, operations: 1, bars: BARS }
            .compare_in(Timing::usual().rounds(OPEN_ROUNDS), &[ours, peer]);
    }
}

/// Reads the newest snapshot and the journals after it, line by line, as a program would that needs only the
/// entries.
fn read_lines(directory: &Path) -> HashMap<String, Value> {
    let found = fs::read_dir(directory).unwrap().map(|item| item.unwrap().path());
    let mut files: Vec<(u64, bool, PathBuf)> = found
        .filter_map(|path| {
            let (kind, number) = path.file_name()?.to_str()?.strip_suffix(".jsonl")?.split_once('-')?;
            // If a snapshot and a journal have the same number, the snapshot comes first.
            Some((number.parse().ok()?, kind == "journal", path.clone()))
        })
        .collect();
    files.sort();
    let mut values = HashMap::new();
    let mut line = Vec::new();
    for (_, _, path) in files {
        let mut reader = BufReader::with_capacity(1 << 16, File::open(path).unwrap());
        while reader.read_until(b'\n', &mut line).unwrap() > 0 {
            let mut object: Value = serde_json::from_slice(&line).unwrap();
            if let Some(Value::Array(facts)) = object.get_mut("w").map(Value::take) {
                for mut fact in facts {
                    let Value::String(key) = fact["k"].take() else { panic!("an entry without a key") };
                    values.insert(key, fact["v"].take());
                }
            }
            line.clear();
        }
    }
    values
}

/// Measures the memory of an open store in a process of its own.
pub fn memory(stores: &Stores) {
    for (name, directory) in stores.both() {
        let (mut resident, mut peak) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let program = std::env::current_exe().unwrap();
            let output = Command::new(program).arg(RESIDENT).arg(&directory).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let text = String::from_utf8(output.stdout).unwrap();
            let numbers: Vec<f64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
            resident.push(numbers[0] / stores.bytes as f64);
            peak.push(numbers[1] / stores.bytes as f64);
        }
        let per = "per byte of keys and values";
        let limit = Limit::Median(MEMORY_BAR);
        report::quantity(&format!("resident {per}, opened from a {name}"), 1, &resident, "", limit);
        report::quantity(&format!("peak resident {per}, {name}"), 1, &peak, "", Limit::None);
    }
}

/// Prints by how many bytes the memory of this process grows on opening, at the end and at the peak.
pub fn print_resident(directory: &Path) {
    let before = status("VmRSS");
    let store = open(directory, JOURNAL_ONLY);
    println!("{} {}", status("VmRSS") - before, status("VmHWM") - before);
    Entries::default().get(&store, COUNT - 1);
    store.close().unwrap();
}

/// Reads one line of `/proc/self/status`, in bytes.
fn status(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").expect("the status of this process");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB")).expect("a number of kB");
    number.parse::<u64>().expect("a number of kB") * 1024
}

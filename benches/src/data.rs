//! Keys, and values that name their key and change with every write.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// The length of a byte value; the JSON text of a [`Reading`] is about as long.
pub const VALUE_BYTES: usize = 100;

/// `count` keys that begin with `prefix`.
pub fn keys(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|index| format!("{prefix}sensor:{index:07}")).collect()
}

/// The first counter value of a new writer: no two writers write the same values. A database may notice that
/// a value has not changed, and do nothing.
fn first_count() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1_000_003, Ordering::Relaxed)
}

/// Makes byte values: the index of the key, a counter, and filler.
pub struct BytesWriter {
    value: Vec<u8>,
    count: u64,
}

impl Default for BytesWriter {
    fn default() -> Self {
        Self::of(VALUE_BYTES)
    }
}

impl BytesWriter {
    /// A writer of values of this length, which is at least 17.
    pub fn of(length: usize) -> Self {
        Self { value: (0..length).map(filling).collect(), count: first_count() }
    }

    pub fn length(&self) -> usize {
        self.value.len()
    }

    pub fn next(&mut self, index: usize) -> &[u8] {
        self.count += 1;
        self.value[..8].copy_from_slice(&(index as u64).to_le_bytes());
        self.value[8..16].copy_from_slice(&self.count.to_le_bytes());
        &self.value
    }
}

/// Panics unless these bytes were written for this key.
pub fn check_bytes(value: &[u8], index: usize) {
    check_bytes_of(VALUE_BYTES, value, index);
}

/// Like [`check_bytes`], for values of this length.
pub fn check_bytes_of(length: usize, value: &[u8], index: usize) {
    let belongs = value.len() == length
        && value[..8] == (index as u64).to_le_bytes()
        && value[length - 1] == filling(length - 1);
    assert!(belongs, "wrong read: key {index} holds {value:?}");
}

fn filling(place: usize) -> u8 {
    255 - (place % 256) as u8
}

/// A value of the JSON cells, as it is read.
#[derive(Debug, Deserialize)]
pub struct Reading {
    sensor: u64,
    count: u64,
    level: f64,
    place: String,
}

/// The same value as it is written: making one allocates nothing.
#[derive(Clone, Copy, Serialize)]
pub struct NewReading {
    sensor: u64,
    count: u64,
    level: f64,
    place: &'static str,
}

const PLACE: &str = "mill pond, lower sluice, north gate";

impl NewReading {
    pub fn of(index: usize, count: u64) -> Self {
        Self { sensor: index as u64, count, level: level(count), place: PLACE }
    }
}

fn level(count: u64) -> f64 {
    (count % 4096) as f64 / 8.0
}

impl Reading {
    /// Panics unless this reading was written for this key.
    pub fn check(&self, index: usize) {
        let belongs = self.sensor == index as u64 && self.level == level(self.count) && self.place == PLACE;
        assert!(belongs, "wrong read: key {index} holds {self:?}");
    }
}

/// Panics unless this text is that of a reading that was written for this key.
pub fn check_json(text: &[u8], index: usize) {
    let reading: Reading = serde_json::from_slice(text).expect("the text of a reading");
    reading.check(index);
}

/// Makes readings, and their text in a buffer that is reused.
pub struct ReadingWriter {
    count: u64,
    text: Vec<u8>,
}

impl Default for ReadingWriter {
    fn default() -> Self {
        Self { count: first_count(), text: Vec::new() }
    }
}

impl ReadingWriter {
    pub fn next(&mut self, index: usize) -> NewReading {
        self.count += 1;
        NewReading::of(index, self.count)
    }

    pub fn next_text(&mut self, index: usize) -> &[u8] {
        let reading = self.next(index);
        self.text.clear();
        serde_json::to_writer(&mut self.text, &reading).expect("a reading as JSON");
        &self.text
    }
}

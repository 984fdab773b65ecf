//! The results that a writer got for its writes, and whether a server holds exactly those.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use millpond::{Error, Result, StateStore};

use super::chain;

/// The writes of one thread, to keys of its own and to shared keys.
pub(crate) struct Ledger {
    writer: i64,
    next: i64,
    /// The possible values of keys of its own, and of fields of its own in shared maps: only one unless a
    /// reply was lost.
    values: HashMap<String, Vec<Option<i64>>>,
    fields: BTreeMap<String, HashMap<String, Vec<Option<i64>>>>,
    /// The amounts that were certainly added to shared counters, and those that were possibly added.
    sums: BTreeMap<String, (i64, i64)>,
    /// The values that were pushed to shared queues, in order, and whether that is certain.
    pushes: BTreeMap<String, Vec<(i64, bool)>>,
    pub(crate) figures: Figures,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) operations: u64,
    pub(crate) doubtful: u64,
    /// Reads of a key whose value was not known.
    pub(crate) unknown: u64,
    pub(crate) longest: Duration,
}

impl Figures {
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            operations: self.operations + other.operations,
            doubtful: self.doubtful + other.doubtful,
            unknown: self.unknown + other.unknown,
            longest: self.longest.max(other.longest),
        }
    }
}

/// Differences between the server and the promises.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Acknowledged writes that are missing.
    pub(crate) lost: Vec<String>,
    /// Writes that were applied twice, or that no writer made.
    pub(crate) doubled: Vec<String>,
    /// An older write is in the place of a newer one, or after it.
    pub(crate) disordered: Vec<String>,
}

impl Ledger {
    pub(crate) fn new(writer: i64) -> Self {
        Self {
            writer,
            next: 0,
            values: HashMap::new(),
            fields: BTreeMap::new(),
            sums: BTreeMap::new(),
            pushes: BTreeMap::new(),
            figures: Figures::default(),
        }
    }

    /// Makes one write or read, of those that are served during an outage.
    pub(crate) fn step(&mut self, store: &StateStore, random: &mut fastrand::Rng) {
        self.next += 1;
        let (writer, number, shared) = (self.writer, self.next, random.u8(..3));
        let again = format!("again:{writer}:{}", random.u8(..8));
        match random.u8(..10) {
            0 | 1 => self.put(store, format!("once:{writer}:{number}")),
            2 | 3 => self.put(store, again),
            4 => {
                let sure = self.call("delete", || store.delete(&again));
                promise(self.values.entry(again).or_default(), None, sure);
            }
            5 => self.read(store, &again),
            6 => {
                let (key, by) = (format!("sum:{shared}"), random.i64(1..10));
                let sure = self.call("incr", || store.incr(&key, by));
                let sum = self.sums.entry(key).or_default();
                *(if sure { &mut sum.0 } else { &mut sum.1 }) += by;
            }
            7 | 8 => {
                let (key, item) = (format!("queue:{shared}"), number * 10 + writer);
                let sure = self.call("push_back", || store.push_back(&key, item));
                self.pushes.entry(key).or_default().push((item, sure));
            }
            _ => {
                let (key, field) = (format!("map:{shared}"), format!("{writer}:{number}"));
                let sure = self.call("map_put", || store.map_put(&key, &field, number));
                promise(self.fields.entry(key).or_default().entry(field).or_default(), Some(number), sure);
            }
        }
    }

    fn put(&mut self, store: &StateStore, key: String) {
        let number = self.next;
        let sure = self.call("put", || store.put(&key, number));
        promise(self.values.entry(key).or_default(), Some(number), sure);
    }

    /// A writer sees its own writes, both on the server and locally.
    fn read(&mut self, store: &StateStore, key: &str) {
        self.figures.operations += 1;
        match store.get::<i64>(key) {
            Ok(found) => {
                let promised = self.values.get(key).map_or(&[None][..], |promised| promised);
                assert!(promised.contains(&found), "{key} reads {found:?}, not one of {promised:?}");
            }
            Err(Error::Unavailable { .. }) => self.figures.unknown += 1,
            Err(error) => panic!("a read failed: {:?}", chain(&error)),
        }
    }

    /// Makes a write that must not be refused; returns whether it was acknowledged, or is in doubt.
    fn call<T>(&mut self, name: &str, call: impl FnOnce() -> Result<T>) -> bool {
        let begun = Instant::now();
        let outcome = call();
        self.figures.operations += 1;
        self.figures.longest = self.figures.longest.max(begun.elapsed());
        match outcome {
            Ok(_) => true,
            Err(Error::Unavailable { maybe_applied: true, .. }) => {
                self.figures.doubtful += 1;
                false
            }
            Err(error) => panic!("{name} was refused after {:?}: {:?}", begun.elapsed(), chain(&error)),
        }
    }
}

/// Records a possible value.
fn promise(promised: &mut Vec<Option<i64>>, value: Option<i64>, sure: bool) {
    if sure {
        promised.clear();
    } else if promised.is_empty() {
        promised.push(None);
    }
    promised.push(value);
}

/// Compares the data on a server with the results that all writers got.
pub(crate) fn audit(store: &StateStore, ledgers: &[Ledger]) -> Faults {
    let mut faults = Faults::default();
    let values = ledgers.iter().flat_map(|ledger| &ledger.values);
    let found = ["once:", "again:"].map(|prefix| store.entries::<i64>(prefix).map(Result::unwrap));
    faults.compare("", values, found.into_iter().flatten().collect());
    for map in keys(ledgers, |ledger| &ledger.fields) {
        let fields = ledgers.iter().filter_map(|ledger| ledger.fields.get(map)).flatten();
        faults.compare(map, fields, store.map_entries(map).unwrap());
    }
    for key in keys(ledgers, |ledger| &ledger.sums) {
        let sums = ledgers.iter().filter_map(|ledger| ledger.sums.get(key));
        let (sure, doubtful) = sums.fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1));
        let sum = store.get::<i64>(key).unwrap().unwrap_or(0);
        if sum < sure {
            faults.lost.push(format!("{key}: {sum} of {sure}"));
        } else if sum > sure + doubtful {
            faults.doubled.push(format!("{key}: {sum}, at most {sure} and {doubtful}"));
        }
    }
    for key in keys(ledgers, |ledger| &ledger.pushes) {
        let found: Vec<i64> = store.queue_range(key, ..).unwrap();
        let pushes = ledgers.iter().map(|ledger| ledger.pushes.get(key).map_or(&[][..], |pushes| pushes));
        faults.queue(key, pushes, &found);
    }
    faults
}

/// The names that any of the writers used.
fn keys<T: 'static>(ledgers: &[Ledger], of: fn(&Ledger) -> &BTreeMap<String, T>) -> BTreeSet<&str> {
    ledgers.iter().flat_map(|ledger| of(ledger).keys()).map(String::as_str).collect()
}

impl Faults {
    fn compare<'v>(
        &mut self,
        place: &str,
        promised: impl Iterator<Item = (&'v String, &'v Vec<Option<i64>>)>,
        mut found: BTreeMap<String, i64>,
    ) {
        for (name, promised) in promised {
            let found = found.remove(name);
            if !promised.contains(&found) {
                let text = format!("{place} {name}: {found:?}, not one of {promised:?}");
                let faults = if found.is_none() { &mut self.lost } else { &mut self.disordered };
                faults.push(text);
            }
        }
        self.doubled.extend(found.into_iter().map(|(name, value)| format!("{place} {name}: {value}")));
    }

    /// Each acknowledged push is in the queue once, and the pushes of one writer are in order.
    fn queue<'p>(&mut self, key: &str, pushes: impl Iterator<Item = &'p [(i64, bool)]>, found: &[i64]) {
        let mut places: HashMap<i64, usize> = HashMap::new();
        for (place, item) in found.iter().enumerate() {
            if places.insert(*item, place).is_some() {
                self.doubled.push(format!("{key}: {item}"));
            }
        }
        for pushes in pushes {
            let mut before = None;
            for (item, sure) in pushes {
                match places.remove(item) {
                    Some(place) if before.is_none_or(|before| before < place) => before = Some(place),
                    Some(_) => self.disordered.push(format!("{key}: {item}")),
                    None if *sure => self.lost.push(format!("{key}: {item}")),
                    None => {}
                }
            }
        }
        self.doubled.extend(places.into_keys().map(|item| format!("{key}: {item}, which no writer pushed")));
    }
}

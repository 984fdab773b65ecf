//! The model: a sorted map, a clock, and the rules of the store in their simplest form. The rules for maps
//! and queues are in `reference_kinds`.

use std::collections::{BTreeMap, VecDeque};

use millpond::Kind;

use super::content::Content;

/// When an entry expires, in ticks.
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
    Map(BTreeMap<String, Content>),
    Queue(VecDeque<Content>),
}

impl Value {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Json(_) | Self::Bytes(_) => Kind::Value,
            Self::Map(_) => Kind::Map,
            Self::Queue(_) => Kind::Queue,
        }
    }

    /// The bytes of a single value.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Json(content) => content.json().into_bytes(),
            Self::Bytes(bytes) => bytes.clone(),
            Self::Map(_) | Self::Queue(_) => unreachable!("the kind was checked before"),
        }
    }

    /// The value that `compare_and_set` compares with: bytes that are not JSON are equal to no value.
    fn content(&self) -> Option<Content> {
        match self {
            Self::Json(content) => Some(content.clone()),
            Self::Bytes(bytes) if bytes == b"7" => Some(Content::Integer(7)),
            Self::Bytes(bytes) if bytes == b"-0" => Some(Content::Integer(0)),
            Self::Bytes(_) | Self::Map(_) | Self::Queue(_) => None,
        }
    }

    /// The number that `get::<i64>` reads; JSON has a `-0` but no `01`.
    fn number(&self) -> Option<i64> {
        match self {
            Self::Json(Content::Integer(number)) => Some(*number),
            Self::Bytes(bytes) if bytes == b"7" => Some(7),
            Self::Json(_) | Self::Bytes(_) | Self::Map(_) | Self::Queue(_) => None,
        }
    }
}

/// Why an operation is refused, or has nothing to return.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Refusal {
    WrongType { key: String, expected: Kind, found: Kind },
    NotAnInteger,
    Overflow,
    Decode(Vec<u8>),
}

pub(crate) type Answer<T> = Result<T, Refusal>;

#[derive(Debug, Clone, Default)]
pub(crate) struct Reference {
    pub(super) entries: BTreeMap<String, Entry>,
    now: u64,
    default_ttl: Option<u64>,
}

impl Reference {
    pub(crate) fn new(default_ttl: Option<u64>) -> Self {
        Self { default_ttl, ..Self::default() }
    }

    /// Advances the clock; an entry expires at its deadline.
    pub(crate) fn advance(&mut self, ticks: u64) {
        self.now += ticks;
        let now = self.now;
        self.entries.retain(|_, entry| entry.deadline.is_none_or(|deadline| deadline > now));
    }

    /// The entry under a key, of any kind.
    pub(crate) fn find(&self, key: &str) -> Option<&Value> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// The entry under a key, if it has this kind; `None` if it is absent.
    pub(super) fn of(&self, key: &str, expected: Kind) -> Answer<Option<&Value>> {
        match self.find(key) {
            Some(value) if value.kind() != expected => {
                Err(Refusal::WrongType { key: key.to_owned(), expected, found: value.kind() })
            }
            found => Ok(found),
        }
    }

    pub(crate) fn bytes(&self, key: &str) -> Answer<Option<Vec<u8>>> {
        Ok(self.of(key, Kind::Value)?.map(Value::bytes))
    }

    pub(crate) fn number(&self, key: &str) -> Answer<Option<i64>> {
        let Some(value) = self.of(key, Kind::Value)? else { return Ok(None) };
        value.number().map(Some).ok_or_else(|| Refusal::Decode(value.bytes()))
    }

    /// How many ticks an existing entry has left; `None` if it never expires.
    pub(crate) fn ticks_left(&self, key: &str) -> Option<u64> {
        self.entries.get(key)?.deadline.map(|deadline| deadline - self.now)
    }

    pub(crate) fn put(&mut self, key: &str, value: Value, ttl: Option<u64>) {
        let deadline = ttl.or(self.default_ttl).map(|ttl| self.now + ttl);
        self.entries.insert(key.to_owned(), Entry { value, deadline });
    }

    /// Changes the value in place, or creates it.
    pub(super) fn change(&mut self, key: &str, value: Value, birth_ttl: Option<u64>) {
        match self.entries.get_mut(key) {
            Some(entry) => entry.value = value,
            None => self.put(key, value, birth_ttl),
        }
    }

    pub(crate) fn update(&mut self, key: &str, value: Content) -> Answer<bool> {
        self.of(key, Kind::Value)?;
        Ok(self.entries.get_mut(key).map(|entry| entry.value = Value::Json(value)).is_some())
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

    pub(crate) fn compare_and_set(
        &mut self,
        key: &str,
        expected: Option<&Content>,
        new: &Content,
    ) -> Answer<bool> {
        let same = match (self.of(key, Kind::Value)?, expected) {
            (None, None) => true,
            (Some(found), Some(expected)) => found.content().is_some_and(|found| found.same(expected)),
            _ => false,
        };
        if same {
            self.change(key, Value::Json(new.clone()), None);
        }
        Ok(same)
    }

    pub(crate) fn get_and_delete(&mut self, key: &str) -> Answer<Option<i64>> {
        self.of(key, Kind::Value)?;
        let found = self.number(key);
        self.delete(key);
        found
    }

    pub(crate) fn get_and_put(&mut self, key: &str, value: &Content) -> Answer<Option<i64>> {
        self.of(key, Kind::Value)?;
        let found = self.number(key);
        self.put(key, Value::Json(value.clone()), None);
        found
    }

    pub(crate) fn get_and_touch(&mut self, key: &str, ttl: u64) -> Answer<Option<i64>> {
        self.of(key, Kind::Value)?;
        self.expire(key, ttl);
        self.number(key)
    }

    pub(crate) fn modify(&mut self, key: &str, by: i64) -> Answer<Option<i64>> {
        let after = self.number(key)?.unwrap_or_default().wrapping_add(by);
        self.change(key, Value::Json(Content::Integer(after)), None);
        Ok(Some(after))
    }

    /// Removes a value that can be parsed as JSON.
    pub(crate) fn modify_away(&mut self, key: &str) -> Answer<bool> {
        if let Some(bytes) = self.bytes(key)?
            && serde_json::from_slice::<serde_json::Value>(&bytes).is_err()
        {
            return Err(Refusal::Decode(bytes));
        }
        self.delete(key);
        Ok(false)
    }

    pub(crate) fn incr(&mut self, key: &str, by: i64, birth_ttl: Option<u64>) -> Answer<i64> {
        let before = match self.of(key, Kind::Value)? {
            None => 0,
            Some(value) => value.number().ok_or(Refusal::NotAnInteger)?,
        };
        let after = before.checked_add(by).ok_or(Refusal::Overflow)?;
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

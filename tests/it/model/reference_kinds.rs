//! The rules of the model for maps and queues.

use std::collections::{BTreeMap, VecDeque};

use millpond::Kind;

use super::content::Content;
use super::reference::{Answer, Reference, Refusal, Value};

/// The number that `get::<i64>` reads.
fn number(content: &Content) -> Answer<i64> {
    match content {
        Content::Integer(number) => Ok(*number),
        Content::Float(_) | Content::Text(_) | Content::Null | Content::Object { .. } => {
            Err(Refusal::Decode(content.json().into_bytes()))
        }
    }
}

impl Reference {
    /// A map; an absent one is empty.
    pub(crate) fn map(&self, key: &str) -> Answer<BTreeMap<String, Content>> {
        Ok(match self.of(key, Kind::Map)? {
            Some(Value::Map(map)) => map.clone(),
            _ => BTreeMap::new(),
        })
    }

    /// A queue; an absent one is empty.
    pub(crate) fn queue(&self, key: &str) -> Answer<VecDeque<Content>> {
        Ok(match self.of(key, Kind::Queue)? {
            Some(Value::Queue(queue)) => queue.clone(),
            _ => VecDeque::new(),
        })
    }

    /// Stores a map or a queue; an empty one is removed, with its time to live.
    fn set(&mut self, key: &str, value: Value) {
        let empty = match &value {
            Value::Map(map) => map.is_empty(),
            Value::Queue(queue) => queue.is_empty(),
            Value::Json(_) | Value::Bytes(_) => false,
        };
        if empty {
            self.delete(key);
        } else {
            self.change(key, value, None);
        }
    }

    pub(crate) fn map_put_many(&mut self, key: &str, fields: &[(&str, Content)]) -> Answer<u64> {
        let mut map = self.map(key)?;
        let before = map.len();
        map.extend(fields.iter().map(|(field, value)| ((*field).to_owned(), value.clone())));
        let new = map.len() - before;
        self.set(key, Value::Map(map));
        Ok(new as u64)
    }

    pub(crate) fn map_get(&self, key: &str, field: &str) -> Answer<Option<i64>> {
        self.map(key)?.get(field).map(number).transpose()
    }

    pub(crate) fn map_delete(&mut self, key: &str, field: &str) -> Answer<bool> {
        let mut map = self.map(key)?;
        let was_there = map.remove(field).is_some();
        self.set(key, Value::Map(map));
        Ok(was_there)
    }

    pub(crate) fn map_incr(&mut self, key: &str, field: &str, by: i64) -> Answer<i64> {
        let mut map = self.map(key)?;
        let before = match map.get(field) {
            None => 0,
            Some(value) => number(value).map_err(|_| Refusal::NotAnInteger)?,
        };
        let after = before.checked_add(by).ok_or(Refusal::Overflow)?;
        map.insert(field.to_owned(), Content::Integer(after));
        self.set(key, Value::Map(map));
        Ok(after)
    }

    pub(crate) fn push(&mut self, key: &str, front: bool, values: &[Content]) -> Answer<u64> {
        let mut queue = self.queue(key)?;
        for value in values {
            if front { queue.push_front(value.clone()) } else { queue.push_back(value.clone()) }
        }
        let length = queue.len() as u64;
        self.set(key, Value::Queue(queue));
        Ok(length)
    }

    /// Removes a value from one end, whether it is a number or not.
    pub(crate) fn pop(&mut self, key: &str, front: bool) -> Answer<Option<Content>> {
        let mut queue = self.queue(key)?;
        let value = if front { queue.pop_front() } else { queue.pop_back() };
        self.set(key, Value::Queue(queue));
        Ok(value)
    }

    pub(crate) fn pop_number(&mut self, key: &str, front: bool) -> Answer<Option<i64>> {
        self.pop(key, front)?.as_ref().map(number).transpose()
    }

    pub(crate) fn trim(&mut self, key: &str, max: u64) -> Answer<u64> {
        let mut dropped = 0;
        while self.queue(key)?.len() as u64 > max {
            self.pop(key, true)?;
            dropped += 1;
        }
        Ok(dropped)
    }

    pub(crate) fn range(&self, key: &str, from: u64, to: u64) -> Answer<Vec<i64>> {
        let queue = self.queue(key)?;
        let places = (0..).zip(&queue).filter(|(place, _)| (from..to).contains(place));
        places.map(|(_, value)| number(value)).collect()
    }
}

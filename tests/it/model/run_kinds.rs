//! Runs the steps on maps and queues, and compares the data under a key, of any kind.

use std::collections::BTreeMap;

use millpond::{Kind, Result, Ttl};
use serde_json::value::RawValue;

use super::content::Content;
use super::operation::KEYS;
use super::reference::Value;
use super::run::Failure;
use super::run_values::{Stepping, Target, on, same};
use super::step::{FIELDS, Step};

fn text(raw: &RawValue) -> String {
    raw.get().to_owned()
}

impl Stepping<'_, '_> {
    pub(super) fn map(&mut self, step: &Step) -> Result<(), Failure> {
        match step {
            Step::MapPut { key, field, value } => {
                let told = on!(&mut self.target, it => it.map_put(KEYS[*key], FIELDS[*field], value));
                let new = self.model.map_put_many(&self.full(*key), &[(FIELDS[*field], value.clone())]);
                same(told, new.map(|new| new > 0))
            }
            Step::MapPutMany { key, fields } => {
                let fields: Vec<(&str, Content)> =
                    fields.iter().map(|(field, value)| (FIELDS[*field], value.clone())).collect();
                let told = on!(&mut self.target, it => it.map_put_many(KEYS[*key], fields.clone()));
                same(told, self.model.map_put_many(&self.full(*key), &fields))
            }
            Step::MapGet { key, field } => {
                let told = on!(&mut self.target, it => it.map_get(KEYS[*key], FIELDS[*field]));
                same(told, self.model.map_get(&self.full(*key), FIELDS[*field]))
            }
            Step::MapGetMany { key, fields } => {
                let fields = fields.iter().map(|field| FIELDS[*field]);
                let told = on!(&mut self.target, it => it.map_get_many(KEYS[*key], fields.clone()));
                let full = self.full(*key);
                let known = self.model.map(&full);
                same(told, known.and_then(|_| fields.map(|field| self.model.map_get(&full, field)).collect()))
            }
            Step::MapDelete { key, field } => {
                let told = on!(&mut self.target, it => it.map_delete(KEYS[*key], FIELDS[*field]));
                same(told, self.model.map_delete(&self.full(*key), FIELDS[*field]))
            }
            Step::MapIncr { key, field, by } => {
                let told = on!(&mut self.target, it => it.map_incr(KEYS[*key], FIELDS[*field], *by));
                same(told, self.model.map_incr(&self.full(*key), FIELDS[*field], *by))
            }
            other => unreachable!("{other:?}"),
        }
    }

    pub(super) fn queue(&mut self, step: &Step) -> Result<(), Failure> {
        match step {
            Step::Push { key, front, value } => {
                let told = if *front {
                    on!(&mut self.target, it => it.push_front(KEYS[*key], value))
                } else {
                    on!(&mut self.target, it => it.push_back(KEYS[*key], value))
                };
                same(told, self.model.push(&self.full(*key), *front, std::slice::from_ref(value)))
            }
            Step::PushMany { key, values } => {
                let told = on!(&mut self.target, it => it.push_back_many(KEYS[*key], values));
                same(told, self.model.push(&self.full(*key), false, values))
            }
            Step::Pop { key, front } => {
                let told = if *front {
                    on!(&mut self.target, it => it.pop_front(KEYS[*key]))
                } else {
                    on!(&mut self.target, it => it.pop_back(KEYS[*key]))
                };
                same(told, self.model.pop_number(&self.full(*key), *front))
            }
            Step::Trim { key, max } => {
                let told = on!(&mut self.target, it => it.queue_trim(KEYS[*key], *max));
                same(told, self.model.trim(&self.full(*key), *max))
            }
            Step::Range { key, from, to } => {
                let told = on!(&mut self.target, it => it.queue_range(KEYS[*key], *from..*to));
                same(told, self.model.range(&self.full(*key), *from, *to))
            }
            other => unreachable!("{other:?}"),
        }
    }

    /// Compares the data under a key, the errors of operations on other kinds, and the time to live.
    pub(super) fn compare_key(&mut self, key: &str, full: &str) -> Result<(), Failure> {
        let kind = self.model.find(full).map(Value::kind);
        same(on!(&mut self.target, it => it.contains(key)), Ok(kind.is_some()))?;
        let bytes = on!(&mut self.target, it => it.get_bytes(key));
        same(bytes.map(|found| found.map(Vec::from)), self.model.bytes(full))?;

        let texts = |map: BTreeMap<String, Content>| {
            map.into_iter().map(|(field, value)| (field, value.json())).collect::<BTreeMap<_, _>>()
        };
        let told = on!(&mut self.target, it => it.map_entries::<Box<RawValue>>(key));
        let told = told.map(|map| map.into_iter().map(|(field, raw)| (field, text(&raw))).collect());
        same(told, self.model.map(full).map(texts))?;
        let length = on!(&mut self.target, it => it.map_len(key));
        same(length, self.model.map(full).map(|map| map.len() as u64))?;
        let names = on!(&mut self.target, it => it.map_keys(key));
        same(names, self.model.map(full).map(|map| map.into_keys().collect()))?;

        let queue = self.model.queue(full).map(|queue| queue.iter().map(Content::json).collect());
        let told = on!(&mut self.target, it => it.queue_range::<Box<RawValue>>(key, ..));
        same(told.map(|items| items.iter().map(|raw| text(raw)).collect::<Vec<_>>()), queue)?;
        let length = on!(&mut self.target, it => it.queue_len(key));
        same(length, self.model.queue(full).map(|queue| queue.len() as u64))?;

        let told = on!(&mut self.target, it => it.ttl(key)).map_err(|error| error.to_string())?;
        let left = self.model.ticks_left(full);
        let left = left.map(|ticks| self.tick * u32::try_from(ticks).unwrap_or(u32::MAX));
        let expected = kind.map(|_: Kind| left.map_or(Ttl::Never, Ttl::In));
        if self.context.is_ttl(told, expected) {
            Ok(())
        } else {
            Err(format!("{full:?} has {told:?} left in the store, {expected:?} in the model"))
        }
    }
}

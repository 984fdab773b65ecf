//! Runs one step on a store, or within a transaction, and on the model, and compares the results.

use std::fmt::Debug;
use std::time::Duration;

use millpond::{Error, Result, StateStore, Transaction};

use super::operation::{KEYS, Ticks};
use super::reference::{Answer, Reference, Refusal, Value};
use super::run::Failure;
use super::step::Step;
use crate::support::backends::Context;

/// The target of a step.
pub(super) enum Target<'a, 't> {
    Store(&'a StateStore),
    Transaction(&'a mut Transaction<'t>),
}

/// Calls the same method on either target.
macro_rules! on {
    ($target:expr, $it:ident => $say:expr) => {
        match $target {
            Target::Store($it) => $say,
            Target::Transaction($it) => $say,
        }
    };
}
pub(super) use on;

/// A step that is being run: with its keys and the model.
pub(super) struct Stepping<'a, 't> {
    pub(super) target: Target<'a, 't>,
    pub(super) model: &'a mut Reference,
    pub(super) context: &'a Context,
    pub(super) tick: Duration,
    /// The name of the target's namespace, with its colon.
    pub(super) namespace: &'a str,
}

/// Separates the refusals that the model knows from other errors.
pub(super) fn answer<T>(told: Result<T>) -> Result<Answer<T>> {
    match told {
        Ok(told) => Ok(Ok(told)),
        Err(Error::NotAnInteger { .. }) => Ok(Err(Refusal::NotAnInteger)),
        Err(Error::Overflow { .. }) => Ok(Err(Refusal::Overflow)),
        Err(Error::Decode { raw, .. }) => Ok(Err(Refusal::Decode(raw.to_vec()))),
        Err(Error::WrongType { key, expected, found: Some(found), .. }) => {
            Ok(Err(Refusal::WrongType { key, expected, found }))
        }
        Err(error) => Err(error),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the arguments are made for the comparison")]
pub(super) fn same<T: PartialEq + Debug>(store: Result<T>, model: Answer<T>) -> Result<(), Failure> {
    match answer(store) {
        Ok(told) if told == model => Ok(()),
        told => Err(format!("the store returns {told:?}, the model {model:?}")),
    }
}

impl Stepping<'_, '_> {
    pub(super) fn ttl(&self, ticks: Ticks) -> Duration {
        self.tick * ticks
    }

    /// The full key, as the model has it.
    pub(super) fn full(&self, key: usize) -> String {
        [self.namespace, KEYS[key]].concat()
    }

    pub(super) fn step(&mut self, step: &Step) -> Result<(), Failure> {
        match step {
            Step::Put { .. }
            | Step::PutBytes { .. }
            | Step::Update { .. }
            | Step::Delete { .. }
            | Step::SetIfNotExists { .. }
            | Step::CompareAndSet { .. }
            | Step::Expire { .. }
            | Step::Persist { .. } => self.write(step),
            Step::Get { .. }
            | Step::GetAndDelete { .. }
            | Step::GetAndPut { .. }
            | Step::Modify { .. }
            | Step::ModifyAway { .. }
            | Step::Incr { .. }
            | Step::GetAndTouch { .. } => self.read_and_write(step),
            Step::MapPut { .. }
            | Step::MapPutMany { .. }
            | Step::MapGet { .. }
            | Step::MapGetMany { .. }
            | Step::MapDelete { .. }
            | Step::MapIncr { .. } => self.map(step),
            Step::Push { .. }
            | Step::PushMany { .. }
            | Step::Pop { .. }
            | Step::Trim { .. }
            | Step::Range { .. } => self.queue(step),
            Step::Look { key } => self.compare_key(KEYS[*key], &self.full(*key)),
        }
    }

    fn write(&mut self, step: &Step) -> Result<(), Failure> {
        match step {
            Step::Put { key, value, ttl } => {
                let (name, full, time) = (KEYS[*key], self.full(*key), ttl.map(|ttl| self.ttl(ttl)));
                let done = match time {
                    Some(time) => on!(&mut self.target, it => it.put_with_ttl(name, value, time)),
                    None => on!(&mut self.target, it => it.put(name, value)),
                };
                self.model.put(&full, Value::Json(value.clone()), ttl.map(Into::into));
                same(done, Ok(()))
            }
            Step::PutBytes { key, value, ttl } => {
                let (name, full, time) = (KEYS[*key], self.full(*key), ttl.map(|ttl| self.ttl(ttl)));
                let done = match time {
                    Some(time) => on!(&mut self.target, it => it.put_bytes_with_ttl(name, value, time)),
                    None => on!(&mut self.target, it => it.put_bytes(name, value)),
                };
                self.model.put(&full, Value::Bytes(value.clone()), ttl.map(Into::into));
                same(done, Ok(()))
            }
            Step::Update { key, value } => {
                let told = on!(&mut self.target, it => it.update(KEYS[*key], value));
                same(told, self.model.update(&self.full(*key), value.clone()))
            }
            Step::Delete { key } => {
                let told = on!(&mut self.target, it => it.delete(KEYS[*key]));
                same(told, Ok(self.model.delete(&self.full(*key))))
            }
            Step::SetIfNotExists { key, value, ttl } => {
                let time = ttl.map(|ttl| self.ttl(ttl));
                let told = on!(&mut self.target, it => it.set_if_not_exists(KEYS[*key], value, time));
                let value = Value::Json(value.clone());
                same(told, Ok(self.model.set_if_not_exists(&self.full(*key), value, ttl.map(Into::into))))
            }
            Step::CompareAndSet { key, expected, new } => {
                let expected = expected.as_ref();
                let told = on!(&mut self.target, it => it.compare_and_set(KEYS[*key], expected, new));
                same(told, self.model.compare_and_set(&self.full(*key), expected, new))
            }
            Step::Expire { key, ttl } => {
                let time = self.ttl(*ttl);
                let told = on!(&mut self.target, it => it.expire(KEYS[*key], time));
                same(told, Ok(self.model.expire(&self.full(*key), (*ttl).into())))
            }
            Step::Persist { key } => {
                let told = on!(&mut self.target, it => it.persist(KEYS[*key]));
                same(told, Ok(self.model.persist(&self.full(*key))))
            }
            other => unreachable!("{other:?}"),
        }
    }

    fn read_and_write(&mut self, step: &Step) -> Result<(), Failure> {
        match step {
            Step::Get { key } => {
                let told = on!(&mut self.target, it => it.get(KEYS[*key]));
                same(told, self.model.number(&self.full(*key)))
            }
            Step::GetAndDelete { key } => {
                let told = on!(&mut self.target, it => it.get_and_delete(KEYS[*key]));
                same(told, self.model.get_and_delete(&self.full(*key)))
            }
            Step::GetAndPut { key, value } => {
                let told = on!(&mut self.target, it => it.get_and_put(KEYS[*key], value));
                same(told, self.model.get_and_put(&self.full(*key), value))
            }
            Step::Modify { key, by } => {
                let add = |found: Option<i64>| Some(found.unwrap_or_default().wrapping_add(*by));
                let told = on!(&mut self.target, it => it.modify(KEYS[*key], add));
                same(told, self.model.modify(&self.full(*key), *by))
            }
            Step::ModifyAway { key } => {
                let away = |_: Option<serde_json::Value>| None;
                let told = on!(&mut self.target, it => it.modify(KEYS[*key], away));
                same(told.map(|made| made.is_some()), self.model.modify_away(&self.full(*key)))
            }
            Step::Incr { key, by, ttl } => {
                let told = match ttl.map(|ttl| self.ttl(ttl)) {
                    Some(time) => on!(&mut self.target, it => it.incr_with_ttl(KEYS[*key], *by, time)),
                    None => on!(&mut self.target, it => it.incr(KEYS[*key], *by)),
                };
                same(told, self.model.incr(&self.full(*key), *by, ttl.map(Into::into)))
            }
            Step::GetAndTouch { key, ttl } => {
                let time = self.ttl(*ttl);
                let told = on!(&mut self.target, it => it.get_and_touch(KEYS[*key], time));
                same(told, self.model.get_and_touch(&self.full(*key), (*ttl).into()))
            }
            other => unreachable!("{other:?}"),
        }
    }
}

//! Runs one history on a store and on the model, and compares them after every operation.

use std::fmt::Debug;
use std::time::Duration;

use millpond::{Error, FileOptions, Result, StateStore, SyncPolicy, Ttl, WriteBatch};

use super::operation::{KEYS, NAMESPACES, Operation, PREFIXES, Ticks};
use super::reference::{Reference, Uncounted, Value};
use crate::support::backends::{Backend, Case, Context};

/// What differed.
pub(crate) type Failure = String;

/// A tick where the clock stands still, so that every edge is met exactly.
const EXACT_TICK: Duration = Duration::from_millis(1);

/// A tick where time really passes: no history takes nearly as long.
#[cfg(feature = "redis")]
const REAL_TICK: Duration = Duration::from_secs(60);

struct Run {
    context: Context,
    model: Reference,
    tick: Duration,
}

pub(crate) fn run(case: Case, history: &[Operation]) -> Result<(), Failure> {
    let tick = match case.backend {
        Backend::Memory | Backend::File | Backend::FileReopened => EXACT_TICK,
        #[cfg(feature = "redis")]
        Backend::Away => EXACT_TICK,
        #[cfg(feature = "redis")]
        Backend::Redis => REAL_TICK,
    };
    // A default of six ticks is met by histories; an hour would not be.
    let default_ttl = case.default_ttl.map(|_| tick * 6);
    let context = Context::configured(Case { default_ttl, ..case }, |config| {
        config.file(FileOptions::default().sync(SyncPolicy::Never).compact_min_bytes(4096))
    });
    let mut run = Run { context, model: Reference::new(case.default_ttl.map(|_| 6)), tick };
    for (number, operation) in history.iter().enumerate() {
        let context = |failure| format!("operation {number}, {operation:?}: {failure}");
        run.step(operation).map_err(context)?;
        run.compare().map_err(context)?;
    }
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "what is compared is made for the comparison")]
fn same<T: PartialEq + Debug>(store: Result<T>, model: T) -> Result<(), Failure> {
    match store {
        Ok(told) if told == model => Ok(()),
        told => Err(format!("the store says {told:?}, the model {model:?}")),
    }
}

/// A number read from a value, or the bytes that are none.
fn number(found: Result<Option<i64>>) -> Result<Option<Result<i64, Vec<u8>>>> {
    match found {
        Ok(found) => Ok(found.map(Ok)),
        Err(Error::Decode { raw, .. }) => Ok(Some(Err(raw.to_vec()))),
        Err(error) => Err(error),
    }
}

fn expected_number(found: Option<&Value>) -> Option<Result<i64, Vec<u8>>> {
    found.map(|value| value.number().ok_or_else(|| value.bytes()))
}

fn counted(counted: Result<i64>) -> Result<Result<i64, Uncounted>> {
    match counted {
        Ok(number) => Ok(Ok(number)),
        Err(Error::NotAnInteger { .. }) => Ok(Err(Uncounted::NotAnInteger)),
        Err(Error::Overflow { .. }) => Ok(Err(Uncounted::Overflow)),
        Err(error) => Err(error),
    }
}

impl Run {
    fn store(&self) -> StateStore {
        self.context.store()
    }

    fn ttl(&self, ticks: Ticks) -> Duration {
        self.tick * ticks
    }

    fn step(&mut self, operation: &Operation) -> Result<(), Failure> {
        match operation {
            Operation::Put { .. }
            | Operation::PutBytes { .. }
            | Operation::Update { .. }
            | Operation::Delete { .. }
            | Operation::SetIfNotExists { .. }
            | Operation::CompareAndSet { .. } => self.write(operation),
            Operation::GetAndDelete { .. }
            | Operation::GetAndPut { .. }
            | Operation::Modify { .. }
            | Operation::ModifyAway { .. }
            | Operation::Incr { .. }
            | Operation::BatchIncr { .. } => self.read_and_write(operation),
            Operation::Expire { .. } | Operation::Persist { .. } | Operation::GetAndTouch { .. } => {
                self.touch(operation)
            }
            Operation::BatchPut { .. }
            | Operation::BatchDelete { .. }
            | Operation::Write { .. }
            | Operation::BatchGet { .. } => self.batch(operation),
            Operation::DeletePrefix { .. } | Operation::Clear { .. } | Operation::List { .. } => {
                self.list(operation)
            }
            Operation::Advance { ticks } => {
                self.context.advance(self.ttl(*ticks));
                self.model.advance((*ticks).into());
                Ok(())
            }
            Operation::Reopen => {
                self.context.reopen();
                Ok(())
            }
        }
    }

    fn write(&mut self, operation: &Operation) -> Result<(), Failure> {
        let store = self.store();
        match operation {
            Operation::Put { key, value, ttl } => {
                let done = match ttl {
                    Some(ttl) => store.put_with_ttl(KEYS[*key], value, self.ttl(*ttl)),
                    None => store.put(KEYS[*key], value),
                };
                self.model.put(KEYS[*key], Value::Json(value.clone()), ttl.map(Into::into));
                same(done, ())
            }
            Operation::PutBytes { key, value, ttl } => {
                let done = match ttl {
                    Some(ttl) => store.put_bytes_with_ttl(KEYS[*key], value, self.ttl(*ttl)),
                    None => store.put_bytes(KEYS[*key], value),
                };
                self.model.put(KEYS[*key], Value::Bytes(value.clone()), ttl.map(Into::into));
                same(done, ())
            }
            Operation::Update { key, value } => {
                let expected = self.model.update(KEYS[*key], Value::Json(value.clone()));
                same(store.update(KEYS[*key], value), expected)
            }
            Operation::Delete { key } => same(store.delete(KEYS[*key]), self.model.delete(KEYS[*key])),
            Operation::SetIfNotExists { key, value, ttl } => {
                let told = store.set_if_not_exists(KEYS[*key], value, ttl.map(|ttl| self.ttl(ttl)));
                let value = Value::Json(value.clone());
                same(told, self.model.set_if_not_exists(KEYS[*key], value, ttl.map(Into::into)))
            }
            Operation::CompareAndSet { key, expected, new } => {
                let told = store.compare_and_set(KEYS[*key], expected.as_ref(), new);
                same(told, self.model.compare_and_set(KEYS[*key], expected.as_ref(), new))
            }
            other => unreachable!("{other:?}"),
        }
    }

    fn read_and_write(&mut self, operation: &Operation) -> Result<(), Failure> {
        let store = self.store();
        match operation {
            Operation::GetAndDelete { key } => {
                let expected = expected_number(self.model.get(KEYS[*key]));
                self.model.delete(KEYS[*key]);
                same(number(store.get_and_delete(KEYS[*key])), expected)
            }
            Operation::GetAndPut { key, value } => {
                let expected = expected_number(self.model.get(KEYS[*key]));
                self.model.put(KEYS[*key], Value::Json(value.clone()), None);
                same(number(store.get_and_put(KEYS[*key], value)), expected)
            }
            Operation::Modify { key, by } => {
                let told = store.modify(KEYS[*key], |found: Option<i64>| {
                    Some(found.unwrap_or_default().wrapping_add(*by))
                });
                let expected = match expected_number(self.model.get(KEYS[*key])) {
                    Some(Err(raw)) => Some(Err(raw)),
                    found => {
                        let before = found.and_then(Result::ok).unwrap_or_default();
                        self.model.modify(KEYS[*key], Some(before.wrapping_add(*by)));
                        Some(Ok(before.wrapping_add(*by)))
                    }
                };
                same(number(told), expected)
            }
            Operation::ModifyAway { key } => {
                let told = store.modify(KEYS[*key], |_: Option<serde_json::Value>| None);
                let told = told.map(|made| made.is_some());
                // What is no JSON at all does not even decode as anything.
                if let Some(Value::Bytes(bytes)) = self.model.get(KEYS[*key])
                    && serde_json::from_slice::<serde_json::Value>(bytes).is_err()
                {
                    return match told {
                        Err(Error::Decode { .. }) => Ok(()),
                        other => Err(format!("the store says {other:?}, the model Decode")),
                    };
                }
                self.model.modify(KEYS[*key], None);
                same(told, false)
            }
            Operation::Incr { key, by, ttl } => {
                let told = match ttl {
                    Some(ttl) => store.incr_with_ttl(KEYS[*key], *by, self.ttl(*ttl)),
                    None => store.incr(KEYS[*key], *by),
                };
                same(counted(told), self.model.incr(KEYS[*key], *by, ttl.map(Into::into)))
            }
            Operation::BatchIncr { by } => {
                let told = store.batch_incr(by.iter().map(|(key, by)| (KEYS[*key], *by)));
                let each: Vec<_> =
                    by.iter().map(|(key, by)| self.model.incr(KEYS[*key], *by, None)).collect();
                let done = each.iter().filter(|counted| counted.is_ok()).count() as u64;
                match told {
                    Ok(numbers) => same(Ok(numbers.into_iter().map(Ok).collect()), each),
                    Err(Error::Partial { done: told, .. }) if done > 0 => same(Ok(told), done),
                    Err(error) => {
                        let first = each.into_iter().find(Result::is_err).unwrap_or(Ok(0));
                        same(counted(Err(error)).map(|told| (told, done)), (first, 0))
                    }
                }
            }
            other => unreachable!("{other:?}"),
        }
    }

    fn touch(&mut self, operation: &Operation) -> Result<(), Failure> {
        let store = self.store();
        match operation {
            Operation::Expire { key, ttl } => {
                let told = store.expire(KEYS[*key], self.ttl(*ttl));
                same(told, self.model.expire(KEYS[*key], (*ttl).into()))
            }
            Operation::Persist { key } => same(store.persist(KEYS[*key]), self.model.persist(KEYS[*key])),
            Operation::GetAndTouch { key, ttl } => {
                let expected = expected_number(self.model.get(KEYS[*key]));
                self.model.expire(KEYS[*key], (*ttl).into());
                same(number(store.get_and_touch(KEYS[*key], self.ttl(*ttl))), expected)
            }
            other => unreachable!("{other:?}"),
        }
    }

    fn batch(&mut self, operation: &Operation) -> Result<(), Failure> {
        let store = self.store();
        match operation {
            Operation::BatchPut { puts, ttl } => {
                let entries = puts.iter().map(|(key, value)| (KEYS[*key], value));
                let done = match ttl {
                    Some(ttl) => store.batch_put_with_ttl(entries, self.ttl(*ttl)),
                    None => store.batch_put(entries),
                };
                for (key, value) in puts {
                    self.model.put(KEYS[*key], Value::Json(value.clone()), ttl.map(Into::into));
                }
                same(done, ())
            }
            Operation::BatchDelete { keys } => {
                let told = store.batch_delete(keys.iter().map(|key| KEYS[*key]));
                let expected = keys.iter().filter(|key| self.model.delete(KEYS[**key])).count();
                same(told, expected as u64)
            }
            Operation::BatchGet { keys } => {
                let told = store.batch_get::<i64>(keys.iter().map(|key| KEYS[*key]));
                let each: Vec<_> =
                    keys.iter().map(|key| expected_number(self.model.get(KEYS[*key]))).collect();
                match told {
                    Ok(values) => same(Ok(values.into_iter().map(|n| n.map(Ok)).collect()), each),
                    Err(error) => {
                        let first = each.into_iter().find(|value| matches!(value, Some(Err(_))));
                        same(number(Err(error)), first.flatten())
                    }
                }
            }
            Operation::Write { namespace, writes } => {
                let name = NAMESPACES[*namespace];
                let mut batch = WriteBatch::new();
                for (key, put) in writes {
                    let full =
                        if name.is_empty() { KEYS[*key].into() } else { [name, ":", KEYS[*key]].concat() };
                    let added = match put {
                        Some((value, Some(ttl))) => batch.put_with_ttl(KEYS[*key], value, self.ttl(*ttl)),
                        Some((value, None)) => batch.put(KEYS[*key], value),
                        None => batch.delete(KEYS[*key]),
                    };
                    added.map_err(|error| error.to_string())?;
                    match put {
                        Some((value, ttl)) => {
                            self.model.put(&full, Value::Json(value.clone()), ttl.map(Into::into));
                        }
                        None => drop(self.model.delete(&full)),
                    }
                }
                same(store.namespace(name).write(&batch), ())
            }
            other => unreachable!("{other:?}"),
        }
    }

    fn list(&mut self, operation: &Operation) -> Result<(), Failure> {
        let store = self.store();
        let begins = |namespace: usize| match NAMESPACES[namespace] {
            "" => String::new(),
            name => format!("{name}:"),
        };
        match operation {
            Operation::DeletePrefix { prefix } => {
                same(store.delete_prefix(PREFIXES[*prefix]), self.model.remove(PREFIXES[*prefix]))
            }
            Operation::Clear { namespace } => {
                let told = store.namespace(NAMESPACES[*namespace]).clear();
                same(told, self.model.remove(&begins(*namespace)))
            }
            Operation::List { namespace, prefix, after, limit } => {
                let namespace_text = begins(*namespace);
                let store = store.namespace(NAMESPACES[*namespace]);
                let prefix = PREFIXES[*prefix];
                let all: Vec<String> = self.model.keys(&format!("{namespace_text}{prefix}"));
                let all: Vec<String> = all.iter().map(|key| key[namespace_text.len()..].to_owned()).collect();
                same(store.count(prefix), all.len() as u64)?;
                let mut scanned = store.scan(prefix).collect::<Result<Vec<_>>>();
                if let Ok(keys) = &mut scanned {
                    keys.sort();
                    keys.dedup();
                }
                same(scanned, all.clone())?;
                let after = after.map(|key| KEYS[key]);
                let page = all.into_iter().filter(|key| after.is_none_or(|after| key.as_str() > after));
                same(store.keys_page(prefix, after, *limit), page.take(*limit).collect())
            }
            other => unreachable!("{other:?}"),
        }
    }

    /// Compares everything that can be seen.
    fn compare(&self) -> Result<(), Failure> {
        let store = self.store();
        let keys = self.model.keys("");
        same(store.keys(""), keys.clone())?;
        same(store.len(), keys.len() as u64)?;
        same(store.is_empty(), keys.is_empty())?;
        for key in &keys {
            let bytes = store.get_bytes(key).map(|found| found.map(Vec::from));
            same(bytes, self.model.get(key).map(Value::bytes))?;
            let told = store.ttl(key).map_err(|error| error.to_string())?;
            let left = self.model.ticks_left(key);
            let left = left.map(|ticks| self.tick * u32::try_from(ticks).unwrap_or(u32::MAX));
            let expected = Some(left.map_or(Ttl::Never, Ttl::In));
            if !self.context.ttl_is(told, expected) {
                return Err(format!("{key:?} has {told:?} left, in the model {expected:?}"));
            }
        }
        Ok(())
    }
}

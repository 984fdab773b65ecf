//! Runs the operations on many keys: batches and listings.

use millpond::{Error, Result, WriteBatch};

use super::operation::{KEYS, NAMESPACES, Operation, PREFIXES, Write};
use super::reference::{Answer, Value};
use super::run::{Failure, Run, prefix_of};
use super::run_values::same;

impl Run {
    pub(super) fn batch(&mut self, operation: &Operation) -> Result<(), Failure> {
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
                same(done, Ok(()))
            }
            Operation::BatchIncr { by } => {
                let told = store.batch_incr(by.iter().map(|(key, by)| (KEYS[*key], *by)));
                let each: Vec<Answer<i64>> =
                    by.iter().map(|(key, by)| self.model.incr(KEYS[*key], *by, None)).collect();
                let done = each.iter().filter(|counted| counted.is_ok()).count() as u64;
                match told {
                    Err(Error::Partial { done: told, .. }) if done > 0 => same(Ok(told), Ok(done)),
                    told => same(told, each.into_iter().collect()),
                }
            }
            Operation::BatchDelete { keys } => {
                let told = store.batch_delete(keys.iter().map(|key| KEYS[*key]));
                let expected = keys.iter().filter(|key| self.model.delete(KEYS[**key])).count();
                same(told, Ok(expected as u64))
            }
            Operation::BatchGet { keys } => {
                let told = store.batch_get::<i64>(keys.iter().map(|key| KEYS[*key]));
                same(told, keys.iter().map(|key| self.model.number(KEYS[*key])).collect())
            }
            other => unreachable!("{other:?}"),
        }
    }

    pub(super) fn write(&mut self, namespace: usize, writes: &[Write]) -> Result<(), Failure> {
        let store = self.store();
        let mut batch = WriteBatch::new();
        for (key, put) in writes {
            let full = [&prefix_of(namespace), KEYS[*key]].concat();
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
        same(store.namespace(NAMESPACES[namespace]).write(&batch), Ok(()))
    }

    pub(super) fn list(&mut self, operation: &Operation) -> Result<(), Failure> {
        let store = self.store();
        match operation {
            Operation::DeletePrefix { prefix } => {
                let told = store.delete_prefix(PREFIXES[*prefix]);
                same(told, Ok(self.model.remove(PREFIXES[*prefix])))
            }
            Operation::Clear { namespace } => {
                let told = store.namespace(NAMESPACES[*namespace]).clear();
                same(told, Ok(self.model.remove(&prefix_of(*namespace))))
            }
            Operation::List { namespace, prefix, after, limit } => {
                let namespace_text = prefix_of(*namespace);
                let store = store.namespace(NAMESPACES[*namespace]);
                let prefix = PREFIXES[*prefix];
                let all: Vec<String> = self.model.keys(&format!("{namespace_text}{prefix}"));
                let all: Vec<String> = all.iter().map(|key| key[namespace_text.len()..].to_owned()).collect();
                same(store.count(prefix), Ok(all.len() as u64))?;
                let mut scanned = store.scan(prefix).collect::<Result<Vec<_>>>();
                if let Ok(keys) = &mut scanned {
                    keys.sort();
                    keys.dedup();
                }
                same(scanned, Ok(all.clone()))?;
                let after = after.map(|key| KEYS[key]);
                let page = all.into_iter().filter(|key| after.is_none_or(|after| key.as_str() > after));
                same(store.keys_page(prefix, after, *limit), Ok(page.take(*limit).collect()))
            }
            other => unreachable!("{other:?}"),
        }
    }
}

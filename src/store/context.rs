//! Owns what the operations of a handle need besides the backend: its namespace, and the defaults and limits of its
//! store. It builds operations from the caller's arguments, and knows nothing of what carries them out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;
use smol_str::SmolStr;

use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::json;
use crate::key::{Key, MAX_KEY_BYTES, Namespace};
use crate::op::{End, EntryAction, Op};
use crate::stats::recorder::Recorder;
use crate::store::gate::Gate;
use crate::store::renewals::Renewals;
use crate::store::single_flight::SingleFlight;
use crate::store::slow_log::SlowLog;
use crate::value::Value;

/// One handle's view of its store.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) shared: Arc<SharedState>,
    pub(crate) namespace: Namespace,
    /// The TTL that reads of values renew, if they do.
    pub(crate) renewed_ttl: Option<Millis>,
}

/// Makes the error of a store that fails on purpose.
pub(crate) type ErrorMaker = Box<dyn Fn() -> Error + Send + Sync>;

/// The state that all handles on one store share.
pub(crate) struct SharedState {
    pub(crate) default_ttl: Option<Millis>,
    pub(crate) max_value_bytes: usize,
    /// How many entries of a batch are processed at a time.
    pub(crate) chunk: usize,
    /// The longest time for which an operation retries.
    pub(crate) limit: Duration,
    pub(crate) closed: AtomicBool,
    /// The error of every operation, if the store fails on purpose.
    pub(crate) failure: Option<ErrorMaker>,
    pub(crate) single_flight: SingleFlight,
    pub(crate) gate: Gate,
    /// Locks that are renewed.
    pub(crate) renewals: Arc<Renewals>,
    /// What the program calls the store.
    pub(crate) name: Option<String>,
    pub(crate) recorder: Arc<Recorder>,
    #[cfg(feature = "metrics")]
    pub(crate) metrics: crate::stats::facade::MetricHandles,
    /// `None` if slow operations are not logged.
    pub(crate) slow_log: Option<SlowLog>,
}

impl Context {
    pub(crate) fn new(shared: SharedState) -> Self {
        Self { shared: Arc::new(shared), namespace: Namespace::default(), renewed_ttl: None }
    }

    pub(crate) fn default_ttl(&self) -> Option<Millis> {
        self.shared.default_ttl
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.is_closed() {
            return Err(Error::closed());
        }
        self.shared.failure.as_ref().map_or(Ok(()), |failure| Err(failure()))
    }

    pub(crate) fn check_size(&self, key: &str, bytes: usize) -> Result<()> {
        let limit = self.shared.max_value_bytes;
        if bytes > limit {
            return Err(Error::TooLarge { key: key.to_owned(), bytes, limit });
        }
        Ok(())
    }

    /// Joins and checks a key of this handle's namespace.
    pub(crate) fn key<'a>(&self, key: &'a str) -> Result<Key<'a>> {
        self.check_open()?;
        self.namespace.key(key)
    }

    /// The key of the receipt that an event was processed.
    pub(crate) fn receipt(&self, event_id: &str) -> Result<Key<'static>> {
        self.check_open()?;
        self.namespace.receipt(event_id)
    }

    /// Encodes a value and checks its size.
    pub(crate) fn encode<T: Serialize + ?Sized>(&self, key: &Key<'_>, value: &T) -> Result<Value> {
        let value = json::encode(key, value)?;
        self.check_size(key, value.bytes.len())?;
        Ok(value)
    }

    /// Copies the bytes of a value and checks their size.
    fn raw_value(&self, key: &Key<'_>, value: &[u8]) -> Result<Value> {
        self.check_size(key, value.len())?;
        Ok(Value::raw(value))
    }

    /// Checks the name of a field of a map.
    pub(crate) fn field(key: &Key<'_>, field: &str) -> Result<SmolStr> {
        if field.len() > MAX_KEY_BYTES {
            let reason = "the name of a field is longer than 512 bytes";
            return Err(Error::InvalidKey { key: key.to_string(), reason });
        }
        Ok(SmolStr::new(field))
    }

    pub(crate) fn fields(key: &Key<'_>, fields: impl IntoIterator<Item: AsRef<str>>) -> Result<Vec<SmolStr>> {
        fields.into_iter().map(|field| Self::field(key, field.as_ref())).collect()
    }
}

/// The operations. `ttl: None` means `default_ttl` for an entry that is set from scratch.
impl Context {
    #[inline]
    pub(crate) fn op<'a>(&self, key: &'a str, action: EntryAction) -> Result<Op<'a>> {
        Ok(Op { key: self.key(key)?, action })
    }

    pub(crate) fn put<'a, T: Serialize + ?Sized>(
        &self,
        key: &'a str,
        value: &T,
        ttl: Option<Duration>,
    ) -> Result<Op<'a>> {
        let key = self.key(key)?;
        let ttl = self.ttl_or_default(ttl)?;
        let value = self.encode(&key, value)?;
        Ok(Op { key, action: EntryAction::Put { value, ttl } })
    }

    pub(crate) fn put_bytes<'a>(&self, key: &'a str, value: &[u8], ttl: Option<Duration>) -> Result<Op<'a>> {
        let key = self.key(key)?;
        let ttl = self.ttl_or_default(ttl)?;
        let value = self.raw_value(&key, value)?;
        Ok(Op { key, action: EntryAction::Put { value, ttl } })
    }

    pub(crate) fn update<'a, T: Serialize + ?Sized>(&self, key: &'a str, value: &T) -> Result<Op<'a>> {
        let key = self.key(key)?;
        let value = self.encode(&key, value)?;
        Ok(Op { key, action: EntryAction::PutIfPresent { value } })
    }

    pub(crate) fn set_if_not_exists<'a, T: Serialize + ?Sized>(
        &self,
        key: &'a str,
        value: &T,
        ttl: Option<Duration>,
    ) -> Result<Op<'a>> {
        let key = self.key(key)?;
        let ttl = self.ttl_or_default(ttl)?;
        let value = self.encode(&key, value)?;
        Ok(Op { key, action: EntryAction::PutIfAbsent { value, ttl } })
    }

    pub(crate) fn get_and_put<'a, T: Serialize + ?Sized>(
        &self,
        key: &'a str,
        value: &T,
        ttl: Option<Duration>,
    ) -> Result<Op<'a>> {
        let key = self.key(key)?;
        let ttl = self.ttl_or_default(ttl)?;
        let value = self.encode(&key, value)?;
        Ok(Op { key, action: EntryAction::GetAndPut { value, ttl } })
    }

    #[inline]
    pub(crate) fn incr<'a>(&self, key: &'a str, by: i64, ttl_if_created: Option<Duration>) -> Result<Op<'a>> {
        let key = self.key(key)?;
        let ttl_if_created = self.ttl_or_default(ttl_if_created)?;
        Ok(Op { key, action: EntryAction::Incr { by, ttl_if_created } })
    }

    pub(crate) fn decr<'a>(&self, key: &'a str, by: i64) -> Result<Op<'a>> {
        let key = self.key(key)?;
        let by = by.checked_neg().ok_or_else(|| Error::Overflow { key: key.to_string() })?;
        Ok(Op { key, action: EntryAction::Incr { by, ttl_if_created: self.default_ttl() } })
    }

    pub(crate) fn expire<'a>(&self, key: &'a str, ttl: Duration) -> Result<Op<'a>> {
        let key = self.key(key)?;
        Ok(Op { key, action: EntryAction::Expire { ttl: Millis::new(ttl)? } })
    }

    pub(crate) fn touch<'a>(&self, key: &'a str, ttl: Duration) -> Result<Op<'a>> {
        let key = self.key(key)?;
        Ok(Op { key, action: EntryAction::Touch { ttl: Millis::new(ttl)? } })
    }

    /// If a field is named several times, the last value counts.
    pub(crate) fn map_put<'a, F: AsRef<str>, V: Serialize>(
        &self,
        key: &'a str,
        fields: impl IntoIterator<Item = (F, V)>,
    ) -> Result<Op<'a>> {
        let key = self.key(key)?;
        let encoded = fields.into_iter().map(|(field, value)| {
            let field = Self::field(&key, field.as_ref())?;
            Ok((field, self.encode(&key, &value)?))
        });
        let fields: BTreeMap<SmolStr, Value> = encoded.collect::<Result<_>>()?;
        let fields = fields.into_iter().collect();
        Ok(Op { key, action: EntryAction::MapPut { fields, ttl_if_created: self.default_ttl() } })
    }

    pub(crate) fn map_delete<'a>(&self, key: &'a str, field: &str) -> Result<Op<'a>> {
        let key = self.key(key)?;
        let field = Self::field(&key, field)?;
        Ok(Op { key, action: EntryAction::MapDelete { field } })
    }

    pub(crate) fn map_incr<'a>(&self, key: &'a str, field: &str, by: i64) -> Result<Op<'a>> {
        let key = self.key(key)?;
        let field = Self::field(&key, field)?;
        Ok(Op { key, action: EntryAction::MapIncr { field, by, ttl_if_created: self.default_ttl() } })
    }

    pub(crate) fn push<'a, V: Serialize>(
        &self,
        key: &'a str,
        end: End,
        values: impl IntoIterator<Item = V>,
    ) -> Result<Op<'a>> {
        let key = self.key(key)?;
        let values = values.into_iter().map(|value| self.encode(&key, &value)).collect::<Result<Vec<_>>>()?;
        Ok(Op { key, action: EntryAction::Push { end, values, ttl_if_created: self.default_ttl() } })
    }

    pub(crate) fn ttl_or_default(&self, ttl: Option<Duration>) -> Result<Option<Millis>> {
        match ttl {
            Some(ttl) => Millis::new(ttl).map(Some),
            None => Ok(self.default_ttl()),
        }
    }
}

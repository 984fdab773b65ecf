//! Owns what serves while the Redis server is away. In this version that is decided once, at opening: the
//! server, or memory in its place. Knows nothing of how either works.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::memory::Memory;
use super::redis::Redis;
use super::{Backend, Status, Work};
use crate::bytes::Bytes;
use crate::clock::{Clock, Millis, Ttl};
use crate::config::{self, RedisOptions};
use crate::error::Result;
use crate::key::Key;
use crate::op::{Grant, Op, Reply};
use crate::page::{Cursor, Page};
use crate::query::{Answer, Query};

pub(crate) enum Fallback {
    Redis(Box<Redis>),
    Away { memory: Memory, since: SystemTime },
}

impl Fallback {
    pub(crate) fn open(
        url: &str,
        key_prefix: &str,
        options: &RedisOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        match Redis::open(url, key_prefix, options) {
            Ok(redis) => Ok(Self::Redis(Box::new(redis))),
            Err(failure) if failure.unreachable && options.fallback == config::Fallback::Memory => {
                let cause = std::error::Error::source(&failure.error).map(ToString::to_string);
                let cause = cause.unwrap_or_default();
                log::warn!(
                    "the Redis server cannot be reached ({cause}); memory serves in its place, and what is written \
                     is lost when the program ends (fallback=none makes this an error)"
                );
                Ok(Self::Away { since: clock.now(), memory: Memory::new(clock) })
            }
            Err(failure) => Err(failure.error),
        }
    }
}

/// Runs an expression against whichever serves.
macro_rules! on_either {
    ($self:expr, $backend:ident => $run:expr) => {
        match $self {
            Fallback::Redis($backend) => $run,
            Fallback::Away { memory: $backend, .. } => $run,
        }
    };
}

impl Backend for Fallback {
    fn get(&self, key: &Key<'_>) -> Result<Option<Bytes>> {
        on_either!(self, backend => backend.get(key))
    }

    fn get_many(&self, keys: &[Key<'_>]) -> Vec<Result<Option<Bytes>>> {
        on_either!(self, backend => backend.get_many(keys))
    }

    fn ask(&self, key: &Key<'_>, query: &Query) -> Result<Answer> {
        on_either!(self, backend => backend.ask(key, query))
    }

    fn ttl(&self, key: &Key<'_>) -> Result<Option<Ttl>> {
        on_either!(self, backend => backend.ttl(key))
    }

    fn apply(&self, op: Op<'_>) -> Result<Reply> {
        on_either!(self, backend => backend.apply(op))
    }

    fn apply_until(&self, op: Op<'_>, end: Instant) -> Result<Reply> {
        on_either!(self, backend => backend.apply_until(op, end))
    }

    fn apply_each(&self, ops: Vec<Op<'_>>) -> Vec<Result<Reply>> {
        on_either!(self, backend => backend.apply_each(ops))
    }

    fn commit(&self, writes: Vec<Op<'_>>) -> Result<()> {
        on_either!(self, backend => backend.commit(writes))
    }

    fn pop_wait(&self, key: &Key<'_>, end: Instant) -> Result<Option<Bytes>> {
        on_either!(self, backend => backend.pop_wait(key, end))
    }

    fn attempt_until<R>(
        &self,
        queue: &Key<'_>,
        end: Instant,
        attempt: impl FnMut() -> Result<Option<R>>,
    ) -> Result<Option<R>> {
        on_either!(self, backend => backend.attempt_until(queue, end, attempt))
    }

    fn lock_wait(&self, name: &Key<'_>, ttl: Millis, end: Instant) -> Result<Option<Grant>> {
        on_either!(self, backend => backend.lock_wait(name, ttl, end))
    }

    fn transact(&self, work: &mut Work<'_>) -> Result<bool> {
        on_either!(self, backend => backend.transact(work))
    }

    fn page(&self, prefix: &str, from: &Cursor) -> Result<Page> {
        on_either!(self, backend => backend.page(prefix, from))
    }

    fn keys(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        on_either!(self, backend => backend.keys(prefix, after, limit))
    }

    fn count(&self, prefix: &str) -> Result<u64> {
        on_either!(self, backend => backend.count(prefix))
    }

    fn cleared(&self, prefix: &str) -> Vec<Key<'static>> {
        on_either!(self, backend => backend.cleared(prefix))
    }

    fn remove(&self, prefix: &str) -> Result<u64> {
        on_either!(self, backend => backend.remove(prefix))
    }

    fn flush(&self) -> Result<()> {
        on_either!(self, backend => backend.flush())
    }

    fn close(&self) -> Result<()> {
        on_either!(self, backend => backend.close())
    }

    fn status(&self) -> Status {
        match self {
            Self::Redis(redis) => redis.status(),
            Self::Away { since, .. } => Status::Away { since: *since, pending: 0 },
        }
    }
}

//! Owns how entries as a whole leave and enter a store with a fallback: by the server alone, since a part that is known
//! locally would pass for all. Knows nothing of how the server does it.

use crate::backend::fallback::open::FallbackBackend;
use crate::backend::fallback::outage::refusal::refused;
use crate::backend::fallback::route::{OnLostReply, Pair};
use crate::backend::redis::client::Redis;
use crate::backend::transfer::Transfer;
use crate::error::{Error, Result};
use crate::op::{Cut, Replaced, WholeEntry};

impl Transfer for FallbackBackend {
    fn cut(&self, prefix: &str) -> Result<Cut<'_>> {
        self.read(|redis| redis.cut(prefix), |_| Err(refused()))
    }

    fn merge(&self, entries: Vec<WholeEntry>, keep_existing: bool) -> Vec<Result<bool>> {
        let mut written = Vec::with_capacity(entries.len());
        let on_server = |redis: &Redis| {
            let rest = &entries[written.len()..];
            self.forget_all_around(|| redis.merge(rest, keep_existing, &mut written))
        };
        let outcome = self.route(OnLostReply::Fail, &mut Pair(on_server, |_: &_| Err(refused())));
        written.into_iter().map(Ok).chain(outcome.err().map(Err)).collect()
    }

    fn replace(
        &self,
        prefix: &str,
        entries: &mut dyn Iterator<Item = Result<WholeEntry>>,
    ) -> Result<Replaced> {
        let mut entries = Some(entries);
        let on_server = |redis: &Redis| {
            // What was read of the entries cannot be read again.
            let entries = entries.take().ok_or_else(|| Error::unavailable("the server cannot be reached"))?;
            self.forget_all_around(|| redis.replace(prefix, entries))
        };
        self.route(OnLostReply::Fail, &mut Pair(on_server, |_: &_| Err(refused())))
    }
}

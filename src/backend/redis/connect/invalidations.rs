//! Owns how a connection takes the keys that a server reports as changed between its replies. Knows nothing of what is done about them.

use redis::Value;

use crate::backend::redis::connect::connection::Connection;
use crate::backend::redis::failure::Failure;
use crate::backend::redis::time_budget::TimeBudget;

impl Connection {
    /// From now on, the server may speak RESP3, and report changed keys between its replies. Such a connection belongs
    /// to no pool.
    pub(crate) fn expect_invalidations(&mut self) {
        self.reader.expect_resp3();
        self.invalidations = Some(Vec::new());
    }

    /// Takes what the server has reported: lists of changed keys, or `Nil` for all keys.
    pub(crate) fn take_invalidations(&mut self) -> Vec<Value> {
        self.invalidations.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Waits until the server reports changed keys.
    pub(crate) fn await_invalidation(&mut self, budget: &TimeBudget) -> Result<(), Failure> {
        match self.next_reply_or_push(budget)? {
            None => Ok(()),
            Some(reply) => Err(Failure::unexpected_reply(&reply)),
        }
    }
}

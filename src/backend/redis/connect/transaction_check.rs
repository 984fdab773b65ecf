//! Owns the check that the server carries out transactions of a connection: an empty one. Knows nothing of what a
//! transaction contains.

use crate::backend::redis::connect::connection::{Connection, Request};
use crate::backend::redis::failure::{Failure, Stage};
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::replies::refused;
use crate::backend::redis::wire::resp::CommandWriter;

/// How many replies the check has.
pub(crate) const CHECK_REPLIES: usize = 2;

/// Writes the check, which is a part of the handshake.
pub(crate) fn write_check(writer: &mut CommandWriter<'_>) {
    writer.command(1, "MULTI");
    writer.command(1, "EXEC");
}

impl Connection {
    /// Reads the replies to the check, and remembers whether the server carries out transactions.
    pub(crate) fn read_check(&mut self, budget: &TimeBudget) -> Result<(), Failure> {
        let [begun, ended] = [self.receive_tolerantly(budget)?, self.receive_tolerantly(budget)?];
        self.transaction_refusal = refused(begun).and_then(|_| refused(ended)).err();
        Ok(())
    }

    /// Must be called before a transaction is sent, and before a key is watched. If transactions were refused, it checks
    /// again: the user may have got the permission since.
    ///
    /// INVARIANT: a server that refuses MULTI would carry out each command that follows, one by one.
    pub(crate) fn ensure_transactions(&mut self, budget: &TimeBudget) -> Result<(), Failure> {
        if self.transaction_refusal.is_none() {
            return Ok(());
        }
        write_check(&mut self.writer(b""));
        let request = Request { replies: CHECK_REPLIES, mutation: false, atomic: false };
        let checked = self.send(request, budget).and_then(|()| self.read_check(budget));
        // Nothing of the transaction was sent yet.
        checked.map_err(|failure| match failure.stage {
            Stage::InDoubt => Failure { stage: Stage::NotSent, ..failure },
            Stage::NotSent | Stage::Rejected => failure,
        })?;
        self.transaction_refusal.as_ref().map_or(Ok(()), |refusal| Err(refusal.repeated()))
    }
}

//! Owns the route of an operation: to the server while it is connected, or to the outage. One pure function decides
//! what to do after a failure. Knows nothing of what the operations do.

use crate::backend::fallback::open::FallbackBackend;
use crate::backend::fallback::outage::refusal::server_disconnected;
use crate::backend::fallback::outage::sent::Sent;
use crate::backend::fallback::outage::serving::Outage;
use crate::backend::redis::client::Redis;
use crate::backend::redis::operation_error::OperationError;
use crate::backend::redis::retry::lost_reply;
use crate::error::{Error, Result};
use crate::key::Key;

/// An operation that can be carried out on the server and locally. It may be tried on the server several times, and
/// then locally once.
pub(crate) trait Routed {
    type Output;

    fn on_server(&mut self, redis: &Redis) -> Result<Self::Output, OperationError>;

    fn locally(&mut self, outage: &Outage, sent: Sent) -> Result<Self::Output>;

    /// Returns whether the operation is tried on the server again if it was not sent.
    fn is_retried(&self) -> bool {
        true
    }

    /// Returns the keys that the operation writes to.
    fn written_keys(&self) -> impl Iterator<Item = &Key<'_>> {
        std::iter::empty()
    }
}

/// An operation that carries no state from the server into the outage, as two closures.
pub(crate) struct Pair<S, L>(pub(crate) S, pub(crate) L);

impl<R, S, L> Routed for Pair<S, L>
where
    S: FnMut(&Redis) -> Result<R, OperationError>,
    L: FnMut(&Outage) -> Result<R>,
{
    type Output = R;

    fn on_server(&mut self, redis: &Redis) -> Result<R, OperationError> {
        (self.0)(redis)
    }

    fn locally(&mut self, outage: &Outage, _sent: Sent) -> Result<R> {
        (self.1)(outage)
    }
}

/// What can be done with an operation whose reply from the server was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnLostReply {
    /// The operation fails, since doing it twice would do harm. Reads are never in doubt.
    Fail,
    /// If an outage begins, the operation is queued. The replay compares what the server holds with what this process
    /// had observed and with what the operation leaves; if it holds anything else, that is a conflict.
    Compare,
    /// An outage begins. At its end the server is asked whether it has done the operation.
    AskServer,
}

/// Whether operations are carried out locally during an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    FallsBack,
    ServerOnly,
}

/// The properties of a failure on the server that decide the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Failed {
    sent: Sent,
    /// Whether the operation was done in part.
    is_partial: bool,
}

impl Failed {
    fn of(error: &OperationError) -> Self {
        Self {
            sent: if error.maybe_applied() { Sent::InDoubt } else { Sent::Not },
            is_partial: matches!(error.error, Error::Partial { .. }),
        }
    }
}

/// What is known of the link to the server after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    NotChecked,
    /// Not checked either, and it is known that asking the server later is of no use.
    NotCheckedNotAskable,
    Connected,
    Disconnected,
}

/// The next step after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Return the failure to the caller.
    Return,
    /// Begin an outage, at the end of which the server is asked whether it has done the operation.
    BeginOutageInDoubt,
    CheckLink,
    /// Carry out the operation locally, or on the server again if the outage is over.
    GoOn,
}

/// Decides what to do after a failure on the server.
fn next(failed: Failed, on_lost_reply: OnLostReply, mode: Mode, link: Link) -> Next {
    let in_doubt = failed.sent == Sent::InDoubt;
    match (link, mode) {
        (Link::NotChecked, Mode::FallsBack) if in_doubt && on_lost_reply == OnLostReply::AskServer => {
            Next::BeginOutageInDoubt
        }
        (Link::NotChecked | Link::NotCheckedNotAskable, _) => Next::CheckLink,
        // A strict caller learns what happened on the server.
        (Link::Connected, _) | (Link::Disconnected, Mode::ServerOnly) => Next::Return,
        // What the server may have done, or has done in part, must not be done locally as well.
        (Link::Disconnected, Mode::FallsBack)
            if failed.is_partial || (in_doubt && on_lost_reply != OnLostReply::Compare) =>
        {
            Next::Return
        }
        (Link::Disconnected, Mode::FallsBack) => Next::GoOn,
    }
}

impl FallbackBackend {
    pub(crate) fn mode(&self) -> Mode {
        if self.shared.policy.serves && !self.is_strict { Mode::FallsBack } else { Mode::ServerOnly }
    }

    /// Carries out an operation on the server, or locally if the server is unreachable.
    pub(crate) fn route<O: Routed>(
        &self,
        on_lost_reply: OnLostReply,
        operation: &mut O,
    ) -> Result<O::Output> {
        // This must come before any lock: in a forked child, a lock that another thread held is never released.
        self.shared.redis.check_process()?;
        self.shared.clock.refresh();
        let mut was_on_server = false;
        let outcome = self.try_both(on_lost_reply, operation, &mut was_on_server);
        if was_on_server {
            self.shared.carry_into_outage(operation.written_keys());
        }
        outcome
    }

    fn try_both<O: Routed>(
        &self,
        on_lost_reply: OnLostReply,
        operation: &mut O,
        was_on_server: &mut bool,
    ) -> Result<O::Output> {
        let shared = &self.shared;
        let mode = self.mode();
        let mut sent = Sent::Not;
        loop {
            shared.stand_in_for_thread();
            let outages = shared.report.counts.outages();
            if !shared.outage.is_disconnected() {
                if sent == Sent::InDoubt && on_lost_reply == OnLostReply::Compare {
                    // The outage is over already: a second attempt could undo what others have written since.
                    return Err(lost_reply());
                }
                *was_on_server = true;
                let mut error = match operation.on_server(&shared.redis) {
                    Ok(done) => {
                        shared.check_data_loss();
                        return Ok(done);
                    }
                    Err(error) => error,
                };
                // The end of the store does not undo what an earlier attempt may have done.
                if matches!(error.error, Error::Unavailable { .. }) {
                    error.error = sent.mark(error.error);
                }
                shared.check_data_loss();
                let failed = Failed::of(&error);
                if self.handle_failure(&error, failed, on_lost_reply, mode, outages) == Next::Return {
                    let is_connected = !shared.outage.is_disconnected();
                    let was_retried =
                        is_connected && operation.is_retried() && shared.redis.options.max_retries > 0;
                    return Err(error.while_connected(was_retried));
                }
                sent = sent.or(failed.sent);
            }
            if mode == Mode::ServerOnly {
                return Err(server_disconnected());
            }
            if let Some(outage) = &*shared.outage.read() {
                return self.serve_locally(outage, sent, on_lost_reply, operation);
            }
        }
    }

    /// Takes the steps after a failure until it is clear whether to return it or to go on.
    fn handle_failure(
        &self,
        error: &OperationError,
        failed: Failed,
        on_lost_reply: OnLostReply,
        mode: Mode,
        outages: u64,
    ) -> Next {
        let mut link = Link::NotChecked;
        loop {
            match next(failed, on_lost_reply, mode, link) {
                Next::BeginOutageInDoubt if self.shared.begin_outage_in_doubt(error) => return Next::GoOn,
                Next::BeginOutageInDoubt => link = Link::NotCheckedNotAskable,
                Next::CheckLink if self.shared.is_outage(error, outages) => link = Link::Disconnected,
                Next::CheckLink => link = Link::Connected,
                decided @ (Next::Return | Next::GoOn) => return decided,
            }
        }
    }

    fn serve_locally<O: Routed>(
        &self,
        outage: &Outage,
        sent: Sent,
        on_lost_reply: OnLostReply,
        operation: &mut O,
    ) -> Result<O::Output> {
        if self.shared.outage.has_ended() {
            return Err(sent.mark(Error::closed()));
        }
        // If the server will be asked, a local refusal leaves nothing in doubt.
        let doubt = if on_lost_reply == OnLostReply::AskServer { Sent::Not } else { sent };
        if let Some(cause) = outage.stale_queue() {
            return Err(sent.mark(self.shared.stale_queue_error(cause)));
        }
        operation.locally(outage, sent).map_err(|error| doubt.mark(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_next_step() {
        use Mode::{FallsBack, ServerOnly};
        use OnLostReply::{AskServer, Compare, Fail};
        let failed = |sent, is_partial| Failed { sent, is_partial };
        let not_sent = failed(Sent::Not, false);
        let in_doubt = failed(Sent::InDoubt, false);
        let partial = failed(Sent::Not, true);
        for (failed, on_lost_reply, mode, link, expected) in [
            // Only an operation in doubt of which the server can be asked begins an outage at once.
            (in_doubt, AskServer, FallsBack, Link::NotChecked, Next::BeginOutageInDoubt),
            (in_doubt, AskServer, FallsBack, Link::NotCheckedNotAskable, Next::CheckLink),
            (in_doubt, AskServer, ServerOnly, Link::NotChecked, Next::CheckLink),
            (in_doubt, Fail, FallsBack, Link::NotChecked, Next::CheckLink),
            (in_doubt, Compare, FallsBack, Link::NotChecked, Next::CheckLink),
            (not_sent, AskServer, FallsBack, Link::NotChecked, Next::CheckLink),
            (partial, Compare, FallsBack, Link::NotChecked, Next::CheckLink),
            // If the server is connected, the caller gets the failure.
            (not_sent, Compare, FallsBack, Link::Connected, Next::Return),
            (in_doubt, AskServer, FallsBack, Link::Connected, Next::Return),
            (not_sent, Fail, ServerOnly, Link::Connected, Next::Return),
            // In server-only mode the caller gets it if the server is disconnected, too.
            (not_sent, Compare, ServerOnly, Link::Disconnected, Next::Return),
            (in_doubt, Compare, ServerOnly, Link::Disconnected, Next::Return),
            // Otherwise it is carried out locally, unless that could do it twice.
            (not_sent, Fail, FallsBack, Link::Disconnected, Next::GoOn),
            (not_sent, Compare, FallsBack, Link::Disconnected, Next::GoOn),
            (not_sent, AskServer, FallsBack, Link::Disconnected, Next::GoOn),
            (in_doubt, Compare, FallsBack, Link::Disconnected, Next::GoOn),
            (in_doubt, Fail, FallsBack, Link::Disconnected, Next::Return),
            (in_doubt, AskServer, FallsBack, Link::Disconnected, Next::Return),
            (partial, Compare, FallsBack, Link::Disconnected, Next::Return),
            (partial, Fail, FallsBack, Link::Disconnected, Next::Return),
        ] {
            let step = next(failed, on_lost_reply, mode, link);
            assert_eq!(step, expected, "{failed:?} {on_lost_reply:?} {mode:?} {link:?}");
        }
    }
}

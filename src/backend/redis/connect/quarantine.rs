//! Owns the orphaned connections: a mutation was sent over each, and its reply is missing, so no other mutation
//! may be sent until the server can no longer run it. Knows nothing of operations, nor of how connections are
//! made.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::backend::redis::connect::connection::{Connection, Outstanding};
use crate::backend::redis::connect::identity::Killed;
use crate::backend::redis::connect::open_connections::Registration;
use crate::backend::redis::failure::{Failure, FailureKind, Stage};
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::resp::CommandWriter;
use crate::util::log_later::log_later;

/// A connection that must be killed.
struct Orphan {
    connection: Connection,
    since: Instant,
}

#[derive(Default)]
struct QuarantineState {
    orphans: Vec<Orphan>,
    /// A thread is killing connections right now.
    busy: bool,
    /// How many rounds have ended, and why the last one failed.
    round: u64,
    failed: Option<(FailureKind, String)>,
}

pub(crate) struct Quarantine {
    /// How many connections are in quarantine, those that are being killed right now included.
    len: AtomicUsize,
    state: Mutex<QuarantineState>,
    round_ended: Condvar,
    killed: AtomicU64,
    warned: AtomicBool,
    /// After this long without an acknowledgement the kernel gives a connection up.
    user_timeout: Duration,
    server_name: String,
}

impl Quarantine {
    pub(crate) fn new(user_timeout: Duration, server_name: String) -> Self {
        Self {
            len: AtomicUsize::new(0),
            state: Mutex::default(),
            round_ended: Condvar::new(),
            killed: AtomicU64::new(0),
            warned: AtomicBool::new(false),
            user_timeout,
            server_name,
        }
    }

    /// Returns whether no connection is in quarantine.
    ///
    /// INVARIANT: a connection is quarantined before its lost reply is reported, so the caller to whom it is
    /// reported finds the quarantine occupied.
    pub(crate) fn is_empty(&self) -> bool {
        self.len.load(Ordering::Relaxed) == 0
    }

    /// How many connections were killed.
    pub(crate) fn killed_count(&self) -> u64 {
        self.killed.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, connection: Connection) {
        let mut state = self.state.lock();
        state.orphans.push(Orphan { connection, since: Instant::now() });
        self.len.fetch_add(1, Ordering::Relaxed);
    }

    /// Kills all quarantined connections, or waits for the thread that is doing so. If that thread fails, the
    /// waiting threads fail too and do not try again.
    pub(crate) fn kill_all(
        &self,
        budget: &TimeBudget,
        dial: impl FnOnce(&TimeBudget) -> Result<Connection, Failure>,
    ) -> Result<(), Failure> {
        let mut state = self.state.lock();
        while state.busy {
            let round = state.round;
            if self.round_ended.wait_until(&mut state, budget.end).timed_out() {
                let cause = "a connection with an unanswered command was not yet closed on the server";
                return Err(Failure::new(FailureKind::Timeout, Stage::NotSent, cause));
            }
            if state.round != round
                && let Some((kind, cause)) = &state.failed
            {
                return Err(Failure::new(*kind, Stage::NotSent, cause.clone()));
            }
        }
        if state.orphans.is_empty() {
            return Ok(());
        }
        state.busy = true;
        let orphans = std::mem::take(&mut state.orphans);
        drop(state);
        let mut round = KillRound {
            quarantine: self,
            orphans,
            failed: Some((FailureKind::Other, "closing unanswered connections was interrupted".to_owned())),
        };
        let outcome = round.kill_all(budget, dial);
        round.failed = outcome.as_ref().err().map(|failure| (failure.kind, failure.cause.to_string()));
        outcome.map_err(|failure| Failure { stage: Stage::NotSent, ..failure })
    }

    /// Waits until the connection has nothing left to run: the server echoes behind its last command, or its end
    /// is seen. If neither is possible, it is let go once the kernel has given it up.
    fn drain(&self, orphan: &mut Orphan, budget: &TimeBudget) -> Result<(), Failure> {
        if orphan.connection.has_ended() {
            return Ok(());
        }
        if orphan.connection.outstanding() != Outstanding::PartialMutation {
            let token = format!("millpond-{:032x}", fastrand::u128(..));
            match orphan.connection.echo(&token, budget) {
                Ok(()) => return Ok(()),
                Err(failure) if failure.kind == FailureKind::Timeout => return Err(failure),
                Err(failure) if failure.kind == FailureKind::Broken => return Ok(()),
                Err(_) => {}
            }
        }
        if orphan.since.elapsed() < self.user_timeout {
            let cause = "a connection with an unanswered command cannot be closed on the server yet: the server does \
                         not offer CLIENT KILL and CLIENT INFO to this user";
            return Err(Failure::new(FailureKind::Timeout, Stage::NotSent, cause));
        }
        if !self.warned.swap(true, Ordering::Relaxed) {
            log_later!(
                Warn,
                "a connection with an unanswered command could not be closed on Redis {}; grant \
                 +client|kill +client|info, if the server has them, so that a late command cannot overwrite a newer \
                 value",
                self.server_name
            );
        }
        Ok(())
    }
}

/// One round of killing. However it ends, the connections that were not killed return to the quarantine.
struct KillRound<'a> {
    quarantine: &'a Quarantine,
    orphans: Vec<Orphan>,
    failed: Option<(FailureKind, String)>,
}

impl KillRound<'_> {
    fn kill_all(
        &mut self,
        budget: &TimeBudget,
        dial: impl FnOnce(&TimeBudget) -> Result<Connection, Failure>,
    ) -> Result<(), Failure> {
        let mut fresh = dial(budget)?;
        while let Some(orphan) = self.orphans.last_mut() {
            match try_kill(&mut fresh, orphan, budget)? {
                Killed::Gone => {}
                Killed::Unknown | Killed::Refused => self.quarantine.drain(orphan, budget)?,
            }
            self.orphans.pop();
            self.quarantine.len.fetch_sub(1, Ordering::Relaxed);
            self.quarantine.killed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Drop for KillRound<'_> {
    fn drop(&mut self) {
        let mut state = self.quarantine.state.lock();
        state.orphans.append(&mut self.orphans);
        state.busy = false;
        state.round += 1;
        state.failed = self.failed.take();
        self.quarantine.round_ended.notify_all();
    }
}

/// Makes the server close the connection if it can.
fn try_kill(fresh: &mut Connection, orphan: &Orphan, budget: &TimeBudget) -> Result<Killed, Failure> {
    let Some(identity) = &orphan.connection.identity else {
        return Ok(Killed::Refused);
    };
    // Reconnecting has closed it already.
    if orphan.connection.registration.as_ref().is_some_and(Registration::is_forgotten) {
        return Ok(Killed::Gone);
    }
    fresh.buffer.clear();
    identity.write_kill(&mut CommandWriter::new(&mut fresh.buffer, b""));
    let reply = fresh.ask(budget)?;
    identity.killed(fresh.identity.as_ref(), &reply)
}

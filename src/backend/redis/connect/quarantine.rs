//! Owns the connections on which a mutation was sent and not answered: nothing that writes may overtake
//! them. Knows nothing of operations, nor of how connections are made.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use redis::Value;

use crate::backend::redis::connect::connection::{Connection, Outstanding};
use crate::backend::redis::failure::{Failure, FailureKind, Stage};
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::resp::CommandWriter;

/// A connection that is to be buried.
struct Orphan {
    connection: Connection,
    since: Instant,
}

#[derive(Default)]
struct QuarantineState {
    orphans: Vec<Orphan>,
    /// Somebody buries right now.
    busy: bool,
    /// How many burials were tried, and what the last one said if it failed.
    round: u64,
    failed: Option<(FailureKind, String)>,
}

pub(crate) struct Quarantine {
    /// How many wait, those being buried right now included.
    waiting: AtomicUsize,
    state: Mutex<QuarantineState>,
    changed: Condvar,
    killed: AtomicU64,
    warned: AtomicBool,
    /// After this long without an acknowledgement the kernel gives a connection up.
    user_timeout: Duration,
}

impl Quarantine {
    pub(crate) fn new(user_timeout: Duration) -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            state: Mutex::default(),
            changed: Condvar::new(),
            killed: AtomicU64::new(0),
            warned: AtomicBool::new(false),
            user_timeout,
        }
    }

    /// Whether nothing is to be buried. Whoever was told of a lost answer sees the connection here: it came
    /// before the telling.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }

    /// How many were buried.
    pub(crate) fn killed_count(&self) -> u64 {
        self.killed.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, connection: Connection) {
        let mut yard = self.state.lock();
        yard.orphans.push(Orphan { connection, since: Instant::now() });
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// Buries all that wait, or waits for who does. Where it fails, none who waited tries again.
    pub(crate) fn kill_all(
        &self,
        limit: &TimeBudget,
        dial: impl FnOnce(&TimeBudget) -> Result<Connection, Failure>,
    ) -> Result<(), Failure> {
        let mut yard = self.state.lock();
        while yard.busy {
            let round = yard.round;
            if self.changed.wait_until(&mut yard, limit.end).timed_out() {
                let cause = "an unanswered command was not yet buried";
                return Err(Failure::new(FailureKind::Timeout, Stage::NotSent, cause));
            }
            if yard.round != round
                && let Some((trouble, text)) = &yard.failed
            {
                return Err(Failure::new(*trouble, Stage::NotSent, text.clone()));
            }
        }
        if yard.orphans.is_empty() {
            return Ok(());
        }
        yard.busy = true;
        let dead = std::mem::take(&mut yard.orphans);
        drop(yard);
        let mut work = KillRound {
            quarantine: self,
            orphans: dead,
            failed: Some((FailureKind::Other, "a burial broke off".to_owned())),
        };
        let outcome = work.kill_all(limit, dial);
        work.failed = outcome.as_ref().err().map(|failure| (failure.kind, failure.cause.to_string()));
        outcome.map_err(|failure| Failure { stage: Stage::NotSent, ..failure })
    }
}

/// A burial under way. However it ends, what was not buried goes back.
struct KillRound<'a> {
    quarantine: &'a Quarantine,
    orphans: Vec<Orphan>,
    failed: Option<(FailureKind, String)>,
}

impl KillRound<'_> {
    fn kill_all(
        &mut self,
        limit: &TimeBudget,
        dial: impl FnOnce(&TimeBudget) -> Result<Connection, Failure>,
    ) -> Result<(), Failure> {
        let mut fresh = dial(limit)?;
        while let Some(dead) = self.orphans.last_mut() {
            if !try_kill(&mut fresh, dead, limit)? {
                self.quarantine.drain(dead, limit)?;
            }
            self.orphans.pop();
            self.quarantine.waiting.fetch_sub(1, Ordering::Relaxed);
            self.quarantine.killed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Drop for KillRound<'_> {
    fn drop(&mut self) {
        let mut yard = self.quarantine.state.lock();
        yard.orphans.append(&mut self.orphans);
        yard.busy = false;
        yard.round += 1;
        yard.failed = self.failed.take();
        self.quarantine.changed.notify_all();
    }
}

/// Lets the server close the connection, and tells whether it could be asked to: no matter how many it
/// closed, none is left.
fn try_kill(fresh: &mut Connection, dead: &Orphan, limit: &TimeBudget) -> Result<bool, Failure> {
    let Some(identity) = &dead.connection.identity else {
        return Ok(false);
    };
    fresh.buffer.clear();
    CommandWriter::new(&mut fresh.buffer, b"")
        .command(6, "CLIENT")
        .arg(b"KILL")
        .arg(b"ID")
        .arg(identity.id.as_bytes())
        .arg(b"ADDR")
        .arg(identity.address.as_bytes());
    fresh.apply_deadline(limit)?;
    match fresh.ask(limit)? {
        Value::Int(_) => Ok(true),
        Value::ServerError(error) if error.code() == "NOPERM" => Ok(false),
        Value::ServerError(error) => Err(Failure::from_error_reply(&error)),
        other => Err(Failure::unexpected_reply(&other)),
    }
}

impl Quarantine {
    /// Waits until the connection has nothing more to run: it answers behind its last command, or its end
    /// is seen. What can do neither is let go when the kernel has given it up.
    fn drain(&self, dead: &mut Orphan, limit: &TimeBudget) -> Result<(), Failure> {
        if dead.connection.outstanding() != Outstanding::PartialMutation {
            let token = format!("millpond-{:032x}", fastrand::u128(..));
            match dead.connection.echo(&token, limit) {
                Ok(()) => return Ok(()),
                Err(failure) if failure.kind == FailureKind::Timeout => return Err(failure),
                Err(failure) if failure.kind == FailureKind::Unreachable => return Ok(()),
                Err(_) => {}
            }
        }
        if dead.since.elapsed() < self.user_timeout {
            let cause =
                "an unanswered command cannot be buried yet: the user lacks client|kill or client|info";
            return Err(Failure::new(FailureKind::Timeout, Stage::NotSent, cause));
        }
        if !self.warned.swap(true, Ordering::Relaxed) {
            log::warn!(
                "a connection with an unanswered command could not be closed on the server; grant +client|kill \
                 +client|info so that a late command cannot overwrite a newer value"
            );
        }
        Ok(())
    }
}

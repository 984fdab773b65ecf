//! Owns the connections on which a mutation was sent and not answered: nothing that writes may overtake
//! them. Knows nothing of operations, nor of how connections are made.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use redis::Value;

use crate::backend::redis::connect::connection::{Connection, Owed};
use crate::backend::redis::failure::{Failure, Stage, Trouble};
use crate::backend::redis::time_budget::Limit;
use crate::backend::redis::wire::resp::Packer;

/// A connection that is to be buried.
struct Dead {
    connection: Connection,
    since: Instant,
}

#[derive(Default)]
struct Yard {
    dead: Vec<Dead>,
    /// Somebody buries right now.
    busy: bool,
    /// How many burials were tried, and what the last one said if it failed.
    round: u64,
    failed: Option<(Trouble, String)>,
}

pub(crate) struct Graveyard {
    /// How many wait, those being buried right now included.
    waiting: AtomicUsize,
    yard: Mutex<Yard>,
    changed: Condvar,
    buried: AtomicU64,
    warned: AtomicBool,
    /// After this long without an acknowledgement the kernel gives a connection up.
    user_timeout: Duration,
}

impl Graveyard {
    pub(crate) fn new(user_timeout: Duration) -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            yard: Mutex::default(),
            changed: Condvar::new(),
            buried: AtomicU64::new(0),
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
    pub(crate) fn buried(&self) -> u64 {
        self.buried.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, connection: Connection) {
        let mut yard = self.yard.lock();
        yard.dead.push(Dead { connection, since: Instant::now() });
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// Buries all that wait, or waits for who does. Where it fails, none who waited tries again.
    pub(crate) fn bury(
        &self,
        limit: &Limit,
        dial: impl FnOnce(&Limit) -> Result<Connection, Failure>,
    ) -> Result<(), Failure> {
        let mut yard = self.yard.lock();
        while yard.busy {
            let round = yard.round;
            if self.changed.wait_until(&mut yard, limit.end).timed_out() {
                let cause = "an unanswered command was not yet buried";
                return Err(Failure::new(Trouble::Timeout, Stage::NotSent, cause));
            }
            if yard.round != round
                && let Some((trouble, text)) = &yard.failed
            {
                return Err(Failure::new(*trouble, Stage::NotSent, text.clone()));
            }
        }
        if yard.dead.is_empty() {
            return Ok(());
        }
        yard.busy = true;
        let dead = std::mem::take(&mut yard.dead);
        drop(yard);
        let mut work =
            Work { graveyard: self, dead, failed: Some((Trouble::Other, "a burial broke off".to_owned())) };
        let outcome = work.bury(limit, dial);
        work.failed = outcome.as_ref().err().map(|failure| (failure.trouble, failure.cause.to_string()));
        outcome.map_err(|failure| Failure { stage: Stage::NotSent, ..failure })
    }
}

/// A burial under way. However it ends, what was not buried goes back.
struct Work<'a> {
    graveyard: &'a Graveyard,
    dead: Vec<Dead>,
    failed: Option<(Trouble, String)>,
}

impl Work<'_> {
    fn bury(
        &mut self,
        limit: &Limit,
        dial: impl FnOnce(&Limit) -> Result<Connection, Failure>,
    ) -> Result<(), Failure> {
        let mut fresh = dial(limit)?;
        while let Some(dead) = self.dead.last_mut() {
            if !killed(&mut fresh, dead, limit)? {
                self.graveyard.outlive(dead, limit)?;
            }
            self.dead.pop();
            self.graveyard.waiting.fetch_sub(1, Ordering::Relaxed);
            self.graveyard.buried.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        let mut yard = self.graveyard.yard.lock();
        yard.dead.append(&mut self.dead);
        yard.busy = false;
        yard.round += 1;
        yard.failed = self.failed.take();
        self.graveyard.changed.notify_all();
    }
}

/// Lets the server close the connection, and tells whether it could be asked to: no matter how many it
/// closed, none is left.
fn killed(fresh: &mut Connection, dead: &Dead, limit: &Limit) -> Result<bool, Failure> {
    let Some(identity) = &dead.connection.identity else {
        return Ok(false);
    };
    fresh.buffer.clear();
    Packer::new(&mut fresh.buffer, b"")
        .command(6, "CLIENT")
        .word(b"KILL")
        .word(b"ID")
        .word(identity.id.as_bytes())
        .word(b"ADDR")
        .word(identity.address.as_bytes());
    fresh.arm(limit)?;
    match fresh.ask(limit)? {
        Value::Int(_) => Ok(true),
        Value::ServerError(error) if error.code() == "NOPERM" => Ok(false),
        Value::ServerError(error) => Err(Failure::of_answer(&error)),
        other => Err(Failure::unexpected(&other)),
    }
}

impl Graveyard {
    /// Waits until the connection has nothing more to run: it answers behind its last command, or its end
    /// is seen. What can do neither is let go when the kernel has given it up.
    fn outlive(&self, dead: &mut Dead, limit: &Limit) -> Result<(), Failure> {
        if dead.connection.owed() != Owed::TornMutations {
            let token = format!("millpond-{:032x}", fastrand::u128(..));
            match dead.connection.echo(&token, limit) {
                Ok(()) => return Ok(()),
                Err(failure) if failure.trouble == Trouble::Timeout => return Err(failure),
                Err(failure) if failure.trouble == Trouble::Away => return Ok(()),
                Err(_) => {}
            }
        }
        if dead.since.elapsed() < self.user_timeout {
            let cause =
                "an unanswered command cannot be buried yet: the user lacks client|kill or client|info";
            return Err(Failure::new(Trouble::Timeout, Stage::NotSent, cause));
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

//! Owns the way back to the server: when it is tried, and the hand-over when the queue is empty. Knows nothing of how
//! a chunk is replayed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::fallback::link::probe::{ProbeBackoff, ProbeFailure};
use crate::backend::fallback::link::replay_session::ReplaySession;
use crate::backend::fallback::outage::serving::Outage;
use crate::backend::fallback::report::counts::Tally;
use crate::backend::fallback::report::log_throttle::{LogThrottle, Reminders};
use crate::backend::fallback::shared::Shared;
use crate::backend::redis::replay::reconnect_error::{ReconnectError, ReconnectReason};
use crate::outage::Event;
use crate::text::{count, shown};
use crate::util::foreign;
use crate::util::log_later::{self, log_later};

/// When at most this many operations are queued, writers wait until these are replayed too.
const CUT_OVER: u64 = 256;

/// How long each write is delayed while writers are faster than the replay.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// The length of an outage that is shorter is not logged.
const LEAST_LOGGED: Duration = Duration::from_secs(1);

impl Shared {
    /// Tries to reconnect until that succeeds or the store ends. A later outage has a thread of its own, also if another
    /// thread ended this outage while this one slept.
    pub(crate) fn reconnect_when_possible(&self, outage: &Arc<Outage>) {
        let mut backoff = ProbeBackoff::new();
        let was_connected = self.reconnector.was_connected();
        let rhythm = if was_connected { Reminders::Rarer } else { Reminders::EachMinute };
        let mut log_throttle = LogThrottle::new(outage.cause.clone(), rhythm);
        let is_current = || self.outage.current().is_some_and(|current| Arc::ptr_eq(&current, outage));
        while !self.reconnector.is_ending() && is_current() {
            let Err(error) = self.try_reconnect() else { return };
            if error.reason == ReconnectReason::StaleQueue {
                return;
            }
            if outage.elapsed() >= LEAST_LOGGED && log_throttle.is_due(&error.cause) {
                if was_connected {
                    self.log_still_unreachable(outage, &error.cause);
                } else {
                    self.log_never_reached(&error.cause);
                }
                log_later::flush();
            }
            let failure = match error.reason {
                ReconnectReason::TimedOut | ReconnectReason::StaleQueue => ProbeFailure::TimedOut,
                ReconnectReason::Denied
                | ReconnectReason::Refused
                | ReconnectReason::Broken
                | ReconnectReason::Failed => ProbeFailure::Refused,
            };
            self.reconnector.sleep(backoff.next(failure, fastrand::f64()));
        }
    }

    /// Tries to reconnect once. If that fails, the outage goes on.
    pub(crate) fn try_reconnect(&self) -> Result<(), ReconnectError> {
        self.try_reconnect_until(None)
    }

    /// As [`Shared::try_reconnect`]; waits at most until `end` for other threads that try it.
    pub(crate) fn try_reconnect_until(&self, end: Option<Instant>) -> Result<(), ReconnectError> {
        // A panic of the program's clock must not end the reconnecting thread.
        let _ = foreign::run(|| self.clock.refresh());
        let outcome = {
            let Some(_one_attempt) = self.reconnector.lock_attempt(end) else {
                let cause = "another thread is trying to reconnect";
                return Err(ReconnectError::new(ReconnectReason::TimedOut, cause.to_owned()));
            };
            let outcome = match self.outage.current() {
                Some(outage) => self.replay_and_reconnect(&outage).inspect_err(|error| {
                    if error.reason == ReconnectReason::StaleQueue {
                        self.report_stale_queue(&outage, &error.cause);
                    }
                }),
                None => Ok(()),
            };
            self.reconnector.set_last_failure(outcome.as_ref().err().map(|error| error.cause.clone()));
            outcome
        };
        self.events.dispatch();
        outcome
    }

    fn report_stale_queue(&self, outage: &Outage, cause: &str) {
        if outage.note_stale_queue(cause) {
            let (server, path) =
                (self.redis.server_name(), self.queue_file.as_ref().map(|file| file.path().display()));
            log_later!(
                Error,
                "the replay queue for Redis {server} in {} is not replayed, and the store serves nothing more: {cause}",
                path.map(|path| path.to_string()).unwrap_or_default()
            );
        }
    }

    fn replay_and_reconnect(&self, outage: &Arc<Outage>) -> Result<(), ReconnectError> {
        if let Some(cause) = outage.stale_queue() {
            return Err(ReconnectError::new(ReconnectReason::StaleQueue, cause.to_owned()));
        }
        let mut session = ReplaySession::begin(self, outage).inspect_err(|_| outage.pace.clear_suspect())?;
        let (mut before, mut pause) = (u64::MAX, FIRST_PAUSE);
        loop {
            let queued = outage.session().queue.len();
            // Writers must not wait for the first chunk: it shows whether anything gets through at all.
            if queued == 0 || (queued <= CUT_OVER && session.has_applied()) {
                break;
            }
            // The pause grows until even many writers are slower than the replay.
            if queued >= before {
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            before = queued;
            outage.pace.throttle((queued / 2).max(CUT_OVER), pause);
            session.replay_chunk()?;
        }
        // INVARIANT: from here on no operation is carried out locally, until either all are replayed or the outage
        // goes on.
        let mut current = self.outage.write();
        session.begin_cut_over();
        while !outage.session().queue.is_empty() {
            session.replay_chunk()?;
        }
        self.marker.set_done(outage.session().queue.done());
        drop(session);
        self.shadow.forget_in_doubt();
        self.redis.resume();
        self.reconnector.set_was_connected(true);
        self.outage.end(&mut current);
        let tally = outage.tally();
        let elapsed = outage.elapsed();
        let Tally { replayed, rejected, conflicts } = tally;
        self.events.push(Event::Reconnected { replayed, rejected, conflicts, away_for: elapsed });
        drop(current);
        self.log_reconnected(tally, elapsed);
        Ok(())
    }

    fn log_still_unreachable(&self, outage: &Outage, cause: &str) {
        let (server, cause) = (self.redis.server_name(), self.redis.without_host(cause));
        let (elapsed, writes) = (shown(outage.elapsed()), outage.session().queue.writes());
        if writes.calls == 0 {
            log_later!(Warn, "Redis {server} has been unreachable for {elapsed}: {cause}");
        } else {
            log_later!(Warn, "Redis {server} has been unreachable for {elapsed}: {cause}; queued: {writes}");
        }
    }

    /// Says only what is not 0, with a key or two.
    fn log_reconnected(&self, tally: Tally, elapsed: Duration) {
        let (server, Tally { replayed, rejected, conflicts }) = (self.redis.server_name(), tally);
        let after = if elapsed < LEAST_LOGGED { String::new() } else { format!(" after {}", shown(elapsed)) };
        if replayed == 0 {
            log_later!(Info, "Redis {server} is connected again{after}");
        } else {
            let replayed = count(replayed, "queued operation");
            log_later!(Info, "Redis {server} is connected again{after}; replayed: {replayed}");
        }
        if rejected > 0 {
            let keys = quoted(&self.report.last_rejected(KEYS_NAMED));
            let rejected = count(rejected, "queued operation");
            log_later!(Warn, "Redis {server} rejected {rejected}{keys}: see take_rejected");
        }
        if conflicts > 0 {
            let keys = quoted(&self.report.last_conflicts(KEYS_NAMED));
            let conflicts = count(conflicts, "queued write");
            log_later!(
                Warn,
                "Redis {server}: {conflicts} met a value of another client{keys}: see take_conflicts"
            );
        }
    }
}

/// How many keys a line names.
const KEYS_NAMED: usize = 2;

/// ` (such as "a", "b")`, or nothing if no key is known.
fn quoted(keys: &[String]) -> String {
    let quoted: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
    if quoted.is_empty() { String::new() } else { format!(" (such as {})", quoted.join(", ")) }
}

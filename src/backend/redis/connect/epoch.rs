//! Owns the epoch: a random value that is stored on the server from the first connection on, and that disappears
//! with all other data when the server loses it; and the count of writes beside it, which is lower when the server has
//! gone back to an earlier state. Does no I/O, and knows nothing of what follows from a data loss.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use redis::Value;

use crate::backend::redis::connect::epoch_state::{self, EpochState};
pub(crate) use crate::backend::redis::connect::epoch_state::{DataLoss, EpochProbe};
use crate::backend::redis::connect::write_count::{CountPace, WriteCount};
use crate::backend::redis::failure::{Failure, FailureKind};
use crate::backend::redis::keys;
use crate::backend::redis::wire::resp::CommandWriter;
use crate::backend::redis::wire::scripts::REPLACE_EPOCH;
use crate::util::log_later::log_later;
use crate::util::unique_id;

/// The epoch of the server and its count of writes, as far as this store has observed them. Stores under one prefix
/// share both: the first one that misses the epoch, or that observes a rollback, makes a new epoch, and the others
/// observe that it has changed.
pub(crate) struct Epoch {
    /// The keys on the server, with the store's prefix.
    key: Vec<u8>,
    count_key: Vec<u8>,
    server_name: String,
    pace: CountPace,
    /// The server refuses to count for good, so that no more writes are counted.
    cannot_count: AtomicBool,
    state: Mutex<EpochState>,
    /// What the state says, for those that ask often.
    has_data_loss: AtomicBool,
    loss_count: AtomicU64,
    is_in_doubt: AtomicBool,
}

/// What the replies to GET mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GetOutcome {
    Done,
    /// The server has no epoch: one must be created.
    Missing,
    /// The count is lower than it was: the server that takes the writes must confirm it.
    Lower,
    /// The server cannot reply yet: this connection does not know whether data was lost.
    Unready,
}

impl Epoch {
    /// `server_name`: how log lines name the server.
    pub(crate) fn new(prefix: &[u8], server_name: String) -> Self {
        let key_of = |key: crate::key::Key<'_>| [prefix, key.as_bytes()].concat();
        Self {
            key: key_of(keys::epoch()),
            count_key: key_of(keys::write_count()),
            server_name,
            pace: CountPace::new(Instant::now()),
            cannot_count: AtomicBool::new(false),
            state: Mutex::default(),
            has_data_loss: AtomicBool::new(false),
            loss_count: AtomicU64::new(0),
            is_in_doubt: AtomicBool::new(false),
        }
    }

    /// Uses the state, and publishes what it says then.
    fn update<T>(&self, work: impl FnOnce(&mut EpochState) -> T) -> T {
        let mut state = self.state.lock();
        let done = work(&mut state);
        self.loss_count.store(state.losses(), Ordering::Release);
        self.has_data_loss.store(state.has_data_loss(), Ordering::Release);
        self.is_in_doubt.store(state.is_in_doubt(), Ordering::Release);
        done
    }

    /// Begins a probe. Must be called before the command is sent.
    pub(crate) fn begin_probe(&self) -> EpochProbe {
        self.state.lock().begin_probe()
    }

    /// Writes the two commands that read the epoch and the count of writes.
    pub(crate) fn write_get(&self, writer: &mut CommandWriter<'_>) {
        writer.command(2, "GET").arg(&self.key);
        writer.command(2, "GET").arg(&self.count_key);
    }

    /// Writes the commands that create an epoch if the server has none, and that read the one it has then. Redis
    /// 6.2 cannot do both in one command.
    pub(crate) fn write_create(&self, writer: &mut CommandWriter<'_>) {
        writer.command(4, "SET").arg(&self.key).arg(new_value().as_bytes()).arg(b"NX");
        writer.command(2, "GET").arg(&self.key);
    }

    /// Writes the command that replaces an epoch after a rollback.
    pub(crate) fn write_replace(&self, old: &[u8], writer: &mut CommandWriter<'_>) {
        let new = epoch_state::successor(old, new_value().as_bytes());
        writer
            .command(6, "EVAL")
            .arg(REPLACE_EPOCH.text().as_bytes())
            .arg(b"1")
            .arg(&self.key)
            .arg(old)
            .arg(&new);
    }

    /// Writes the command that begins a count, if this reply to GET shows none that can be compared. Returns whether
    /// it did.
    pub(crate) fn write_begin_count(&self, found: &Value, writer: &mut CommandWriter<'_>) -> bool {
        let is_absent = *found == Value::Nil;
        let is_count = matches!(found, Value::BulkString(text) if text.iter().all(u8::is_ascii_digit));
        if !is_absent && (!is_count || WriteCount::from_text(found).is_some()) {
            return false;
        }
        let begun = WriteCount::begin().to_text();
        writer.command(3 + usize::from(is_absent), "SET").arg(&self.count_key).arg(begun.as_bytes());
        if is_absent {
            writer.arg(b"NX");
        }
        true
    }

    /// Writes the command that counts a write, if a write at this time is counted.
    pub(crate) fn write_count(&self, now: Instant, writer: &mut CommandWriter<'_>) -> Option<EpochProbe> {
        if self.cannot_count.load(Ordering::Relaxed) || !self.pace.allows(now) {
            return None;
        }
        writer.command(2, "INCR").arg(&self.count_key);
        Some(self.begin_probe())
    }

    /// Writes the command that reads the count on the server that takes the writes, also behind a proxy that lets
    /// replicas reply to reads.
    pub(crate) fn write_confirm(&self, writer: &mut CommandWriter<'_>) {
        writer.command(3, "INCRBY").arg(&self.count_key).arg(b"0");
    }

    /// Reads the reply to [`Epoch::write_confirm`].
    pub(crate) fn on_confirm(&self, probe: EpochProbe, reply: &Value) {
        if let Value::Int(number) = reply {
            self.update(|state| state.see_confirmed(probe, WriteCount::from_number(*number)));
        }
    }

    /// Reads the replies to [`Epoch::write_get`].
    #[expect(clippy::wildcard_enum_match_arm, reason = "a server may send any value of the protocol")]
    pub(crate) fn on_get(&self, probe: EpochProbe, epoch: Value, count: &Value) -> GetOutcome {
        match epoch {
            Value::Nil => return GetOutcome::Missing,
            Value::BulkString(value) => {
                let count = WriteCount::from_text(count);
                if self.update(|state| state.see(probe, Some(value), count)) {
                    return GetOutcome::Lower;
                }
            }
            Value::ServerError(error) => {
                let failure = Failure::from_error_reply(&error);
                if failure.kind == FailureKind::Busy {
                    return GetOutcome::Unready;
                }
                self.log_blindness(&failure);
                self.update(|state| state.settle_doubt(probe));
            }
            _ => self.update(|state| state.settle_doubt(probe)),
        }
        GetOutcome::Done
    }

    /// Reads the replies to [`Epoch::write_create`].
    #[expect(clippy::wildcard_enum_match_arm, reason = "a server may send any value of the protocol")]
    pub(crate) fn on_create(&self, probe: EpochProbe, created: &Value, found: Value) {
        if let Value::ServerError(error) = created {
            self.log_blindness(&Failure::from_error_reply(error));
        }
        match found {
            Value::BulkString(value) => _ = self.update(|state| state.see(probe, Some(value), None)),
            Value::Nil => _ = self.update(|state| state.see(probe, None, None)),
            _ => {}
        }
    }

    /// Notes the data loss if there was a rollback, and returns the epoch that must be replaced.
    pub(crate) fn take_rollback(&self) -> Option<Vec<u8>> {
        self.update(EpochState::take_rollback)
    }

    /// Reads the reply to [`Epoch::write_replace`].
    #[expect(clippy::wildcard_enum_match_arm, reason = "a server may send any value of the protocol")]
    pub(crate) fn on_replace(&self, reply: Value) {
        match reply {
            Value::BulkString(value) => self.update(|state| state.note_replaced(value)),
            Value::ServerError(error) => self.log_blindness(&Failure::from_error_reply(&error)),
            _ => {}
        }
    }

    /// Reads the reply to [`Epoch::write_count`].
    #[expect(clippy::wildcard_enum_match_arm, reason = "a server may send any value of the protocol")]
    pub(crate) fn on_count(&self, probe: EpochProbe, reply: &Value) {
        match reply {
            Value::Int(number) => {
                self.update(|state| state.see_counted(probe, WriteCount::from_number(*number)));
            }
            Value::ServerError(error) => {
                let failure = Failure::from_error_reply(error);
                if !matches!(failure.kind, FailureKind::Busy | FailureKind::NotWritable) {
                    self.cannot_count.store(true, Ordering::Relaxed);
                    self.log_blindness(&failure);
                }
            }
            _ => {}
        }
    }

    /// Allows counting again, on a new connection.
    pub(crate) fn allow_counting(&self) {
        self.cannot_count.store(false, Ordering::Relaxed);
    }

    fn log_blindness(&self, failure: &Failure) {
        log_later!(
            Debug,
            "cannot read or write the epoch keys on Redis {}: {}; a data loss on it can go unnoticed",
            self.server_name,
            failure.cause
        );
    }

    /// Returns whether a count was not continued, so that the epoch must be read again.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.is_in_doubt.load(Ordering::Acquire)
    }

    /// Returns whether a data loss was found that was not yet taken.
    pub(crate) fn has_data_loss(&self) -> bool {
        self.has_data_loss.load(Ordering::Acquire)
    }

    /// How many data losses were found.
    pub(crate) fn loss_count(&self) -> u64 {
        self.loss_count.load(Ordering::Acquire)
    }

    /// Takes the data loss that was found, if any: returns what shows it.
    pub(crate) fn take_data_loss(&self) -> Option<DataLoss> {
        self.update(EpochState::take_data_loss)
    }
}

fn new_value() -> String {
    format!("{:032x}", unique_id::unique_id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn epoch() -> Epoch {
        Epoch::new(b"p:", "localhost:6379".to_owned())
    }

    fn error(line: &[u8]) -> Value {
        redis::parse_redis_value(line).unwrap()
    }

    #[test]
    fn several_probes_report_a_data_loss_once() {
        let epoch = epoch();
        let first = epoch.begin_probe();
        assert_eq!(epoch.on_get(first, Value::Nil, &Value::Nil), GetOutcome::Missing);
        epoch.on_create(first, &Value::Okay, bulk("a"));
        assert!(!epoch.has_data_loss(), "it is the first epoch");
        assert_eq!(epoch.on_get(epoch.begin_probe(), bulk("a"), &Value::Nil), GetOutcome::Done);
        assert!(!epoch.has_data_loss());
        let probes = [epoch.begin_probe(), epoch.begin_probe()];
        for probe in probes {
            assert_eq!(epoch.on_get(probe, bulk("b"), &Value::Nil), GetOutcome::Done);
        }
        assert!(epoch.has_data_loss());
        assert!(epoch.take_data_loss().is_some());
        assert!(!epoch.has_data_loss() && epoch.take_data_loss().is_none());
    }

    #[test]
    fn a_late_reply_from_before_a_data_loss_is_ignored() {
        let epoch = epoch();
        epoch.on_get(epoch.begin_probe(), bulk("a"), &Value::Nil);
        let (early, late) = (epoch.begin_probe(), epoch.begin_probe());
        epoch.on_get(late, bulk("b"), &Value::Nil);
        assert!(epoch.take_data_loss().is_some());
        epoch.on_get(early, bulk("a"), &Value::Nil);
        assert!(!epoch.has_data_loss());
        epoch.on_get(epoch.begin_probe(), bulk("b"), &Value::Nil);
        assert!(!epoch.has_data_loss());
    }

    #[test]
    fn without_permission_no_data_loss_is_reported() {
        let epoch = epoch();
        let denied = || error(b"-NOPERM this user has no permissions\r\n");
        assert_eq!(epoch.on_get(epoch.begin_probe(), denied(), &Value::Nil), GetOutcome::Done);
        let probe = epoch.begin_probe();
        epoch.on_create(probe, &denied(), Value::Nil);
        assert_eq!(epoch.on_get(epoch.begin_probe(), bulk("a"), &Value::Nil), GetOutcome::Done);
        assert_eq!(epoch.on_get(epoch.begin_probe(), denied(), &Value::Nil), GetOutcome::Done);
        assert_eq!(
            epoch.on_get(epoch.begin_probe(), error(b"-LOADING\r\n"), &Value::Nil),
            GetOutcome::Unready
        );
        assert!(!epoch.has_data_loss());
    }

    #[test]
    fn an_epoch_that_cannot_be_recreated_is_lost_once() {
        let epoch = epoch();
        epoch.on_get(epoch.begin_probe(), bulk("a"), &Value::Nil);
        for _ in 0..2 {
            let probe = epoch.begin_probe();
            assert_eq!(epoch.on_get(probe, Value::Nil, &Value::Nil), GetOutcome::Missing);
            epoch.on_create(probe, &error(b"-OOM command not allowed\r\n"), Value::Nil);
        }
        assert!(epoch.take_data_loss().is_some());
        assert!(!epoch.has_data_loss());
    }

    #[test]
    fn a_user_who_may_not_count_is_not_asked_again_on_the_same_connection() {
        let epoch = epoch();
        let mut buffer = Vec::new();
        let mut writer = CommandWriter::new(&mut buffer, b"");
        let probe = epoch.write_count(Instant::now(), &mut writer).unwrap();
        epoch.on_count(probe, &error(b"-OOM command not allowed\r\n"));
        let probe = epoch.write_count(Instant::now(), &mut writer).unwrap();
        epoch.on_count(probe, &error(b"-NOPERM this user has no permissions\r\n"));
        assert!(epoch.write_count(Instant::now(), &mut writer).is_none());
        epoch.allow_counting();
        assert!(epoch.write_count(Instant::now(), &mut writer).is_some());
        assert_eq!(buffer, b"*2\r\n$4\r\nINCR\r\n$25\r\np:writes:__millpond:epoch\r\n".repeat(3));
        assert!(!epoch.has_data_loss());
    }

    #[test]
    fn a_count_is_begun_if_none_can_be_compared() {
        let denied = error(b"-NOPERM this user has no permissions\r\n");
        for (found, parts) in [
            (Value::Nil, Some(4)),
            (bulk("17"), Some(3)),
            (bulk("7000000000017"), None),
            (bulk("x"), None),
            (denied, None),
        ] {
            let mut buffer = Vec::new();
            let begins = epoch().write_begin_count(&found, &mut CommandWriter::new(&mut buffer, b""));
            assert_eq!(begins, parts.is_some(), "{found:?}");
            if let Some(parts) = parts {
                let Ok(Value::Array(command)) = redis::parse_redis_value(&buffer) else {
                    panic!("{buffer:?}")
                };
                assert_eq!(command.len(), parts, "{found:?}");
            }
        }
    }

    #[test]
    fn what_replaces_an_epoch_is_one_command() {
        let mut buffer = Vec::new();
        epoch().write_replace(b"a", &mut CommandWriter::new(&mut buffer, b""));
        let Ok(Value::Array(command)) = redis::parse_redis_value(&buffer) else { panic!("{buffer:?}") };
        assert_eq!(command.len(), 6);
    }
}

//! Owns the epoch: a random value that is stored on the server from the first connection on, and that disappears
//! with all other data when the server loses it. Does no I/O, and knows nothing of what follows from a data loss.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use redis::Value;

use crate::backend::redis::failure::{Failure, FailureKind};
use crate::backend::redis::keys;
use crate::backend::redis::wire::resp::CommandWriter;
use crate::util::log_later::log_later;
use crate::util::unique_id;

/// The epoch of the server, as far as this store has observed it. Stores under one prefix share it: the first
/// one that misses it creates a new one, and the others observe that it has changed.
pub(crate) struct Epoch {
    /// The key on the server, with the store's prefix.
    key: Vec<u8>,
    server_name: String,
    has_data_loss: AtomicBool,
    /// How many data losses were found.
    loss_count: AtomicU64,
    state: Mutex<EpochState>,
}

#[derive(Default)]
struct EpochState {
    value: Option<Vec<u8>>,
    /// How many probes have begun, and how many had begun when `value` was observed.
    probes: u64,
    probes_at_value: u64,
    /// What shows that the server has lost data.
    data_loss: Option<&'static str>,
}

/// A probe of the server that has begun. Its result counts only if no newer probe has delivered one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EpochProbe(u64);

/// What the reply to GET means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GetOutcome {
    Done,
    /// The server has no epoch: one must be created.
    Missing,
    /// The server cannot reply yet: this connection does not know whether data was lost.
    Unready,
}

impl Epoch {
    /// `server_name`: how log lines name the server.
    pub(crate) fn new(prefix: &[u8], server_name: String) -> Self {
        let key = [prefix, keys::epoch().as_bytes()].concat();
        Self {
            key,
            server_name,
            has_data_loss: AtomicBool::new(false),
            loss_count: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    /// Begins a probe. Must be called before the command is sent.
    pub(crate) fn begin_probe(&self) -> EpochProbe {
        let mut state = self.state.lock();
        state.probes += 1;
        EpochProbe(state.probes)
    }

    /// Writes the command that reads the epoch.
    pub(crate) fn write_get(&self, writer: &mut CommandWriter<'_>) {
        writer.command(2, "GET").arg(&self.key);
    }

    /// Writes the commands that create an epoch if the server has none, and that read the one it has then. Redis
    /// 6.2 cannot do both in one command.
    pub(crate) fn write_create(&self, writer: &mut CommandWriter<'_>) {
        let value = format!("{:032x}", unique_id::unique_id());
        writer.command(4, "SET").arg(&self.key).arg(value.as_bytes()).arg(b"NX");
        self.write_get(writer);
    }

    /// Reads the reply to [`Epoch::write_get`].
    #[expect(clippy::wildcard_enum_match_arm, reason = "a server may send any value of the protocol")]
    pub(crate) fn on_get(&self, probe: EpochProbe, reply: Value) -> GetOutcome {
        match reply {
            Value::Nil => return GetOutcome::Missing,
            Value::BulkString(value) => self.observe(probe, Some(value)),
            Value::ServerError(error) => {
                let failure = Failure::from_error_reply(&error);
                if failure.kind == FailureKind::Busy {
                    return GetOutcome::Unready;
                }
                self.log_blindness(&failure);
            }
            _ => {}
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
            Value::BulkString(value) => self.observe(probe, Some(value)),
            Value::Nil => self.observe(probe, None),
            _ => {}
        }
    }

    fn log_blindness(&self, failure: &Failure) {
        log_later!(
            Debug,
            "cannot read or create the epoch key on Redis {}: {}; a data loss on it goes unnoticed",
            self.server_name,
            failure.cause
        );
    }

    fn observe(&self, probe: EpochProbe, value: Option<Vec<u8>>) {
        let mut state = self.state.lock();
        // The replies to two probes may be read in another order than the server sent them.
        if probe.0 <= state.probes_at_value || state.value == value {
            return;
        }
        if state.value.is_some() {
            state.data_loss = Some(if value.is_some() {
                "the key __millpond:epoch has another value than before"
            } else {
                "the key __millpond:epoch is gone"
            });
            self.loss_count.fetch_add(1, Ordering::AcqRel);
            self.has_data_loss.store(true, Ordering::Release);
        }
        state.value = value;
        state.probes_at_value = state.probes;
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
    pub(crate) fn take_data_loss(&self) -> Option<&'static str> {
        let mut state = self.state.lock();
        self.has_data_loss.store(false, Ordering::Release);
        state.data_loss.take()
    }
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
        assert_eq!(epoch.on_get(first, Value::Nil), GetOutcome::Missing);
        epoch.on_create(first, &Value::Okay, bulk("a"));
        assert!(!epoch.has_data_loss(), "it is the first epoch");
        assert_eq!(epoch.on_get(epoch.begin_probe(), bulk("a")), GetOutcome::Done);
        assert!(!epoch.has_data_loss());
        let probes = [epoch.begin_probe(), epoch.begin_probe()];
        for probe in probes {
            assert_eq!(epoch.on_get(probe, bulk("b")), GetOutcome::Done);
        }
        assert!(epoch.has_data_loss());
        assert!(epoch.take_data_loss().is_some());
        assert!(!epoch.has_data_loss() && epoch.take_data_loss().is_none());
    }

    #[test]
    fn a_late_reply_from_before_a_data_loss_is_ignored() {
        let epoch = epoch();
        epoch.on_get(epoch.begin_probe(), bulk("a"));
        let (early, late) = (epoch.begin_probe(), epoch.begin_probe());
        epoch.on_get(late, bulk("b"));
        assert!(epoch.take_data_loss().is_some());
        epoch.on_get(early, bulk("a"));
        assert!(!epoch.has_data_loss());
        epoch.on_get(epoch.begin_probe(), bulk("b"));
        assert!(!epoch.has_data_loss());
    }

    #[test]
    fn without_permission_no_data_loss_is_reported() {
        let epoch = epoch();
        let denied = || error(b"-NOPERM this user has no permissions\r\n");
        assert_eq!(epoch.on_get(epoch.begin_probe(), denied()), GetOutcome::Done);
        let probe = epoch.begin_probe();
        epoch.on_create(probe, &denied(), Value::Nil);
        assert_eq!(epoch.on_get(epoch.begin_probe(), bulk("a")), GetOutcome::Done);
        assert_eq!(epoch.on_get(epoch.begin_probe(), denied()), GetOutcome::Done);
        assert_eq!(epoch.on_get(epoch.begin_probe(), error(b"-LOADING\r\n")), GetOutcome::Unready);
        assert!(!epoch.has_data_loss());
    }

    #[test]
    fn an_epoch_that_cannot_be_recreated_is_lost_once() {
        let epoch = epoch();
        epoch.on_get(epoch.begin_probe(), bulk("a"));
        for _ in 0..2 {
            let probe = epoch.begin_probe();
            assert_eq!(epoch.on_get(probe, Value::Nil), GetOutcome::Missing);
            epoch.on_create(probe, &error(b"-OOM command not allowed\r\n"), Value::Nil);
        }
        assert!(epoch.take_data_loss().is_some());
        assert!(!epoch.has_data_loss());
    }
}

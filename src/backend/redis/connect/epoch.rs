//! Owns the epoch: a value that lies on the server from the first connection on, and that goes with all else
//! when the server loses its memory. Does no I/O, and knows nothing of what follows from a loss.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use redis::Value;

use crate::backend::redis::failure::{Failure, FailureKind};
use crate::backend::redis::keys;
use crate::backend::redis::wire::resp::CommandWriter;
use crate::util::unique_id;

/// The epoch of the server, as far as this store has seen it. Stores under one prefix share it: whoever finds
/// none makes one, and the others see that it is another.
pub(crate) struct Epoch {
    /// The key as it lies on the server.
    key: Vec<u8>,
    has_data_loss: AtomicBool,
    /// How often it was lost.
    loss_count: AtomicU64,
    state: Mutex<EpochState>,
}

#[derive(Default)]
struct EpochState {
    value: Option<Vec<u8>>,
    /// How often it was looked for, and how often by when what is known was found.
    probes: u64,
    found: u64,
    /// What shows that the server has lost its memory.
    lost: Option<&'static str>,
}

/// A look at the server that has begun. What it finds counts only if nothing was found since that is newer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EpochProbe(u64);

/// What the first look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GetOutcome {
    Done,
    /// There is none: one is to be made.
    Missing,
    /// The server cannot say now: this connection does not know whether anything was lost.
    Unready,
}

impl Epoch {
    pub(crate) fn new(prefix: &[u8]) -> Self {
        let key = [prefix, keys::epoch().as_bytes()].concat();
        Self {
            key,
            has_data_loss: AtomicBool::new(false),
            loss_count: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    /// Begins a look, before the server is asked.
    pub(crate) fn begin_probe(&self) -> EpochProbe {
        let mut known = self.state.lock();
        known.probes += 1;
        EpochProbe(known.probes)
    }

    /// Writes the question for it.
    pub(crate) fn ask(&self, packer: &mut CommandWriter<'_>) {
        packer.command(2, "GET").arg(&self.key);
    }

    /// Writes what makes one where there is none, and the question for what is there then. 6.2 cannot do both
    /// in one command.
    pub(crate) fn make(&self, packer: &mut CommandWriter<'_>) {
        let value = format!("{:032x}", unique_id::unique_id());
        packer.command(4, "SET").arg(&self.key).arg(value.as_bytes()).arg(b"NX");
        self.ask(packer);
    }

    /// Takes the answer to [`Epoch::ask`].
    pub(crate) fn on_get(&self, look: EpochProbe, answer: Value) -> GetOutcome {
        match answer {
            Value::Nil => return GetOutcome::Missing,
            Value::BulkString(value) => self.observe(look, Some(value)),
            Value::ServerError(error) => {
                let failure = Failure::from_error_reply(&error);
                if failure.kind == FailureKind::Busy {
                    return GetOutcome::Unready;
                }
                log::debug!("a loss of the server's memory will not be noticed: {}", failure.cause);
            }
            _ => {}
        }
        GetOutcome::Done
    }

    /// Takes the answers to [`Epoch::make`].
    pub(crate) fn on_create(&self, look: EpochProbe, made: &Value, found: Value) {
        if let Value::ServerError(error) = made {
            let cause = Failure::from_error_reply(error).cause;
            log::debug!("a loss of the server's memory will not be noticed: {cause}");
        }
        match found {
            Value::BulkString(value) => self.observe(look, Some(value)),
            Value::Nil => self.observe(look, None),
            _ => {}
        }
    }

    fn observe(&self, look: EpochProbe, value: Option<Vec<u8>>) {
        let mut known = self.state.lock();
        // Two that look at once may be answered before and after a loss, and be heard in the other order.
        if look.0 <= known.found || known.value == value {
            return;
        }
        if known.value.is_some() {
            known.lost = Some(match value {
                Some(_) => "its epoch is another than before",
                None => "its epoch is gone",
            });
            self.loss_count.fetch_add(1, Ordering::AcqRel);
            self.has_data_loss.store(true, Ordering::Release);
        }
        known.value = value;
        known.found = known.probes;
    }

    /// Whether the server has lost its memory and nobody has taken that up yet.
    pub(crate) fn has_data_loss(&self) -> bool {
        self.has_data_loss.load(Ordering::Acquire)
    }

    /// How often the server was found to have lost its memory.
    pub(crate) fn loss_count(&self) -> u64 {
        self.loss_count.load(Ordering::Acquire)
    }

    /// Takes up that the server has lost its memory, with what shows it.
    pub(crate) fn take_data_loss(&self) -> Option<&'static str> {
        let mut known = self.state.lock();
        self.has_data_loss.store(false, Ordering::Release);
        known.lost.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn error(line: &[u8]) -> Value {
        redis::parse_redis_value(line).unwrap()
    }

    #[test]
    fn a_loss_is_told_once_however_many_look() {
        let epoch = Epoch::new(b"p:");
        let first = epoch.begin_probe();
        assert_eq!(epoch.on_get(first, Value::Nil), GetOutcome::Missing);
        epoch.on_create(first, &Value::Okay, bulk("a"));
        assert!(!epoch.has_data_loss(), "it is the first");
        assert_eq!(epoch.on_get(epoch.begin_probe(), bulk("a")), GetOutcome::Done);
        assert!(!epoch.has_data_loss());
        let looks = [epoch.begin_probe(), epoch.begin_probe()];
        for look in looks {
            assert_eq!(epoch.on_get(look, bulk("b")), GetOutcome::Done);
        }
        assert!(epoch.has_data_loss());
        assert!(epoch.take_data_loss().is_some());
        assert!(!epoch.has_data_loss() && epoch.take_data_loss().is_none());
    }

    #[test]
    fn who_looked_before_a_loss_and_is_heard_after_it_says_nothing() {
        let epoch = Epoch::new(b"");
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
    fn without_the_permission_there_is_none_and_nothing_is_lost() {
        let epoch = Epoch::new(b"");
        let denied = || error(b"-NOPERM this user has no permissions\r\n");
        assert_eq!(epoch.on_get(epoch.begin_probe(), denied()), GetOutcome::Done);
        let look = epoch.begin_probe();
        epoch.on_create(look, &denied(), Value::Nil);
        assert_eq!(epoch.on_get(epoch.begin_probe(), bulk("a")), GetOutcome::Done);
        assert_eq!(epoch.on_get(epoch.begin_probe(), denied()), GetOutcome::Done);
        assert_eq!(epoch.on_get(epoch.begin_probe(), error(b"-LOADING\r\n")), GetOutcome::Unready);
        assert!(!epoch.has_data_loss());
    }

    #[test]
    fn one_that_cannot_be_made_anew_is_lost_once() {
        let epoch = Epoch::new(b"");
        epoch.on_get(epoch.begin_probe(), bulk("a"));
        for _ in 0..2 {
            let look = epoch.begin_probe();
            assert_eq!(epoch.on_get(look, Value::Nil), GetOutcome::Missing);
            epoch.on_create(look, &error(b"-OOM command not allowed\r\n"), Value::Nil);
        }
        assert!(epoch.take_data_loss().is_some());
        assert!(!epoch.has_data_loss());
    }
}

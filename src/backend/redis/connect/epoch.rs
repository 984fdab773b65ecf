//! Owns the epoch: a value that lies on the server from the first connection on, and that goes with all else
//! when the server loses its memory. Does no I/O, and knows nothing of what follows from a loss.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use redis::Value;

use crate::backend::redis::failure::{Failure, Trouble};
use crate::backend::redis::wire::resp::Packer;
use crate::key::Key;
use crate::util::unique_id;

/// The epoch of the server, as far as this store has seen it. Stores under one prefix share it: whoever finds
/// none makes one, and the others see that it is another.
pub(crate) struct Epoch {
    /// The key as it lies on the server.
    key: Vec<u8>,
    is_lost: AtomicBool,
    /// How often it was lost.
    losses: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    value: Option<Vec<u8>>,
    /// How often it was looked for, and how often by when what is known was found.
    looks: u64,
    found: u64,
    /// What shows that the server has lost its memory.
    lost: Option<&'static str>,
}

/// A look at the server that has begun. What it finds counts only if nothing was found since that is newer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look(u64);

/// What the first look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Glance {
    Done,
    /// There is none: one is to be made.
    Missing,
    /// The server cannot say now: this connection does not know whether anything was lost.
    Unready,
}

impl Epoch {
    pub(crate) fn new(prefix: &[u8]) -> Self {
        let key = [prefix, Key::epoch().as_bytes()].concat();
        Self { key, is_lost: AtomicBool::new(false), losses: AtomicU64::new(0), known: Mutex::default() }
    }

    /// Begins a look, before the server is asked.
    pub(crate) fn look(&self) -> Look {
        let mut known = self.known.lock();
        known.looks += 1;
        Look(known.looks)
    }

    /// Writes the question for it.
    pub(crate) fn ask(&self, packer: &mut Packer<'_>) {
        packer.command(2, "GET").word(&self.key);
    }

    /// Writes what makes one where there is none, and the question for what is there then. 6.2 cannot do both
    /// in one command.
    pub(crate) fn make(&self, packer: &mut Packer<'_>) {
        let value = format!("{:032x}", unique_id::number());
        packer.command(4, "SET").word(&self.key).word(value.as_bytes()).word(b"NX");
        self.ask(packer);
    }

    /// Takes the answer to [`Epoch::ask`].
    pub(crate) fn glance(&self, look: Look, answer: Value) -> Glance {
        match answer {
            Value::Nil => return Glance::Missing,
            Value::BulkString(value) => self.saw(look, Some(value)),
            Value::ServerError(error) => {
                let failure = Failure::of_answer(&error);
                if failure.trouble == Trouble::Busy {
                    return Glance::Unready;
                }
                log::debug!("a loss of the server's memory will not be noticed: {}", failure.cause);
            }
            _ => {}
        }
        Glance::Done
    }

    /// Takes the answers to [`Epoch::make`].
    pub(crate) fn settle(&self, look: Look, made: &Value, found: Value) {
        if let Value::ServerError(error) = made {
            let cause = Failure::of_answer(error).cause;
            log::debug!("a loss of the server's memory will not be noticed: {cause}");
        }
        match found {
            Value::BulkString(value) => self.saw(look, Some(value)),
            Value::Nil => self.saw(look, None),
            _ => {}
        }
    }

    fn saw(&self, look: Look, value: Option<Vec<u8>>) {
        let mut known = self.known.lock();
        // Two that look at once may be answered before and after a loss, and be heard in the other order.
        if look.0 <= known.found || known.value == value {
            return;
        }
        if known.value.is_some() {
            known.lost = Some(match value {
                Some(_) => "its epoch is another than before",
                None => "its epoch is gone",
            });
            self.losses.fetch_add(1, Ordering::AcqRel);
            self.is_lost.store(true, Ordering::Release);
        }
        known.value = value;
        known.found = known.looks;
    }

    /// Whether the server has lost its memory and nobody has taken that up yet.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Acquire)
    }

    /// How often the server was found to have lost its memory.
    pub(crate) fn losses(&self) -> u64 {
        self.losses.load(Ordering::Acquire)
    }

    /// Takes up that the server has lost its memory, with what shows it.
    pub(crate) fn take_lost(&self) -> Option<&'static str> {
        let mut known = self.known.lock();
        self.is_lost.store(false, Ordering::Release);
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
        let first = epoch.look();
        assert_eq!(epoch.glance(first, Value::Nil), Glance::Missing);
        epoch.settle(first, &Value::Okay, bulk("a"));
        assert!(!epoch.is_lost(), "it is the first");
        assert_eq!(epoch.glance(epoch.look(), bulk("a")), Glance::Done);
        assert!(!epoch.is_lost());
        let looks = [epoch.look(), epoch.look()];
        for look in looks {
            assert_eq!(epoch.glance(look, bulk("b")), Glance::Done);
        }
        assert!(epoch.is_lost());
        assert!(epoch.take_lost().is_some());
        assert!(!epoch.is_lost() && epoch.take_lost().is_none());
    }

    #[test]
    fn who_looked_before_a_loss_and_is_heard_after_it_says_nothing() {
        let epoch = Epoch::new(b"");
        epoch.glance(epoch.look(), bulk("a"));
        let (early, late) = (epoch.look(), epoch.look());
        epoch.glance(late, bulk("b"));
        assert!(epoch.take_lost().is_some());
        epoch.glance(early, bulk("a"));
        assert!(!epoch.is_lost());
        epoch.glance(epoch.look(), bulk("b"));
        assert!(!epoch.is_lost());
    }

    #[test]
    fn without_the_permission_there_is_none_and_nothing_is_lost() {
        let epoch = Epoch::new(b"");
        let denied = || error(b"-NOPERM this user has no permissions\r\n");
        assert_eq!(epoch.glance(epoch.look(), denied()), Glance::Done);
        let look = epoch.look();
        epoch.settle(look, &denied(), Value::Nil);
        assert_eq!(epoch.glance(epoch.look(), bulk("a")), Glance::Done);
        assert_eq!(epoch.glance(epoch.look(), denied()), Glance::Done);
        assert_eq!(epoch.glance(epoch.look(), error(b"-LOADING\r\n")), Glance::Unready);
        assert!(!epoch.is_lost());
    }

    #[test]
    fn one_that_cannot_be_made_anew_is_lost_once() {
        let epoch = Epoch::new(b"");
        epoch.glance(epoch.look(), bulk("a"));
        for _ in 0..2 {
            let look = epoch.look();
            assert_eq!(epoch.glance(look, Value::Nil), Glance::Missing);
            epoch.settle(look, &error(b"-OOM command not allowed\r\n"), Value::Nil);
        }
        assert!(epoch.take_lost().is_some());
        assert!(!epoch.is_lost());
    }
}

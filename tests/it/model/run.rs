//! Runs one history on a store and on the model, and compares them after every operation.

use std::time::Duration;

use millpond::{Error, FileOptions, Leased, Result, StateStore, SyncPolicy, Transaction};
use serde_json::value::RawValue;

use super::content::Content;
use super::operation::{KEYS, LeaseEnd, NAMESPACES, Operation, Ticks};
use super::reference::Reference;
use super::run_values::{Stepping, Target, answer, same};
use super::step::Step;
use crate::support::backends::{Backend, Case, Context};

/// The difference that was found.
pub(crate) type Failure = String;

/// A tick for clocks that tests control, so that every deadline is met exactly.
const EXACT_TICK: Duration = Duration::from_millis(1);

/// A tick for real clocks: no history takes nearly as long.
#[cfg(feature = "redis")]
const REAL_TICK: Duration = Duration::from_secs(60);

pub(super) struct Run {
    pub(super) context: Context,
    pub(super) model: Reference,
    pub(super) tick: Duration,
}

pub(crate) fn run(case: Case, history: &[Operation]) -> Result<(), Failure> {
    let tick = match case.backend {
        Backend::Memory | Backend::File | Backend::FileReopened => EXACT_TICK,
        #[cfg(feature = "redis")]
        Backend::Away => EXACT_TICK,
        #[cfg(feature = "redis")]
        Backend::Redis | Backend::RedisOnce => REAL_TICK,
    };
    // Histories can reach a default of six ticks, but not one of an hour.
    let default_ttl = case.default_ttl.map(|_| tick * 6);
    let context = Context::configured(Case { default_ttl, ..case }, |config| {
        config.file(FileOptions::default().sync(SyncPolicy::Never).compact_min_bytes(4096))
    });
    let mut run = Run { context, model: Reference::new(case.default_ttl.map(|_| 6)), tick };
    for (number, operation) in history.iter().enumerate() {
        let context = |failure| format!("operation {number}, {operation:?}: {failure}");
        run.operate(operation).map_err(context)?;
        run.compare().map_err(context)?;
    }
    Ok(())
}

/// The prefix of the keys of a namespace.
pub(super) fn prefix_of(namespace: usize) -> String {
    match NAMESPACES[namespace] {
        "" => String::new(),
        name => format!("{name}:"),
    }
}

impl Run {
    pub(super) fn store(&self) -> StateStore {
        self.context.store()
    }

    pub(super) fn ttl(&self, ticks: Ticks) -> Duration {
        self.tick * ticks
    }

    fn operate(&mut self, operation: &Operation) -> Result<(), Failure> {
        match operation {
            Operation::On(step) => {
                let store = self.store();
                self.stepping(Target::Store(&store), |stepping| stepping.step(step))
            }
            Operation::Transaction { namespace, steps, abort } => self.transact(*namespace, steps, *abort),
            // Leases must hold between programs, and are not granted while the server is disconnected.
            #[cfg(feature = "redis")]
            Operation::Take { .. } if self.context.case().backend == Backend::Away => Ok(()),
            Operation::Take { key, end } => self.take(KEYS[*key], *end),
            Operation::BatchPut { .. }
            | Operation::BatchIncr { .. }
            | Operation::BatchDelete { .. }
            | Operation::BatchGet { .. } => self.batch(operation),
            Operation::Write { namespace, writes } => self.write(*namespace, writes),
            Operation::DeletePrefix { .. } | Operation::Clear { .. } | Operation::List { .. } => {
                self.list(operation)
            }
            Operation::Advance { ticks } => {
                self.context.advance(self.ttl(*ticks));
                self.model.advance((*ticks).into());
                Ok(())
            }
            Operation::Reopen => {
                self.context.reopen();
                Ok(())
            }
        }
    }

    fn stepping<R>(&mut self, target: Target<'_, '_>, run: impl FnOnce(&mut Stepping<'_, '_>) -> R) -> R {
        let Self { context, model, tick } = self;
        run(&mut Stepping { target, model, context, tick: *tick, namespace: "" })
    }

    fn transact(&mut self, namespace: usize, steps: &[Step], abort: bool) -> Result<(), Failure> {
        let store = self.store().namespace(NAMESPACES[namespace]);
        let mut after = self.model.clone();
        let mut differed = None;
        let done = store.transaction(|tx| {
            after = self.model.clone();
            let mut stepping = Stepping {
                target: Target::Transaction(tx),
                model: &mut after,
                context: &self.context,
                tick: self.tick,
                namespace: &prefix_of(namespace),
            };
            for (number, step) in steps.iter().enumerate() {
                if let Err(failure) = stepping.step(step) {
                    differed = Some(format!("step {number}, {step:?}: {failure}"));
                    return Err(Error::abort("store and model differ"));
                }
            }
            if abort { Err(Error::abort("as planned")) } else { Ok(()) }
        });
        match (done, differed) {
            (_, Some(failure)) => Err(failure),
            (Ok(()), None) if !abort => {
                self.model = after;
                Ok(())
            }
            (Err(Error::Aborted(cause)), None) if abort && cause.to_string() == "as planned" => Ok(()),
            (done, None) => Err(format!("the transaction returned {done:?}")),
        }
    }

    fn take(&mut self, key: &str, end: LeaseEnd) -> Result<(), Failure> {
        let store = self.store();
        let taken = answer(store.lease::<Box<RawValue>>(key, Duration::from_secs(3600)));
        let taken = taken.map_err(|error| error.to_string())?;
        let expected = self.model.pop(key, true);
        let text = taken.as_ref().map(|taken| taken.as_ref().map(|taken| taken.value().get().to_owned()));
        let expected_text = expected.as_ref().map(|value| value.as_ref().map(Content::json));
        if text != expected_text {
            return Err(format!("the store returns {text:?}, the model {expected_text:?}"));
        }
        let (Ok(Some(taken)), Ok(Some(value))) = (taken, expected) else { return Ok(()) };
        // Whatever the number is, it grows by one, and an extension leaves it alone.
        same(taken.extend(Duration::from_secs(7200)), Ok(true))?;
        same(taken.nack(), Ok(true))?;
        let again = answer(store.lease::<Box<RawValue>>(key, Duration::from_secs(3600)));
        let Ok(Some(again)) = again.map_err(|error| error.to_string())? else {
            return Err("the value that was given back is not leased again".into());
        };
        let counted = |taken: &Leased<Box<RawValue>>| (taken.value().get().to_owned(), taken.attempts());
        let (text, attempts) = counted(&taken);
        if counted(&again) != (text, attempts + 1) {
            return Err(format!("after {:?}, the next lease returns {:?}", counted(&taken), counted(&again)));
        }
        let taken = again;
        match end {
            LeaseEnd::Nack => same(taken.nack(), self.model.push(key, true, &[value]).map(|_| true)),
            LeaseEnd::Ack => same(taken.ack(), Ok(true)),
            LeaseEnd::Requeue => {
                let requeue = |tx: &mut Transaction<'_>| {
                    tx.push_back(key, &value)?;
                    Ok([tx.ack(&taken)?, tx.ack(&taken)?])
                };
                let aborted = store.transaction(|tx| {
                    requeue(tx)?;
                    Err::<(), _>(Error::abort("as planned"))
                });
                if !matches!(aborted, Err(Error::Aborted(_))) {
                    return Err(format!("the transaction returned {aborted:?}"));
                }
                let requeued = self.model.push(key, false, std::slice::from_ref(&value));
                same(store.transaction(requeue), requeued.map(|_| [true, false]))
            }
        }
    }

    /// Compares everything that a reader can see.
    fn compare(&mut self) -> Result<(), Failure> {
        let store = self.store();
        let keys = self.model.keys("");
        same(store.keys(""), Ok(keys.clone()))?;
        same(store.len(), Ok(keys.len() as u64))?;
        same(store.is_empty(), Ok(keys.is_empty()))?;
        self.stepping(Target::Store(&store), |stepping| {
            keys.iter().try_for_each(|key| stepping.compare_key(key, key))
        })
    }
}

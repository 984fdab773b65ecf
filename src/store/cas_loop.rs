//! Owns optimistic changes of one value: read it, decide, and swap it if its bytes are still the same. Knows
//! nothing of how a backend swaps.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backend::Backend;
use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::json;
use crate::key::Key;
use crate::stats::counter::Operation;
use crate::store::cas_backoff::CasBackoff;
use crate::store::context::Context;
use crate::store::execute;
use crate::store::state_store::{StateStore, on_backend};
use crate::value::{Form, Value};

/// The decision of one round of an optimistic change.
pub(crate) enum CasStep<R> {
    /// Nothing has to be written.
    Done(R),
    /// Writes `new`, or deletes the entry if it is `None`, provided that the stored bytes are still `expected`.
    Swap { expected: Option<Bytes>, new: Option<Value>, outcome: R },
}

impl CasStep<bool> {
    /// Decides a compare-and-set: swaps if the stored JSON means the same as the expected one, or if the stored bytes are
    /// the expected ones.
    pub(crate) fn compare(found: Option<Bytes>, expected: Option<&Value>, new: &Value) -> Self {
        let is_expected = match (&found, expected) {
            (Some(found), Some(expected)) => match expected.form {
                Form::Json => json::eq(found, &expected.bytes),
                Form::Raw => *found == expected.bytes,
            },
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if is_expected {
            Self::Swap { expected: found, new: Some(new.clone()), outcome: true }
        } else {
            Self::Done(false)
        }
    }
}

impl<T: Serialize + DeserializeOwned> CasStep<Option<T>> {
    /// Decides a modification: `f` turns the stored value into the new one, or fails, and then nothing is written.
    pub(crate) fn modify<E: From<Error>>(
        context: &Context,
        key: &Key<'_>,
        found: Option<Bytes>,
        f: impl FnOnce(Option<T>) -> Result<Option<T>, E>,
    ) -> Result<Self, E> {
        let outcome = f(json::decode_found(key, found.clone())?)?;
        let new = outcome.as_ref().map(|value| context.encode(key, value)).transpose()?;
        Ok(match (found, new) {
            (None, None) => Self::Done(None),
            (expected, new) => Self::Swap { expected, new, outcome },
        })
    }
}

impl<T: Serialize + DeserializeOwned> CasStep<T> {
    /// Decides a change in place: `change` changes the stored value, or the one that `default` makes.
    pub(crate) fn upsert(
        context: &Context,
        key: &Key<'_>,
        found: Option<Bytes>,
        default: impl FnOnce() -> T,
        change: impl FnOnce(&mut T),
    ) -> Result<Self> {
        let mut outcome = json::decode_found(key, found.clone())?.unwrap_or_else(default);
        change(&mut outcome);
        let new = Some(context.encode(key, &outcome)?);
        Ok(Self::Swap { expected: found, new, outcome })
    }
}

impl StateStore {
    /// Repeats an optimistic change until nobody else changed the value between its read and its swap, or until
    /// the time of an operation is over.
    pub(crate) fn cas_loop<R, E: From<Error>>(
        &self,
        key: &Key<'_>,
        mut decide: impl FnMut(Option<Bytes>) -> Result<CasStep<R>, E>,
    ) -> Result<R, E> {
        let mut backoff = CasBackoff::new(self.context().shared.limit);
        let watch = self.watch(|| ("modify", key));
        let outcome = loop {
            let found = match on_backend!(self, backend => backend.get(key)) {
                Ok(found) => found,
                Err(error) => break Err(error),
            };
            // An error of the program's own closure is not one of the operation.
            let (swapped, outcome) = match decide(found)? {
                CasStep::Done(outcome) => (Ok(true), outcome),
                CasStep::Swap { expected, new, outcome } => (self.swap(key, expected, new), outcome),
            };
            match swapped {
                Ok(false) if backoff.wait() => {}
                Ok(false) => break Err(Error::Conflict { key: key.to_string() }),
                swapped => break swapped.map(|_| outcome),
            }
        };
        self.end(Operation::Put, outcome, |_| false, watch).map_err(E::from)
    }

    /// Does what [`execute::swap`] does, as a part of an operation that counts as one.
    pub(crate) fn swap(&self, key: &Key<'_>, expected: Option<Bytes>, new: Option<Value>) -> Result<bool> {
        let op = execute::swap_op(self.context(), key.clone(), expected, new);
        on_backend!(self, backend => backend.apply(op))?.flag()
    }
}

//! Owns the read set of a transaction: what it read, and whether that is still valid. Knows nothing of where it
//! was read.

use std::collections::HashMap;

use crate::error::{Error, Kind, Result};
use crate::key::Key;
use crate::op::{Answer, Query};

/// The answers that a transaction was given, to be compared with the answers that it would get now.
#[derive(Default)]
pub(crate) struct ReadSet {
    observations: HashMap<Key<'static>, Vec<(Query, Observation)>>,
}

/// The outcome of one query, as far as a transaction can depend on it.
#[derive(Debug, PartialEq, Eq)]
enum Observation {
    Answer(Answer),
    WrongType(Option<Kind>),
}

impl Observation {
    fn of(outcome: &Result<Answer>) -> Option<Self> {
        match outcome {
            Ok(answer) => Some(Self::Answer(answer.clone())),
            Err(Error::WrongType { found, .. }) => Some(Self::WrongType(*found)),
            Err(_) => None,
        }
    }
}

impl ReadSet {
    pub(crate) fn record(&mut self, key: &Key<'_>, query: &Query, outcome: &Result<Answer>) {
        if let Some(observation) = Observation::of(outcome) {
            let observations = self.observations.entry(key.clone().into_owned()).or_default();
            observations.push((query.clone(), observation));
        }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key<'static>> {
        self.observations.keys()
    }

    /// Returns whether every query would get the same answer from `ask_now`.
    pub(crate) fn is_still_valid(&self, mut ask_now: impl FnMut(&Key<'_>, &Query) -> Result<Answer>) -> bool {
        self.observations.iter().all(|(key, observations)| {
            observations
                .iter()
                .all(|(query, before)| Observation::of(&ask_now(key, query)).as_ref() == Some(before))
        })
    }
}

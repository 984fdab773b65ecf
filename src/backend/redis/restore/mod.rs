//! Owns how entries as a whole take the place of others: they are staged, and then put in place in one step. Knows nothing
//! of where the entries come from.

mod staging;

use crate::backend::redis::client::Redis;
use crate::backend::redis::failure::{ErrorContext, Failure, FailureKind, Stage};
use crate::backend::redis::keys;
use crate::backend::redis::operation_error::OperationError;
use crate::backend::redis::restore::staging::{Place, Staging};
use crate::backend::redis::wire::scan;
use crate::error::{Error, Result};
use crate::op::{Replaced, WholeEntry};

/// In one step, so many keys are removed and written together at most: the server serves nobody meanwhile.
const MOST_AT_ONCE: u64 = 20_000;

/// The database may hold about so many keys when entries are replaced, those of other programs included: the server looks
/// through all of them in the same step.
const MOST_IN_DATABASE: u64 = 1_000_000;

impl Redis {
    /// Writes entries, each instead of all that its key holds, or only those whose keys are absent. Adds to `written`
    /// of each entry whether it was written: one whose deadline has passed leaves its key absent. Those of one chunk
    /// are written in one step.
    ///
    /// A call whose reply was lost is repeated, and takes effect once.
    pub(crate) fn merge(
        &self,
        entries: &[WholeEntry],
        keep_existing: bool,
        written: &mut Vec<bool>,
    ) -> std::result::Result<(), OperationError> {
        let place = if keep_existing { Place::Keep } else { Place::Merge };
        for chunk in entries.chunks(self.options.pipeline_batch_size) {
            let mut staging = Staging::new(self);
            let reply = stage_all(&mut staging, chunk).and_then(|()| staging.place(place, &[]));
            let reply = done(&staging, reply)?;
            if reply.len() != chunk.len() {
                return Err(not_understood(&reply));
            }
            written.extend(reply.bytes().map(|digit| digit == b'1'));
        }
        Ok(())
    }

    /// Makes the entries all that is stored under `prefix`, in one step for every client. If the entries end with an
    /// error, or if the server refuses a part, nothing has changed.
    ///
    /// A call whose reply was lost is repeated, and takes effect once.
    pub(crate) fn replace(
        &self,
        prefix: &str,
        entries: &mut dyn Iterator<Item = Result<WholeEntry>>,
    ) -> std::result::Result<Replaced, OperationError> {
        let wire_prefix = [&self.prefix, prefix.as_bytes()].concat();
        if wire_prefix.is_empty() {
            let what = "replacing all entries of a Redis store without a key_prefix: it cannot know which keys are its \
                        own";
            return Err(Error::Unsupported { what: what.to_owned() }.into());
        }
        let mut staging = Staging::new(self);
        let reply = self.stage_and_replace(&mut staging, &wire_prefix, prefix, entries);
        let reply = done(&staging, reply)?;
        let counts = reply.split_once(' ').and_then(|(removed, written)| {
            Some(Replaced { removed: removed.parse().ok()?, written: written.parse().ok()? })
        });
        counts.ok_or_else(|| not_understood(&reply))
    }

    fn stage_and_replace(
        &self,
        staging: &mut Staging<'_>,
        wire_prefix: &[u8],
        prefix: &str,
        entries: &mut dyn Iterator<Item = Result<WholeEntry>>,
    ) -> std::result::Result<String, OperationError> {
        for entry in entries {
            staging.add(&entry?)?;
            check_number(staging.keys)?;
        }
        staging.send()?;
        let (mut present, mut scanned) = (Vec::new(), 0);
        self.scan_all(prefix, |keys| {
            scanned += self.options.scan_count as u64;
            let goes = |key: &Vec<u8>| !scan::is_kept(key) || keys::is_cleared(key, wire_prefix);
            present.extend(keys.into_iter().filter(goes));
            check_number(staging.keys + present.len() as u64)?;
            if scanned <= MOST_IN_DATABASE {
                Ok(())
            } else {
                Err(too_many("the database holds more keys", MOST_IN_DATABASE))
            }
        })?;
        let pattern = scan::pattern(wire_prefix);
        let place = Place::Replace { prefix: wire_prefix, pattern: &pattern, most: MOST_AT_ONCE };
        let reply = staging.place(place, &present)?;
        if reply == "many" { Err(more_than_at_once()) } else { Ok(reply) }
    }
}

fn stage_all(staging: &mut Staging<'_>, entries: &[WholeEntry]) -> std::result::Result<(), OperationError> {
    entries.iter().try_for_each(|entry| staging.add(entry))?;
    staging.send()
}

/// Removes what is staged, unless it may yet be put in place.
fn done(
    staging: &Staging<'_>,
    outcome: std::result::Result<String, OperationError>,
) -> std::result::Result<String, OperationError> {
    match &outcome {
        Ok(_) => staging.forget_reply(),
        Err(error) if error.maybe_applied() => {}
        Err(_) => staging.remove(),
    }
    outcome
}

fn check_number(keys: u64) -> std::result::Result<(), OperationError> {
    if keys <= MOST_AT_ONCE { Ok(()) } else { Err(more_than_at_once()) }
}

fn more_than_at_once() -> OperationError {
    too_many("more keys would be removed and written", MOST_AT_ONCE)
}

fn too_many(what: &str, most: u64) -> OperationError {
    let what = format!("replacing entries in one step on Redis: {what} than {most}");
    Error::Unsupported { what }.into()
}

fn not_understood(reply: &str) -> OperationError {
    let cause = format!("unexpected reply {reply:?}");
    let failure = Failure::new(FailureKind::Protocol, Stage::InDoubt, cause);
    OperationError::new(failure, ErrorContext::writing("RENAME"))
}

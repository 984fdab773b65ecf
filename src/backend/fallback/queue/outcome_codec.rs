//! Owns the text of kept outcomes in the queue's files. Knows nothing of files.
//!
//! INVARIANT: the format is frozen, as that of queued operations is.

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::backend::fallback::queue::codec::{OpRecord, millis};
use crate::backend::redis::replay::kept_outcome::KeptOutcome;
use crate::backend::redis::replay::outcome::ReplayOutcome;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptRecord {
    /// In milliseconds since 1970.
    since: u64,
    op: OpRecord,
    outcome: OutcomeRecord,
}

/// The value of another client is in base64.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OutcomeRecord {
    Overwritten(Option<String>),
    Dropped(Option<String>),
    Rejected(String),
    Uncertain,
}

/// Encodes an outcome.
pub(crate) fn write(kept: &KeptOutcome) -> Result<Vec<u8>, serde_json::Error> {
    let since = millis(kept.since.duration_since(UNIX_EPOCH).unwrap_or_default());
    let base64 = |theirs: &Option<Vec<u8>>| theirs.as_ref().map(|theirs| BASE64.encode(theirs));
    let outcome = match &kept.outcome {
        ReplayOutcome::Overwritten(theirs) => OutcomeRecord::Overwritten(base64(theirs)),
        ReplayOutcome::Dropped(theirs) => OutcomeRecord::Dropped(base64(theirs)),
        ReplayOutcome::Rejected(cause) => OutcomeRecord::Rejected(cause.clone()),
        ReplayOutcome::Uncertain => OutcomeRecord::Uncertain,
    };
    serde_json::to_vec(&KeptRecord { since, op: OpRecord::from_op(&kept.op), outcome })
}

/// Decodes an outcome, or returns what is wrong with it.
pub(crate) fn read(text: &[u8]) -> Result<KeptOutcome, String> {
    let KeptRecord { since, op, outcome } =
        serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let since = UNIX_EPOCH.checked_add(Duration::from_millis(since)).ok_or("its time is out of range")?;
    let bytes = |theirs: Option<String>| {
        theirs.map(|theirs| BASE64.decode(theirs)).transpose().map_err(|error| error.to_string())
    };
    let outcome = match outcome {
        OutcomeRecord::Overwritten(theirs) => ReplayOutcome::Overwritten(bytes(theirs)?),
        OutcomeRecord::Dropped(theirs) => ReplayOutcome::Dropped(bytes(theirs)?),
        OutcomeRecord::Rejected(cause) => ReplayOutcome::Rejected(cause),
        OutcomeRecord::Uncertain => ReplayOutcome::Uncertain,
    };
    Ok(KeptOutcome { op: op.into_op()?, outcome, since })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::fallback::queue::frozen_records::OUTCOMES;

    #[test]
    fn the_format_is_read_and_written_as_it_was() {
        for text in OUTCOMES {
            let kept = read(text.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(write(&kept).unwrap()).unwrap(), text);
        }
        for end in 0..OUTCOMES[0].len() {
            assert!(read(&OUTCOMES[0].as_bytes()[..end]).is_err(), "truncated at {end}");
        }
        assert!(read(OUTCOMES[1].replace("AP8=", "A").as_bytes()).is_err());
    }
}

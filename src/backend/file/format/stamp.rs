//! Owns what a line records of the journal around it. Knows nothing of bytes.

/// Position, synced sequence and time of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LineStamp {
    /// Number of the line in the sequence of all lines; in a header, the number of the last line before the file.
    pub(crate) sequence: u64,
    /// The synced sequence when the line was written.
    pub(crate) synced: u64,
    /// When the line was written; 0 if at the same time as the line before, since a repeated time is left out.
    pub(crate) time: u64,
}

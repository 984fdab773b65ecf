//! Reading the files back: line by line, and what a damaged or torn line means.

pub(crate) mod context;
pub(crate) mod line_reader;
pub(crate) mod recovery;

//! Reading the files back, line by line.

pub(crate) mod context;
pub(crate) mod line_reader;

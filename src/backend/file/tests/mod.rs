//! Proofs that need a disk which fails, lies or crashes.

mod combining;
mod crash;
pub(crate) mod faulty_file;
pub(crate) mod histories;
mod simulated_fs;

//! Proofs that need a disk which fails, lies or crashes.

mod backup;
mod combining;
mod crash;
mod durability;
mod faulty_file;
mod histories;
mod repair;
mod simulated_disk;
mod simulated_fs;
mod support;

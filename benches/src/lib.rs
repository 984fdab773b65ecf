//! What the benchmarks share: the data, the interleaved rounds, the table that is printed, the
//! databases that File is measured beside, a look at the directory of a store, and a Redis server of its
//! own.

pub mod data;
pub mod databases;
pub mod directory;
pub mod latency;
pub mod measure;
pub mod redis_server;
pub mod report;

use tempfile::TempDir;

/// A directory on the disk that holds the build, not in memory; gone when it is dropped.
pub fn scratch() -> TempDir {
    let program = std::env::current_exe().expect("the path of this program");
    let beside = program.parent().expect("the directory of this program");
    tempfile::Builder::new().prefix("bench-").tempdir_in(beside).expect("a scratch directory")
}

/// Opens a store, or says why the cells go without it.
pub fn open(url: &str) -> Option<millpond::StateStore> {
    match millpond::StateStore::open(url) {
        Ok(store) => Some(store),
        Err(error) => {
            println!("\nmillpond is left out, only its peers are measured: {error}\n");
            None
        }
    }
}

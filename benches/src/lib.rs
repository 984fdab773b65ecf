//! Shared code of the benchmarks: the data, the interleaved rounds, the table of results, the databases that
//! File is compared with, a look at the directory of a store, and a Redis server for one program.

pub mod data;
pub mod databases;
pub mod directory;
pub mod latency;
pub mod measure;
pub mod redis_server;
pub mod report;
pub mod settings;

use tempfile::TempDir;

/// A directory on the disk of the build, not in memory; it is deleted on drop.
pub fn scratch() -> TempDir {
    let program = std::env::current_exe().expect("the path of this program");
    let beside = program.parent().expect("the directory of this program");
    tempfile::Builder::new().prefix("bench-").tempdir_in(beside).expect("a scratch directory")
}

/// Opens a store, or prints why the cells run without it.
pub fn open(url: &str) -> Option<millpond::StateStore> {
    match millpond::StateStore::open(url) {
        Ok(store) => Some(store),
        Err(error) => {
            println!("\nmillpond is left out, only its peers are measured: {error}\n");
            None
        }
    }
}

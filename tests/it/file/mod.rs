//! The File variant.
//!
//! - `opening`: opening a directory finds the data, leaves foreign files alone and excludes other processes;
//! - `read_only`: opening for reading only, and the progress that opening reports;
//! - `format`: the bytes of the files, which later versions must still read;
//! - `backup`: a copy of a running store is whole, and nothing else becomes one;
//! - `killed_backup`: processes that are killed during a backup, or have no room for it;
//! - `killed_import`: after an import that is killed, a store holds the old entries or the new ones;
//! - `clock`: deadlines keep their meaning across restarts and changes of the system clock;
//! - `closed`: a loss at the end of a closed journal is noticed;
//! - `contents`: a store and a replay queue are told apart;
//! - `compaction`: the directory stays within its bound, and compaction loses nothing;
//! - `crash`: every acknowledged write survives a crash of the process;
//! - `killed`: the same for a process that is killed at a random moment, for every `sync` policy;
//! - `damage`: a torn tail is cut off, and any other damage is refused;
//! - `random_damage`: random damage gives an error or intact data, never a panic or wrong data;
//! - `statistics`: the bytes of the journal are counted;
//! - `repair`: what `FileStore::repair` keeps, and what it reports as lost;
//! - `power_loss`: synced writes survive a power failure, on a real file system;
//! - `full_disk`: a full disk, and a disk that fails during a write;
//! - `place`: the directory stays the same one whatever its path comes to mean, and its files are private;
//! - `lost_access`: a directory that becomes read-only or disappears, and a lack of file descriptors;
//! - `system_calls`: a process that is stopped, or gets an error, at each of its system calls.

mod backup;
mod clock;
mod closed;
mod compaction;
#[cfg(feature = "redis")]
mod contents;
mod crash;
mod damage;
mod examination;
mod format;
mod opening;
#[cfg(unix)]
mod place;
mod random_damage;
mod read_only;
mod repair;
mod statistics;

// These need Linux: its file systems, its `/proc` and its tracing of system calls.
#[cfg(target_os = "linux")]
mod full_disk;
#[cfg(target_os = "linux")]
mod killed;
#[cfg(target_os = "linux")]
mod killed_backup;
#[cfg(target_os = "linux")]
mod killed_import;
#[cfg(target_os = "linux")]
mod lost_access;
#[cfg(target_os = "linux")]
mod power_loss;
#[cfg(target_os = "linux")]
mod system_calls;

//! The export format: entries as a whole in lines of JSON, the same from every backend.
//!
//! ```text
//! {"millpond":"export","version":1,"created":1760000000000,"scope":"orders:","parent":null,"sorted":true}
//! {"k":"a","v":{"price":3},"x":1760000060000}
//! {"k":"b","b":"/9g="}
//! {"k":"m","m":[{"f":"apples","v":3},{"f":"pears","v":4}]}
//! {"k":"q","q":[{"v":1,"n":2},{"v":2}]}
//! {"k":"q","d":[{"at":1760000030000,"v":3}],"+":true}
//! {"end":5,"sum":1234567890}
//! ```
//!
//! - The first line says when the export was made, in milliseconds, and the namespace that it is of. Keys are without that
//!   namespace, sorted by their bytes, each once.
//! - `v` is a value as JSON, `b` are bytes in Base64, `j` is JSON text in Base64 that could not be embedded. `x` is when
//!   the entry expires, in milliseconds.
//! - `m` are the fields of a map, sorted by name. `q` are the values of a queue from front to back; `n` says how many
//!   leases have returned a value. `d` are delayed values, with the time at which each is due.
//! - A map or a queue is in parts of about 64 KiB. `"+":true` adds to the entry of the line before.
//! - The last line has the number of lines before it, without the first one, and the CRC-32 of all bytes before it.
//!
//! INVARIANT: the format is frozen as [`VERSION`]; an export that would be read differently needs a new version.

/// The version of the format that this crate writes, and the only one it reads.
pub(super) const VERSION: u64 = 1;

/// A part of a map or a queue ends once its line has this many bytes.
pub(super) const PART_BYTES: usize = 64 << 10;

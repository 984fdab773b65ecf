//! What the source itself must hold.
//!
//! - `guides`: what the guides call missing is missing;
//! - `layers`: which files may import which, and that no imports form a circle;
//! - `limits`: sizes, heads of files, and where the outside world is touched;
//! - `rustdoc`: examples and errors of the public methods, and their order in the documentation;
//! - `source`: reading the source, and finding its imports;
//! - `texts`: every log line and error text is listed;
//! - `versions`: the promised version of Rust is enough for every dependency;
//! - `words`: one name for one thing, and plain sentences.

mod guides;
mod layers;
mod limits;
mod rustdoc;
mod source;
mod texts;
mod versions;
mod words;

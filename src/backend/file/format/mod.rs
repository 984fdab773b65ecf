//! The bytes of the files: lines, and the changes in them.

pub(crate) mod change_text;
pub(crate) mod fast_path;
pub(crate) mod line;
pub(crate) mod stamp;

//! Owns how the path in a `file:` URL is spelled. Knows nothing of what is stored under it.

use std::path::{Path, PathBuf};

/// Reads the path behind `file:`, or says what is wrong, and with which option.
pub(crate) fn path_behind_scheme(rest: &str) -> Result<PathBuf, (&'static str, &'static str)> {
    let path = match rest.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        Some(_) => {
            return Err(("url", "a file URL names no host: write file:///absolute or file:./relative"));
        }
        None => rest,
    };
    if path.starts_with("~/") || path.starts_with('$') {
        return Err(("path", "~ and $ are not expanded here: write the path out"));
    }
    if path.contains("://") {
        return Err(("path", "it is a URL"));
    }
    if path.is_empty() || path.contains('\0') {
        return Err(("path", "it is empty or holds a NUL"));
    }
    Ok(Path::new(path).to_path_buf())
}

/// Writes what [`path_behind_scheme`] reads as this path.
pub(crate) fn behind_scheme(path: &Path) -> String {
    let path = path.to_string_lossy();
    // Two slashes at the beginning would read as those of a host.
    let host = if path.starts_with("//") { "//" } else { "" };
    format!("{host}{path}")
}

//! Owns the notation of the path in a `file:` URL. Knows nothing of the files under it.

use std::path::{Path, PathBuf};

/// Reads the path behind `file:`. An error is the wrong option and the reason.
pub(crate) fn path_behind_scheme(rest: &str) -> Result<PathBuf, (&'static str, &'static str)> {
    let path = match rest.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        Some(_) => {
            return Err(("url", "a file URL names no host: write file:///absolute or file:./relative"));
        }
        None => rest,
    };
    if path.starts_with("~/") || path.starts_with('$') {
        return Err(("path", "~ and $ are not expanded: write the path out"));
    }
    if path.contains("://") {
        return Err(("path", "it is a URL"));
    }
    if path.is_empty() || path.contains('\0') {
        return Err(("path", "it is empty or contains a NUL"));
    }
    Ok(Path::new(path).to_path_buf())
}

/// Writes the text that [`path_behind_scheme`] reads as this path.
pub(crate) fn behind_scheme(path: &Path) -> String {
    let path = path.to_string_lossy();
    // Two slashes at the beginning would be read as those before a host.
    let host = if path.starts_with("//") { "//" } else { "" };
    format!("{host}{path}")
}

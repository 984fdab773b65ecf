//! Owns the notation of the path in a `file:` URL. Knows nothing of the files under it.

use std::path::{Path, PathBuf};

use crate::config::meant;

/// Reads the path behind `file:`. An error is the wrong option and the reason.
pub(crate) fn path_behind_scheme(rest: &str) -> Result<PathBuf, (&'static str, String)> {
    let path = match rest.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        Some(_) => {
            let reason = "a file URL names no host: write file:///absolute or file:./relative";
            return Err(("url", reason.to_owned()));
        }
        None => rest,
    };
    let path = Path::new(path);
    meant::check_path(path).map_err(|reason| ("path", reason))?;
    Ok(path.to_path_buf())
}

/// Writes the text that [`path_behind_scheme`] reads as this path.
pub(crate) fn behind_scheme(path: &Path) -> String {
    let path = path.to_string_lossy();
    // Two slashes at the beginning would be read as those before a host.
    let host = if path.starts_with("//") { "//" } else { "" };
    format!("{host}{path}")
}

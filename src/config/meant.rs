//! Owns the check of texts that nobody can mean, such as a path with a line break at its end. Knows none of the
//! options.

use std::path::Path;

/// Fails if a text contains a control character, or begins or ends with white space. The reason shows the text as it
/// is, and as it was probably meant.
pub(crate) fn check_text(text: &str) -> Result<(), String> {
    let fault = if text.chars().any(char::is_control) {
        "contains a control character"
    } else if text.trim() != text {
        "begins or ends with a space"
    } else {
        return Ok(());
    };
    let meant: String = text.chars().filter(|c| !c.is_control()).collect();
    Err(match meant.trim() {
        "" => format!("{text:?} {fault}"),
        meant => format!("{text:?} {fault}: write {meant:?}"),
    })
}

/// Fails if a password contains a control character. The reason shows nothing of it.
pub(crate) fn check_password(password: &str) -> Result<(), &'static str> {
    if password.chars().any(char::is_control) {
        return Err(
            "it contains a control character, perhaps the line break at the end of a file: leave it out",
        );
    }
    Ok(())
}

/// Fails if a path cannot be meant as the path of a file or directory.
pub(crate) fn check_path(path: &Path) -> Result<(), String> {
    let text = path.to_string_lossy();
    if text.trim().is_empty() {
        return Err("it is empty: write a path such as ./state".to_owned());
    }
    check_text(&text)?;
    if text.starts_with("~/") || text == "~" || text.starts_with('$') {
        return Err("~ and $ are not expanded: write the path out".to_owned());
    }
    let is_url = ["file:", "memory:", "redis:", "rediss:"].iter().any(|scheme| text.starts_with(scheme));
    if is_url || text.contains("://") {
        return Err("it is a URL: write the path alone, such as ./state".to_owned());
    }
    Ok(())
}

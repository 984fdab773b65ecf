//! Owns how a file that holds a credential is read: as a whole, and only up to a limit. Knows nothing of what the
//! content means, and shows it in no error.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The longest file that is read.
const LONGEST: u64 = 64 << 10;

/// A file that may be replaced at any time: its content is never kept here.
pub(crate) struct CredentialFile {
    /// How errors name what the file is for.
    purpose: &'static str,
    path: PathBuf,
}

impl CredentialFile {
    /// The path is made absolute: a later change of the working directory does not redirect it.
    pub(crate) fn new(purpose: &'static str, path: &Path) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        Self { purpose, path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the content as it is now. An error names the file.
    pub(crate) fn read(&self) -> Result<Vec<u8>, String> {
        self.try_read().map_err(|reason| self.error(&reason))
    }

    /// Returns an error about the content, which must not show it.
    pub(crate) fn error(&self, reason: &dyn std::fmt::Display) -> String {
        format!("reading the {} {}: {reason}", self.purpose, self.path.display())
    }

    fn try_read(&self) -> Result<Vec<u8>, String> {
        // A pipe would be waited for, and could be read only once.
        let found = std::fs::metadata(&self.path).map_err(|error| error.to_string())?;
        if !found.is_file() {
            return Err("it is not a regular file".to_owned());
        }
        let file = File::open(&self.path).map_err(|error| error.to_string())?;
        let mut content = Vec::new();
        file.take(LONGEST + 1).read_to_end(&mut content).map_err(|error| error.to_string())?;
        if content.len() as u64 > LONGEST {
            return Err(format!("it is longer than {} KiB", LONGEST >> 10));
        }
        if content.is_empty() {
            return Err("it is empty".to_owned());
        }
        Ok(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_anew_each_time_and_an_error_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let file = CredentialFile::new("password file", &path);
        let refusal = || file.read().unwrap_err();
        assert!(
            refusal().starts_with(&format!("reading the password file {}: No such file", path.display()))
        );
        for (content, refused) in [
            (Vec::new(), Some("it is empty")),
            (vec![b'x'; 64 << 10], None),
            (vec![b'x'; (64 << 10) + 1], Some("it is longer than 64 KiB")),
            (b"\xff\n".to_vec(), None),
        ] {
            std::fs::write(&path, &content).unwrap();
            match refused {
                Some(reason) => assert!(refusal().ends_with(reason), "{}", refusal()),
                None => assert_eq!(file.read().unwrap(), content),
            }
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(refusal().ends_with("it is not a regular file"));
    }
}

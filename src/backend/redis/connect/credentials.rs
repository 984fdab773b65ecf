//! Owns as whom a connection logs in: the user of the URL, with the password of the URL or of a file, which is read for
//! each connection. Knows nothing of the commands that log in.

use std::borrow::Cow;

use crate::backend::redis::connect::credential_file::CredentialFile;
use crate::backend::redis::failure::{Failure, FailureKind, Stage};
use crate::config::{DEFAULT_USER, Login, RedisOptions, check_password};
use crate::error::{Error, Result};

/// What to check if the server refuses a login of the URL.
pub(crate) const CHECK_URL: &str = "check the user and the password in the URL";

/// How a store logs in.
pub(crate) enum Credentials {
    /// It does not: the connection is that of the server's default user.
    None,
    Fixed(Login),
    File {
        user: String,
        file: CredentialFile,
    },
}

/// The login of one connection.
pub(crate) struct LoginAttempt<'c> {
    pub(crate) user: &'c str,
    pub(crate) password: Cow<'c, str>,
    /// What to check if the server refuses it.
    pub(crate) advice: Cow<'static, str>,
}

impl Credentials {
    /// Fails if the file with the password cannot be used.
    pub(crate) fn new(login: Option<&Login>, options: &RedisOptions) -> Result<Self> {
        let Some(path) = &options.password_file else {
            return Ok(login.map_or(Self::None, |login| Self::Fixed(login.clone())));
        };
        let user = login.map_or(DEFAULT_USER, |login| &login.user).to_owned();
        let file = CredentialFile::new("password file", path);
        match read_password(&file) {
            Ok(_) => Ok(Self::File { user, file }),
            Err(reason) => Err(Error::invalid_config("redis.password_file", reason)),
        }
    }

    /// Returns the login for the next connection. A file that cannot be used now may be one that is just being
    /// replaced, so the server counts as unreachable, and is tried again.
    pub(crate) fn login(&self) -> Result<Option<LoginAttempt<'_>>, Failure> {
        match self {
            Self::None => Ok(None),
            Self::Fixed(Login { user, password }) => {
                Ok(Some(LoginAttempt { user, password: password.into(), advice: CHECK_URL.into() }))
            }
            Self::File { user, file } => {
                let password = read_password(file)
                    .map_err(|reason| Failure::new(FailureKind::Unreachable, Stage::NotSent, reason))?;
                let advice =
                    format!("check the user in the URL, and the password in {}", file.path().display());
                Ok(Some(LoginAttempt { user, password: password.into(), advice: advice.into() }))
            }
        }
    }

    /// Returns the login for a second attempt, if the password was replaced after it was read for the first one.
    pub(crate) fn replaced_login(&self, refused: Option<&LoginAttempt<'_>>) -> Option<LoginAttempt<'_>> {
        let next = self.login().ok().flatten()?;
        (refused.map(|refused| &refused.password) != Some(&next.password)).then_some(next)
    }
}

/// Reads the password from a file. An editor ends the file with a line break, which is not a part of the password.
fn read_password(file: &CredentialFile) -> Result<String, String> {
    let content = file.read()?;
    let text = String::from_utf8(content).map_err(|_| file.error(&"it is not UTF-8 text"))?;
    let password = text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
    if password.is_empty() {
        return Err(file.error(&"it is empty"));
    }
    check_password(password).map_err(|reason| file.error(&reason))?;
    Ok(password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_break_at_the_end_is_no_part_of_the_password() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let file = CredentialFile::new("password file", &path);
        for (content, expected) in [
            (&b"hunter2"[..], Ok("hunter2")),
            (b"hunter2\n", Ok("hunter2")),
            (b"hunter2\r\n", Ok("hunter2")),
            (b" hunter2 \n", Ok(" hunter2 ")),
            ("h\u{fc}nter\n".as_bytes(), Ok("h\u{fc}nter")),
            (b"\n", Err("it is empty")),
            (b"\r\n", Err("it is empty")),
            (b"hunter2\n\n", Err("control character")),
            (b"hunter2\r", Err("control character")),
            (b"hun\0ter2", Err("control character")),
            (b"hunter2\xff", Err("it is not UTF-8 text")),
        ] {
            std::fs::write(&path, content).unwrap();
            match (read_password(&file), expected) {
                (Ok(password), Ok(expected)) => assert_eq!(password, expected),
                (Err(error), Err(words)) => {
                    assert!(error.contains(words) && error.contains("secret"), "{error}");
                    assert!(!error.contains("hunter"), "{error}");
                }
                (found, _) => panic!("{content:?}: {found:?}"),
            }
        }
    }
}

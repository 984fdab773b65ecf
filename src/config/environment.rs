//! Owns the configuration that the environment of the process gives. Knows nothing of the notation of URLs.

use std::env::{self, VarError};

use crate::config::state_config::StateConfig;
use crate::error::{Error, Result};

/// The variable that holds a URL.
const VARIABLE: &str = "MILLPOND_URL";

/// Returns the configuration that the URL in `MILLPOND_URL` names.
pub(crate) fn config_from_env() -> Result<StateConfig> {
    match env::var(VARIABLE) {
        Ok(url) => StateConfig::from_url(&url),
        Err(error) => Err(Error::invalid_config(VARIABLE, error.to_string())),
    }
}

impl StateConfig {
    /// Lets the environment have the last word: the URL in the variable `MILLPOND_URL` replaces the backend, and each
    /// option that the URL names; all other options stay. Without the variable, nothing changes.
    ///
    /// If both backends are Redis and the URL names no `key_prefix`, the key prefix stays too: it is an option.
    ///
    /// ```
    /// use millpond::{StateConfig, StateStore};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let file = r#"{ "backend": "memory", "default_ttl": "1h" }"#;
    /// let config: StateConfig = serde_json::from_str(file)?;
    /// let store = StateStore::with_config(config.overridden_by_env()?)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`InvalidConfig`](Error::InvalidConfig) as [`from_url`](Self::from_url), also if the variable is empty.
    pub fn overridden_by_env(self) -> Result<Self> {
        match env::var(VARIABLE) {
            Ok(url) => self.overridden_by_url(&url),
            Err(VarError::NotPresent) => Ok(self),
            Err(error @ VarError::NotUnicode(_)) => Err(Error::invalid_config(VARIABLE, error.to_string())),
        }
    }
}

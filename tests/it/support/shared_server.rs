//! A database of the Redis server that the tests share, and stores on it that have no fallback.

use std::time::Duration;

use millpond::{Fallback, RedisOptions, StateBackend, StateConfig, StateStore};

use super::raw_client::RawClient;
use super::redis_server::RedisServer;

pub(crate) struct SharedServer {
    pub(crate) raw: RawClient,
    pub(crate) url: String,
}

impl SharedServer {
    pub(crate) fn new() -> Self {
        let (server, database) = RedisServer::shared();
        let url = server.url(database);
        Self { raw: RawClient::connect(&url), url }
    }

    pub(crate) fn store(&self, key_prefix: &str) -> StateStore {
        StateStore::with_config(self.config(key_prefix)).expect("a store")
    }

    /// A store whose entries have a time to live of an hour by default.
    pub(crate) fn with_default_ttl(&self, key_prefix: &str) -> StateStore {
        let config = self.config(key_prefix).default_ttl(Duration::from_secs(3600));
        StateStore::with_config(config).expect("a store")
    }

    fn config(&self, key_prefix: &str) -> StateConfig {
        let backend = StateBackend::redis(self.url.clone()).key_prefix(key_prefix);
        StateConfig::default().backend(backend).redis(RedisOptions::default().fallback(Fallback::None))
    }
}

//! A Redis server behind a proxy, and options of stores with `exactly_once` that use it.

use std::collections::VecDeque;
use std::time::Duration;

use millpond::{RedisOptions, StateStore};

use super::proxy::Proxy;
use super::raw_client::RawClient;
use super::redis_server::RedisServer;
use super::redis_stores::{memory, open};

/// `exactly_once` with a memory fallback.
pub(crate) fn exactly_once() -> RedisOptions {
    memory().exactly_once(true).pool_size(2).retry_delay(Duration::from_millis(1)).pipeline_batch_size(2)
}

/// Without retries: a lost reply leads directly to an outage.
pub(crate) fn without_retries() -> RedisOptions {
    exactly_once().max_retries(0)
}

/// The script that makes the call of an increment, a push or a pop.
pub(crate) fn call_script() -> String {
    let keep = include_str!("../../../src/backend/redis/wire/scripts/keep.lua");
    let head = include_str!("../../../src/backend/redis/wire/scripts/call_head.lua");
    [keep, head, include_str!("../../../src/backend/redis/wire/scripts/call.lua")].concat()
}

pub(crate) struct ProxiedServer {
    pub(crate) server: RedisServer,
    pub(crate) proxy: Proxy,
    pub(crate) raw: RawClient,
}

impl ProxiedServer {
    pub(crate) fn new() -> Self {
        let server = RedisServer::start();
        Self { proxy: Proxy::to(server.port()), raw: RawClient::connect(&server.url(0)), server }
    }

    pub(crate) fn store(&self, options: RedisOptions) -> StateStore {
        open(&self.proxy.url(), options).unwrap()
    }

    pub(crate) fn queue(&self) -> VecDeque<i64> {
        self.raw.run::<_, Vec<i64>>("LRANGE", &["t:q", "0", "-1"]).into()
    }
}

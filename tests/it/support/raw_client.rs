//! A plain Redis client: the data on the server, seen without the store.

use std::sync::Mutex;
use std::time::Duration;

use redis::{FromRedisValue, RedisResult, ToRedisArgs};

/// The longest time of a command.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection that panics if a command fails.
pub(crate) struct RawClient(Mutex<redis::Connection>);

impl RawClient {
    pub(crate) fn connect(url: &str) -> Self {
        let client = redis::Client::open(url).expect("the URL of a server");
        let connection = client.get_connection().expect("a connection");
        connection.set_read_timeout(Some(PATIENCE)).expect("a time-out for the socket");
        Self(Mutex::new(connection))
    }

    /// Runs one command.
    pub(crate) fn run<A: ToRedisArgs, T: FromRedisValue>(&self, name: &str, arguments: &[A]) -> T {
        self.ask(name, arguments).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Runs one command that the server may refuse.
    pub(crate) fn ask<A: ToRedisArgs, T: FromRedisValue>(
        &self,
        name: &str,
        arguments: &[A],
    ) -> RedisResult<T> {
        let mut command = redis::cmd(name);
        for argument in arguments {
            command.arg(argument);
        }
        let mut connection = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        command.query(&mut connection)
    }

    pub(crate) fn set(&self, key: &str, value: impl AsRef<[u8]>) {
        self.run::<_, ()>("SET", &[key.as_bytes(), value.as_ref()]);
    }

    pub(crate) fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.run("GET", &[key])
    }

    /// The result of `TYPE`: `string`, `list`, `none` …
    pub(crate) fn kind(&self, key: &str) -> String {
        self.run("TYPE", &[key])
    }

    pub(crate) fn exists(&self, key: &str) -> bool {
        self.run("EXISTS", &[key])
    }

    /// All keys of the database, sorted, except the epochs, of which there is one for each prefix.
    pub(crate) fn all_keys(&self) -> Vec<Vec<u8>> {
        let mut keys: Vec<Vec<u8>> = self.run("KEYS", &["*"]);
        keys.retain(|key| !key.ends_with(b"__millpond:epoch"));
        keys.sort();
        keys
    }

    pub(crate) fn flush(&self) {
        self.run::<&str, ()>("FLUSHDB", &[]);
    }

    /// Advances the time for every key of the database, in one step and without waiting.
    pub(crate) fn advance(&self, by: Duration) {
        const SCRIPT: &str = r"
            for _, key in ipairs(redis.call('KEYS', '*')) do
                local left = redis.call('PTTL', key)
                if left >= 0 then
                    left = left - tonumber(ARGV[1])
                    if left > 0 then
                        redis.call('PEXPIRE', key, string.format('%.0f', left))
                    else
                        redis.call('DEL', key)
                    end
                end
            end";
        self.run::<_, ()>("EVAL", &[SCRIPT, "0", &by.as_millis().to_string()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::redis_server::RedisServer;

    #[test]
    fn time_advances_for_every_key_at_once() {
        let (server, database) = RedisServer::shared();
        let raw = RawClient::connect(&server.url(database));
        raw.set("stays", "1");
        raw.run::<_, ()>("SET", &["long", "1", "EX", "100"]);
        raw.run::<_, ()>("SET", &["edge", "1", "EX", "60"]);
        raw.run::<_, ()>("SET", &["ages", "1", "PX", "31557600000000"]);
        raw.advance(Duration::from_secs(60));
        assert_eq!(raw.all_keys(), [b"ages".to_vec(), b"long".to_vec(), b"stays".to_vec()]);
        let left: i64 = raw.run("PTTL", &["long"]);
        assert!((30_000..=40_000).contains(&left), "{left}");
        raw.flush();
    }

    /// Without this, a test might blame the client for operations that the server applied twice.
    #[test]
    fn a_server_with_a_torn_log_applies_nothing_of_the_torn_part() {
        let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
        let url = server.url(0);
        let script = "for i = 1, 200 do redis.call('RPUSH', KEYS[1], i) end";
        RawClient::connect(&url).run::<_, ()>("EVAL", &[script, "1", "q"]);
        server.kill();
        let logs = walk(server.dir()).into_iter().filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.ends_with(".incr.aof") || name == "appendonly.aof"
        });
        for log in logs {
            let len = std::fs::metadata(&log).unwrap().len();
            std::fs::OpenOptions::new().write(true).open(log).unwrap().set_len(len / 2 + 7).unwrap();
        }
        server.restart();
        let raw = RawClient::connect(&url);
        assert_eq!(raw.run::<_, i64>("LLEN", &["q"]), 0, "the log was torn");
        raw.run::<_, ()>("EVAL", &[script, "1", "q"]);
        server.restart();
        assert_eq!(RawClient::connect(&url).run::<_, i64>("LLEN", &["q"]), 200);
    }

    /// The files of a directory and of its subdirectories.
    fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
        let items = std::fs::read_dir(dir).unwrap().map(|item| item.unwrap().path());
        items.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
    }

    #[test]
    fn a_server_can_be_killed_restarted_frozen_and_resumed() {
        let mut server = RedisServer::start();
        let url = server.url(0);
        RawClient::connect(&url).set("k", "1");
        server.kill();
        assert!(redis::Client::open(url.as_str()).unwrap().get_connection().is_err());
        server.restart();
        let raw = RawClient::connect(&url);
        assert!(!raw.exists("k"), "the server stores nothing on disk");
        server.pause();
        server.resume();
        raw.set("k", "2");
        assert_eq!(raw.get("k").as_deref(), Some(&b"2"[..]));
    }
}

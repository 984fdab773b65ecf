//! Real Redis servers: each on a free loopback port, in a directory of its own, and deleted after the test.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::ports::free_port;
use super::raw_client::RawClient;
use super::server_program;

/// How many databases the shared server has; each test takes one.
const DATABASES: u32 = 10_000;

/// How long a server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How many keys of a megabyte a server has that takes long to load them.
const LARGE_KEYS: u32 = 50;

/// The beginnings of a reply to `PING` from a server that accepts commands, or that asks for a password
/// first.
const READY: &[&[u8]] = &[b"+PONG\r\n", b"-NOAUTH"];

/// The beginning of that reply from a server that still loads its data.
const LOADING: &[&[u8]] = &[b"-LOADIN"];

/// A running server, killed on drop.
pub(crate) struct RedisServer {
    port: u16,
    arguments: Vec<String>,
    dir: TempDir,
    running: Option<Running>,
}

/// The server's process, and one that kills it if this process ends without dropping it: statics are never
/// dropped, and a test may abort.
struct Running {
    server: Child,
    watchdog: Child,
}

impl RedisServer {
    /// Starts a server that stores nothing on disk.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with more arguments, which may override the usual ones.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let mut server = Self { port: 0, arguments, dir, running: None };
        for _ in 0..5 {
            // Another process may take the port before the server does; then the next port is tried.
            server.port = free_port();
            if server.launch(READY) {
                return server;
            }
        }
        panic!("the server did not start on any of five free ports");
    }

    /// The server that the tests share, and a database of it that no other test uses.
    pub(crate) fn shared() -> (&'static Self, u32) {
        static SHARED: OnceLock<RedisServer> = OnceLock::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let server = SHARED.get_or_init(|| Self::start_with(&["--databases", &DATABASES.to_string()]));
        let database = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(database < DATABASES, "more tests than databases");
        (server, database)
    }

    /// The URL of one of its databases.
    pub(crate) fn url(&self, database: u32) -> String {
        format!("redis://127.0.0.1:{}/{database}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The directory for its files.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Kills the server like a crash. Data that it did not save is gone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.watchdog.kill();
            let _ = running.watchdog.wait();
            let _ = running.server.kill();
            let _ = running.server.wait();
        }
    }

    /// Starts it again on the same port, after killing it if it runs.
    pub(crate) fn restart(&mut self) {
        self.relaunch(READY);
    }

    /// Saves its data, and starts it again so slowly that for this time it answers every command with an
    /// error: it is still loading.
    pub(crate) fn restart_loading(&mut self, time: Duration) {
        // While it loads, Redis 6.2 serves its clients once for every two megabytes.
        let fill = format!("for n = 1, {LARGE_KEYS} do redis.call('SET', 'large' .. n, ('x'):rep(2^20)) end");
        let raw = RawClient::connect(&self.url(0));
        raw.run::<_, ()>("CONFIG", &["SET", "rdbcompression", "no"]);
        raw.run::<_, ()>("EVAL", &[&fill, "0"]);
        raw.run::<&str, ()>("SAVE", &[]);
        let delay_of_a_key = (time / LARGE_KEYS).as_micros().to_string();
        self.arguments.extend(["--key-load-delay".to_owned(), delay_of_a_key]);
        self.relaunch(LOADING);
    }

    fn relaunch(&mut self, wanted: &[&[u8]]) {
        self.kill();
        assert!(self.launch(wanted), "the server did not start again on port {}", self.port);
    }

    /// Freezes the server: its connections stay open, and no command is answered.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets a frozen server continue.
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let running = self.running.as_ref().expect("the server runs");
        let done = Command::new("kill").args([signal, &running.server.id().to_string()]).status();
        assert!(done.expect("the kill command").success());
    }

    /// Removes the incomplete end of the log, which the server was writing when it was killed.
    ///
    /// Redis 7.0 itself cuts such a log after the last complete command, even in the middle of a transaction,
    /// and appends to it. At the next start it applies the part before the cut as well: twice, if a client
    /// has repeated the transaction.
    fn mend_log(&self) {
        let of_6 = self.dir.path().join("appendonly.aof");
        let of_7 = self.dir.path().join("appendonlydir").join("appendonly.aof.manifest");
        for log in [of_6, of_7].into_iter().filter(|log| log.exists()) {
            let mut check = server_program::log_checker()
                .arg("--fix")
                .arg(log)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("the tool that repairs the log");
            // It asks only if there is something to cut off, and has ended otherwise.
            let _ = check.stdin.take().expect("a pipe for its input").write_all(b"y\n");
            assert!(
                check.wait().expect("the end of redis-check-aof").success(),
                "the log of the server is damaged"
            );
        }
    }

    /// Starts the process and waits until it answers as wanted; returns false if it did not.
    fn launch(&mut self, wanted: &[&[u8]]) -> bool {
        self.mend_log();
        let mut server = server_program::server()
            .args(["--bind", "127.0.0.1", "--daemonize", "no", "--save", "", "--appendonly", "no"])
            .args(["--port", &self.port.to_string()])
            // The tool of Valkey 9.1 that repairs a log does not recognize Valkey's own RDB format at its start.
            .args(["--aof-use-rdb-preamble", "no"])
            .arg("--dir")
            .arg(self.dir.path())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a server");
        // Its standard input is a pipe from this process, which ends however this process ends.
        let watchdog = Command::new("sh")
            .args(["-c", "read -r _; kill -9 \"$1\"; rm -rf \"$2\"", "sh", &server.id().to_string()])
            .arg(self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let begun = Instant::now();
        let mut up = false;
        while !up && begun.elapsed() < START_LIMIT && matches!(server.try_wait(), Ok(None)) {
            up = answers(self.port, wanted);
            if !up {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        // If the port was taken, this server has ended, and another process answered.
        let up = up && matches!(server.try_wait(), Ok(None));
        self.running = Some(Running { server, watchdog: watchdog.expect("a shell") });
        if !up {
            self.kill();
        }
        up
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn answers(port: u16, wanted: &[&[u8]]) -> bool {
    let ping = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer)?;
        Ok(wanted.contains(&answer.as_slice()))
    };
    ping().unwrap_or(false)
}

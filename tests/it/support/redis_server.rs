//! Real Redis servers: each on a free port of the loopback, in a directory of its own, gone with the test.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How many databases the shared server has; each test takes one.
const DATABASES: u32 = 10_000;

/// How long a server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(10);

/// How the answer to a `PING` begins where the server takes commands, or asks for a password first.
const READY: &[&[u8]] = &[b"+PONG\r\n", b"-NOAUTH"];

/// How it begins where the server still reads what it saved.
const LOADING: &[&[u8]] = &[b"-LOADIN"];

/// A running `redis-server`, killed on drop.
pub(crate) struct RedisServer {
    port: u16,
    arguments: Vec<String>,
    dir: TempDir,
    running: Option<Running>,
}

/// The server's process, and one that kills it should this process end without saying so: statics are
/// never dropped, and a test may abort.
struct Running {
    server: Child,
    watchdog: Child,
}

impl RedisServer {
    /// Starts a server that keeps nothing on disk.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with more arguments, which may contradict the usual ones.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let mut server = Self { port: 0, arguments, dir, running: None };
        for _ in 0..5 {
            // Another process may take the port before the server does; then the next one is tried.
            server.port = free_port();
            if server.launch(READY) {
                return server;
            }
        }
        panic!("redis-server did not start on any of five free ports");
    }

    /// The server that tests share, and a database of it that no other test has.
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

    /// Where it would keep what it saves.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Kills the server as a crash does. What it did not save is gone.
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

    /// Starts it again so slow that it tells everybody for a while that it still reads what it saved.
    pub(crate) fn restart_loading(&mut self, delay_of_a_key: Duration) {
        let micros = delay_of_a_key.as_micros().to_string();
        let slow = ["--key-load-delay", &micros, "--loading-process-events-interval-bytes", "1024"];
        self.arguments.extend(slow.map(str::to_owned));
        self.relaunch(LOADING);
    }

    fn relaunch(&mut self, wanted: &[&[u8]]) {
        self.kill();
        assert!(self.launch(wanted), "redis-server did not start again on port {}", self.port);
    }

    /// Freezes the server: its connections stay open, and nothing is answered.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets a frozen server go on.
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let running = self.running.as_ref().expect("the server runs");
        let done = Command::new("kill").args([signal, &running.server.id().to_string()]).status();
        assert!(done.expect("the kill command").success());
    }

    /// Cuts off what the server had not written whole into its log when it was killed.
    ///
    /// Redis 7.0 itself cuts such a log behind the last whole command, also in the middle of a transaction, appends
    /// to it, and at the next start does what stands before the cut as well: a second time, where a client has
    /// repeated it.
    fn mend_log(&self) {
        let of_6 = self.dir.path().join("appendonly.aof");
        let of_7 = self.dir.path().join("appendonlydir").join("appendonly.aof.manifest");
        for log in [of_6, of_7].into_iter().filter(|log| log.exists()) {
            let mut check = Command::new("redis-check-aof")
                .arg("--fix")
                .arg(log)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("redis-check-aof, which comes with redis-server");
            // It asks only where there is something to cut off, and has ended otherwise.
            let _ = check.stdin.take().expect("its standard input").write_all(b"y\n");
            assert!(check.wait().expect("its end").success(), "the log of the server is damaged");
        }
    }

    /// Starts the process and waits until it answers as wanted; false where it did not.
    fn launch(&mut self, wanted: &[&[u8]]) -> bool {
        self.mend_log();
        let mut server = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--daemonize", "no", "--save", "", "--appendonly", "no"])
            .args(["--port", &self.port.to_string()])
            .arg("--dir")
            .arg(self.dir.path())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "these tests need a real redis-server, 6.2 or newer, and it could not be started \
                     ({error}): get it with `apt-get install redis-server`"
                )
            });
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
        // A server that found the port taken has ended, and somebody else answered.
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

/// A port of the loopback that nobody listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
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

//! A Redis server for one program, on a free port; it is stopped on drop.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::io::tcp::TcpSettings;
use redis::{Connection, IntoConnectionInfo};
use tempfile::TempDir;

/// How many ports are tried: another process may take a free port before the server binds it.
const ATTEMPTS: u32 = 5;
const START_LIMIT: Duration = Duration::from_secs(10);

pub struct RedisServer {
    process: Child,
    port: u16,
    directory: TempDir,
}

impl RedisServer {
    /// Starts a server that stores nothing on disk.
    ///
    /// # Errors
    /// A message that says what to do.
    pub fn start() -> Result<Self, String> {
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            let directory = crate::scratch();
            let port = free_port().map_err(|error| format!("no free port: {error}"))?;
            let process = spawn(directory.path(), port).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    "there is no redis-server: install Redis 6.2 or newer (on Debian: apt install redis-server)"
                        .to_owned()
                }
                _ => format!("redis-server does not start: {error}"),
            })?;
            // From this line on, dropping it ends the process.
            let mut server = Self { process, port, directory };
            match server.wait() {
                Ok(()) => return Ok(server),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The URL for a store: `key_prefix` is up to the caller.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Kills the server: from then on connections are refused.
    pub fn stop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again on the same port, and returns the time of the first accepted connection.
    pub fn start_again(&mut self) -> Instant {
        self.process = spawn(self.directory.path(), self.port).expect("redis-server, which started before");
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(start.elapsed() < START_LIMIT, "redis-server does not start again");
            std::thread::sleep(Duration::from_micros(100));
        }
        Instant::now()
    }

    /// A plain connection, configured like the connections of the library.
    pub fn connect(&self) -> Connection {
        self.try_connect().expect("a connection to the server")
    }

    fn try_connect(&self) -> redis::RedisResult<Connection> {
        let settings = TcpSettings::default().set_nodelay(true);
        let info = self.url().into_connection_info()?.set_tcp_settings(settings);
        redis::Client::open(info)?.get_connection()
    }

    /// Waits until this process answers, and not another server on the same port.
    fn wait(&mut self) -> Result<(), String> {
        let start = Instant::now();
        let ours = format!("process_id:{}", self.process.id());
        loop {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Err(format!("redis-server ended with {status}"));
            }
            let info = self
                .try_connect()
                .and_then(|mut connection| redis::cmd("INFO").arg("server").query::<String>(&mut connection));
            match info {
                Ok(info) if info.lines().any(|line| line == ours) => return Ok(()),
                Ok(_) => return Err("another server answers on the port".to_owned()),
                Err(error) if start.elapsed() > START_LIMIT => {
                    return Err(format!("redis-server does not answer: {error}"));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn spawn(directory: &Path, port: u16) -> io::Result<Child> {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

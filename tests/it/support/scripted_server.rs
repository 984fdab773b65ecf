//! A server that speaks the protocol of Redis and answers some commands as a test wants: after a usual handshake, a
//! function decides what each command gets.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Answers a command, whose words it gets, by writing to the client. An error closes the connection.
type Answer = dyn Fn(&[String], &mut dyn Write) -> std::io::Result<()> + Send + Sync;

pub(crate) struct ScriptedServer {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    /// How many bytes of answers the clients' side has taken.
    written: Arc<AtomicU64>,
}

impl ScriptedServer {
    pub(crate) fn start(
        answer: impl Fn(&[String], &mut dyn Write) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let server = Self {
            address: listener.local_addr().expect("the address of a socket"),
            ended: Arc::default(),
            written: Arc::default(),
        };
        let (ended, written) = (Arc::clone(&server.ended), Arc::clone(&server.written));
        let answer: Arc<Answer> = Arc::new(answer);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (answer, written) = (Arc::clone(&answer), Arc::clone(&written));
                thread::spawn(move || serve(client, &*answer, &written));
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::SeqCst)
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// Counts what is written.
struct Counted<'a>(TcpStream, &'a AtomicU64);

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.0.write(bytes)?;
        self.1.fetch_add(count as u64, Ordering::SeqCst);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

fn serve(client: TcpStream, answer: &Answer, written: &AtomicU64) {
    let Ok(second) = client.try_clone() else { return };
    let (mut requests, mut client) = (BufReader::new(second), Counted(client, written));
    while let Ok(words) = command(&mut requests) {
        let name: Vec<&str> = words.iter().map(String::as_str).collect();
        let usual = match name[..] {
            ["HELLO", ..] => Some("*4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n"),
            ["MULTI"] => Some("+OK\r\n"),
            ["EXEC"] => Some("*0\r\n"),
            ["CLIENT", "INFO"] => Some("$21\r\nid=1 addr=127.0.0.1:9\r\n"),
            ["CLIENT", "KILL", ..] => Some(":1\r\n"),
            ["PING"] => Some("+PONG\r\n"),
            ["INFO", ..] => Some("$0\r\n\r\n"),
            ["GET", key] if key.contains("__millpond") => Some("$1\r\ne\r\n"),
            _ => None,
        };
        let outcome = match usual {
            Some(text) => client.write_all(text.as_bytes()),
            None => answer(&words, &mut client),
        };
        if outcome.is_err() {
            return;
        }
    }
}

/// Reads the words of a command.
fn command(requests: &mut impl BufRead) -> std::io::Result<Vec<String>> {
    let number = |requests: &mut dyn BufRead| {
        let mut line = String::new();
        requests.read_line(&mut line)?;
        let digits = line.trim_end().get(1..).unwrap_or_default();
        digits.parse::<usize>().map_err(std::io::Error::other)
    };
    let count = number(requests)?;
    let mut words = Vec::new();
    for _ in 0..count {
        let length = number(requests)?;
        let mut word = vec![0; length + 2];
        requests.read_exact(&mut word)?;
        word.truncate(length);
        words.push(String::from_utf8_lossy(&word).into_owned());
    }
    Ok(words)
}

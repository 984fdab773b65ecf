//! A synchronous HTTP server with sessions, a limit of calls for each client, and one leader among all processes.
//!
//! `cargo run --example web_sessions [url]`: it starts a server on a free port, calls it, prints the answers, and ends.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use millpond::{Result, StateStore};

const SESSION: Duration = Duration::from_secs(30 * 60);
const MINUTE: Duration = Duration::from_secs(60);
const CALLS_A_MINUTE: i64 = 5;
const CALLS: [&str; 8] = ["/login/anna", "/", "/", "/logout", "/", "/", "/", "/"];

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "memory:".to_owned());
    let store = StateStore::open(&url)?.namespace("web");
    store.clear()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let serving = store.clone();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let store = serving.clone();
            thread::spawn(move || answer(&store, &client));
        }
    });

    let mut session = String::new();
    for path in CALLS {
        let text = call(address, path, &session)?;
        println!("{path}: {text}");
        if let Some(id) = text.strip_prefix("session ") {
            id.clone_into(&mut session);
        }
    }
    // Of all processes with this store, one at a time is the leader.
    let guard = store.lock("leader", MINUTE, MINUTE)?;
    println!("another leader: {}", store.try_lock("leader", MINUTE)?.is_some());
    guard.release()?;
    store.close()?;
    Ok(())
}

/// Answers one request. The error of a store is an answer too.
fn answer(store: &StateStore, client: &TcpStream) {
    let (mut path, mut session) = (String::new(), String::new());
    for line in BufReader::new(client).lines().map_while(std::result::Result::ok) {
        if let Some(rest) = line.strip_prefix("GET ") {
            rest.split(' ').next().unwrap_or_default().clone_into(&mut path);
        } else if let Some(id) = line.strip_prefix("Cookie: ") {
            id.clone_into(&mut session);
        } else if line.is_empty() {
            break;
        }
    }
    let (status, text) = match handle(store, &path, &session) {
        Ok(Some(text)) => ("200 OK", text),
        Ok(None) => ("429 Too Many Requests", "too many calls".to_owned()),
        Err(error) => ("503 Service Unavailable", format!("{error:#}")),
    };
    let mut client = client;
    let _ = write!(
        client,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
}

/// Returns the text of the answer; `None` for a client that has called too often.
fn handle(store: &StateStore, path: &str, session: &str) -> Result<Option<String>> {
    let client = if session.is_empty() { "unknown" } else { session };
    if store.incr_with_ttl(format!("calls:{client}"), 1, MINUTE)? > CALLS_A_MINUTE {
        return Ok(None);
    }
    Ok(Some(if let Some(user) = path.strip_prefix("/login/") {
        let id = store.incr("sessions", 1)?;
        store.put_with_ttl(format!("session:{id}"), user, SESSION)?;
        format!("session {id}")
    } else if path == "/logout" {
        store.delete(format!("session:{session}"))?;
        "good bye".to_owned()
    } else {
        // Each call makes the session live for another half hour.
        match store.get_and_touch::<String>(format!("session:{session}"), SESSION)? {
            Some(user) => format!("hello, {user}"),
            None => "please log in".to_owned(),
        }
    }))
}

/// Makes a request, and returns the text of the answer.
fn call(server: SocketAddr, path: &str, session: &str) -> std::result::Result<String, Box<dyn Error>> {
    let mut stream = TcpStream::connect(server)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {server}\r\nCookie: {session}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, text) = answer.split_once("\r\n\r\n").ok_or("an answer without a body")?;
    Ok(text.to_owned())
}

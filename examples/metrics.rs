//! Serves the metrics of a store over HTTP, for Prometheus, without an async runtime.
//!
//! - `cargo run --example metrics [url]`: works a little, calls its own server, prints some of the answer, and ends.
//! - `cargo run --example metrics <url> <address>`: goes on working and serves `http://<address>/metrics`, until it is
//!   ended. `examples/grafana.json` is a dashboard for it, and `examples/alerts.yml` are alerts.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use millpond::{StateConfig, StateStore};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "memory:".to_owned());
    let address = arguments.next();
    let config = StateConfig::from_url(&url)?.name("shop").slow(Duration::from_millis(100));
    let store = StateStore::with_config(config)?.namespace("metrics");
    store.clear()?;

    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:0"))?;
    let bound = listener.local_addr()?;
    let serving = store.clone();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // A scrape that fails is not worth ending the server.
            let _ = answer(&serving, &client);
        }
    });

    work(&store)?;
    if address.is_some() {
        println!("serving http://{bound}/metrics");
        loop {
            work(&store)?;
            thread::sleep(Duration::from_millis(100));
        }
    }
    let text = call(bound)?;
    let shown = ["millpond_operations_total", "millpond_hits_total", "millpond_misses_total"];
    for line in text.lines().filter(|line| shown.iter().any(|name| line.starts_with(name))) {
        // Each backend prints the same, but for its name.
        if let Some((before, behind)) = line.split_once(",backend=\"").filter(|_| !line.ends_with(" 0")) {
            println!("{before}{}", behind.split_once('"').map_or("", |(_, behind)| behind));
        }
    }
    store.close()?;
    Ok(())
}

/// What the program is there for.
fn work(store: &StateStore) -> millpond::Result<()> {
    for order in 0..20 {
        store.put(format!("order:{order}"), order * order)?;
        store.incr("orders", 1)?;
    }
    for order in 10..30 {
        let _: Option<u64> = store.get(format!("order:{order}"))?;
    }
    Ok(())
}

/// Answers one request: with the metrics, whatever it asks for.
fn answer(store: &StateStore, mut client: &TcpStream) -> std::io::Result<()> {
    let mut request = BufReader::new(client).lines();
    while request.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let text = store.stats().to_prometheus();
    write!(
        client,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
}

/// Calls the server as Prometheus does.
fn call(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}

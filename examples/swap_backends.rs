//! The same program on any backend; only its configuration says which.
//!
//! - `cargo run --example swap_backends memory:` (or `file:./state`, or `redis://127.0.0.1:6379`)
//! - `cargo run --example swap_backends config.json`, with for instance
//!   `{"backend": {"file": {"path": "./state"}}, "default_ttl": "1h"}`
//! - `MILLPOND_URL=file:./state cargo run --example swap_backends`

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use millpond::{StateConfig, StateStore, Ttl};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Session {
    user: String,
    pages: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let store = open(std::env::args().nth(1))?;

    // From here on nothing knows which backend it is.
    let store = store.namespace("swap_backends");
    store.clear()?;
    store.put_with_ttl("session:7", Session { user: "anna".into(), pages: 1 }, Duration::from_secs(3600))?;
    store.modify("session:7", |session: Option<Session>| {
        session.map(|session| Session { pages: session.pages + 1, ..session })
    })?;
    let first = store.set_if_not_exists("seen:order-17", true, None)?;
    let again = store.set_if_not_exists("seen:order-17", true, None)?;
    store.batch_put([("stock:apples", 3), ("stock:pears", 5)])?;
    store.decr("stock:pears", 1)?;

    println!("session: {:?}", store.get::<Session>("session:7")?);
    println!("it stays for an hour: {}", matches!(store.ttl("session:7")?, Some(Ttl::In(_))));
    println!("the order is new: {first}, and the second time: {again}");
    for key in store.keys("stock:")? {
        println!("{key} = {:?}", store.get::<i64>(&key)?);
    }
    Ok(())
}

/// Opens what the command line says, a URL or a file, and otherwise what the environment says.
fn open(argument: Option<String>) -> Result<StateStore, Box<dyn Error>> {
    match argument {
        None => Ok(StateStore::from_env()?),
        Some(path) if Path::new(&path).extension().is_some_and(|end| end == "json") => {
            let config: StateConfig = serde_json::from_str(&std::fs::read_to_string(path)?)?;
            Ok(StateStore::with_config(config)?)
        }
        Some(url) => Ok(StateStore::open(&url)?),
    }
}

//! Passwords that are in a file, and are replaced while a store is open.

use std::fs;
use std::path::{Path, PathBuf};

use millpond::{Error, RedisOptions, StateStore, Status};

use crate::support::chain;
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{
    memory, notice_disconnect, open, options, patient, pending, wait_for, wait_until_connected,
};

/// A server with a password, and a file that holds it.
struct Secured {
    server: RedisServer,
    dir: tempfile::TempDir,
}

impl Secured {
    fn start() -> Self {
        let secured = Self {
            server: RedisServer::start_with(&["--requirepass", "hunter2-first"]),
            dir: tempfile::tempdir().unwrap(),
        };
        secured.write("hunter2-first\n");
        secured
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("password")
    }

    fn write(&self, content: &str) {
        fs::write(self.file(), content).unwrap();
    }

    fn url(&self) -> String {
        self.server.url(0)
    }

    fn raw(&self, password: &str) -> RawClient {
        RawClient::connect(&format!("redis://:{password}@127.0.0.1:{}", self.server.port()))
    }

    /// Changes the password on the server, and closes the connections of the store there.
    fn replace_on_server(&self, old: &str, new: &str) -> RawClient {
        let raw = self.raw(old);
        raw.run::<_, ()>("CONFIG", &["SET", "requirepass", new]);
        raw.run::<_, i64>("CLIENT", &["KILL", "TYPE", "normal", "SKIPME", "yes"]);
        raw
    }
}

fn with_file(options: RedisOptions, file: PathBuf) -> RedisOptions {
    patient(options).password_file(file)
}

fn assert_hides_the_password(error: &Error) {
    let shown = format!("{error} {error:?} {}", chain(error).join(": "));
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_password_replaced_while_connected_is_used_from_then_on() {
    let secured = Secured::start();
    let store = open(&secured.url(), with_file(options(), secured.file())).unwrap();
    store.put("a", 1).unwrap();
    secured.write("hunter2-second\r\n");
    secured.replace_on_server("hunter2-first", "hunter2-second");
    assert_eq!(store.get::<i64>("a").unwrap(), Some(1));
    assert_eq!(store.stats().outages.outages, 0);
    assert!(!format!("{store:?}").contains("hunter2"));
}

/// The new connections of the pool log in with the new password while the old ones go on.
#[test]
fn old_and_new_connections_work_side_by_side() {
    let secured = Secured::start();
    let store = open(&secured.url(), with_file(options(), secured.file())).unwrap();
    store.put("a", 1).unwrap();
    secured.raw("hunter2-first").run::<_, ()>("CONFIG", &["SET", "requirepass", "hunter2-second"]);
    secured.write("hunter2-second");
    let raw = secured.raw("hunter2-second");
    let outcome = store.transaction(|tx| {
        assert_eq!(tx.get::<i64>("a")?, Some(1));
        // The connection of the transaction is in use, so this needs another one.
        assert_eq!(store.get::<i64>("a")?, Some(1));
        tx.put("a", 2)
    });
    outcome.unwrap();
    let clients: String = raw.run("CLIENT", &["LIST"]);
    assert!(clients.lines().count() > 2, "{clients}");
    assert_eq!(store.get::<i64>("a").unwrap(), Some(2));
}

#[test]
fn a_password_replaced_during_an_outage_is_used_on_the_way_back() {
    let mut secured = Secured::start();
    let store = open(&secured.url(), memory().password_file(secured.file())).unwrap();
    store.put("a", 1).unwrap();
    secured.server.kill();
    notice_disconnect(&store);
    store.put("a", 2).unwrap();
    secured.write("hunter2-second\n");
    secured.server.restart();
    wait_for(
        "the refused password is reported",
        || matches!(store.status(), Status::Disconnected { reason, .. } if reason.contains("WRONGPASS")),
    );
    assert_eq!(pending(&store), Some(1));
    secured.raw("hunter2-first").run::<_, ()>("CONFIG", &["SET", "requirepass", "hunter2-second"]);
    wait_until_connected(&store);
    assert_eq!(store.get::<i64>("a").unwrap(), Some(2));
}

/// The server has the new password first: what needs a new connection is refused until the file has it too.
#[test]
fn a_refused_password_ends_when_the_file_is_replaced() {
    let secured = Secured::start();
    let store = open(&secured.url(), with_file(memory(), secured.file())).unwrap();
    store.put("a", 1).unwrap();
    secured.replace_on_server("hunter2-first", "hunter2-second");
    let error = assert_error!(store.get::<i64>("a"), Error::Denied { .. });
    assert_hides_the_password(&error);
    let shown = chain(&error).join(": ");
    assert!(shown.contains("WRONGPASS") && shown.contains(secured.file().to_str().unwrap()), "{shown}");
    assert_eq!(store.status(), Status::Connected, "a refusal is no outage");
    secured.write("hunter2-second");
    assert_eq!(store.get::<i64>("a").unwrap(), Some(1));
}

/// A file that is missing for a moment is an outage, which ends by itself.
#[test]
fn a_password_file_that_is_missing_for_a_while_is_an_outage() {
    let secured = Secured::start();
    let store = open(&secured.url(), memory().password_file(secured.file())).unwrap();
    store.put("a", 1).unwrap();
    fs::rename(secured.file(), secured.dir.path().join("aside")).unwrap();
    secured.raw("hunter2-first").run::<_, i64>("CLIENT", &["KILL", "TYPE", "normal", "SKIPME", "yes"]);
    notice_disconnect(&store);
    store.put("a", 2).unwrap();
    wait_for("the missing file is reported", || {
        let file = secured.file();
        let names = |reason: &str| {
            reason.contains("reading the password file") && reason.contains(file.to_str().unwrap())
        };
        matches!(store.status(), Status::Disconnected { reason, .. } if names(&reason))
    });
    secured.write("");
    wait_for(
        "the empty file is reported",
        || matches!(store.status(), Status::Disconnected { reason, .. } if reason.contains("it is empty")),
    );
    secured.write("hunter2-first");
    wait_until_connected(&store);
    assert_eq!(store.get::<i64>("a").unwrap(), Some(2));
}

/// Without a fallback it is an error that says that trying again can help.
#[test]
fn without_a_fallback_a_missing_file_is_a_transient_error() {
    let secured = Secured::start();
    let store = open(&secured.url(), options().password_file(secured.file())).unwrap();
    store.put("a", 1).unwrap();
    fs::remove_file(secured.file()).unwrap();
    secured.raw("hunter2-first").run::<_, i64>("CLIENT", &["KILL", "TYPE", "normal", "SKIPME", "yes"]);
    let error = assert_error!(store.get::<i64>("a"), Error::Unavailable { .. });
    assert!(error.is_transient());
    secured.write("hunter2-first");
    wait_until_connected(&store);
    store.put("a", 3).unwrap();
}

#[test]
fn a_file_that_cannot_be_used_is_refused_when_a_store_is_opened() {
    let secured = Secured::start();
    let missing = secured.dir.path().join("missing");
    let dir = secured.dir.path().to_path_buf();
    let assert_refused = |url: &str, file: &Path, words: &str| {
        for options in [options(), memory()] {
            let error = assert_error!(
                open(url, options.password_file(file.to_path_buf())),
                Error::InvalidConfig { field, .. } if field == "redis.password_file"
            );
            assert_hides_the_password(&error);
            assert!(error.to_string().contains(words), "{error}");
        }
    };
    assert_refused(&secured.url(), &missing, missing.to_str().unwrap());
    assert_refused(&secured.url(), &dir, "not a regular file");
    for (content, words) in [
        (String::new(), "it is empty"),
        ("\n".to_owned(), "it is empty"),
        ("hunter2\n\n".to_owned(), "control character"),
        ("hunter2".repeat(10_000), "longer than 64 KiB"),
    ] {
        secured.write(&content);
        assert_refused(&secured.url(), &secured.file(), words);
    }
    secured.write("hunter2-first");
    let url = format!("redis://:hunter2-first@127.0.0.1:{}", secured.server.port());
    assert_refused(&url, &secured.file(), "the URL holds a password too");
    secured.write("hunter2-wrong");
    let error =
        assert_error!(open(&secured.url(), memory().password_file(secured.file())), Error::Denied { .. });
    assert_hides_the_password(&error);
    assert!(chain(&error).join(": ").contains(secured.file().to_str().unwrap()), "{error:?}");
}

#[test]
fn the_user_of_the_url_has_the_password_of_the_file() {
    let secured = Secured::start();
    let raw = secured.raw("hunter2-first");
    raw.run::<_, ()>("ACL", &["SETUSER", "anna", "on", ">hunter2-anna", "~*", "+@all"]);
    secured.write("hunter2-anna\n");
    for login in ["anna@", "anna:@"] {
        let port = secured.server.port();
        let file = secured.file();
        let url = format!("redis://{login}127.0.0.1:{port}?password_file={}&fallback=none", file.display());
        let store = StateStore::open(url).unwrap();
        store.put("a", 1).unwrap();
        let clients: String = raw.run("CLIENT", &["LIST"]);
        assert!(clients.contains("user=anna"), "{clients}");
        store.close().unwrap();
    }
}

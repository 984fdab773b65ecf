//! The server program that the tests start, and what it can do.
//!
//! It is `redis-server`, or the program that `MILLPOND_TEST_SERVER` names: another version of Redis, or Valkey.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::LazyLock;

/// Protected settings can be changed: since 7.0 a server must be told so at its start.
pub(crate) const PROTECTED_SETTINGS: &[&str] = &["--enable-protected-configs", "local"];

/// `DEBUG` may be called: since 7.0 a server must be told so at its start.
pub(crate) const DEBUG_COMMAND: &[&str] = &["--enable-debug-command", "local"];

/// The command that starts the server.
pub(crate) fn server() -> Command {
    Command::new(program())
}

/// Its name or its path.
pub(crate) fn program() -> OsString {
    std::env::var_os("MILLPOND_TEST_SERVER").unwrap_or_else(|| "redis-server".into())
}

/// The command that repairs the log of this very server: the server itself is that tool when it is called by
/// that name. The tool of another version may not know the server's log.
pub(crate) fn log_checker() -> Command {
    let mut checker = server();
    checker.arg0("redis-check-aof");
    checker
}

/// These arguments, if the server needs and knows them.
pub(crate) fn since_7(arguments: &'static [&'static str]) -> &'static [&'static str] {
    if *VERSION >= (7, 0) { arguments } else { &[] }
}

/// Whether the permission of a user to read some keys can be given without the permission to write them.
pub(crate) fn separates_reads_from_writes() -> bool {
    *VERSION >= (7, 0)
}

/// The version of the server, without its patch level.
static VERSION: LazyLock<(u32, u32)> = LazyLock::new(|| {
    let printed = server().arg("--version").output().unwrap_or_else(|error| {
        panic!(
            "these tests need a real redis-server, 6.2 or newer, and {} could not be started ({error}): get it \
             with `apt-get install redis-server`",
            program().display()
        )
    });
    let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
    parse(&printed).unwrap_or_else(|| panic!("{} printed no version: {printed}", program().display()))
});

/// The version in a text such as `Redis server v=7.0.15 sha=00000000:0 …`.
fn parse(printed: &str) -> Option<(u32, u32)> {
    let version = printed.split_whitespace().find_map(|word| word.strip_prefix("v="))?;
    let mut numbers = version.split('.').map_while(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

#[test]
fn the_version_of_a_server_is_read_from_what_it_prints() {
    assert_eq!(parse("Redis server v=6.2.5 sha=00000000:0 malloc=jemalloc-5.1.0 bits=64"), Some((6, 2)));
    assert_eq!(parse("Valkey server v=9.1.2 sha=00000000:1 malloc=libc bits=64"), Some((9, 1)));
    assert_eq!(parse("no version"), None);
}

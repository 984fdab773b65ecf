//! Owns the check which commands the user of a store may send. Knows nothing of what the commands are needed for.
//!
//! A server checks the permissions of a command when it queues it for a transaction, and a transaction that is discarded
//! changes nothing. So every command is tried, and none is carried out.

use redis::Value;

use crate::backend::redis::client::Redis;
use crate::backend::redis::connect::connection::{Connection, Request};
use crate::backend::redis::examination::server_info::Words;
use crate::backend::redis::failure::{Failure, FailureKind};
use crate::backend::redis::retry::RetryRule;
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::replies::{done, refused};
use crate::key::{Key, RESERVED};

/// Stands for the key of the check, which is the store's own.
const KEY: &str = "@";

/// Every command that this crate sends or that its scripts call, with arguments. MULTI, EXEC and those that log in are
/// not here: the connection would not be there without them.
const COMMANDS: &[Words<'_>] = &[
    ("BLPOP", &[KEY, "1"]),
    ("CLIENT", &["INFO"]),
    ("CLIENT", &["KILL", "ID", "0"]),
    ("CLIENT", &["PAUSE", "1", "WRITE"]),
    ("CLIENT", &["TRACKING", "ON", "BCAST", "PREFIX", KEY]),
    ("CLIENT", &["UNPAUSE"]),
    ("DBSIZE", &[]),
    ("DEL", &[KEY]),
    ("ECHO", &["1"]),
    ("EVAL", &["return 1", "1", KEY]),
    ("EVALSHA", &["0000000000000000000000000000000000000000", "1", KEY]),
    ("EXISTS", &[KEY]),
    ("GET", &[KEY]),
    ("GETDEL", &[KEY]),
    ("GETEX", &[KEY]),
    ("HDEL", &[KEY, "1"]),
    ("HGET", &[KEY, "1"]),
    ("HGETALL", &[KEY]),
    ("HINCRBY", &[KEY, "1", "1"]),
    ("HKEYS", &[KEY]),
    ("HLEN", &[KEY]),
    ("HMGET", &[KEY, "1"]),
    ("HSET", &[KEY, "1", "1"]),
    ("HSETNX", &[KEY, "1", "1"]),
    ("INCR", &[KEY]),
    ("INCRBY", &[KEY, "1"]),
    ("INFO", &["memory"]),
    ("LINDEX", &[KEY, "0"]),
    ("LLEN", &[KEY]),
    ("LPOP", &[KEY]),
    ("LPUSH", &[KEY, "1"]),
    ("LRANGE", &[KEY, "0", "0"]),
    ("LTRIM", &[KEY, "0", "0"]),
    ("MEMORY", &["USAGE", KEY]),
    ("MSET", &[KEY, "1"]),
    ("PERSIST", &[KEY]),
    ("PEXPIRE", &[KEY, "1"]),
    ("PEXPIREAT", &[KEY, "1"]),
    ("PEXPIRETIME", &[KEY]),
    ("PING", &[]),
    ("PTTL", &[KEY]),
    ("RENAME", &[KEY, KEY]),
    ("ROLE", &[]),
    ("RPOP", &[KEY]),
    ("RPUSH", &[KEY, "1"]),
    ("SCAN", &["0"]),
    ("SET", &[KEY, "1"]),
    ("TIME", &[]),
    ("TYPE", &[KEY]),
    ("UNLINK", &[KEY]),
    ("ZADD", &[KEY, "1", "1"]),
    ("ZRANGE", &[KEY, "0", "0"]),
    ("ZRANGEBYSCORE", &[KEY, "0", "0"]),
    ("ZREM", &[KEY, "1"]),
    ("ZREVRANGEBYSCORE", &[KEY, "0", "0"]),
    ("ZSCORE", &[KEY, "1"]),
];

/// A command that a server refuses to a user.
pub(super) struct RefusedCommand {
    /// As `CLIENT KILL`.
    pub(super) name: String,
    /// In the server's own words.
    pub(super) reason: String,
}

impl Redis {
    /// Returns the commands that the server refuses to the user of this store.
    pub(super) fn refused_commands(&self, budget: &TimeBudget) -> Result<Vec<RefusedCommand>, Failure> {
        let work = |connection: &mut Connection, _| {
            connection.ensure_transactions(budget)?;
            // INVARIANT: no command is sent before the server has begun a transaction: it would be carried out.
            self.writer(connection).command(1, "MULTI");
            done(connection.ask(budget)?)?;
            let tried = self.try_all(connection, budget);
            if tried.is_err() {
                // The transaction may still be open.
                connection.discard();
            }
            tried
        };
        self.run(RetryRule::Read, budget, work).map(|(refused, _)| refused)
    }

    fn try_all(
        &self,
        connection: &mut Connection,
        budget: &TimeBudget,
    ) -> Result<Vec<RefusedCommand>, Failure> {
        let key = Key::reserved(format!("{RESERVED}:permissions"));
        let mut writer = self.writer(connection);
        for (name, args) in COMMANDS {
            let command = writer.command(1 + args.len(), name);
            for arg in *args {
                if *arg == KEY {
                    command.key(&key)
                } else {
                    command.arg(arg.as_bytes())
                };
            }
        }
        writer.command(1, "DISCARD");
        connection.send(Request { replies: COMMANDS.len() + 1, mutation: false, atomic: false }, budget)?;
        let replies: Vec<Value> =
            COMMANDS.iter().map(|_| connection.receive_tolerantly(budget)).collect::<Result<_, _>>()?;
        done(connection.receive(budget)?)?;
        let refusals = COMMANDS.iter().zip(replies).filter_map(|(command, reply)| {
            let failure = refused(reply).err()?;
            // A server that does not know the command is as bad; one that is out of memory is another matter.
            // Redis 6.2 does not know PEXPIRETIME, and is asked for the TTL instead.
            let is_unknown = failure.kind == FailureKind::Other && command.0 != "PEXPIRETIME";
            let is_missing = failure.kind == FailureKind::Denied || is_unknown;
            is_missing.then(|| RefusedCommand { name: name_of(command), reason: failure.cause.to_string() })
        });
        Ok(refusals.collect())
    }
}

/// Returns the name of a command, with that of its subcommand.
fn name_of((name, args): &Words<'_>) -> String {
    match args.first() {
        Some(subcommand) if matches!(*name, "CLIENT" | "MEMORY") => format!("{name} {subcommand}"),
        Some(_) | None => (*name).to_owned(),
    }
}

//! Owns a connection of a cut's own, over which the server reports which keys are changed. Knows nothing of what is read
//! over it.
//!
//! At the end of each turn of its event loop, a server reports the writes of that turn: behind the replies of that
//! turn, and before the replies of the next one.

use redis::Value;

use crate::backend::redis::client::Redis;
use crate::backend::redis::connect::connection::{Connection, Request};
use crate::backend::redis::failure::Failure;
use crate::backend::redis::retry::RetryRule;
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::replies::{refused, transaction};
use crate::backend::redis::wire::resp::CommandWriter;
use crate::key::Key;
use crate::stats::recorder::Measured;

/// How long all writers of the server are held back at most. The server ends the pause by itself then.
pub(super) const PAUSE_MILLIS: u64 = 500;

/// A connection over which the server reports which keys are changed, if it does so for this user.
pub(super) struct TrackingConnection<'r> {
    redis: &'r Redis,
    connection: Connection,
    /// Whether the server reports every changed key that begins with the prefix.
    pub(super) is_told: bool,
    /// Whether the user may hold back all writers.
    pub(super) may_pause: bool,
    /// Whether the server knows the deadline of a key. Redis 6.2 knows only how long a key has left.
    pub(super) knows_deadlines: bool,
}

impl<'r> TrackingConnection<'r> {
    /// Connects, and asks the server to report changed keys that begin with `prefix`.
    pub(super) fn open(redis: &'r Redis, prefix: &str) -> Result<Self, Failure> {
        redis.link.check_open()?;
        let budget = redis.budget();
        let mut connection = redis.link.dial(&budget)?;
        connection.ensure_transactions(&budget)?;
        connection.expect_invalidations();
        let (is_told, may_pause, knows_deadlines) = (false, false, false);
        let mut opened = Self { redis, connection, is_told, may_pause, knows_deadlines };
        opened.ask_to_be_told(prefix)?;
        opened.find_out_what_is_allowed()?;
        Ok(opened)
    }

    fn ask_to_be_told(&mut self, prefix: &str) -> Result<(), Failure> {
        let prefix = [&self.redis.prefix, prefix.as_bytes()].concat();
        let replies = self.exchange(|writer| {
            writer.command(2, "HELLO").arg(b"3");
            // With no prefix the server reports all keys.
            let words = if prefix.is_empty() { 4 } else { 6 };
            writer.command(words, "CLIENT").arg(b"TRACKING").arg(b"ON").arg(b"BCAST");
            if !prefix.is_empty() {
                writer.arg(b"PREFIX").arg(&prefix);
            }
        })?;
        self.is_told = replies.into_iter().all(|reply| refused(reply).is_ok());
        Ok(())
    }

    /// The server checks the permissions of a command when it queues it for a transaction. This one is discarded.
    fn find_out_what_is_allowed(&mut self) -> Result<(), Failure> {
        let key = Key::reserved(crate::key::RESERVED);
        let replies = self.exchange(|writer| {
            writer.command(1, "MULTI");
            writer.command(4, "CLIENT").arg(b"PAUSE").arg(b"1").arg(b"WRITE");
            writer.command(2, "CLIENT").arg(b"UNPAUSE");
            writer.command(2, "PEXPIRETIME").key(&key);
            writer.command(1, "DISCARD");
        })?;
        let is_queued =
            |at: usize| matches!(replies.get(at), Some(Value::SimpleString(status)) if status == "QUEUED");
        self.may_pause = is_queued(1) && is_queued(2);
        self.knows_deadlines = is_queued(3);
        Ok(())
    }

    /// Sends commands that change nothing, and receives their replies.
    pub(super) fn exchange(
        &mut self,
        write: impl FnOnce(&mut CommandWriter<'_>),
    ) -> Result<Vec<Value>, Failure> {
        let (redis, budget) = (self.redis, self.redis.budget());
        let connection = &mut self.connection;
        redis.measure(Measured::Read, || {
            let replies = send(redis, connection, &budget, write)?;
            (0..replies).map(|_| connection.receive(&budget)).collect()
        })
    }

    /// As [`TrackingConnection::exchange`], as one transaction.
    pub(super) fn transact(
        &mut self,
        write: impl FnOnce(&mut CommandWriter<'_>),
    ) -> Result<Vec<Value>, Failure> {
        let (redis, budget) = (self.redis, self.redis.budget());
        let connection = &mut self.connection;
        redis.measure(Measured::Read, || {
            let replies = send(redis, connection, &budget, |writer| {
                writer.command(1, "MULTI");
                write(writer);
                writer.command(1, "EXEC");
            })?;
            transaction(replies - 2, &mut || connection.receive(&budget))
        })
    }

    /// Waits until the server reports changed keys.
    pub(super) fn wait(&mut self) -> Result<(), Failure> {
        self.connection.await_invalidation(&self.redis.budget())
    }

    /// Takes what the server has reported: lists of keys, or `Nil` for all keys.
    pub(super) fn take_told(&mut self) -> Vec<Value> {
        self.connection.take_invalidations()
    }

    /// Holds back all writers of the server until [`TrackingConnection::unpause`], or for [`PAUSE_MILLIS`].
    pub(super) fn pause(&mut self) -> Result<(), Failure> {
        let replies = self.exchange(|writer| {
            writer.command(4, "CLIENT").arg(b"PAUSE").number(PAUSE_MILLIS).arg(b"WRITE");
        })?;
        replies.into_iter().try_for_each(|reply| refused(reply).map(drop))
    }

    /// Lets all writers continue: over another connection if this one is gone.
    pub(super) fn unpause(&mut self) {
        let write = |writer: &mut CommandWriter<'_>| _ = writer.command(2, "CLIENT").arg(b"UNPAUSE");
        if self.exchange(write).is_err() {
            let budget = self.redis.budget();
            let work = |connection: &mut Connection, _| {
                write(&mut self.redis.writer(connection));
                connection.ask(&budget)
            };
            // If that fails too, the server ends the pause by itself.
            let _ = self.redis.run(RetryRule::Read, &budget, work);
        }
    }
}

/// Sends commands, and returns how many there are.
fn send(
    redis: &Redis,
    connection: &mut Connection,
    budget: &TimeBudget,
    write: impl FnOnce(&mut CommandWriter<'_>),
) -> Result<usize, Failure> {
    // A thread that forked meanwhile must not send over the connection of its parent.
    if !redis.link.is_same_process() {
        return Err(Failure::forked());
    }
    let mut writer = redis.writer(connection);
    write(&mut writer);
    let replies = writer.commands();
    // The fence, which is the one write, does no harm if it comes late.
    connection.send(Request { replies, mutation: false, atomic: false }, budget)?;
    Ok(replies)
}

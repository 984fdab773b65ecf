//! Owns the connection on which queued operations are applied on the server, each once. Knows nothing of the queue.

use std::time::Duration;

use redis::Value;

use crate::backend::redis::client::Redis;
use crate::backend::redis::connect::connection::{Connection, Request};
use crate::backend::redis::failure::{Failure, FailureKind, Stage};
use crate::backend::redis::keys;
use crate::backend::redis::replay::args::{ReplayStep, ScriptArgs};
use crate::backend::redis::replay::outcome::{ReplayOutcome, ReplayReply, marker_number, not_applied};
use crate::backend::redis::replay::reconnect_error::ReconnectError;
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::replies::refused;
use crate::backend::redis::wire::resp::CommandWriter;
use crate::backend::redis::wire::scripts::{REPLAY, SESSION_TTL_MILLIS, ScriptCall};
use crate::key::Key;

/// The field of a marker that holds how much of the queue the server has applied.
const DONE: &[u8] = b"done";

/// A new connection to a server that can be reached again.
pub(crate) struct ReplayConnection<'r> {
    redis: &'r Redis,
    connection: Option<Connection>,
    /// How long one exchange may take.
    time_limit: Duration,
}

impl Redis {
    /// Connects to the server, and makes sure that nothing that was sent to it before can still run.
    pub(crate) fn open_replay_connection(&self) -> Result<ReplayConnection<'_>, ReconnectError> {
        let budget = TimeBudget::new(self.options.connect_timeout);
        let connection = self.link.dial_even_if_suspended(&budget)?;
        let time_limit = self.time_limit();
        let mut replay = ReplayConnection { redis: self, connection: Some(connection), time_limit };
        replay.kill_older()?;
        self.link.kill_orphans_even_if_suspended(&TimeBudget::new(time_limit))?;
        Ok(replay)
    }
}

impl ReplayConnection<'_> {
    /// Sets the marker if there is none. Returns whether there was none, and the number that it holds now. The
    /// server must apply a write for this: a server that only replies cannot serve yet.
    pub(crate) fn init_marker(&mut self, marker: &Key<'_>, done: u64) -> Result<(bool, u64), ReconnectError> {
        let epoch = self.redis.link.epoch();
        let probe = epoch.begin_probe();
        let mut replies = self.send_all(5, |writer| {
            epoch.write_create(writer);
            writer.command(4, "HSETNX").key(marker).arg(DONE).number(done);
            writer.command(3, "PEXPIRE").key(marker).number(SESSION_TTL_MILLIS);
            writer.command(3, "HGET").key(marker).arg(DONE);
        })?;
        // The epoch comes first: if the server loses its data now, both may be lost.
        if let [made, found] = &mut replies[..2] {
            epoch.on_create(probe, made, std::mem::replace(found, Value::Nil));
        }
        let replies = replies.into_iter().skip(2).map(refused).collect::<Result<Vec<_>, _>>()?;
        let (Some(Value::Int(made)), Some(held)) = (replies.first(), replies.last().and_then(marker_number))
        else {
            let cause = "the reply about a marker cannot be read";
            return Err(Failure::new(FailureKind::Protocol, Stage::InDoubt, cause).into());
        };
        Ok((*made == 1, held))
    }

    /// Sets the marker to a number, whatever it holds.
    pub(crate) fn reset_marker(&mut self, marker: &Key<'_>, done: u64) -> Result<(), ReconnectError> {
        let replies = self.send_all(3, |writer| {
            writer.command(2, "DEL").key(marker);
            writer.command(4, "HSET").key(marker).arg(DONE).number(done);
            writer.command(3, "PEXPIRE").key(marker).number(SESSION_TTL_MILLIS);
        })?;
        replies.into_iter().try_for_each(|reply| refused(reply).map(drop)).map_err(ReconnectError::from)
    }

    /// Applies a chunk of operations if the marker holds `done`, and sets the marker to `last` then.
    pub(crate) fn replay(
        &mut self,
        marker: &Key<'_>,
        done: u64,
        last: u64,
        remote_wins: bool,
        steps: &[ReplayStep<'_>],
    ) -> Result<ReplayReply, ReconnectError> {
        // An operation that was on its way when the outage began may have given up only since.
        if !self.redis.link.quarantine().is_empty() {
            self.redis.link.kill_orphans_even_if_suspended(&TimeBudget::new(self.time_limit))?;
        }
        let mut args = ScriptArgs::default();
        let loss_count = self.redis.link.epoch().loss_count();
        for step in steps {
            args.step(step, remote_wins, loss_count);
        }
        let keys: Vec<&Key<'_>> = steps.iter().map(|step| step.key).collect();
        self.run_script(marker, (done, last), remote_wins, &keys, &args)
    }

    /// Sets the marker from `done` to `last`, and stores beside it that the operations in between, whose kinds of
    /// outcome are given, were not applied. If the server has applied them, it tells so instead.
    pub(crate) fn set_aside(
        &mut self,
        marker: &Key<'_>,
        done: u64,
        last: u64,
        outcomes: &[ReplayOutcome],
    ) -> Result<ReplayReply, ReconnectError> {
        let mut args = ScriptArgs::default();
        let mut first = 0;
        let mut keys = Vec::new();
        for alike in outcomes.chunk_by(PartialEq::eq) {
            if let Some((kind, cause)) = alike.first().and_then(not_applied) {
                args.set_aside(kind, first, alike.len(), cause);
                keys.push(marker);
            }
            first += alike.len();
        }
        self.run_script(marker, (done, last), false, &keys, &args)
    }

    /// Runs the script of the replay with the arguments of operations, each of which has one of the keys.
    fn run_script(
        &mut self,
        marker: &Key<'_>,
        (done, last): (u64, u64),
        remote_wins: bool,
        keys: &[&Key<'_>],
        args: &ScriptArgs,
    ) -> Result<ReplayReply, ReconnectError> {
        let caches: Vec<Key<'_>> = args.store_ids().iter().copied().map(keys::reply_cache).collect();
        let write = |writer: &mut CommandWriter<'_>| {
            let keys: Vec<&Key<'_>> =
                std::iter::once(marker).chain(keys.iter().copied()).chain(&caches).collect();
            writer.script(&REPLAY, ScriptCall::ByText, &keys, 5 + args.len());
            writer.number(done).number(last).number(SESSION_TTL_MILLIS);
            writer.arg(if remote_wins { b"1" } else { b"0" }).number(caches.len() as u64);
            args.write(writer);
        };
        let reply = self.send_all(1, write)?.pop().unwrap_or(Value::Nil);
        Ok(ReplayReply::read(reply, done, last)?)
    }

    /// Asks the server to close all connections from before the outage, in use or not.
    fn kill_older(&mut self) -> Result<(), ReconnectError> {
        for identity in self.redis.link.older_connections() {
            let replies = self.send_all(1, |writer| identity.write_kill(writer))?;
            for reply in replies {
                match refused(reply) {
                    Ok(_) => self.redis.link.forget(&identity),
                    // Without the permission, each is killed or outlived later by the quarantine.
                    Err(failure) if failure.kind == FailureKind::Denied => return Ok(()),
                    Err(failure) => return Err(failure.into()),
                }
            }
        }
        Ok(())
    }

    /// Sends commands that may write, and receives this many replies.
    fn send_all(
        &mut self,
        replies: usize,
        write: impl FnOnce(&mut CommandWriter<'_>),
    ) -> Result<Vec<Value>, ReconnectError> {
        let budget = TimeBudget::new(self.time_limit);
        let Some(connection) = &mut self.connection else {
            let cause = "the connection is gone";
            return Err(Failure::new(FailureKind::Broken, Stage::NotSent, cause).into());
        };
        write(&mut connection.writer(&self.redis.prefix));
        connection.send(Request { replies, mutation: true, atomic: false }, &budget)?;
        let received = (0..replies).map(|_| connection.receive(&budget)).collect::<Result<Vec<_>, _>>()?;
        Ok(received)
    }
}

impl Drop for ReplayConnection<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.redis.link.dispose(connection);
        }
    }
}

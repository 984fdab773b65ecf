//! Owns the connection on which queued operations are applied on the server, each once. Knows nothing of the queue.

use std::time::Duration;

use redis::Value;

use crate::backend::redis::client::Redis;
use crate::backend::redis::connect::connection::{Connection, Request};
use crate::backend::redis::connect::identity::Killed;
use crate::backend::redis::failure::{Failure, FailureKind, Stage};
use crate::backend::redis::keys;
use crate::backend::redis::replay::args::{ReplayStep, ScriptArgs};
use crate::backend::redis::replay::marker_claim::{ClaimedMarker, MarkerClaim};
use crate::backend::redis::replay::outcome::{ReplayOutcome, ReplayReply, not_applied};
use crate::backend::redis::replay::reconnect_error::ReconnectError;
use crate::backend::redis::wire::replies::refused;
use crate::backend::redis::wire::resp::CommandWriter;
use crate::backend::redis::wire::scripts::{
    CHECK_KEYS, CLAIM_MARKER, REPLAY, SESSION_TTL_MILLIS, ScriptCall,
};
use crate::key::Key;
use crate::util::hex;

fn holder_name(holder: u128) -> Vec<u8> {
    hex::encode(&holder.to_be_bytes()).concat()
}

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
        let budget = self.link.budget(self.options.connect_timeout);
        let connection = self.link.dial_even_if_suspended(&budget)?;
        let time_limit = self.time_limit();
        let mut replay = ReplayConnection { redis: self, connection: Some(connection), time_limit };
        replay.kill_older()?;
        self.link.kill_orphans_even_if_suspended(&self.link.budget(time_limit))?;
        Ok(replay)
    }
}

impl ReplayConnection<'_> {
    /// Sets the marker if there is none, and makes the last of `holders` its holder, unless its present holder is not
    /// one of them. The server must apply a write for this: a server that only replies cannot serve yet. `sent` is the
    /// number that was sent last: a marker beyond it stays as it is.
    pub(crate) fn claim_marker(
        &mut self,
        marker: &Key<'_>,
        done: u64,
        sent: u64,
        holders: &[u128],
    ) -> Result<MarkerClaim, ReconnectError> {
        let epoch = self.redis.link.epoch();
        let probe = epoch.begin_probe();
        let mut replies = self.send_all(3, |writer| {
            epoch.write_create(writer);
            write_claim(writer, marker, (done, sent), holders);
        })?;
        // The epoch comes first: if the server loses its data now, both may be lost.
        if let [made, found] = &mut replies[..2] {
            epoch.on_create(probe, made, std::mem::replace(found, Value::Nil));
        }
        Ok(MarkerClaim::read(replies.pop().unwrap_or(Value::Nil))?)
    }

    /// Sets the marker to a number, whatever it holds.
    pub(crate) fn reset_marker(&mut self, marker: &ClaimedMarker, done: u64) -> Result<(), ReconnectError> {
        let replies = self.send_all(2, |writer| {
            writer.command(2, "DEL").key(&marker.key);
            write_claim(writer, &marker.key, (done, done), &[marker.holder]);
        })?;
        replies.into_iter().try_for_each(|reply| refused(reply).map(drop)).map_err(ReconnectError::from)
    }

    /// Applies a chunk of operations if the marker holds `done` and has this holder, and sets the marker to `last` then.
    pub(crate) fn replay(
        &mut self,
        marker: &ClaimedMarker,
        done: u64,
        last: u64,
        remote_wins: bool,
        steps: &[ReplayStep<'_>],
    ) -> Result<ReplayReply, ReconnectError> {
        // An operation that was on its way when the outage began may have given up only since.
        if !self.redis.link.quarantine().is_empty() {
            self.redis.link.kill_orphans_even_if_suspended(&self.redis.link.budget(self.time_limit))?;
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
        marker: &ClaimedMarker,
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
                keys.push(&marker.key);
            }
            first += alike.len();
        }
        self.run_script(marker, (done, last), false, &keys, &args)
    }

    /// Returns whether the user of the connection may use these keys.
    pub(crate) fn may_use(&mut self, keys: &[&Key<'_>]) -> Result<bool, ReconnectError> {
        let reply = self.send_all(1, |writer| {
            writer.script(&CHECK_KEYS, ScriptCall::ByText, keys, 0);
        })?;
        match reply.into_iter().try_for_each(|reply| refused(reply).map(drop)) {
            Ok(()) => Ok(true),
            Err(failure) if failure.kind == FailureKind::Denied => Ok(false),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Runs the script of the replay with the arguments of operations, each of which has one of the keys.
    fn run_script(
        &mut self,
        marker: &ClaimedMarker,
        (done, last): (u64, u64),
        remote_wins: bool,
        keys: &[&Key<'_>],
        args: &ScriptArgs,
    ) -> Result<ReplayReply, ReconnectError> {
        let caches: Vec<Key<'_>> = args.store_ids().iter().copied().map(keys::reply_cache).collect();
        let write = |writer: &mut CommandWriter<'_>| {
            let keys: Vec<&Key<'_>> =
                std::iter::once(&marker.key).chain(keys.iter().copied()).chain(&caches).collect();
            writer.script(&REPLAY, ScriptCall::ByText, &keys, 6 + args.len());
            writer.number(done).number(last).number(SESSION_TTL_MILLIS);
            writer.arg(if remote_wins { b"1" } else { b"0" }).number(caches.len() as u64);
            writer.arg(&holder_name(marker.holder));
            args.write(writer);
        };
        let reply = self.send_all(1, write)?.pop().unwrap_or(Value::Nil);
        Ok(ReplayReply::read(reply, done, last)?)
    }

    /// Asks the server to close all connections from before the outage, in use or not. Those that cannot be closed are
    /// outlived by the quarantine.
    fn kill_older(&mut self) -> Result<(), ReconnectError> {
        for identity in self.redis.link.older_connections() {
            let reply = self.send_all(1, |writer| identity.write_kill(writer))?.pop().unwrap_or(Value::Nil);
            let by = self.connection.as_ref().and_then(|connection| connection.identity.as_ref());
            match identity.killed(by, &reply)? {
                Killed::Gone => self.redis.link.forget(&identity),
                Killed::Unknown => {}
                Killed::Refused => return Ok(()),
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
        let budget = self.redis.link.budget(self.time_limit);
        let Some(connection) = &mut self.connection else {
            let cause = "the connection is gone";
            return Err(Failure::new(FailureKind::Broken, Stage::NotSent, cause).into());
        };
        write(&mut connection.writer(&self.redis.prefix));
        connection.send_counted(Request { replies, mutation: true, atomic: false }, &budget)?;
        let received = (0..replies).map(|_| connection.receive(&budget)).collect::<Result<Vec<_>, _>>()?;
        Ok(received)
    }
}

/// Writes the script that sets the marker if there is none, and makes the last of `holders` its holder.
fn write_claim(writer: &mut CommandWriter<'_>, marker: &Key<'_>, (done, sent): (u64, u64), holders: &[u128]) {
    writer.script(&CLAIM_MARKER, ScriptCall::ByText, &[marker], 3 + holders.len());
    writer.number(done).number(sent).number(SESSION_TTL_MILLIS);
    for holder in holders {
        writer.arg(&holder_name(*holder));
    }
}

impl Drop for ReplayConnection<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.redis.link.dispose(connection);
        }
    }
}

//! Owns the staging of entries as a whole: they are stored under keys that nobody reads, to be put in place in one step.
//! Knows nothing of what they replace.

use std::time::{Duration, Instant};

use redis::Value;

use crate::backend::redis::client::Redis;
use crate::backend::redis::connect::connection::{Connection, Request};
use crate::backend::redis::failure::{ErrorContext, Failure, FailureKind, Stage};
use crate::backend::redis::keys;
use crate::backend::redis::operation_error::OperationError;
use crate::backend::redis::retry::{RetryRule, lost_reply};
use crate::backend::redis::wire::replies::{refused, text, transaction};
use crate::backend::redis::wire::resp::CommandWriter;
use crate::backend::redis::wire::scripts::{PLACE_STAGED, ScriptCall};
use crate::backend::redis::wire::whole_queue::{DELAYED_NUMBER, records};
use crate::key::Key;
use crate::op::{WholeContent, WholeEntry, WholeQueue};
use crate::stats::counter::Counter;
use crate::util::unique_id::unique_id;

/// Staged keys that are left behind are deleted by the server after this time.
const STAGED: Duration = Duration::from_secs(3600);

/// After this time, the time to live of all staged keys begins again.
const RENEWAL: Duration = Duration::from_secs(1200);

/// How long the server keeps the reply, for a call that is made again.
const REPLY: Duration = Duration::from_secs(600);

/// A request ends once it holds this many bytes.
const CHUNK_BYTES: usize = 4 << 20;

/// A command stages at most so many bytes and parts of a map or a queue, or one that is larger.
const PART_BYTES: usize = 256 << 10;
const PARTS: usize = 1000;

/// What the entries take the place of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'p> {
    /// What their keys hold.
    Merge,
    /// Nothing: only entries of absent keys are written.
    Keep,
    /// All that is stored under a prefix, with its pattern; at most so many keys may change.
    Replace { prefix: &'p [u8], pattern: &'p [u8], most: u64 },
}

/// Entries that are staged.
pub(super) struct Staging<'r> {
    redis: &'r Redis,
    base: Key<'static>,
    /// Commands that are not sent yet.
    buffer: Vec<u8>,
    commands: usize,
    /// The keys of the entries, as the server spells them.
    pub(super) targets: Vec<Vec<u8>>,
    /// How many keys are staged.
    pub(super) keys: u64,
    renewed: Instant,
}

impl<'r> Staging<'r> {
    pub(super) fn new(redis: &'r Redis) -> Self {
        let base = keys::staged(unique_id());
        let (buffer, targets) = (Vec::new(), Vec::new());
        let mut staging =
            Self { redis, base, buffer, commands: 0, targets, keys: 0, renewed: Instant::now() };
        let plan = staging.plan();
        // Also without entries there is a plan.
        staging.write(|writer| _ = writer.command(3, "RPUSH").key(&plan).arg(b""));
        staging
    }

    fn plan(&self) -> Key<'static> {
        self.base.with_suffix(":plan")
    }

    fn reply(&self) -> Key<'static> {
        self.base.with_suffix(":reply")
    }

    fn key(&self, number: usize, part: &str) -> Key<'static> {
        self.base.with_suffix(&format!(":{number}{part}"))
    }

    fn write(&mut self, write: impl FnOnce(&mut CommandWriter<'_>)) {
        let mut writer = CommandWriter::new(&mut self.buffer, &self.redis.prefix);
        write(&mut writer);
        self.commands += writer.commands();
    }

    /// As `write`, and sends the commands once there are many.
    fn write_and_send(&mut self, write: impl FnOnce(&mut CommandWriter<'_>)) -> Result<(), OperationError> {
        self.write(write);
        let is_much =
            self.buffer.len() >= CHUNK_BYTES || self.commands >= self.redis.options.pipeline_batch_size;
        if is_much { self.send() } else { Ok(()) }
    }

    /// Stages an entry.
    pub(super) fn add(&mut self, entry: &WholeEntry) -> Result<(), OperationError> {
        let number = self.targets.len() + 1;
        let main = self.key(number, "");
        let parts = match &entry.content {
            WholeContent::Value(value) => {
                let ttl = millis(STAGED);
                self.write_and_send(|writer| {
                    writer.command(5, "SET").key(&main).arg(&value.bytes).arg(b"PX").number(ttl);
                })?;
                "m".to_owned()
            }
            WholeContent::Map(fields) => {
                let pairs: Vec<[&[u8]; 2]> =
                    fields.iter().map(|(name, value)| [name.as_bytes(), &*value.bytes]).collect();
                self.add_parts("HSET", &main, &pairs)?;
                "m".to_owned()
            }
            WholeContent::Queue(queue) => self.add_queue(number, queue)?,
        };
        self.keys += parts.len() as u64;
        let target = [&self.redis.prefix, entry.key.as_bytes()].concat();
        let deadline = entry.deadline.map(|deadline| deadline.millis().to_string()).unwrap_or_default();
        let mut item = format!("{parts} {deadline} ").into_bytes();
        item.extend_from_slice(&target);
        self.targets.push(target);
        let plan = self.plan();
        self.write_and_send(|writer| _ = writer.command(3, "RPUSH").key(&plan).arg(&item))
    }

    /// Stages a queue, and returns which of its keys there are.
    fn add_queue(&mut self, number: usize, queue: &WholeQueue) -> Result<String, OperationError> {
        let mut parts = String::new();
        if !queue.values.is_empty() {
            let values: Vec<[&[u8]; 1]> = queue.values.iter().map(|value| [&*value.bytes]).collect();
            self.add_parts("RPUSH", &self.key(number, ""), &values)?;
            parts.push('m');
        }
        let records = records(&queue.values);
        if !records.is_empty() {
            let records: Vec<[&[u8]; 1]> = records.iter().map(|record| [record.as_bytes()]).collect();
            self.add_parts("RPUSH", &self.key(number, ":returned"), &records)?;
            parts.push('r');
        }
        if !queue.delayed.is_empty() {
            let members = queue.delayed.iter().zip(1_u64..).map(|((due, value), at)| {
                let mut member = format!("{at:0DELAYED_NUMBER$}").into_bytes();
                member.extend_from_slice(&value.bytes);
                (due.saturating_mul(1000).to_string(), member)
            });
            let members: Vec<_> = members.collect();
            let pairs: Vec<[&[u8]; 2]> =
                members.iter().map(|(due, member)| [due.as_bytes(), member.as_slice()]).collect();
            self.add_parts("ZADD", &self.key(number, ":delayed"), &pairs)?;
            parts.push('d');
        }
        Ok(parts)
    }

    /// Stages what a key holds, in as many commands as it needs.
    fn add_parts<const N: usize>(
        &mut self,
        command: &'static str,
        key: &Key<'_>,
        mut parts: &[[&[u8]; N]],
    ) -> Result<(), OperationError> {
        let mut is_first = true;
        while !parts.is_empty() {
            let mut bytes = 0;
            let fits = |part: &&[&[u8]; N]| {
                bytes += part.iter().map(|arg| arg.len()).sum::<usize>();
                bytes <= PART_BYTES
            };
            let length = parts.iter().take(PARTS).take_while(fits).count().max(1);
            let (now, behind) = parts.split_at(length);
            parts = behind;
            self.write(|writer| {
                writer.command(2 + N * now.len(), command).key(key);
                for arg in now.iter().flatten() {
                    writer.arg(arg);
                }
            });
            if is_first {
                self.write(|writer| _ = writer.command(3, "PEXPIRE").key(key).number(millis(STAGED)));
                is_first = false;
            }
            self.write_and_send(|_| {})?;
        }
        Ok(())
    }

    /// Sends what is not sent yet, as one transaction: a server that refuses a part of it refuses all.
    pub(super) fn send(&mut self) -> Result<(), OperationError> {
        if self.commands == 0 {
            return Ok(());
        }
        let plan = self.plan();
        self.write(|writer| _ = writer.command(3, "PEXPIRE").key(&plan).number(millis(STAGED)));
        let (budget, commands) = (self.redis.budget(), std::mem::take(&mut self.commands));
        self.redis.recorder().add(Counter::Pipelines, 1);
        let buffer = std::mem::take(&mut self.buffer);
        let work = |connection: &mut Connection, _| {
            connection.ensure_transactions(&budget)?;
            self.redis.writer(connection).command(1, "MULTI");
            connection.buffer.extend_from_slice(&buffer);
            CommandWriter::new(&mut connection.buffer, b"").command(1, "EXEC");
            connection
                .send_counted(Request { replies: commands + 2, mutation: true, atomic: true }, &budget)?;
            let replies = transaction(commands, &mut || connection.receive(&budget))?;
            replies.into_iter().try_for_each(|reply| refused(reply).map(drop))
        };
        let sent = self.redis.run(RetryRule::AtMostOnce, &budget, work);
        self.buffer = buffer;
        self.buffer.clear();
        // Nobody reads what is staged: whatever became of it, nothing has changed.
        sent.map_err(|failure| OperationError::new(failure, ErrorContext::reading("SET", "")))?;
        if self.renewed.elapsed() > RENEWAL {
            self.renewed = Instant::now();
            self.for_each_key(|writer, key| _ = writer.command(3, "PEXPIRE").key(key).number(millis(STAGED)));
        }
        Ok(())
    }

    /// Sends commands for all keys that may be staged. What fails is left to the time to live of the keys.
    fn for_each_key(&self, write: impl Fn(&mut CommandWriter<'_>, &Key<'_>)) {
        // The last one may have no item in the plan yet.
        let numbers: Vec<usize> = (1..=self.targets.len() + 1).collect();
        for chunk in numbers.chunks(self.redis.options.pipeline_batch_size) {
            let all = |writer: &mut CommandWriter<'_>| {
                for number in chunk {
                    for part in ["", ":returned", ":delayed"] {
                        write(writer, &self.key(*number, part));
                    }
                }
            };
            if self.tidy(all).is_err() {
                return;
            }
        }
    }

    /// Removes all that is staged, as far as the server allows it.
    pub(super) fn remove(&self) {
        self.for_each_key(|writer, key| _ = writer.command(2, "UNLINK").key(key));
        let (plan, taken) = (self.plan(), self.base.with_suffix(":taken"));
        let _ = self.tidy(|writer| _ = writer.command(3, "UNLINK").key(&plan).key(&taken));
        self.forget_reply();
    }

    /// Removes what the server keeps for a call that is made again.
    pub(super) fn forget_reply(&self) {
        let reply = self.reply();
        let _ = self.tidy(|writer| _ = writer.command(2, "UNLINK").key(&reply));
    }

    /// Sends commands about staged keys, which may be repeated.
    fn tidy(&self, write: impl Fn(&mut CommandWriter<'_>)) -> Result<(), Failure> {
        let budget = self.redis.budget();
        let work = |connection: &mut Connection, _| {
            let mut writer = self.redis.writer(connection);
            write(&mut writer);
            let replies = writer.commands();
            connection.send(Request { replies, mutation: true, atomic: false }, &budget)?;
            (0..replies).try_for_each(|_| refused(connection.receive(&budget)?).map(drop))
        };
        self.redis.run(RetryRule::Recognised, &budget, work).map(drop)
    }

    /// Puts all entries in place in one step, once however often the call is repeated. `changing` are further keys that
    /// change. Returns the reply of the script.
    pub(super) fn place(&self, place: Place<'_>, changing: &[Vec<u8>]) -> Result<String, OperationError> {
        let budget = self.redis.budget();
        let [plan, reply] =
            [self.plan(), self.reply()].map(|key| [&self.redis.prefix, key.as_bytes()].concat());
        let write = |writer: &mut CommandWriter<'_>, call: ScriptCall<'_>| {
            let keys: Vec<&[u8]> =
                [&plan, &reply].into_iter().chain(&self.targets).chain(changing).map(Vec::as_slice).collect();
            let (mode, arguments) = match place {
                Place::Merge => ("merge", 4),
                Place::Keep => ("keep", 4),
                Place::Replace { .. } => ("replace", 7),
            };
            writer.script_on_raw_keys(&PLACE_STAGED, call, &keys, arguments).arg(mode.as_bytes());
            writer.key(&self.base).number(self.targets.len() as u64).number(millis(REPLY));
            if let Place::Replace { prefix, pattern, most } = place {
                writer.arg(prefix).arg(pattern).number(most);
            }
        };
        let read = |next: &mut dyn FnMut() -> Result<Value, Failure>| {
            let reply = refused(next()?)?;
            text(&reply).map(ToOwned::to_owned).ok_or_else(|| Failure::unexpected_reply(&reply))
        };
        let work =
            |connection: &mut Connection, _| self.redis.call_script(connection, &budget, true, write, read);
        let context = ErrorContext::writing("RENAME");
        match self.redis.run(RetryRule::Recognised, &budget, work) {
            Ok((reply, attempt)) if reply == "gone" && attempt.in_doubt => Err(lost_reply().into()),
            Ok((reply, _)) if reply == "gone" => {
                let cause = "the staged entries are gone: the server has lost or evicted them";
                Err(OperationError::new(Failure::new(FailureKind::Other, Stage::Rejected, cause), context))
            }
            Ok((reply, _)) => Ok(reply),
            Err(failure) => Err(OperationError::new(failure, context)),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

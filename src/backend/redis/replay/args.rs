//! Owns how the operations of a chunk are written as arguments of `replay.lua`. Does no I/O.

use std::time::Duration;

use crate::backend::redis::replay::in_doubt::InDoubt;
use crate::backend::redis::replay::observed::Observed;
use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::backend::redis::slots::CallId;
use crate::backend::redis::wire::commands::trim_range;
use crate::backend::redis::wire::resp::CommandWriter;
use crate::clock::Millis;
use crate::key::Key;
use crate::op::{End, WindowAdd};
use crate::util::hex;

/// How many words come before an operation in doubt, with the key of the reply cache that it asks.
pub(crate) const WORDS_IN_DOUBT: usize = 12;

/// Returns how many words an operation takes at most, without its key.
pub(crate) fn most_words(action: &QueuedAction, observed: &Observed, remote_wins: bool) -> usize {
    let arguments = match action {
        QueuedAction::Put { ttl: None, .. } if is_short(observed, remote_wins) => return 3,
        QueuedAction::Put { ttl: None, .. }
        | QueuedAction::Incr { .. }
        | QueuedAction::Expire { .. }
        | QueuedAction::Renew { .. }
        | QueuedAction::MapDelete { .. } => 1,
        QueuedAction::Put { ttl: Some(_), .. } => 3,
        QueuedAction::PutIfPresent { .. } | QueuedAction::WindowAdd(_) => 4,
        QueuedAction::Delete | QueuedAction::Persist | QueuedAction::Pop { .. } => 0,
        QueuedAction::MapPut { fields, .. } => fields.len() * 2,
        QueuedAction::MapIncr { .. } | QueuedAction::Trim { .. } | QueuedAction::SetLease { .. } => 2,
        QueuedAction::Push { values, .. } => values.len(),
    };
    4 + arguments
}

/// Returns whether a put without a TTL is made in any case, so that it has a shorter form.
fn is_short(observed: &Observed, remote_wins: bool) -> bool {
    !remote_wins && *observed != Observed::AssumedAbsent
}

/// One operation of a chunk.
pub(crate) struct ReplayStep<'s> {
    pub(crate) key: &'s Key<'static>,
    pub(crate) action: QueuedAction,
    pub(crate) observed: &'s Observed,
    /// Set if the server may have applied it already.
    pub(crate) in_doubt: Option<&'s InDoubt>,
    /// How long it has been in the queue. A key that it creates counts as created when it was queued.
    pub(crate) age: Duration,
}

/// The arguments of a chunk in one buffer, and the stores whose reply caches it asks.
#[derive(Default)]
pub(crate) struct ScriptArgs {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    store_ids: Vec<u128>,
}

impl ScriptArgs {
    /// Returns how many arguments there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the stores whose reply caches are asked, in the order in which the arguments count them.
    pub(crate) fn store_ids(&self) -> &[u128] {
        &self.store_ids
    }

    /// Writes the arguments behind those of a command.
    pub(crate) fn write(&self, writer: &mut CommandWriter<'_>) {
        let mut from = 0;
        for to in &self.ends {
            writer.arg(&self.bytes[from..*to]);
            from = *to;
        }
    }

    /// Adds an operation. `loss_count` is how often the server has lost its data by now.
    pub(crate) fn step(&mut self, step: &ReplayStep<'_>, remote_wins: bool, loss_count: u64) {
        if let Some(in_doubt) = step.in_doubt {
            let has_lost = in_doubt.loss_count().is_some_and(|before| before != loss_count);
            self.in_doubt(in_doubt, &step.action, has_lost);
            if matches!(step.action, QueuedAction::Pop { .. }) {
                return;
            }
        }
        if step.action.sets_all() {
            self.observed(step.observed);
        } else {
            self.arg(b"");
        }
        if let QueuedAction::Put { value, ttl: None } = &step.action
            && step.in_doubt.is_none()
            && is_short(step.observed, remote_wins)
        {
            self.arg(b"PUT").arg(&value.bytes);
            return;
        }
        let age = u64::try_from(step.age.as_millis()).unwrap_or(u64::MAX);
        match step.action.ttl_if_created() {
            Some(ttl) => self.number(ttl.get().saturating_sub(age)),
            None => self.arg(b""),
        };
        self.action(&step.action, age);
    }

    /// Adds that operations were set aside: from the index `first` on, `count` of them have this outcome.
    pub(crate) fn set_aside(&mut self, outcome: &str, first: usize, count: usize, cause: &str) {
        self.arg(b"").arg(b"SET_ASIDE").arg(outcome.as_bytes()).number(first).number(count);
        self.arg(cause.as_bytes());
    }

    /// Adds how the server finds the reply to a step in doubt, and with which command it pushes back what the step
    /// has popped.
    fn in_doubt(&mut self, in_doubt: &InDoubt, action: &QueuedAction, has_lost: bool) {
        let CallId { store_id, cache_id, slot, sequence } = in_doubt.call;
        let cache = self.store_ids.iter().position(|known| *known == store_id).unwrap_or_else(|| {
            self.store_ids.push(store_id);
            self.store_ids.len() - 1
        });
        self.arg(b"").arg(b"IN_DOUBT").number(cache + 1).number(cache_id).number(slot).number(sequence);
        let push: &[u8] = match action {
            QueuedAction::Pop { end: End::Front } => b"LPUSH",
            QueuedAction::Pop { end: End::Back } => b"RPUSH",
            QueuedAction::Put { .. }
            | QueuedAction::PutIfPresent { .. }
            | QueuedAction::Delete
            | QueuedAction::Incr { .. }
            | QueuedAction::Expire { .. }
            | QueuedAction::Renew { .. }
            | QueuedAction::Persist
            | QueuedAction::MapPut { .. }
            | QueuedAction::MapDelete { .. }
            | QueuedAction::MapIncr { .. }
            | QueuedAction::Push { .. }
            | QueuedAction::Trim { .. }
            | QueuedAction::WindowAdd(_)
            | QueuedAction::SetLease { .. } => b"",
        };
        self.number(in_doubt.step + 1).arg(push).arg(if has_lost { b"1" } else { b"" });
    }

    /// Adds what the key may hold without another client having written it.
    fn observed(&mut self, observed: &Observed) {
        fn words(observed: &Observed) -> Vec<u8> {
            match observed {
                Observed::OwnWrite => b"own_write".to_vec(),
                Observed::Absent | Observed::Nothing => b"absent".to_vec(),
                Observed::NotAValue => b"not_a_value absent".to_vec(),
                Observed::AssumedAbsent => b"assumed_absent".to_vec(),
                Observed::Hash(sha) => hex::encode(sha).concat(),
                Observed::AnyOf(all) => all.iter().map(words).collect::<Vec<_>>().join(&b' '),
            }
        }
        // Most operations have a hash: it needs no buffer of its own.
        match observed {
            Observed::Hash(sha) => self.arg(hex::encode(sha).as_flattened()),
            Observed::OwnWrite
            | Observed::Absent
            | Observed::Nothing
            | Observed::NotAValue
            | Observed::AssumedAbsent
            | Observed::AnyOf(_) => self.arg(&words(observed)),
        };
    }

    /// Adds the command that an action becomes, and its arguments behind the key. `age`: how many milliseconds it has
    /// been in the queue.
    fn action(&mut self, action: &QueuedAction, age: u64) {
        let name = action.traits().command;
        match action {
            QueuedAction::Put { value, ttl: None } => self.command(name, 1).arg(&value.bytes),
            QueuedAction::Put { value, ttl: Some(ttl) } => {
                self.command(name, 3).arg(&value.bytes).arg(b"PX").millis(*ttl)
            }
            QueuedAction::PutIfPresent { value } => {
                self.command(name, 4).arg(&value.bytes).arg(b"XX").arg(b"GET").arg(b"KEEPTTL")
            }
            QueuedAction::Delete | QueuedAction::Persist | QueuedAction::Pop { .. } => self.command(name, 0),
            QueuedAction::Incr { by, .. } => self.command(name, 1).number(*by),
            QueuedAction::Expire { ttl } => self.command(name, 1).millis(*ttl),
            QueuedAction::Renew { ttl } => self.command("RENEW", 1).millis(*ttl),
            QueuedAction::MapPut { fields, .. } => {
                self.command(name, fields.len() * 2);
                for (field, value) in fields {
                    self.arg(field.as_bytes()).arg(&value.bytes);
                }
                self
            }
            QueuedAction::MapDelete { field } => self.command(name, 1).arg(field.as_bytes()),
            QueuedAction::MapIncr { field, by, .. } => {
                self.command(name, 2).arg(field.as_bytes()).number(*by)
            }
            QueuedAction::Push { values, .. } => {
                self.command(name, values.len());
                for value in values {
                    self.arg(&value.bytes);
                }
                self
            }
            QueuedAction::Trim { most } => {
                let (first, last) = trim_range(*most);
                self.command(name, 2).number(first).number(last)
            }
            QueuedAction::WindowAdd(WindowAdd { width, at, by, .. }) => {
                self.command("WINDOW_ADD", 4).millis(*width);
                match at {
                    None => self.arg(b""),
                    Some(at) => self.number(*at),
                };
                self.number(*by).number(age)
            }
            QueuedAction::SetLease { id, left: None } => self.command("ZREM", 1).arg(id.as_bytes()),
            QueuedAction::SetLease { id, left: Some(left) } => {
                self.command("SET_LEASE", 2).arg(id.as_bytes()).millis(*left)
            }
        };
    }

    fn command(&mut self, name: &str, arguments: usize) -> &mut Self {
        self.arg(name.as_bytes()).number(arguments)
    }

    fn arg(&mut self, arg: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(arg);
        self.ends.push(self.bytes.len());
        self
    }

    fn number(&mut self, number: impl itoa::Integer) -> &mut Self {
        self.arg(itoa::Buffer::new().format(number).as_bytes())
    }

    fn millis(&mut self, ttl: Millis) -> &mut Self {
        self.number(ttl.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::redis::wire::resp::words;
    use crate::value::Value;

    fn text(action: QueuedAction, observed: &Observed, remote_wins: bool) -> String {
        let (key, age) = (Key::listed("k".to_owned()), Duration::from_millis(500));
        let mut args = ScriptArgs::default();
        args.step(&ReplayStep { key: &key, action, observed, in_doubt: None, age }, remote_wins, 0);
        words(|writer| args.write(writer))
    }

    #[test]
    fn no_operation_takes_more_words_than_it_is_counted() {
        let (value, ttl) = (Value::json(b"1"), Millis::new(Duration::from_secs(1)).ok());
        let (put, ttl_if_created) = (|ttl| QueuedAction::Put { value: Value::json(b"1"), ttl }, ttl);
        let key = Key::listed("k".to_owned());
        let call = CallId { store_id: 7, cache_id: 5, slot: 1, sequence: 9 };
        for action in [
            put(None),
            put(ttl),
            QueuedAction::PutIfPresent { value: value.clone() },
            QueuedAction::Delete,
            QueuedAction::Incr { by: 1, ttl_if_created },
            QueuedAction::Persist,
            QueuedAction::Renew { ttl: ttl.unwrap() },
            QueuedAction::MapPut { fields: vec![("f".into(), value.clone()); 3], ttl_if_created },
            QueuedAction::MapDelete { field: "f".into() },
            QueuedAction::MapIncr { field: "f".into(), by: 1, ttl_if_created },
            QueuedAction::Push { end: End::Back, values: vec![value; 3], ttl_if_created },
            QueuedAction::Pop { end: End::Back },
            QueuedAction::Trim { most: 1 },
            QueuedAction::WindowAdd(WindowAdd { width: ttl.unwrap(), at: None, by: 1, limit: None }),
            QueuedAction::SetLease { id: "l".into(), left: ttl },
        ] {
            for observed in [Observed::OwnWrite, Observed::AssumedAbsent] {
                for (remote_wins, in_doubt) in
                    [(false, None), (true, Some(InDoubt::from_earlier_run(call, 0)))]
                {
                    let mut args = ScriptArgs::default();
                    let (action, in_doubt) = (action.clone(), in_doubt.as_ref());
                    let doubt = if in_doubt.is_some() { WORDS_IN_DOUBT } else { 0 };
                    let most = doubt + most_words(&action, &observed, remote_wins);
                    let step =
                        ReplayStep { key: &key, action, observed: &observed, in_doubt, age: Duration::ZERO };
                    args.step(&step, remote_wins, 0);
                    assert!(args.len() <= most, "{:?}", step.action);
                }
            }
        }
    }

    #[test]
    fn a_put_in_any_case_has_the_short_form() {
        let put = |ttl| QueuedAction::Put { value: Value::json(b"1"), ttl };
        let ttl = Millis::new(Duration::from_secs(1)).ok();
        assert_eq!(text(put(None), &Observed::OwnWrite, false), "own_write PUT 1");
        assert_eq!(
            text(put(None), &Observed::Hash([0xab; 20]), true),
            format!("{}  SET 1 1", "ab".repeat(20))
        );
        assert_eq!(text(put(None), &Observed::AssumedAbsent, false), "assumed_absent  SET 1 1");
        let any = Observed::AnyOf(vec![Observed::Absent, Observed::NotAValue]);
        assert_eq!(text(put(ttl), &any, false), "absent not_a_value absent  SET 3 1 PX 1000");
    }

    #[test]
    fn a_created_key_has_lived_since_it_was_queued() {
        let incr = |millis| QueuedAction::Incr {
            by: -2,
            ttl_if_created: Millis::new(Duration::from_millis(millis)).ok(),
        };
        assert_eq!(text(incr(700), &Observed::OwnWrite, false), " 200 INCRBY 1 -2");
        assert_eq!(text(incr(300), &Observed::OwnWrite, false), " 0 INCRBY 1 -2");
        let trim = |most| text(QueuedAction::Trim { most }, &Observed::OwnWrite, false);
        assert_eq!(trim(0), "  LTRIM 2 1 0");
        assert_eq!(trim(3), "  LTRIM 2 -3 -1");
        assert_eq!(trim(u64::MAX), "  LTRIM 2 -9223372036854775807 -1");
    }

    #[test]
    fn an_operation_in_doubt_names_its_call() {
        let key = Key::listed("k".to_owned());
        let mut args = ScriptArgs::default();
        let call = |store_id, slot| CallId { store_id, cache_id: 5, slot, sequence: 9 };
        for (call, action) in [
            (call(7, 1), QueuedAction::Pop { end: End::Front }),
            (call(8, 2), QueuedAction::Incr { by: 1, ttl_if_created: None }),
            (call(7, 3), QueuedAction::Pop { end: End::Back }),
        ] {
            let in_doubt = InDoubt::from_earlier_run(call, 0);
            let (observed, age) = (&Observed::OwnWrite, Duration::ZERO);
            args.step(&ReplayStep { key: &key, action, observed, in_doubt: Some(&in_doubt), age }, false, 0);
        }
        assert_eq!(args.store_ids(), [7, 8]);
        assert_eq!(
            words(|writer| args.write(writer)),
            " IN_DOUBT 1 5 1 9 1 LPUSH   IN_DOUBT 2 5 2 9 1     INCRBY 1 1  IN_DOUBT 1 5 3 9 1 RPUSH"
        );
    }
}

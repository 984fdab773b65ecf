//! Owns which commands the changes of a transaction become. Does no I/O. The server watches all keys that the
//! transaction has read, so that no command meets another kind of entry than it works on.

use std::collections::HashMap;

use crate::backend::local::change::Change;
use crate::backend::local::entry::{Content, Entry};
use crate::backend::redis::keys;
use crate::backend::redis::wire::resp::CommandWriter;
use crate::clock::Deadline;
use crate::key::{Companion, Key};
use crate::op::End;
use crate::value::Value;

/// What the changes so far have left of a key's state before the transaction.
struct KeyState {
    /// The deadline that the key had before the transaction, for as long as it still has it.
    deadline: Option<Deadline>,
    /// The position at which its queue begins.
    begin: i64,
}

impl CommandWriter<'_> {
    /// Writes changes, in order. `deadline` returns the deadline that a key had when it was read. Deadlines are
    /// relative to now.
    pub(crate) fn changes(
        &mut self,
        changes: &[(Key<'static>, Change)],
        deadline: impl Fn(&Key<'static>) -> Option<Deadline>,
    ) {
        let mut states = HashMap::new();
        for (key, change) in changes {
            let state = states.entry(key).or_insert_with(|| KeyState { deadline: deadline(key), begin: 0 });
            self.change(key, change, state);
        }
    }

    fn change(&mut self, key: &Key<'_>, change: &Change, state: &mut KeyState) {
        match change {
            Change::Nothing => {}
            Change::Set(entry) => self.entry(key, entry, state),
            Change::Remove => {
                state.deadline = None;
                self.command(2, "DEL").key(key);
            }
            Change::SetDeadline(deadline) => {
                state.deadline = None;
                match deadline {
                    Some(deadline) => self.command(3, "PEXPIRE").key(key).number(deadline.millis()),
                    None => self.command(2, "PERSIST").key(key),
                };
            }
            Change::SetFields(fields) => {
                self.parts("HSET", key, fields.iter().flat_map(|(field, value)| pair(field, value)));
            }
            Change::RemoveField(field) => match Companion::Leases.strip_from(key) {
                None => drop(self.command(3, "HDEL").key(key).arg(field.as_bytes())),
                Some(queue) => self.end_lease(&Key::listed(queue.to_owned()), field),
            },
            Change::SetItems { values, end: End::Back, .. } => {
                self.parts("RPUSH", key, values.iter().map(|value| &*value.bytes));
            }
            Change::SetItems { at, values, end: End::Front } => {
                state.begin = *at;
                // The value that is pushed last becomes the first.
                self.parts("LPUSH", key, values.iter().rev().map(|value| &*value.bytes));
            }
            Change::DropBefore(begin) => {
                let dropped = begin.saturating_sub(state.begin);
                state.begin = *begin;
                self.command(4, "LTRIM").key(key).integer(dropped).integer(-1);
            }
            Change::DropFrom(end) => {
                let kept = end.saturating_sub(state.begin);
                let (first, last) = if kept > 0 { (0, kept - 1) } else { (1, 0) };
                self.command(4, "LTRIM").key(key).integer(first).integer(last);
            }
        }
    }

    /// Writes that the key holds this entry, whatever it held before.
    fn entry(&mut self, key: &Key<'_>, entry: &Entry, state: &mut KeyState) {
        let had = std::mem::take(&mut state.deadline);
        let (name, args) = match &entry.content {
            Content::Value(value) => {
                match entry.deadline {
                    None => self.command(3, "SET").key(key).arg(&value.bytes),
                    Some(deadline) if had == Some(deadline) => {
                        state.deadline = had;
                        self.command(4, "SET").key(key).arg(&value.bytes).arg(b"KEEPTTL")
                    }
                    Some(deadline) => {
                        let set = self.command(5, "SET").key(key).arg(&value.bytes).arg(b"PX");
                        set.number(deadline.millis())
                    }
                };
                return;
            }
            Content::Map(map) => {
                let args = map.fields().iter().flat_map(|(field, value)| pair(field, value));
                ("HSET", args.collect::<Vec<_>>())
            }
            Content::Queue(queue) => {
                state.begin = queue.begin();
                let values = queue.range(queue.begin(), queue.end());
                ("RPUSH", values.map(|value| &*value.bytes).collect())
            }
        };
        self.command(2, "DEL").key(key);
        self.parts(name, key, args);
        if let Some(deadline) = entry.deadline {
            self.command(3, "PEXPIRE").key(key).number(deadline.millis());
        }
    }

    /// Writes the end of a lease, whose value does not come back.
    fn end_lease(&mut self, queue: &Key<'_>, id: &str) {
        self.command(3, "ZREM").key(&queue.companion(Companion::Leases)).arg(id.as_bytes());
        self.command(3, "HDEL").key(&keys::leased_values(queue)).arg(id.as_bytes());
    }

    /// Writes as many commands as these arguments need.
    fn parts<'v>(&mut self, name: &str, key: &Key<'_>, args: impl IntoIterator<Item = &'v [u8]>) {
        let args: Vec<_> = args.into_iter().collect();
        self.split_args(&args, |writer, count| {
            writer.command(2 + count, name).key(key);
        });
    }
}

fn pair<'v>(field: &'v str, value: &'v Value) -> [&'v [u8]; 2] {
    [field.as_bytes(), &*value.bytes]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::local::entry::MapValue;
    use crate::backend::local::queue::QueueValue;
    use crate::backend::redis::wire::resp::words;

    fn text(deadline: Option<u64>, changes: Vec<Change>) -> String {
        let changes: Vec<_> =
            changes.into_iter().map(|change| (Key::listed("k".to_owned()), change)).collect();
        let deadline = deadline.and_then(Deadline::from_millis);
        words(|writer| writer.changes(&changes, |_| deadline))
    }

    fn value(number: i64) -> Value {
        Value::integer(number)
    }

    fn set(number: i64, deadline: Option<u64>) -> Change {
        Change::Set(Entry::value(value(number), deadline.and_then(Deadline::from_millis)))
    }

    fn queue(begin: i64, values: impl IntoIterator<Item = i64>) -> Change {
        let content = Content::Queue(Box::new(QueueValue::new(begin, values.into_iter().map(value))));
        Change::Set(Entry { content, deadline: None })
    }

    #[test]
    fn only_the_deadline_from_before_is_kept_by_keepttl() {
        let until = |millis| Change::SetDeadline(Deadline::from_millis(millis));
        for (had, changes, commands) in [
            (None, vec![set(1, None)], "SET p:k 1"),
            (None, vec![set(1, Some(70))], "SET p:k 1 PX 70"),
            (Some(70), vec![set(1, Some(70))], "SET p:k 1 KEEPTTL"),
            (Some(70), vec![set(1, Some(70)), set(2, Some(70))], "SET p:k 1 KEEPTTL SET p:k 2 KEEPTTL"),
            (Some(70), vec![set(1, Some(99))], "SET p:k 1 PX 99"),
            (Some(70), vec![set(1, Some(99)), set(2, Some(70))], "SET p:k 1 PX 99 SET p:k 2 PX 70"),
            (Some(70), vec![set(1, None), set(2, Some(70))], "SET p:k 1 SET p:k 2 PX 70"),
            (Some(70), vec![Change::Remove, set(1, Some(70))], "DEL p:k SET p:k 1 PX 70"),
            (Some(70), vec![until(70), set(1, Some(70))], "PEXPIRE p:k 70 SET p:k 1 PX 70"),
            (Some(70), vec![until(0), set(1, None)], "PERSIST p:k SET p:k 1"),
            (None, vec![Change::Nothing], ""),
        ] {
            assert_eq!(text(had, changes.clone()), commands, "{changes:?}");
        }
    }

    #[test]
    fn a_map_is_replaced_or_changed_by_field() {
        let fields = || vec![("f".into(), value(1)), ("g".into(), value(2))];
        let content = Content::Map(Box::new(MapValue::new(fields())));
        let replaced = Change::Set(Entry { content, deadline: Deadline::from_millis(70) });
        for (change, commands) in [
            (replaced, "DEL p:k HSET p:k f 1 g 2 PEXPIRE p:k 70"),
            (Change::SetFields(fields()), "HSET p:k f 1 g 2"),
            (Change::RemoveField("f".into()), "HDEL p:k f"),
        ] {
            assert_eq!(text(None, vec![change]), commands);
        }
    }

    #[test]
    fn a_lease_ends_with_its_value() {
        let leases = Key::listed("k".to_owned()).companion(Companion::Leases);
        let changes = [(leases, Change::RemoveField("7".into()))];
        assert_eq!(
            words(|writer| writer.changes(&changes, |_| None)),
            "ZREM p:k:__millpond:leases 7 HDEL p:k:__millpond:leased 7"
        );
    }

    #[test]
    fn a_queue_is_trimmed_from_its_current_begin() {
        let items =
            |at, values: [i64; 2], end| Change::SetItems { at, values: values.map(value).to_vec(), end };
        for (changes, commands) in [
            (vec![queue(0, [1, 2])], "DEL p:k RPUSH p:k 1 2"),
            (vec![items(5, [1, 2], End::Back)], "RPUSH p:k 1 2"),
            (vec![items(-2, [1, 2], End::Front)], "LPUSH p:k 2 1"),
            (vec![Change::DropBefore(2)], "LTRIM p:k 2 -1"),
            (vec![Change::DropFrom(2)], "LTRIM p:k 0 1"),
            (vec![Change::DropFrom(0)], "LTRIM p:k 1 0"),
            (vec![Change::DropBefore(2), Change::DropBefore(3)], "LTRIM p:k 2 -1 LTRIM p:k 1 -1"),
            (
                vec![items(-2, [1, 2], End::Front), Change::DropBefore(1), Change::DropFrom(4)],
                "LPUSH p:k 2 1 LTRIM p:k 3 -1 LTRIM p:k 0 2",
            ),
            (vec![queue(7, [1, 2, 3]), Change::DropBefore(8)], "DEL p:k RPUSH p:k 1 2 3 LTRIM p:k 1 -1"),
        ] {
            assert_eq!(text(None, changes.clone()), commands, "{changes:?}");
        }
    }

    #[test]
    fn each_key_has_its_own_deadline_from_before() {
        let [a, b] = ["a", "b"].map(|key| Key::listed(key.to_owned()));
        let changes = [(a.clone(), set(1, Some(70))), (b, set(1, Some(70)))];
        let deadline = |key: &Key<'_>| (*key == a).then(|| Deadline::from_millis(70)).flatten();
        let commands = words(|writer| writer.changes(&changes, deadline));
        assert_eq!(commands, "SET p:a 1 KEEPTTL SET p:b 1 PX 70");
    }
}

//! Owns how changes of the local state become actions that set the same on the server, for a program that vouches
//! that nobody else writes. It only decides.

use crate::backend::local::change::Change;
use crate::backend::local::entry::{Content, Entry};
use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::clock::{Deadline, Now};
use crate::op::{End, EntryAction, WindowAdd};

/// The index of the first value of a queue, and the one after the last.
#[derive(Clone, Copy)]
pub(crate) struct QueueEnds {
    begin: i64,
    end: i64,
}

impl QueueEnds {
    pub(crate) fn of(found: Option<&Entry>) -> Self {
        match found.map(|entry| &entry.content) {
            Some(Content::Queue(queue)) => Self { begin: queue.begin(), end: queue.end() },
            Some(Content::Value(_) | Content::Map(_)) | None => Self { begin: 0, end: 0 },
        }
    }

    pub(crate) fn apply_change(&mut self, change: &Change) {
        match change {
            Change::Set(entry) => *self = Self::of(Some(entry)),
            Change::Remove => *self = Self::of(None),
            Change::SetItems { at, values, .. } => {
                self.begin = self.begin.min(*at);
                self.end = self.end.max(at.saturating_add_unsigned(values.len() as u64));
            }
            Change::DropBefore(begin) => self.begin = *begin,
            Change::DropFrom(end) => self.end = *end,
            Change::Nothing | Change::SetDeadline(_) | Change::SetFields(_) | Change::RemoveField(_) => {}
        }
    }
}

/// Returns the queued action for an action that can be queued only if nobody else writes. It sets on the server what
/// `change` sets locally, whatever the action compared.
pub(crate) fn absolute_action(change: &Change, action: &EntryAction, now: &Now<'_>) -> Option<QueuedAction> {
    match (change, action) {
        (Change::Nothing, _) => None,
        (_, EntryAction::Pop { end }) => Some(QueuedAction::Pop { end: *end }),
        // The limit was decided locally; what others add meanwhile is kept.
        (_, EntryAction::WindowAdd(add)) => Some(QueuedAction::WindowAdd(WindowAdd { limit: None, ..*add })),
        // The value is changed in place: its deadline is known on the server, and perhaps not locally.
        (Change::Set(_), EntryAction::Swap { expected: Some(_), new: Some(new), .. }) => {
            Some(QueuedAction::PutIfPresent { value: new.clone() })
        }
        // All other actions are about values, and one action sets or removes a value.
        (change, _) => actions_for(QueueEnds::of(None), change, now).pop(),
    }
}

/// Returns the queued actions that set on the server what a change sets locally. `ends` are those of the queue before
/// the change.
pub(crate) fn actions_for(ends: QueueEnds, change: &Change, now: &Now<'_>) -> Vec<QueuedAction> {
    let ttl = |deadline: Option<Deadline>| deadline.and_then(|deadline| deadline.ttl(now));
    match change {
        Change::Nothing => Vec::new(),
        Change::Remove => vec![QueuedAction::Delete],
        Change::Set(Entry { content, deadline }) => match content {
            Content::Value(value) => vec![QueuedAction::Put { value: value.clone(), ttl: ttl(*deadline) }],
            Content::Map(map) => {
                let fields = map.fields().iter().map(|(name, value)| (name.clone(), value.clone()));
                let put = QueuedAction::MapPut { fields: fields.collect(), ttl_if_created: ttl(*deadline) };
                vec![QueuedAction::Delete, put]
            }
            Content::Queue(queue) => {
                let values = queue.range(i64::MIN, i64::MAX).cloned().collect();
                let push = QueuedAction::Push { end: End::Back, values, ttl_if_created: ttl(*deadline) };
                vec![QueuedAction::Delete, push]
            }
        },
        Change::SetDeadline(None) => vec![QueuedAction::Persist],
        Change::SetDeadline(Some(deadline)) => match deadline.ttl(now) {
            Some(ttl) => vec![QueuedAction::Expire { ttl }],
            None => vec![QueuedAction::Delete],
        },
        Change::SetFields(fields) => {
            vec![QueuedAction::MapPut { fields: fields.clone(), ttl_if_created: None }]
        }
        Change::RemoveField(field) => vec![QueuedAction::MapDelete { field: field.clone() }],
        Change::SetItems { values, end, .. } => {
            let mut values = values.clone();
            if *end == End::Front {
                values.reverse();
            }
            vec![QueuedAction::Push { end: *end, values, ttl_if_created: None }]
        }
        Change::DropBefore(begin) => {
            (ends.begin..*begin).map(|_| QueuedAction::Pop { end: End::Front }).collect()
        }
        Change::DropFrom(end) => (*end..ends.end).map(|_| QueuedAction::Pop { end: End::Back }).collect(),
    }
}

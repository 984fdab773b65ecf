//! Owns what is served while the server is away to a program that vouches that nobody else writes: what rests
//! on what is there, in several steps. Knows nothing of when an outage begins or ends.

use std::collections::HashMap;

use parking_lot::MutexGuard;

use crate::backend::TransactionBody;
use crate::backend::fallback::outage::disconnected::{OpToQueue, Outage, refused};
use crate::backend::fallback::outage::sent::Sent;
use crate::backend::fallback::outage::touched::Session;
use crate::backend::local::change::{Change, Content, Entry};
use crate::backend::local::overlay::ReadSet;
use crate::backend::local::table::shards::LockedShards;
use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::clock::{Deadline, Now};
use crate::error::Result;
use crate::key::Key;
use crate::op::{Answer, End, EntryAction, Query, ReadSource};

/// What a transaction is based on here.
struct DisconnectedSource<'a> {
    away: &'a Outage,
    read: &'a mut ReadSet,
}

impl ReadSource for DisconnectedSource<'_> {
    fn ask(&mut self, key: &Key<'_>, query: &Query) -> Result<Answer> {
        let outcome = self.away.ask_complete(key, query);
        self.read.record(key, query, &outcome);
        outcome
    }
}

/// What a transaction has read here, and is to change.
pub(crate) struct TransactionRun {
    read: ReadSet,
    changes: Vec<(Key<'static>, Change)>,
}

impl Outage {
    /// Lets a transaction read and decide. No lock is held meanwhile.
    pub(crate) fn run(&self, work: &mut TransactionBody<'_>) -> Result<TransactionRun> {
        if !self.is_exclusive() {
            return Err(refused());
        }
        let mut read = ReadSet::default();
        let now = self.now();
        let changes = work(&mut DisconnectedSource { away: self, read: &mut read }, &now);
        Ok(TransactionRun { read, changes })
    }

    /// Makes the changes of a transaction if all that it read still holds, and lets them wait to be made there.
    pub(crate) fn finish(&self, run: TransactionRun) -> Result<bool> {
        let TransactionRun { read, changes } = run;
        let state = self.reserve()?;
        let now = self.now();
        let written = changes.iter().map(|(key, _)| &**key);
        let locked = self.table().lock(written.chain(read.keys().map(|key| &**key)));
        if !read.is_still_valid(|key, query| locked.ask(key, query, &now)) {
            return Ok(false);
        }
        let mut actions = Vec::new();
        let mut places = HashMap::new();
        for (key, change) in &changes {
            let place = places.entry(&**key).or_insert_with(|| QueueEnds::of(locked.find(key)));
            actions.extend(
                self::actions_for(*place, change, &now).into_iter().map(|action| (key.clone(), action, None)),
            );
            place.apply_change(change);
        }
        self.make(changes, locked, actions, state, &now)?;
        Ok(true)
    }

    /// Makes changes here, and lets the actions wait that make them there; or neither.
    pub(crate) fn make(
        &self,
        changes: Vec<(Key<'static>, Change)>,
        mut locked: LockedShards<'_>,
        actions: Vec<OpToQueue>,
        mut state: MutexGuard<'_, Session>,
        now: &Now<'_>,
    ) -> Result<()> {
        let written = self.enqueue(&mut state, actions, Sent::Not, now)?;
        locked.apply(changes, now);
        drop(locked);
        drop(state);
        self.wait_durable(written)
    }
}

/// Where the values of a queue lie.
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

    /// Follows a change.
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

/// Returns the queued action for an action that only a program which writes alone may use: it sets on the server
/// what `change` sets locally, whatever the action compared.
pub(crate) fn absolute_action(change: &Change, action: &EntryAction, now: &Now<'_>) -> Option<QueuedAction> {
    match (change, action) {
        (Change::Nothing, _) => None,
        (_, EntryAction::Pop { end }) => Some(QueuedAction::Pop { end: *end }),
        // The value is changed in place: its deadline is known on the server, and perhaps not locally.
        (Change::Set(_), EntryAction::Swap { expected: Some(_), new: Some(new), .. }) => {
            Some(QueuedAction::PutIfPresent { value: new.clone() })
        }
        // All other actions are about values, and one action sets or removes a value.
        (change, _) => actions_for(QueueEnds::of(None), change, now).pop(),
    }
}

/// The actions that make true on the server what a change makes true here.
pub(crate) fn actions_for(place: QueueEnds, change: &Change, now: &Now<'_>) -> Vec<QueuedAction> {
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
            (place.begin..*begin).map(|_| QueuedAction::Pop { end: End::Front }).collect()
        }
        Change::DropFrom(end) => (*end..place.end).map(|_| QueuedAction::Pop { end: End::Back }).collect(),
    }
}

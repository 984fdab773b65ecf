//! The operations of a history, and how a random one is chosen.

use fastrand::Rng;

use super::content::{Content, amount, content};
use super::step::{Step, step};

/// A key, by its number in [`KEYS`].
pub(crate) type KeyNumber = usize;

/// Few keys, so that operations often use the same one; some are in namespaces, some look like patterns.
pub(crate) const KEYS: [&str; 8] = ["a", "b", "c", "n:a", "n:b", "n:m:a", "na", "*"];

pub(crate) const PREFIXES: [&str; 6] = ["", "n", "n:", "n:m:", "*", "zz"];

pub(crate) const NAMESPACES: [&str; 4] = ["", "n", "n:m", "none"];

/// A time to live or a step of the clock, in ticks: the run decides how long a tick is.
pub(crate) type Ticks = u32;

/// A put with or without a time to live, or a deletion.
pub(crate) type Write = (KeyNumber, Option<(Content, Option<Ticks>)>);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operation {
    /// On one key.
    On(Step),
    /// Many steps at once, or none.
    Transaction {
        namespace: usize,
        steps: Vec<Step>,
        abort: bool,
    },
    /// Leases the first value of a queue, and ends the lease.
    Take {
        key: KeyNumber,
        end: LeaseEnd,
    },
    BatchIncr {
        by: Vec<(KeyNumber, i64)>,
    },
    BatchPut {
        puts: Vec<(KeyNumber, Content)>,
        ttl: Option<Ticks>,
    },
    BatchDelete {
        keys: Vec<KeyNumber>,
    },
    Write {
        namespace: usize,
        writes: Vec<Write>,
    },
    DeletePrefix {
        prefix: usize,
    },
    Clear {
        namespace: usize,
    },
    List {
        namespace: usize,
        prefix: usize,
        after: Option<KeyNumber>,
        limit: usize,
    },
    BatchGet {
        keys: Vec<KeyNumber>,
    },
    Advance {
        ticks: Ticks,
    },
    Reopen,
}

/// How a lease ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum LeaseEnd {
    Nack,
    Ack,
    /// In a transaction that also adds the value at the end of its queue; one such transaction is aborted before.
    Requeue,
}

pub(crate) fn history(random: &mut Rng, length: usize) -> Vec<Operation> {
    (0..length).map(|_| operation(random)).collect()
}

fn operation(random: &mut Rng) -> Operation {
    match random.u32(..100) {
        0..52 => Operation::On(step(random)),
        52..66 => Operation::Transaction {
            namespace: random.usize(..NAMESPACES.len()),
            steps: (0..random.usize(..12)).map(|_| step(random)).collect(),
            abort: random.u32(..4) == 0,
        },
        66..69 => {
            let ends = [LeaseEnd::Nack, LeaseEnd::Ack, LeaseEnd::Requeue];
            Operation::Take { key: key(random), end: ends[random.usize(..ends.len())] }
        }
        69..72 => Operation::BatchIncr { by: some(random, |random| (key(random), amount(random))) },
        72..74 => Operation::BatchPut {
            puts: some(random, |random| (key(random), content(random))),
            ttl: maybe_ttl(random),
        },
        74..76 => Operation::BatchDelete { keys: some(random, key) },
        76..81 => {
            let write = |random: &mut Rng| {
                let put = random.u32(..3) > 0;
                (key(random), put.then(|| (content(random), maybe_ttl(random))))
            };
            Operation::Write { namespace: random.usize(..NAMESPACES.len()), writes: some(random, write) }
        }
        81..82 => Operation::DeletePrefix { prefix: random.usize(..PREFIXES.len()) },
        82..83 => Operation::Clear { namespace: random.usize(..NAMESPACES.len()) },
        83..87 => Operation::List {
            namespace: random.usize(..NAMESPACES.len()),
            prefix: random.usize(..PREFIXES.len()),
            after: random.bool().then(|| key(random)),
            limit: random.usize(..5),
        },
        87..89 => Operation::BatchGet { keys: some(random, key) },
        89..97 => Operation::Advance { ticks: ttl(random) },
        _ => Operation::Reopen,
    }
}

pub(crate) fn key(random: &mut Rng) -> KeyNumber {
    random.usize(..KEYS.len())
}

pub(crate) fn some<T>(random: &mut Rng, mut one: impl FnMut(&mut Rng) -> T) -> Vec<T> {
    (0..random.usize(..6)).map(|_| one(random)).collect()
}

/// The same few lengths for times to live and steps of the clock, so that steps often end exactly at a
/// deadline.
pub(crate) fn ttl(random: &mut Rng) -> Ticks {
    random.u32(1..=4)
}

pub(crate) fn maybe_ttl(random: &mut Rng) -> Option<Ticks> {
    random.bool().then(|| ttl(random))
}

//! The operations on a single key, which both the store and a transaction have, and how a random one is
//! chosen.

use fastrand::Rng;

use super::content::{Content, amount, bytes, content};
use super::operation::{KeyNumber, Ticks, key, maybe_ttl, some, ttl};

/// Few names, so that operations often use the same one; a field may have any name.
pub(crate) const FIELDS: [&str; 4] = ["", "f", "g\n\0", "ключ"];

/// A field, by its number in [`FIELDS`].
pub(crate) type FieldNumber = usize;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    Put {
        key: KeyNumber,
        value: Content,
        ttl: Option<Ticks>,
    },
    PutBytes {
        key: KeyNumber,
        value: Vec<u8>,
        ttl: Option<Ticks>,
    },
    Get {
        key: KeyNumber,
    },
    Update {
        key: KeyNumber,
        value: Content,
    },
    Delete {
        key: KeyNumber,
    },
    SetIfNotExists {
        key: KeyNumber,
        value: Content,
        ttl: Option<Ticks>,
    },
    CompareAndSet {
        key: KeyNumber,
        expected: Option<Content>,
        new: Content,
    },
    GetAndDelete {
        key: KeyNumber,
    },
    GetAndPut {
        key: KeyNumber,
        value: Content,
    },
    /// Adds to a number, and creates it if it is absent.
    Modify {
        key: KeyNumber,
        by: i64,
    },
    ModifyAway {
        key: KeyNumber,
    },
    Incr {
        key: KeyNumber,
        by: i64,
        ttl: Option<Ticks>,
    },
    Expire {
        key: KeyNumber,
        ttl: Ticks,
    },
    Persist {
        key: KeyNumber,
    },
    GetAndTouch {
        key: KeyNumber,
        ttl: Ticks,
    },
    MapPut {
        key: KeyNumber,
        field: FieldNumber,
        value: Content,
    },
    MapPutMany {
        key: KeyNumber,
        fields: Vec<(FieldNumber, Content)>,
    },
    MapGet {
        key: KeyNumber,
        field: FieldNumber,
    },
    MapGetMany {
        key: KeyNumber,
        fields: Vec<FieldNumber>,
    },
    MapDelete {
        key: KeyNumber,
        field: FieldNumber,
    },
    MapIncr {
        key: KeyNumber,
        field: FieldNumber,
        by: i64,
    },
    Push {
        key: KeyNumber,
        front: bool,
        value: Content,
    },
    PushMany {
        key: KeyNumber,
        values: Vec<Content>,
    },
    Pop {
        key: KeyNumber,
        front: bool,
    },
    Trim {
        key: KeyNumber,
        max: u64,
    },
    Range {
        key: KeyNumber,
        from: u64,
        to: u64,
    },
    /// Reads the entry, of any kind, and its time to live.
    Look {
        key: KeyNumber,
    },
}

pub(crate) fn step(random: &mut Rng) -> Step {
    match random.u32(..100) {
        0..45 => on_a_value(random),
        45..53 => on_a_deadline(random),
        53..74 => on_a_map(random),
        74..95 => on_a_queue(random),
        _ => Step::Look { key: key(random) },
    }
}

fn on_a_value(random: &mut Rng) -> Step {
    let key = key(random);
    match random.u32(..50) {
        0..10 => Step::Put { key, value: content(random), ttl: maybe_ttl(random) },
        10..12 => Step::PutBytes { key, value: bytes(random), ttl: maybe_ttl(random) },
        12..14 => Step::Get { key },
        14..17 => Step::Update { key, value: content(random) },
        17..24 => Step::Delete { key },
        24..28 => Step::SetIfNotExists { key, value: content(random), ttl: maybe_ttl(random) },
        28..34 => {
            let expected = random.u32(..4).gt(&0).then(|| content(random));
            Step::CompareAndSet { key, expected, new: content(random) }
        }
        34..37 => Step::GetAndDelete { key },
        37..39 => Step::GetAndPut { key, value: content(random) },
        39..42 => Step::Modify { key, by: amount(random) },
        42..44 => Step::ModifyAway { key },
        _ => Step::Incr { key, by: amount(random), ttl: maybe_ttl(random) },
    }
}

fn on_a_deadline(random: &mut Rng) -> Step {
    let key = key(random);
    match random.u32(..3) {
        0 => Step::Expire { key, ttl: ttl(random) },
        1 => Step::Persist { key },
        _ => Step::GetAndTouch { key, ttl: ttl(random) },
    }
}

fn on_a_map(random: &mut Rng) -> Step {
    let (key, field) = (key(random), random.usize(..FIELDS.len()));
    match random.u32(..20) {
        0..5 => Step::MapPut { key, field, value: content(random) },
        5..8 => {
            let one = |random: &mut Rng| (random.usize(..FIELDS.len()), content(random));
            Step::MapPutMany { key, fields: some(random, one) }
        }
        8..10 => Step::MapGet { key, field },
        10 => Step::MapGetMany { key, fields: some(random, |random| random.usize(..FIELDS.len())) },
        11..16 => Step::MapDelete { key, field },
        _ => Step::MapIncr { key, field, by: amount(random) },
    }
}

fn on_a_queue(random: &mut Rng) -> Step {
    let (key, front) = (key(random), random.bool());
    match random.u32(..20) {
        0..6 => Step::Push { key, front, value: content(random) },
        6..9 => Step::PushMany { key, values: some(random, content) },
        9..16 => Step::Pop { key, front },
        16..18 => Step::Trim { key, max: random.u64(..5) },
        _ => Step::Range { key, from: random.u64(..5), to: random.u64(..7) },
    }
}

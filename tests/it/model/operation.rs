//! What a history is made of, and how one is drawn.

use fastrand::Rng;

/// A key, by its number in [`KEYS`].
pub(crate) type KeyNumber = usize;

/// Few keys, so that operations meet; some lie in namespaces, some look like patterns.
pub(crate) const KEYS: [&str; 8] = ["a", "b", "c", "n:a", "n:b", "n:m:a", "na", "*"];

pub(crate) const PREFIXES: [&str; 6] = ["", "n", "n:", "n:m:", "*", "zz"];

pub(crate) const NAMESPACES: [&str; 4] = ["", "n", "n:m", "none"];

/// A time to live or a step of the clock, in ticks: the run decides how long a tick is.
pub(crate) type Ticks = u32;

/// A put with or without a time to live, or a deletion.
pub(crate) type Write = (KeyNumber, Option<(Content, Option<Ticks>)>);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operation {
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
    /// Adds to a number, and makes one of nothing.
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
    BatchIncr {
        by: Vec<(KeyNumber, i64)>,
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

/// A value, drawn from few so that comparisons meet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    Integer(i64),
    Float(f64),
    Text(&'static str),
    Null,
    /// An object, with its fields in one order or the other.
    Object {
        number: i64,
        turned: bool,
    },
}

impl Content {
    pub(crate) fn json(&self) -> String {
        match self {
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => serde_json::to_string(number).expect("a finite number"),
            Self::Text(text) => serde_json::to_string(text).expect("a text"),
            Self::Null => "null".to_owned(),
            Self::Object { number, turned: false } => format!(r#"{{"n":{number},"t":"x"}}"#),
            Self::Object { number, turned: true } => format!(r#"{{"t":"x","n":{number}}}"#),
        }
    }

    /// Whether the two mean the same to `compare_and_set`.
    pub(crate) fn same(&self, other: &Self) -> bool {
        #[expect(clippy::cast_precision_loss, clippy::float_cmp, reason = "the rule that is modelled")]
        match (self, other) {
            (Self::Integer(integer), Self::Float(float)) | (Self::Float(float), Self::Integer(integer)) => {
                *integer as f64 == *float
            }
            (Self::Object { number: mine, .. }, Self::Object { number: theirs, .. }) => mine == theirs,
            _ => self == other,
        }
    }
}

impl serde::Serialize for Content {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw = serde_json::value::RawValue::from_string(self.json());
        raw.expect("JSON").serialize(serializer)
    }
}

pub(crate) fn history(random: &mut Rng, length: usize) -> Vec<Operation> {
    (0..length).map(|_| operation(random)).collect()
}

fn operation(random: &mut Rng) -> Operation {
    let key = key(random);
    match random.u32(..100) {
        0..14 => Operation::Put { key, value: content(random), ttl: maybe_ttl(random) },
        14..17 => Operation::PutBytes { key, value: bytes(random), ttl: maybe_ttl(random) },
        17..21 => Operation::Update { key, value: content(random) },
        21..26 => Operation::Delete { key },
        26..31 => Operation::SetIfNotExists { key, value: content(random), ttl: maybe_ttl(random) },
        31..38 => {
            let expected = random.u32(..4).gt(&0).then(|| content(random));
            Operation::CompareAndSet { key, expected, new: content(random) }
        }
        38..41 => Operation::GetAndDelete { key },
        41..44 => Operation::GetAndPut { key, value: content(random) },
        44..48 => Operation::Modify { key, by: amount(random) },
        48..50 => Operation::ModifyAway { key },
        50..58 => Operation::Incr { key, by: amount(random), ttl: maybe_ttl(random) },
        58..61 => Operation::BatchIncr { by: some(random, |random| (self::key(random), amount(random))) },
        61..65 => Operation::Expire { key, ttl: ttl(random) },
        65..68 => Operation::Persist { key },
        68..71 => Operation::GetAndTouch { key, ttl: ttl(random) },
        71..74 => Operation::BatchPut {
            puts: some(random, |random| (self::key(random), content(random))),
            ttl: maybe_ttl(random),
        },
        74..76 => Operation::BatchDelete { keys: some(random, self::key) },
        76..81 => {
            let write = |random: &mut Rng| {
                let put = random.u32(..3) > 0;
                (self::key(random), put.then(|| (content(random), maybe_ttl(random))))
            };
            Operation::Write { namespace: random.usize(..NAMESPACES.len()), writes: some(random, write) }
        }
        81..82 => Operation::DeletePrefix { prefix: random.usize(..PREFIXES.len()) },
        82..83 => Operation::Clear { namespace: random.usize(..NAMESPACES.len()) },
        83..87 => Operation::List {
            namespace: random.usize(..NAMESPACES.len()),
            prefix: random.usize(..PREFIXES.len()),
            after: random.bool().then_some(key),
            limit: random.usize(..5),
        },
        87..89 => Operation::BatchGet { keys: some(random, self::key) },
        89..97 => Operation::Advance { ticks: ttl(random) },
        _ => Operation::Reopen,
    }
}

fn key(random: &mut Rng) -> KeyNumber {
    random.usize(..KEYS.len())
}

fn some<T>(random: &mut Rng, mut one: impl FnMut(&mut Rng) -> T) -> Vec<T> {
    (0..random.usize(..6)).map(|_| one(random)).collect()
}

/// The same few lengths for times to live and steps of the clock, so that steps end on the edge.
fn ttl(random: &mut Rng) -> Ticks {
    random.u32(1..=4)
}

fn maybe_ttl(random: &mut Rng) -> Option<Ticks> {
    random.bool().then(|| ttl(random))
}

fn amount(random: &mut Rng) -> i64 {
    match random.u32(..20) {
        0 => i64::MAX,
        1 => i64::MIN,
        _ => random.i64(-2..=3),
    }
}

fn content(random: &mut Rng) -> Content {
    match random.u32(..10) {
        0..4 => Content::Integer(random.i64(-1..=2)),
        4 => Content::Integer([i64::MAX, i64::MIN, i64::MAX - 1][random.usize(..3)]),
        5 => Content::Float([0.0, 1.0, 1.5, -2.0][random.usize(..4)]),
        6 | 7 => Content::Text(["", "x", "1", "ü\n\""][random.usize(..4)]),
        8 => Content::Null,
        _ => Content::Object { number: random.i64(0..2), turned: random.bool() },
    }
}

fn bytes(random: &mut Rng) -> Vec<u8> {
    let samples: [&[u8]; 6] = [b"", b"\xff\x00\n", b"7", b"01", b"-0", b"{\"n\":"];
    samples[random.usize(..samples.len())].to_vec()
}

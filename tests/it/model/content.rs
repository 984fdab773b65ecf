//! The values of a history, and how a random one is chosen.

use fastrand::Rng;

/// A value, one of few, so that comparisons often find equal ones.
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

    /// Whether `compare_and_set` treats the two as equal.
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

pub(crate) fn amount(random: &mut Rng) -> i64 {
    match random.u32(..20) {
        0 => i64::MAX,
        1 => i64::MIN,
        _ => random.i64(-2..=3),
    }
}

pub(crate) fn content(random: &mut Rng) -> Content {
    match random.u32(..10) {
        0..4 => Content::Integer(random.i64(-1..=2)),
        4 => Content::Integer([i64::MAX, i64::MIN, i64::MAX - 1][random.usize(..3)]),
        5 => Content::Float([0.0, 1.0, 1.5, -2.0][random.usize(..4)]),
        6 | 7 => Content::Text(["", "x", "1", "ü\n\""][random.usize(..4)]),
        8 => Content::Null,
        _ => Content::Object { number: random.i64(0..2), turned: random.bool() },
    }
}

pub(crate) fn bytes(random: &mut Rng) -> Vec<u8> {
    let samples: [&[u8]; 6] = [b"", b"\xff\x00\n", b"7", b"01", b"-0", b"{\"n\":"];
    samples[random.usize(..samples.len())].to_vec()
}

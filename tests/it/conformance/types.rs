//! Which Rust values survive a round trip.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::support::backends::Context;

promises![
    integers_survive_exactly,
    floats_survive_to_the_last_bit,
    texts_survive_whatever_they_contain,
    options_and_units_survive,
    collections_survive,
    structs_and_enums_survive,
    a_megabyte_survives,
    the_stored_text_is_compact_json,
    a_value_can_be_read_as_any_type_that_fits,
];

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    customer: String,
    lines: Vec<Line>,
    note: Option<String>,
    nested: Option<Box<Order>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Line(String, f64);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle(f64),
    Segment(i32, i32),
    Polygon { corners: Vec<(i32, i32)>, inner: Option<Box<Shape>> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Tagged {
    Opened { by: String },
    Closed,
}

#[track_caller]
fn assert_round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(cx: &Context, value: &T) {
    cx.store().put("k", value).unwrap();
    assert_eq!(cx.store().get::<T>("k").unwrap().as_ref(), Some(value));
}

fn integers_survive_exactly(cx: &Context) {
    for number in [0, 1, -1, i64::MIN, i64::MAX, (1 << 53) + 1, -(1 << 53) - 1] {
        assert_round_trip(cx, &number);
    }
    assert_round_trip(cx, &u64::MAX);
    assert_round_trip(cx, &u128::MAX);
    assert_round_trip(cx, &i128::MIN);
    assert_round_trip(cx, &(u8::MAX, i8::MIN, u16::MAX, i16::MIN, u32::MAX, i32::MIN));
}

fn floats_survive_to_the_last_bit(cx: &Context) {
    let mut numbers = vec![
        0.1,
        -0.0,
        1.0 / 3.0,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        f64::EPSILON,
        5e-324,
        1e23,
        9_007_199_254_740_993.0,
        123_456_789.123_456_79,
        2.225_073_858_507_201e-308,
    ];
    let mut random = fastrand::Rng::with_seed(7);
    numbers.extend((0..500).map(|_| f64::from_bits(random.u64(..))).filter(|number| number.is_finite()));
    cx.store().put("all", &numbers).unwrap();
    let read = cx.store().get::<Vec<f64>>("all").unwrap().unwrap();
    let bits = |numbers: &[f64]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&read), bits(&numbers));
    assert_round_trip(cx, &f32::MIN_POSITIVE);
    assert_round_trip(cx, &0.1_f32);
    assert_round_trip(cx, &1.0);
}

fn texts_survive_whatever_they_contain(cx: &Context) {
    let every_control: String = (0..32).map(char::from).collect();
    for text in ["", " ", "a", "\"", "\\", "/", "\r\n", "ключ", "🦀\u{10ffff}", "null", "[1", &every_control]
    {
        assert_round_trip(cx, &text.to_owned());
    }
    for letter in ['a', '\0', '\u{2028}', '🦀'] {
        assert_round_trip(cx, &letter);
    }
}

fn options_and_units_survive(cx: &Context) {
    assert_round_trip(cx, &true);
    assert_round_trip(cx, &());
    assert_round_trip(cx, &Unit);
    assert_round_trip(cx, &Some(5));
    cx.store().put("none", None::<i64>).unwrap();
    assert_eq!(cx.store().get_bytes("none").unwrap().as_deref(), Some(&b"null"[..]));
    assert!(cx.store().contains("none").unwrap(), "a null is a value");
    assert_eq!(cx.store().get::<Option<i64>>("none").unwrap(), Some(None));
    assert_eq!(cx.store().get::<Option<i64>>("absent").unwrap(), None);
}

fn collections_survive(cx: &Context) {
    assert_round_trip(cx, &Vec::<i64>::new());
    assert_round_trip(cx, &vec![vec![1], vec![], vec![2, 3]]);
    assert_round_trip(cx, &BTreeMap::from([("b".to_owned(), 1), (String::new(), 2)]));
    assert_round_trip(cx, &HashMap::from([(1_u64, "one".to_owned()), (u64::MAX, "many".to_owned())]));
    assert_round_trip(cx, &BTreeSet::from(["x".to_owned(), "y".to_owned()]));
    assert_round_trip(cx, &(1, "two".to_owned(), [3.0, 4.0], (5,)));
    assert_round_trip(cx, &Duration::new(3, 7));
    assert_round_trip(cx, &BTreeMap::<String, i64>::new());
    assert_round_trip(cx, &serde_json::json!({"a": [null, {"b": {}}, []], "c": 1.5}));
}

fn structs_and_enums_survive(cx: &Context) {
    let inner = Order { id: 1, customer: String::new(), lines: vec![], note: None, nested: None };
    let order = Order {
        id: u64::MAX,
        customer: "Zoë".into(),
        lines: vec![Line("tea".into(), 0.1), Line("cup".into(), -0.0)],
        note: Some("fragile".into()),
        nested: Some(Box::new(inner)),
    };
    assert_round_trip(cx, &order);
    let circle = Some(Box::new(Shape::Circle(0.5)));
    assert_round_trip(
        cx,
        &[
            Shape::Point,
            Shape::Segment(1, -1),
            Shape::Polygon { corners: vec![(0, 0), (1, 1)], inner: circle },
            Shape::Polygon { corners: vec![], inner: None },
        ],
    );
    assert_round_trip(cx, &Tagged::Opened { by: "anna".into() });
    assert_round_trip(cx, &Tagged::Closed);
    assert_round_trip(cx, &Ok::<i64, String>(3));
}

fn a_megabyte_survives(cx: &Context) {
    let mut random = fastrand::Rng::with_seed(1);
    let text: String = (0..1 << 20).map(|_| random.alphanumeric()).collect();
    assert_round_trip(cx, &text);
    let bytes: Vec<u8> = (0..1 << 20).map(|_| random.u8(..)).collect();
    cx.store().put_bytes("bytes", &bytes).unwrap();
    assert!(cx.store().get_bytes("bytes").unwrap().unwrap() == bytes[..]);
}

fn the_stored_text_is_compact_json(cx: &Context) {
    let stored = |value: &dyn erased::Json| {
        value.put(cx);
        String::from_utf8(cx.store().get_bytes("k").unwrap().unwrap().to_vec()).unwrap()
    };
    assert_eq!(stored(&42), "42");
    assert_eq!(stored(&"a\"b"), r#""a\"b""#);
    assert_eq!(stored(&vec![1, 2]), "[1,2]");
    assert_eq!(stored(&Shape::Point), r#""Point""#);
    assert_eq!(stored(&Line("tea".into(), 1.0)), r#"["tea",1.0]"#);
    assert_eq!(stored(&Tagged::Opened { by: "ü".into() }), r#"{"type":"opened","by":"ü"}"#);
    assert_eq!(stored(&u128::MAX), "340282366920938463463374607431768211455");
}

fn a_value_can_be_read_as_any_type_that_fits(cx: &Context) {
    cx.store().put("n", 7_u8).unwrap();
    assert_eq!(cx.store().get::<i64>("n").unwrap(), Some(7));
    assert_eq!(cx.store().get::<f64>("n").unwrap(), Some(7.0));
    assert_eq!(cx.store().get::<Option<u128>>("n").unwrap(), Some(Some(7)));
    assert_eq!(cx.store().get::<serde_json::Value>("n").unwrap(), Some(7.into()));
    cx.store().put("s", Tagged::Closed).unwrap();
    assert_eq!(cx.store().get::<HashMap<String, String>>("s").unwrap().unwrap()["type"], "closed");
}

/// `Serialize` cannot be a trait object, and one closure for all types is easier to read than seven calls.
mod erased {
    use super::{Context, Serialize};

    pub(super) trait Json {
        fn put(&self, cx: &Context);
    }

    impl<T: Serialize> Json for T {
        fn put(&self, cx: &Context) {
            cx.store().put("k", self).unwrap();
        }
    }
}

//! Owns the reading of a configuration in any self-describing notation (JSON, TOML, YAML) as a JSON value. Knows none
//! of the options.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde_json::{Map, Value};

/// Reads any value. A variant that the notation marks as such (`!File {path: ./state}` in YAML) is read as a map with
/// one field, `{"File": {"path": "./state"}}`, which is how other notations write it.
pub(crate) fn any_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    AnyValue.deserialize(deserializer)
}

/// Takes a variant apart: its name in lower case, and its content, which is null if it has none.
#[expect(clippy::wildcard_enum_match_arm, reason = "the configuration may hold any JSON value")]
pub(crate) fn variant(value: Value) -> Option<(String, Value)> {
    match value {
        Value::String(name) => Some((name.to_ascii_lowercase(), Value::Null)),
        Value::Object(fields) if fields.len() == 1 => {
            fields.into_iter().next().map(|(name, content)| (name.to_ascii_lowercase(), content))
        }
        _ => None,
    }
}

/// Whether the content of a variant says nothing: null, or a map without fields.
pub(crate) fn is_nothing(content: &Value) -> bool {
    content.is_null() || content.as_object().is_some_and(Map::is_empty)
}

struct AnyValue;

impl<'de> DeserializeSeed<'de> for AnyValue {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Plain values.
macro_rules! plain {
    ($($method:ident: $type:ty),* $(,)?) => {
        $(fn $method<E: Error>(self, plain: $type) -> Result<Value, E> { Ok(plain.into()) })*
    };
}

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of a configuration")
    }

    plain! { visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str, visit_string: String }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        any_value(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        any_value(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(Self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, value)) = fields.next_entry_seed(std::marker::PhantomData::<String>, Self)? {
            if object.insert(name.clone(), value).is_some() {
                // A name with an @ may be a misplaced URL with a password.
                let shown = if name.contains('@') { String::new() } else { format!(" {name:?}") };
                return Err(A::Error::custom(format!("the option{shown} is given twice: write it once")));
            }
        }
        Ok(Value::Object(object))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<Value, A::Error> {
        let (name, content) = variant.variant::<String>()?;
        Ok(Value::Object(Map::from_iter([(name, content.newtype_variant_seed(Self)?)])))
    }
}

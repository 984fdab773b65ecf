//! Owns the choice of how a whole value is decoded: as bytes if [`Bytes`](crate::Bytes) is wanted, as JSON otherwise.
//! Knows nothing of how JSON is read.

use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde_json::de::SliceRead;
use serde_json::{Deserializer as JsonDeserializer, Error};

use crate::bytes::NEWTYPE;

/// Decodes the bytes of a whole value.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let mut json = JsonDeserializer::from_slice(bytes);
    let mut is_raw = false;
    let value =
        T::deserialize(ValueDeserializer { bytes, json: &mut json, is_raw: &mut is_raw, in_bytes: false })?;
    if !is_raw {
        json.end()?;
    }
    Ok(value)
}

/// A deserializer of a whole value, not of a part of one.
struct ValueDeserializer<'a, 'de> {
    bytes: &'de [u8],
    json: &'a mut JsonDeserializer<SliceRead<'de>>,
    /// Set if the bytes were taken as they are.
    is_raw: &'a mut bool,
    /// Whether this is the content of the newtype [`Bytes`](crate::Bytes).
    in_bytes: bool,
}

/// Methods that read JSON.
macro_rules! json {
    ($($method:ident($($argument:ident: $type:ty),*);)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, Error> {
            self.json.$method($($argument,)* visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for ValueDeserializer<'_, 'de> {
    type Error = Error;

    json! {
        deserialize_any();
        deserialize_bool();
        deserialize_i8();
        deserialize_i16();
        deserialize_i32();
        deserialize_i64();
        deserialize_i128();
        deserialize_u8();
        deserialize_u16();
        deserialize_u32();
        deserialize_u64();
        deserialize_u128();
        deserialize_f32();
        deserialize_f64();
        deserialize_char();
        deserialize_str();
        deserialize_string();
        deserialize_byte_buf();
        deserialize_option();
        deserialize_unit();
        deserialize_unit_struct(name: &'static str);
        deserialize_seq();
        deserialize_tuple(length: usize);
        deserialize_tuple_struct(name: &'static str, length: usize);
        deserialize_map();
        deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
        deserialize_identifier();
        deserialize_ignored_any();
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.in_bytes {
            *self.is_raw = true;
            return visitor.visit_bytes(self.bytes);
        }
        self.json.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match name {
            NEWTYPE => visitor.visit_newtype_struct(Self { in_bytes: true, ..self }),
            // No type of Rust has such a name: with it, a type of `serde_json` asks its own deserializer for something.
            _ if name.starts_with('$') => self.json.deserialize_newtype_struct(name, visitor),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn is_human_readable(&self) -> bool {
        !self.in_bytes
    }
}

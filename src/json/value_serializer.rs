//! Owns the choice of how a whole value is encoded: as bytes if it is [`Bytes`], as JSON otherwise. Knows
//! nothing of how JSON is written.

use std::fmt::Display;
use std::io;

use serde::ser::{Serialize, Serializer};
use serde_json::ser::Formatter;
use serde_json::{Error, Serializer as JsonSerializer};

use crate::bytes::{Bytes, NEWTYPE};

/// A serializer for a whole value, not for a part of one.
pub(super) struct ValueSerializer<'a, W, F> {
    json: &'a mut JsonSerializer<W, F>,
    raw: &'a mut Option<Bytes>,
    /// Whether this is the content of the newtype [`Bytes`].
    in_bytes: bool,
}

impl<'a, W, F> ValueSerializer<'a, W, F> {
    /// JSON text goes to `json`, bytes go to `raw`.
    pub(super) fn new(json: &'a mut JsonSerializer<W, F>, raw: &'a mut Option<Bytes>) -> Self {
        Self { json, raw, in_bytes: false }
    }
}

/// Methods that write JSON.
macro_rules! json {
    ($($method:ident($($argument:ident: $type:ty),*) -> $ok:ty;)*) => {$(
        #[inline]
        fn $method(self, $($argument: $type),*) -> Result<$ok, Error> {
            self.json.$method($($argument),*)
        }
    )*};
}

/// The types that write the parts of a value.
macro_rules! parts {
    ($($part:ident),*) => {$(
        type $part = <&'a mut JsonSerializer<W, F> as Serializer>::$part;
    )*};
}

impl<'a, W: io::Write, F: Formatter> Serializer for ValueSerializer<'a, W, F> {
    type Ok = ();
    type Error = Error;
    parts!(SerializeSeq, SerializeTuple, SerializeTupleStruct, SerializeTupleVariant);
    parts!(SerializeMap, SerializeStruct, SerializeStructVariant);

    json! {
        serialize_bool(value: bool) -> ();
        serialize_i8(value: i8) -> ();
        serialize_i16(value: i16) -> ();
        serialize_i32(value: i32) -> ();
        serialize_i64(value: i64) -> ();
        serialize_i128(value: i128) -> ();
        serialize_u8(value: u8) -> ();
        serialize_u16(value: u16) -> ();
        serialize_u32(value: u32) -> ();
        serialize_u64(value: u64) -> ();
        serialize_u128(value: u128) -> ();
        serialize_f32(value: f32) -> ();
        serialize_f64(value: f64) -> ();
        serialize_char(value: char) -> ();
        serialize_str(value: &str) -> ();
        serialize_none() -> ();
        serialize_unit() -> ();
        serialize_unit_struct(name: &'static str) -> ();
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str) -> ();
        serialize_seq(length: Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(length: usize) -> Self::SerializeTuple;
        serialize_tuple_struct(name: &'static str, length: usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(
            name: &'static str, index: u32, variant: &'static str, length: usize
        ) -> Self::SerializeTupleVariant;
        serialize_map(length: Option<usize>) -> Self::SerializeMap;
        serialize_struct(name: &'static str, length: usize) -> Self::SerializeStruct;
        serialize_struct_variant(
            name: &'static str, index: u32, variant: &'static str, length: usize
        ) -> Self::SerializeStructVariant;
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Error> {
        if self.in_bytes {
            *self.raw = Some(Bytes::from(bytes));
            return Ok(());
        }
        self.json.serialize_bytes(bytes)
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        self.json.serialize_some(value)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(Self { in_bytes: name == NEWTYPE, ..self })
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.json.serialize_newtype_variant(name, index, variant, value)
    }

    #[inline]
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), Error> {
        self.json.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        !self.in_bytes
    }
}

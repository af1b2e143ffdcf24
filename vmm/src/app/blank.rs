//! A stand-in for a value that is missing or of the wrong type: whatever is asked for, empty.
//!
//! With it the rest of the file can still be read and checked, so that one run reports all that is
//! wrong. What was read with a stand-in is only ever looked at for further problems.

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::fault::{Cause, Fault};

/// Reads as false, "", an empty list, or an object whose every key is blank.
pub struct Blank;

fn refused(_: Fault) -> Fault {
    Fault {
        at: None,
        cause: Cause::Blank,
    }
}

impl<'de> Deserializer<'de> for Blank {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_str("").map_err(refused)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_bool(false).map_err(refused)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_none().map_err(refused)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self).map_err(refused)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_seq(NoItems).map_err(refused)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_map(BlankFields([].iter())).map_err(refused)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor
            .visit_map(BlankFields(fields.iter()))
            .map_err(refused)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let first = variants.first().copied().unwrap_or("");
        visitor
            .visit_enum(StrDeserializer::<Fault>::new(first))
            .map_err(refused)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct tuple tuple_struct identifier ignored_any
    }
}

struct NoItems;

impl<'de> de::SeqAccess<'de> for NoItems {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        _: T,
    ) -> Result<Option<T::Value>, Fault> {
        Ok(None)
    }
}

struct BlankFields(std::slice::Iter<'static, &'static str>);

impl<'de> MapAccess<'de> for BlankFields {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some(field) = self.0.next() else {
            return Ok(None);
        };
        seed.deserialize(StrDeserializer::<Fault>::new(field))
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        seed.deserialize(Blank)
    }
}

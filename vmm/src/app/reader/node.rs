//! One value of the tree as a serde deserializer.
//!
//! Types are checked before a visitor sees the value, since the visitors of serde's own
//! implementations name Rust's types ("u32", "a sequence") and not JSON's.

use serde::de::value::StrDeserializer;
use serde::de::{Deserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::State;
use super::entries::{Entries, Items};
use crate::app::document::{Node, Value};
use crate::app::fault::Fault;
use crate::app::{short_form, switch_form, text_form};

/// A value, to be read as whatever the type asks for.
#[derive(Clone, Copy)]
pub struct Reader<'d> {
    pub node: &'d Node,
    pub state: &'d State,
    /// Only the outermost object may name its schema.
    pub is_root: bool,
    /// Whether a string may stand for the section whose first key it is.
    may_be_short: bool,
}

impl<'d> Reader<'d> {
    pub const fn new(node: &'d Node, state: &'d State) -> Self {
        Self {
            node,
            state,
            is_root: true,
            may_be_short: false,
        }
    }

    pub const fn inside(&self, node: &'d Node) -> Self {
        Self {
            node,
            state: self.state,
            is_root: false,
            may_be_short: false,
        }
    }

    fn wrong_type<T>(&self, expected: &str) -> Result<T, Fault> {
        Err(Fault::expected(expected).of(self.node))
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let result = match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match number.as_u64() {
                Some(whole) => visitor.visit_u64(whole),
                None => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_str(text),
            Value::List(items) => visitor.visit_seq(Items::new(self, items)),
            Value::Object(members) => visitor.visit_map(Entries::all(self, members)),
        };
        result.map_err(|fault| fault.of(self.node))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node.value {
            Value::Bool(_) => self.deserialize_any(visitor),
            _ => self.wrong_type("true or false"),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node.value {
            Value::String(_) => self.deserialize_any(visitor),
            _ => self.wrong_type("a string"),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if let (text_form::MARK, Value::String(text)) = (name, &self.node.value) {
            return visitor
                .visit_str(text)
                .map_err(|fault: Fault| fault.of(self.node));
        }
        if name == switch_form::MARK {
            return match &self.node.value {
                Value::Bool(value) => visitor.visit_bool(*value),
                Value::Object(_) => visitor.visit_newtype_struct(self),
                _ => self.wrong_type(switch_form::EXPECTED),
            };
        }
        let may_be_short = name == short_form::MARK || name == text_form::MARK;
        visitor.visit_newtype_struct(Self {
            may_be_short,
            ..self
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node.value {
            Value::List(_) => self.deserialize_any(visitor),
            _ => self.wrong_type("a list"),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node.value {
            Value::Object(_) => self.deserialize_any(visitor),
            _ => self.wrong_type("an object"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let entries = match (&self.node.value, fields) {
            (Value::Object(members), _) => Entries::section(self, members, fields),
            (Value::String(_), [first, ..]) if self.may_be_short => Entries::short(self, first),
            _ if self.may_be_short => return self.wrong_type("a string or an object"),
            _ => return self.wrong_type("an object"),
        };
        visitor
            .visit_map(entries)
            .map_err(|fault| fault.of(self.node))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let Value::String(text) = &self.node.value else {
            return self.wrong_type(&format!("one of {}", variants.join(", ")));
        };
        visitor
            .visit_enum(StrDeserializer::<Fault>::new(text))
            .map_err(|fault| fault.of(self.node))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit
        unit_struct tuple tuple_struct identifier ignored_any
    }
}

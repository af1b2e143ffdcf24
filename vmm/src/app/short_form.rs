//! A section in short form: a string in its place is its first key, as in `"store": "none"`.
//!
//! A field that allows it says so with `deserialize_with` and `schema_with`. The mark goes through
//! serde as the name of a newtype, which the reader of app.json knows and others see through.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Visitor};

/// The newtype name that allows the short form of the section inside it.
pub const MARK: &str = "mvm::short_form";

/// Reads a section that may be given by its first key alone.
pub fn read<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    deserializer.deserialize_newtype_struct(MARK, Section(PhantomData))
}

struct Section<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Section<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an object")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        T::deserialize(deserializer)
    }
}

/// Reads an object whose values are such sections.
pub fn read_values<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, T>, D::Error> {
    let values = BTreeMap::<String, Short<T>>::deserialize(deserializer)?;
    Ok(values
        .into_iter()
        .map(|(key, Short(value))| (key, value))
        .collect())
}

/// Such a section as the value of a list or an object.
#[derive(Default)]
pub struct Short<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Short<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer).map(Self)
    }
}

/// The schema of such a section: `first`, the schema of its first key, or the whole.
pub fn schema<T: JsonSchema>(generator: &mut SchemaGenerator, first: &Schema) -> Schema {
    let whole = generator.subschema_for::<T>();
    json_schema!({ "anyOf": [first, whole] })
}

//! A section that is there or not: `true` in its place is the section with its defaults, and `false` none.
//!
//! The mark goes through serde as the name of a newtype, as that of [`super::short_form`] does.

use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// The newtype name that allows `true` and `false` in place of the section inside it.
pub const MARK: &str = "mvm::switch_form";

/// What stands in such a section's place, in words.
pub const EXPECTED: &str = "true, false or an object";

/// Reads a section that may be given by `true` or `false`.
pub fn read<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    deserializer.deserialize_newtype_struct(MARK, Section(PhantomData))
}

struct Section<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for Section<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_bool<E: de::Error>(self, is_there: bool) -> Result<Option<T>, E> {
        Ok(is_there.then(T::default))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        T::deserialize(deserializer).map(Some)
    }
}

/// The schema of such a section.
pub fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let whole = generator.subschema_for::<T>();
    json_schema!({ "anyOf": [{ "type": "boolean" }, whole] })
}

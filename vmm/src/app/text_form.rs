//! An object of a list in text form: a string in its place says all that the object would, as in
//! `"ports": ["8080:80"]`.
//!
//! The mark goes through serde as the name of a newtype, as that of [`super::short_form`] does.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// The newtype name that allows the text form of the object inside it.
pub const MARK: &str = "mvm::text_form";

/// An item that may be given as text.
pub struct Item<T>(pub T);

impl<'de, T: Deserialize<'de> + FromStr<Err = String>> Deserialize<'de> for Item<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_newtype_struct(MARK, Either(PhantomData))
            .map(Self)
    }
}

struct Either<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + FromStr<Err = String>> Visitor<'de> for Either<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an object")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        T::deserialize(deserializer)
    }
}

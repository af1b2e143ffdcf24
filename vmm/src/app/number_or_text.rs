//! Values that are a number or a string in the file, as `256` and `"256M"` are of memory.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{self, Deserializer, Unexpected, Visitor};

/// A value that a number stands for as well as a text.
pub trait NumberOrText: FromStr<Err = String> {
    /// What it may be, said where something else is.
    const ALLOWED: &'static str;

    /// That of a whole number, if it stands for one.
    fn from_number(number: u64) -> Option<Self>;

    /// That of another number, if it stands for one.
    fn from_fraction(_: f64) -> Option<Self> {
        None
    }

    /// Whether the file may have that text.
    fn allows(_: &str) -> bool {
        true
    }
}

/// Reads such a value.
pub fn read<'de, T: NumberOrText, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(Either(PhantomData))
}

struct Either<T>(PhantomData<T>);

impl<T: NumberOrText> Visitor<'_> for Either<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::ALLOWED)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        let wrong = || E::invalid_value(Unexpected::Unsigned(number), &self);
        T::from_number(number).ok_or_else(wrong)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        let wrong = || E::invalid_value(Unexpected::Float(number), &self);
        T::from_fraction(number).ok_or_else(wrong)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        if !T::allows(text) {
            return Err(E::invalid_value(Unexpected::Str(text), &self));
        }
        text.parse().map_err(E::custom)
    }
}

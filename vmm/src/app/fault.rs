//! Why a value could not be read as the type it should have; serde's error while it reads a tree.

use std::fmt;

use serde::de;

use super::document::Node;
use super::quote::quoted;
use super::suggest;

/// An error that learns its place from the innermost reader it passes.
#[derive(Debug)]
pub struct Fault {
    /// Offset of the value; none until the reader of that value has seen the fault.
    pub at: Option<usize>,
    /// What is wrong.
    pub cause: Cause,
}

/// What is wrong with a value.
#[derive(Debug)]
pub enum Cause {
    /// What it must be; the value itself is added where it is known.
    Expected(String),
    /// The whole message.
    Message(String),
    /// The object lacks this key.
    Missing(&'static str),
    /// A stand-in did not do; the fault it stands for has been reported.
    Blank,
}

impl Fault {
    /// This fault as one of `node`, unless it came from further inside.
    pub fn of(mut self, node: &Node) -> Self {
        self.at.get_or_insert(node.at);
        if let Cause::Expected(expected) = &self.cause {
            self.cause = Cause::Message(format!("must be {expected}, is {}", node.describe()));
        }
        self
    }

    /// `must be <expected>`.
    pub fn expected(expected: impl Into<String>) -> Self {
        Self {
            at: None,
            cause: Cause::Expected(expected.into()),
        }
    }

    /// What a user reads.
    pub fn message(&self) -> String {
        match &self.cause {
            Cause::Expected(expected) => format!("must be {expected}"),
            Cause::Message(message) => message.clone(),
            Cause::Missing(key) => format!("missing key {}", quoted(key)),
            Cause::Blank => "cannot be left out".into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            at: None,
            cause: Cause::Message(message.to_string()),
        }
    }

    fn invalid_type(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::expected(expected.to_string())
    }

    fn invalid_value(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::expected(expected.to_string())
    }

    fn invalid_length(_: usize, expected: &dyn de::Expected) -> Self {
        Self::expected(expected.to_string())
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format_args!(
            "unknown value {}{}",
            quoted(variant),
            suggest::instead_of(variant, expected)
        ))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format_args!(
            "unknown key {}{}",
            quoted(field),
            suggest::instead_of(field, expected)
        ))
    }

    fn missing_field(field: &'static str) -> Self {
        Self {
            at: None,
            cause: Cause::Missing(field),
        }
    }
}

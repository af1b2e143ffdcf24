//! JSON text (RFC 8259) into a [`Document`].
//!
//! Strict: what `serde_json` refuses is refused here too, a property test holds the two together.
//! It exists for its errors, which name the place and the mistake people make there (a comment, a
//! trailing comma, a single quote), and for its bounds on nesting and on the number of values.
//! Duplicate keys are found but do not end the parse, so that one run can report all of them.

mod scalar;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use super::document::{Document, Member, Node, Value};
use super::place::{Place, Step};
use super::quote::quoted;

/// Lists and objects inside each other; deeper files are none that a person wrote.
pub const MAX_DEPTH: usize = 64;

/// Values in a file, which bounds its tree to a few MiB whatever the text.
pub const MAX_VALUES: usize = 65_536;

/// A mistake in the text.
#[derive(Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Offset of the mistake.
    pub at: usize,
    /// The list or object it is in.
    pub place: Place,
    /// What is allowed and what was found.
    pub message: String,
}

/// A document, and which keys came twice in it.
#[derive(Debug)]
pub struct Parsed {
    /// The tree; of a key that came twice, the first value.
    pub document: Document,
    /// A [`SyntaxError`] for each later occurrence.
    pub duplicates: Vec<SyntaxError>,
}

/// Parses the whole of `text`.
pub fn parse(text: &str) -> Result<Parsed, SyntaxError> {
    let mut parser = Parser {
        text,
        at: 0,
        values: 0,
        place: Place::root(),
        duplicates: Vec::new(),
    };
    let root = parser.whole()?;
    let document = Document::new(text.into(), root);
    Ok(Parsed {
        document,
        duplicates: parser.duplicates,
    })
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    values: usize,
    place: Place,
    duplicates: Vec<SyntaxError>,
}

type Parse<T> = Result<T, SyntaxError>;

impl<'a> Parser<'a> {
    fn whole(&mut self) -> Parse<Node> {
        self.skip_space();
        if self.peek().is_none() {
            return Err(self.error_at(0, "is empty; must hold an object".into()));
        }
        let root = self.value()?;
        self.skip_space();
        match self.peek() {
            None => Ok(root),
            Some(_) => Err(self.expected("the end of the file")),
        }
    }

    fn value(&mut self) -> Parse<Node> {
        let at = self.at;
        self.values += 1;
        if self.values > MAX_VALUES {
            let message = format!(
                "is value {} of the file; at most {MAX_VALUES} are allowed",
                self.values
            );
            return Err(self.error_at(at, message));
        }
        let value = match self.peek() {
            Some(b'{') => Value::Object(self.object()?),
            Some(b'[') => Value::List(self.list()?),
            Some(b'"') => Value::String(self.string()?),
            Some(b'-' | b'0'..=b'9') => Value::Number(self.number()?),
            _ => self.literal()?,
        };
        Ok(Node { at, value })
    }

    fn literal(&mut self) -> Parse<Value> {
        let word = self.word();
        let value = match word {
            "null" => Value::Null,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "" => return Err(self.expected("a value")),
            _ => {
                let meant = match word.to_ascii_lowercase().as_str() {
                    "true" => "; did you mean true?",
                    "false" => "; did you mean false?",
                    "null" | "none" | "nil" => "; did you mean null?",
                    _ if word.starts_with(['+', '.']) => "; a number starts with a digit or \"-\"",
                    _ => "; a string needs double quotes",
                };
                return Err(self.error_at(
                    self.at,
                    format!("expected a value, found {}{meant}", quoted(word)),
                ));
            }
        };
        self.at += word.len();
        Ok(value)
    }

    fn list(&mut self) -> Parse<Vec<Node>> {
        let start = self.open()?;
        let mut items = Vec::new();
        while self.next_item(start, b']', items.is_empty())? {
            self.place.push(Step::Index(items.len()));
            items.push(self.value()?);
            self.place.pop();
        }
        Ok(items)
    }

    fn object(&mut self) -> Parse<Vec<Member>> {
        let start = self.open()?;
        let mut members: Vec<Member> = Vec::new();
        let mut lines_of: HashMap<String, usize> = HashMap::new();
        while self.next_item(start, b'}', members.is_empty())? {
            let key_at = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.expected("a key in double quotes"));
            }
            let key = self.string()?;
            self.skip_space();
            if self.peek() != Some(b':') {
                return Err(self.expected(&format!("\":\" after the key {}", quoted(&key))));
            }
            self.at += 1;
            self.skip_space();
            self.place.push(Step::Key(key.clone().into()));
            let node = self.value()?;
            self.place.pop();
            if let Some(first_at) = lines_of.get(&key) {
                let line = super::document::line_and_column(self.text, *first_at).0;
                let message = format!(
                    "duplicate key {}, the first is in line {line}",
                    quoted(&key)
                );
                if self.duplicates.len() < super::MAX_PROBLEMS {
                    self.duplicates.push(self.error_at(key_at, message));
                }
            } else {
                lines_of.insert(key.clone(), key_at);
                members.push(Member { key_at, key, node });
            }
        }
        Ok(members)
    }

    /// Takes the opening bracket.
    fn open(&mut self) -> Parse<usize> {
        let start = self.at;
        if self.place.steps().len() >= MAX_DEPTH {
            // The path to here would be as long as the file.
            self.place = Place::root();
            return Err(self.error_at(
                start,
                format!("lists and objects are nested more than {MAX_DEPTH} deep"),
            ));
        }
        self.at += 1;
        Ok(start)
    }

    /// Goes to the next item of a list or object; false at its end, which is taken.
    fn next_item(&mut self, start: usize, close: u8, first: bool) -> Parse<bool> {
        self.skip_space();
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(false);
        }
        if first || self.peek().is_none() {
            return self.not_the_end_of(start).map(|()| true);
        }
        if self.peek() != Some(b',') {
            return Err(self.expected(&format!("\",\" or \"{}\"", char::from(close))));
        }
        let comma = self.at;
        self.at += 1;
        self.skip_space();
        if matches!(self.peek(), Some(b']' | b'}')) {
            let found = self.found();
            return Err(self.error_at(
                comma,
                format!("trailing comma: expected another item after \",\", found {found}"),
            ));
        }
        self.not_the_end_of(start).map(|()| true)
    }

    fn not_the_end_of(&self, start: usize) -> Parse<()> {
        if self.peek().is_some() {
            return Ok(());
        }
        let (line, column) = super::document::line_and_column(self.text, start);
        let kind = if self.text.as_bytes().get(start) == Some(&b'[') {
            "list"
        } else {
            "object"
        };
        Err(self.error_at(
            self.at,
            format!("the file ends inside the {kind} that starts in line {line}, column {column}"),
        ))
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// The run of letters, digits and signs here: a number or a literal, good or bad.
    fn word(&self) -> &'a str {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '+' | '-' | '.')))
            .unwrap_or(rest.len());
        &rest[..end]
    }

    /// What is here, for a message.
    fn found(&self) -> String {
        let rest = self.rest();
        match rest.chars().next() {
            None => "the end of the file".into(),
            Some('"') => quoted(rest[1..].split(['"', '\n']).next().unwrap_or("")),
            Some(_) if !self.word().is_empty() => quoted(self.word()),
            Some(c) => quoted(c.encode_utf8(&mut [0; 4])),
        }
    }

    fn expected(&self, what: &str) -> SyntaxError {
        let rest = self.rest();
        let hint = if rest.starts_with("//") || rest.starts_with("/*") || rest.starts_with('#') {
            "; JSON has no comments, use a key that starts with \"x-\""
        } else if rest.starts_with('\'') {
            "; strings are written in double quotes"
        } else {
            ""
        };
        self.error_at(
            self.at,
            format!("expected {what}, found {}{hint}", self.found()),
        )
    }

    fn error_at(&self, at: usize, message: String) -> SyntaxError {
        SyntaxError {
            at,
            place: self.place.clone(),
            message,
        }
    }
}

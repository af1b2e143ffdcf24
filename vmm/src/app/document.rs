//! A JSON text as a tree whose every value knows where in the text it starts.
//!
//! `serde_json` gives positions for errors alone, but most of what can be wrong with an app.json is
//! not an error of syntax. So the text is parsed once, by [`super::json`], into this tree; serde
//! reads the types from it ([`super::reader`]), and every later check finds its line through it.

use serde_json::Number;

use super::place::{Place, Step};
use super::quote::quoted;

/// A value, and the offset in bytes at which it starts.
#[derive(Clone, Debug)]
pub struct Node {
    /// Offset of the value's first byte.
    pub at: usize,
    /// What it is.
    pub value: Value,
}

/// What a value is.
#[derive(Clone, Debug)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string, without its escapes.
    String(String),
    /// A list.
    List(Vec<Node>),
    /// An object, in the text's order, each key once.
    Object(Vec<Member>),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub struct Member {
    /// Offset of the key's opening quote.
    pub key_at: usize,
    /// The key, without its escapes.
    pub key: String,
    /// The value.
    pub node: Node,
}

impl Node {
    /// The value as a message shows it after "is".
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Null => "null".into(),
            Value::Bool(value) => value.to_string(),
            Value::Number(number) => number.to_string(),
            Value::String(text) => quoted(text),
            Value::List(_) => "a list".into(),
            Value::Object(_) => "an object".into(),
        }
    }

    /// The value of `key`, if this is an object that has it.
    pub fn member(&self, key: &str) -> Option<&Member> {
        match &self.value {
            Value::Object(members) => members.iter().find(|member| member.key == key),
            _ => None,
        }
    }

    /// Whether it is an object.
    pub const fn is_object(&self) -> bool {
        matches!(self.value, Value::Object(_))
    }

    /// Its members, if it is an object.
    pub fn members(&self) -> &[Member] {
        match &self.value {
            Value::Object(members) => members,
            _ => &[],
        }
    }

    /// The value at `place`, or the innermost around it that there is, and how many steps lead to it.
    pub fn nearest(&self, place: &Place) -> (&Self, usize) {
        let mut node = self;
        for (count, step) in place.steps().iter().enumerate() {
            match node.step(step) {
                Some(child) => node = child,
                None => return (node, count),
            }
        }
        (node, place.steps().len())
    }

    /// Whether both are the same, wherever they are.
    pub fn says_what(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(one), Value::Bool(other)) => one == other,
            (Value::Number(one), Value::Number(other)) => one == other,
            (Value::String(one), Value::String(other)) => one == other,
            (Value::List(ones), Value::List(others)) => {
                let mut pairs = ones.iter().zip(others);
                ones.len() == others.len() && pairs.all(|(one, other)| one.says_what(other))
            }
            (Value::Object(ones), Value::Object(others)) => {
                let is_same = |one: &Member| {
                    let other = other.member(&one.key);
                    other.is_some_and(|other| one.node.says_what(&other.node))
                };
                ones.len() == others.len() && ones.iter().all(is_same)
            }
            _ => false,
        }
    }

    /// Has it, with all that is in it, begin so much further on.
    fn shift(&mut self, by: usize) {
        self.at += by;
        match &mut self.value {
            Value::List(items) => {
                for item in items {
                    item.shift(by);
                }
            }
            Value::Object(members) => {
                for member in members {
                    member.key_at += by;
                    member.node.shift(by);
                }
            }
            _ => {}
        }
    }

    fn step(&self, step: &Step) -> Option<&Self> {
        match (step, &self.value) {
            (Step::Key(key), _) => self.member(key).map(|member| &member.node),
            (Step::Index(index), Value::List(items)) => items.get(*index),
            (Step::Index(_), _) => None,
        }
    }

    /// Each value directly inside this one, with the step to it.
    fn children(&self) -> Vec<(Step, &Self)> {
        match &self.value {
            Value::List(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| (Step::Index(index), item))
                .collect(),
            Value::Object(members) => members
                .iter()
                .map(|member| (Step::Key(member.key.clone().into()), &member.node))
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// A text and its tree.
#[derive(Debug)]
pub struct Document {
    text: String,
    root: Node,
    /// The offset of its first byte: not 0 where values of several texts are put together.
    start: usize,
}

/// Which text a value is from, by its offset.
pub trait Origin {
    /// The text.
    fn document_at(&self, at: usize) -> &Document;
}

impl Origin for Document {
    fn document_at(&self, _: usize) -> &Document {
        self
    }
}

impl Document {
    pub(super) const fn new(text: String, root: Node) -> Self {
        Self {
            text,
            root,
            start: 0,
        }
    }

    /// The same, its first byte at an offset behind those of other texts.
    #[must_use]
    pub fn starting_at(mut self, start: usize) -> Self {
        self.root.shift(start);
        self.start += start;
        self
    }

    /// The offset of its first byte.
    pub const fn start(&self) -> usize {
        self.start
    }

    /// The offset behind its last byte.
    pub const fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// The text, as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The outermost value.
    pub const fn root(&self) -> &Node {
        &self.root
    }

    /// Line and column, both from 1, the column in characters.
    pub fn line_and_column(&self, at: usize) -> (usize, usize) {
        line_and_column(&self.text, at.saturating_sub(self.start))
    }

    /// Where the value at `place` starts, or the innermost value around it that the text has:
    /// a default has no line of its own.
    pub fn offset_of(&self, place: &Place) -> usize {
        self.root.nearest(place).0.at
    }

    /// The place of the value that starts at `at`.
    pub fn place_of(&self, at: usize) -> Place {
        let mut place = Place::root();
        let mut node = &self.root;
        // Children lie in the text's order and do not overlap: the last that starts at or before
        // `at` is the one around it.
        while node.at != at {
            let around = node
                .children()
                .into_iter()
                .rfind(|(_, child)| child.at <= at);
            let Some((step, child)) = around else { break };
            place.push(step);
            node = child;
        }
        place
    }

    /// The place of the object that has a key at `key_at`.
    pub fn place_around(&self, key_at: usize) -> Place {
        let mut place = Place::root();
        let mut node = &self.root;
        let has_key = |node: &Node| match &node.value {
            Value::Object(members) => members.iter().any(|member| member.key_at == key_at),
            _ => false,
        };
        while !has_key(node) {
            let mut children = node.children().into_iter();
            let Some((step, child)) = children.rfind(|(_, child)| child.at < key_at) else {
                break;
            };
            place.push(step);
            node = child;
        }
        place
    }

    /// Each key and each string in the text, without escapes, in no particular order.
    pub fn strings(&self) -> Vec<&str> {
        let mut strings = Vec::new();
        let mut rest = vec![&self.root];
        while let Some(node) = rest.pop() {
            match &node.value {
                Value::String(text) => strings.push(text.as_str()),
                Value::List(items) => rest.extend(items),
                Value::Object(members) => {
                    strings.extend(members.iter().map(|member| member.key.as_str()));
                    rest.extend(members.iter().map(|member| &member.node));
                }
                _ => {}
            }
        }
        strings
    }
}

/// Line and column, both from 1, the column in characters, of byte `at` of `text`.
pub fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let lines = before.bytes().filter(|byte| *byte == b'\n').count();
    let column = before
        .get(line_start..)
        .map_or(0, |line| line.chars().count());
    (lines + 1, column + 1)
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;

    const TEXT: &str = "{\n  \"é\": [1, {\"a\": \"\\/nix\"}],\n  \"b\": null\n}";

    fn document() -> Document {
        let parsed = json::parse(TEXT).expect("valid JSON");
        assert!(parsed.duplicates.is_empty());
        parsed.document
    }

    #[test]
    fn a_place_has_a_line_and_a_column_in_characters() {
        let document = document();
        let place = Place::root().key("é").index(1).key("a");
        assert_eq!(
            document.line_and_column(document.offset_of(&place)),
            (2, 18)
        );
    }

    #[test]
    fn a_place_that_is_not_there_is_found_at_its_parent() {
        let document = document();
        let absent = Place::root().key("é").index(1).key("zzz").index(4);
        let parent = Place::root().key("é").index(1);
        assert_eq!(document.offset_of(&absent), document.offset_of(&parent));
    }

    #[test]
    fn an_offset_finds_its_place_again() {
        let document = document();
        for place in [
            Place::root(),
            Place::root().key("é").index(0),
            Place::root().key("é").index(1).key("a"),
            Place::root().key("b"),
        ] {
            assert_eq!(document.place_of(document.offset_of(&place)), place);
        }
    }

    #[test]
    fn a_key_finds_its_object() {
        let document = document();
        let inner = TEXT.find("\"a\"").expect("a key");
        let place = Place::root().key("é").index(1);
        assert_eq!(document.place_around(inner), place);
        let last = TEXT.find("\"b\"").expect("a key");
        assert_eq!(document.place_around(last), Place::root());
    }

    #[test]
    fn behind_another_text_it_has_the_same_lines_and_places() {
        let place = Place::root().key("é").index(1).key("a");
        let moved = document().starting_at(1000);
        assert_eq!((moved.start(), moved.end()), (1000, 1000 + TEXT.len()));
        let at = moved.offset_of(&place);
        assert_eq!(at, document().offset_of(&place) + 1000);
        assert_eq!(moved.line_and_column(at), (2, 18));
        assert_eq!(moved.place_of(at), place);
        assert!(moved.root().says_what(document().root()));
        assert!(!moved.root().says_what(&moved.root().members()[0].node));
    }

    #[test]
    fn strings_come_without_their_escapes() {
        let document = document();
        let mut strings = document.strings();
        strings.sort_unstable();
        assert_eq!(strings, ["/nix", "a", "b", "é"]);
    }
}

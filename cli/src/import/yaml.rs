//! A YAML text as a tree that knows the file and the line of each value.
//!
//! The one thing to know: what a scalar is, is for its reader to say: `80` is a port, a string or a
//! number. Aliases are copies of what they name, as are values merged by `<<`, and all copies together
//! are bounded.

use std::collections::HashMap;
use std::rc::Rc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use saphyr_parser::{Event, Parser, ScalarStyle, Span};

/// Values in a file, with the copies that aliases are.
const MAX_VALUES: usize = 65_536;

/// Lists and mappings inside each other.
const MAX_DEPTH: usize = 64;

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Yaml {
    /// What messages call its file.
    pub file: Rc<str>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What it is.
    pub value: Value,
    /// What becomes of a value of another file that it is put over.
    pub over: Over,
}

/// What becomes of a value that another one is put over, by that one's tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Over {
    /// Both are put together, as far as they can be.
    #[default]
    Merged,
    /// It is replaced (`!override`).
    Replaced,
    /// It is taken away (`!reset`), and the other one as well.
    Removed,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing: no text, `~` or `null`.
    Null,
    /// A text, with or without quotes.
    Text(String),
    /// A list.
    List(Vec<Yaml>),
    /// A mapping, in the text's order, each key once.
    Map(Vec<(String, Yaml)>),
}

impl Yaml {
    /// The keys and values of a mapping; of anything else none.
    pub fn entries(&self) -> &[(String, Self)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The value of a mapping's key, if it is there and not null.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let (_, value) = self.entries().iter().find(|(own, _)| own == key)?;
        (value.value != Value::Null).then_some(value)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        let Value::Map(entries) = &mut self.value else {
            return None;
        };
        let (_, value) = entries.iter_mut().find(|(own, _)| own == key)?;
        Some(value)
    }

    /// Takes a key out of a mapping.
    pub fn remove(&mut self, key: &str) -> Option<Self> {
        let Value::Map(entries) = &mut self.value else {
            return None;
        };
        let at = entries.iter().position(|(own, _)| own == key)?;
        Some(entries.remove(at).1)
    }

    /// Whether both are the same, wherever they are.
    pub fn says_what(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::List(ones), Value::List(others)) => {
                let mut pairs = ones.iter().zip(others);
                ones.len() == others.len() && pairs.all(|(one, other)| one.says_what(other))
            }
            (Value::Map(ones), Value::Map(others)) => {
                let is_same = |(key, one): &(String, Self)| {
                    let other = others.iter().find(|(own, _)| own == key);
                    other.is_some_and(|(_, other)| one.says_what(other))
                };
                ones.len() == others.len() && ones.iter().all(is_same)
            }
            (one, other) => one == other,
        }
    }

    /// Its text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The items of a list, or itself as the only one.
    pub fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => std::slice::from_ref(self),
        }
    }
}

/// Reads a text that holds one document.
///
/// # Errors
/// It is no YAML, or more than a person writes.
pub fn parse(file: &str, text: &str) -> Result<Yaml> {
    let mut reader = Reader {
        file: file.into(),
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        values: 0,
    };
    loop {
        match reader.next()? {
            (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
            (Event::StreamEnd, _) => bail!("it is empty"),
            (event, span) => {
                let root = reader.value(event, span, 0)?;
                let is_over = |event: &Event<'_>| {
                    matches!(
                        event,
                        Event::DocumentEnd | Event::StreamEnd | Event::Nothing
                    )
                };
                while let Some(event) = reader.parser.next_event() {
                    let (event, span) = event.map_err(|error| wrong(&error))?;
                    ensure!(
                        is_over(&event),
                        "{}: a second document begins",
                        span.start.line()
                    );
                }
                return Ok(root);
            }
        }
    }
}

struct Reader<'a> {
    file: Rc<str>,
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    /// What has a name, and how many values it is.
    anchors: HashMap<usize, (Yaml, usize)>,
    values: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span)> {
        let event = self.parser.next_event().context("it ends too early")?;
        event.map_err(|error| wrong(&error))
    }

    /// The value that begins with `event`.
    fn value(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Yaml> {
        let (line, column) = (span.start.line(), span.start.col() + 1);
        ensure!(depth <= MAX_DEPTH, "{line}: more than {MAX_DEPTH} deep");
        let before = self.values;
        self.count(1, line)?;
        let over = over(&event);
        let (value, anchor) = match event {
            Event::Alias(id) => {
                let (copy, count) = self.anchors.get(&id).cloned().context("an unknown alias")?;
                self.count(count, line)?;
                (copy.value, 0)
            }
            Event::Scalar(text, style, anchor, _) => {
                let is_null = style == ScalarStyle::Plain
                    && ["", "~", "null", "Null", "NULL"].contains(&&*text);
                let value = if is_null {
                    Value::Null
                } else {
                    Value::Text(text.into_owned())
                };
                (value, anchor)
            }
            Event::SequenceStart(anchor, _) => (Value::List(self.list(depth)?), anchor),
            Event::MappingStart(anchor, _) => (Value::Map(self.map(depth)?), anchor),
            other => bail!("{line}: a value was expected, not {other:?}"),
        };
        let yaml = Yaml {
            file: Rc::clone(&self.file),
            line,
            column,
            value,
            over,
        };
        if anchor > 0 {
            self.anchors
                .insert(anchor, (yaml.clone(), self.values - before));
        }
        Ok(yaml)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Yaml>> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => items.push(self.value(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(String, Yaml)>> {
        let mut entries: Vec<(String, Yaml)> = Vec::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let line = span.start.line();
            let Value::Text(key) = self.value(event, span, depth + 1)?.value else {
                bail!("{line}: a key is no text");
            };
            let (event, span) = self.next()?;
            let value = self.value(event, span, depth + 1)?;
            if key == "<<" {
                merged.push(value);
            } else if entries.iter().any(|(other, _)| *other == key) {
                bail!("{line}: duplicate key {key:?}");
            } else {
                entries.push((key, value));
            }
        }
        for value in merged {
            merge(&mut entries, value)?;
        }
        Ok(entries)
    }

    fn count(&mut self, more: usize, line: usize) -> Result<()> {
        self.values += more;
        ensure!(
            self.values <= MAX_VALUES,
            "{line}: more than {MAX_VALUES} values with all aliases"
        );
        Ok(())
    }
}

/// What the tag of a value says of those that it is put over.
fn over(event: &Event<'_>) -> Over {
    let (Event::Scalar(.., tag) | Event::SequenceStart(_, tag) | Event::MappingStart(_, tag)) =
        event
    else {
        return Over::default();
    };
    let tag = tag.as_ref().filter(|tag| tag.handle == "!");
    match tag.map(|tag| tag.suffix.as_str()) {
        Some("reset") => Over::Removed,
        Some("override") => Over::Replaced,
        _ => Over::Merged,
    }
}

/// What `<<` names, below what is there.
fn merge(entries: &mut Vec<(String, Yaml)>, value: Yaml) -> Result<()> {
    match value.value {
        Value::Map(others) => {
            for (key, value) in others {
                if entries.iter().all(|(own, _)| *own != key) {
                    entries.push((key, value));
                }
            }
            Ok(())
        }
        Value::List(items) => items.into_iter().try_for_each(|item| merge(entries, item)),
        Value::Null | Value::Text(_) => bail!("{}: \"<<\" wants a mapping", value.line),
    }
}

fn wrong(error: &saphyr_parser::ScanError) -> anyhow::Error {
    let (line, column) = (error.marker().line(), error.marker().col() + 1);
    anyhow!("{line}:{column}: {}", error.info())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value as JSON has it, all scalars as strings.
    fn shown(yaml: &Yaml) -> String {
        match &yaml.value {
            Value::Null => "null".into(),
            Value::Text(text) => format!("{text:?}"),
            Value::List(items) => {
                let items: Vec<_> = items.iter().map(shown).collect();
                format!("[{}]", items.join(","))
            }
            Value::Map(entries) => {
                let entry = |(key, value): &(String, Yaml)| format!("{key:?}:{}", shown(value));
                let entries: Vec<_> = entries.iter().map(entry).collect();
                format!("{{{}}}", entries.join(","))
            }
        }
    }

    fn read(text: &str) -> Result<String, String> {
        let tree = parse("a.yml", text).map_err(|error| format!("{error:#}"))?;
        Ok(shown(&tree))
    }

    #[test]
    fn values_are_texts_lists_and_mappings() {
        for (text, expected) in [
            (
                "a: 1\nb: [x, 'y', \"z\"]\n",
                r#"{"a":"1","b":["x","y","z"]}"#,
            ),
            (
                "a:\nb: ~\nc: ''\nd: 'null'\n",
                r#"{"a":null,"b":null,"c":"","d":"null"}"#,
            ),
            ("---\na: yes\n...\n", r#"{"a":"yes"}"#),
            (
                "a: &x {b: 1, c: 2}\nd:\n  <<: *x\n  c: 3\n",
                r#"{"a":{"b":"1","c":"2"},"d":{"c":"3","b":"1"}}"#,
            ),
            (
                "a: &x {b: 1}\nc: &y {b: 2, d: 3}\ne: {<<: [*x, *y]}\n",
                r#"{"a":{"b":"1"},"c":{"b":"2","d":"3"},"e":{"b":"1","d":"3"}}"#,
            ),
            ("a: |\n  one\n  two\n", r#"{"a":"one\ntwo\n"}"#),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn each_value_knows_its_line() {
        let tree = parse("a.yml", "a: 1\nb:\n  - x\n  - {c: d}\n").unwrap();
        let Value::Map(entries) = &tree.value else {
            panic!("a mapping");
        };
        assert_eq!((entries[0].1.line, entries[0].1.column), (1, 4));
        let Value::List(items) = &entries[1].1.value else {
            panic!("a list");
        };
        assert_eq!((items[1].line, items[1].column), (4, 5));
    }

    #[test]
    fn what_is_no_file_for_people_is_an_error() {
        for text in [
            "",
            "a: [",
            "a: 1\na: 2\n",
            "a: 1\n---\nb: 2\n",
            "{[a]: b}",
            "a: *x\n",
            "<<: 1\n",
        ] {
            assert!(read(text).is_err(), "{text:?}");
        }
        assert!(read(&"[".repeat(100)).is_err());
    }

    #[test]
    fn copies_of_copies_end() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for nth in 1..9 {
            let alias = format!("*a{}", nth - 1);
            let items = vec![alias; 10].join(", ");
            text = format!("{text}a{nth}: &a{nth} [{items}]\n");
        }
        let error = read(&text).unwrap_err();
        assert!(error.contains("more than 65536 values"), "{error}");
    }
}

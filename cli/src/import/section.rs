//! A mapping that is converted key by key, so that what nobody has taken is named.

use std::cell::RefCell;
use std::collections::BTreeSet;

use vmm::app::{Place, Problem};

use super::yaml::{Value, Yaml};

/// What could not be converted, or only almost, in the order in which it was met.
#[derive(Default)]
pub struct Remarks {
    found: RefCell<Vec<Problem>>,
}

impl Remarks {
    /// Says something about a value.
    pub fn say(&self, yaml: &Yaml, place: &Place, message: impl Into<String>) {
        self.found.borrow_mut().push(Problem {
            file: yaml.file.as_ref().into(),
            line: Some(yaml.line),
            column: Some(yaml.column),
            path: place.to_string(),
            message: message.into(),
        });
    }

    /// All that was said, by files and lines. What several services have of one anchor is said of the first.
    pub fn into_sorted(self) -> Vec<Problem> {
        let mut found = self.found.into_inner();
        let place = |one: &Problem| (one.line, one.column);
        found.sort_by(|one, other| {
            let files = one.file.cmp(&other.file);
            files.then_with(|| place(one).cmp(&place(other)))
        });
        let mut said = BTreeSet::new();
        found.retain(|one| said.insert((one.file.clone(), place(one), one.message.clone())));
        found
    }
}

/// A mapping, and which of its keys have been taken.
pub struct Section<'a> {
    /// Where it is.
    pub place: Place,
    /// Where it is said what cannot be converted.
    pub remarks: &'a Remarks,
    entries: &'a [(String, Yaml)],
    taken: RefCell<BTreeSet<&'a str>>,
}

impl<'a> Section<'a> {
    /// The mapping at `place`. What is none is named, and has no keys.
    pub fn of(yaml: &'a Yaml, place: Place, remarks: &'a Remarks) -> Self {
        let entries: &[_] = match &yaml.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            _ => {
                remarks.say(yaml, &place, "must be a mapping");
                &[]
            }
        };
        Self {
            place,
            remarks,
            entries,
            taken: RefCell::default(),
        }
    }

    /// The value of a key, which is converted by whoever asks. One that is null is none.
    pub fn take(&self, key: &str) -> Option<&'a Yaml> {
        let (key, value) = self.entries.iter().find(|(own, _)| own == key)?;
        self.taken.borrow_mut().insert(key);
        (value.value != Value::Null).then_some(value)
    }

    /// The value of a key, which somebody else converts, or nobody.
    pub fn get(&self, key: &str) -> Option<&'a Yaml> {
        let (_, value) = self.entries.iter().find(|(own, _)| own == key)?;
        (value.value != Value::Null).then_some(value)
    }

    /// Its text.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        let yaml = self.take(key)?;
        let text = yaml.text();
        if text.is_none() {
            self.say(key, yaml, "must be a text");
        }
        text
    }

    /// What `read` makes of its text; a text of which that makes nothing is named, as not being
    /// `wanted`.
    pub fn read<T>(
        &self,
        key: &str,
        wanted: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let yaml = self.take(key)?;
        let read = yaml.text().and_then(read);
        if read.is_none() {
            self.say(key, yaml, format!("is not converted: it is not {wanted}"));
        }
        read
    }

    /// Whether it is true.
    pub fn flag(&self, key: &str) -> bool {
        self.read(key, "true or false", boolean).unwrap_or(false)
    }

    /// Its texts: those of a list, or its own.
    pub fn texts(&self, key: &str) -> Vec<&'a str> {
        self.take(key).map_or_else(Vec::new, |yaml| {
            let texts = yaml.items().iter().map(|item| (item, item.text()));
            texts
                .filter_map(|(item, text)| {
                    if text.is_none() {
                        self.say(key, item, "must be a text");
                    }
                    text
                })
                .collect()
        })
    }

    /// The section that is its value.
    pub fn section(&self, key: &str) -> Option<Section<'a>> {
        let yaml = self.take(key)?;
        Some(Section::of(yaml, self.at(key), self.remarks))
    }

    /// All keys and their values, all of them taken.
    pub fn take_all(&self) -> &'a [(String, Yaml)] {
        self.taken
            .borrow_mut()
            .extend(self.entries.iter().map(|(key, _)| key.as_str()));
        self.entries
    }

    /// Where its value is.
    pub fn at(&self, key: &str) -> Place {
        self.place.clone().key(key.to_owned())
    }

    /// Says something about a key's value.
    pub fn say(&self, key: &str, yaml: &Yaml, message: impl Into<String>) {
        self.remarks.say(yaml, &self.at(key), message);
    }

    /// Takes a key that asks for what is so in any case.
    pub fn leave_if(&self, key: &str, is_so: impl FnOnce(&str) -> bool) {
        let is_so = |yaml: &&Yaml| yaml.text().is_some_and(is_so);
        if self.get(key).as_ref().is_some_and(is_so) {
            self.take(key);
        }
    }

    /// Takes a key for which there is nothing to do, and says why.
    pub fn leave(&self, key: &str, why: &str) {
        if let Some(yaml) = self.take(key) {
            self.say(key, yaml, format!("is left out: {why}"));
        }
    }

    /// Names all keys that nobody has taken. Those of the user's own (`x-`) mean nothing to anyone.
    pub fn finish(self) {
        let taken = self.taken.borrow();
        for (key, yaml) in self.entries {
            if !taken.contains(key.as_str()) && !key.starts_with("x-") {
                self.say(key, yaml, "is not converted: mvm has nothing like it");
            }
        }
    }
}

/// A truth as YAML 1.1 and 1.2 have it.
pub fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

//! What is in a list or an object, as serde sees it: without the user's own keys, without what an
//! earlier round found bad, and with a stand-in for what it found missing.

use std::slice::Iter;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess};

use super::node::Reader;
use crate::app::blank::Blank;
use crate::app::document::{Member, Node, Value};
use crate::app::fault::{Cause, Fault};

/// The items of a list.
pub struct Items<'d> {
    reader: Reader<'d>,
    items: Iter<'d, Node>,
}

impl<'d> Items<'d> {
    pub fn new(reader: Reader<'d>, items: &'d [Node]) -> Self {
        Self {
            reader,
            items: items.iter(),
        }
    }
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let state = self.reader.state;
        let Some(node) = self.items.by_ref().find(|node| !state.is_left_out(node)) else {
            return Ok(None);
        };
        // A bad item is blank if it can be, not left out: the places of those after it do not move.
        if self.reader.state.is_bad(node) {
            return seed.deserialize(Blank).map(Some);
        }
        seed.deserialize(self.reader.inside(node)).map(Some)
    }
}

/// The entries of an object: all of them, or those that a section has.
pub struct Entries<'d> {
    reader: Reader<'d>,
    members: Iter<'d, Member>,
    /// The keys of a section; none for an object with free keys.
    fields: Option<&'static [&'static str]>,
    /// The key that a short form stands for, not yet given.
    short: Option<&'static str>,
    /// Missing keys that get a stand-in.
    blank: Vec<&'static str>,
    value: Option<&'d Node>,
}

impl<'d> Entries<'d> {
    pub fn all(reader: Reader<'d>, members: &'d [Member]) -> Self {
        Self {
            reader,
            members: members.iter(),
            fields: None,
            short: None,
            blank: Vec::new(),
            value: None,
        }
    }

    pub fn section(
        reader: Reader<'d>,
        members: &'d [Member],
        fields: &'static [&'static str],
    ) -> Self {
        let missing = reader.state.missing.borrow();
        let here = missing.iter().filter(|(at, _)| *at == reader.node.at);
        let blank = here.map(|(_, key)| *key).collect();
        Self {
            fields: Some(fields),
            blank,
            ..Self::all(reader, members)
        }
    }

    pub fn short(reader: Reader<'d>, key: &'static str) -> Self {
        Self {
            short: Some(key),
            ..Self::all(reader, &[])
        }
    }

    /// The next entry that the type is to see.
    fn next_member(&mut self) -> Option<&'d Member> {
        for member in self.members.by_ref() {
            let state = self.reader.state;
            let is_seen = match self.fields {
                Some(_) if is_free(&member.key, self.reader.is_root) => false,
                Some(fields) if !fields.contains(&member.key.as_str()) => {
                    state.note_unknown(self.reader.node, member, fields);
                    false
                }
                _ => !state.is_bad(&member.node),
            };
            if is_seen {
                return Some(member);
            }
        }
        None
    }
}

/// Whether a key of a section is the user's own.
fn is_free(key: &str, is_root: bool) -> bool {
    key.starts_with("x-") || (is_root && key == "$schema")
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let key = if let Some(key) = self.short.take() {
            self.value = Some(self.reader.node);
            key
        } else if let Some(member) = self.next_member() {
            // An absent key is the one way to say "not set"; only an environment variable has another.
            if self.fields.is_some() && matches!(member.node.value, Value::Null) {
                let message = "must not be null; leave the key out for its default";
                return Err(Fault {
                    at: None,
                    cause: Cause::Message(message.into()),
                }
                .of(&member.node));
            }
            self.value = Some(&member.node);
            member.key.as_str()
        } else if let Some(key) = self.blank.pop() {
            self.value = None;
            key
        } else {
            return Ok(None);
        };
        seed.deserialize(StrDeserializer::<Fault>::new(key))
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        match self.value.take() {
            Some(node) => seed.deserialize(self.reader.inside(node)),
            None => seed.deserialize(Blank),
        }
    }
}

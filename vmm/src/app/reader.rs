//! A serde deserializer over a [`Document`]'s tree that keeps going after an error.
//!
//! The derives stay the only statement of what a file may hold; this reader adds what they cannot:
//! the place of each fault, all faults in one run, free `x-` keys in every section, and sections
//! in short form ([`super::short_form`]). serde itself stops at the first error, so the tree is
//! read again for each, with the bad value left out or blank; the count of rounds is bounded.

mod entries;
mod node;

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde::de::DeserializeOwned;

use super::MAX_PROBLEMS;
use super::document::{Member, Node, Origin};
use super::fault::Cause;
use super::place::{Place, Step};
use super::quote::quoted;
use super::suggest;
use node::Reader;

/// Something wrong with the structure of a file.
#[derive(Debug)]
pub struct Finding {
    /// Offset to show.
    pub at: usize,
    /// The value it is about, to show.
    pub place: Place,
    /// The value that is not what the file says, because of this.
    pub spoilt: Option<Place>,
    /// What is allowed and what was found.
    pub message: String,
}

impl Finding {
    /// Has it spoil what its value is in, and returns what is left out for that; none if that is all.
    fn widen(&mut self) -> Option<Place> {
        let spoilt = self.spoilt.as_mut()?;
        let inner = spoilt.clone();
        match spoilt.pop()? {
            Step::Index(_) => Some(inner),
            Step::Key(_) => (!spoilt.steps().is_empty()).then(|| spoilt.clone()),
        }
    }
}

/// Reads a whole file as a `T`: a tree with values of `origin`, where each fault is found. With
/// findings, the `T` holds stand-ins and is good for checks alone.
pub fn read<T: DeserializeOwned>(origin: &dyn Origin, root: &Node) -> (Option<T>, Vec<Finding>) {
    let state = State::default();
    read_from(origin, Reader::new(root, &state))
}

/// Reads a section as a `T`: a tree that was put together from values of `origin`. `others`: keys that
/// the section may have there, and not in the tree.
pub fn read_section<T: DeserializeOwned>(
    origin: &dyn Origin,
    section: &Node,
    others: &'static [&'static str],
) -> (Option<T>, Vec<Finding>) {
    let state = State {
        others: Some((section.at, others)),
        ..State::default()
    };
    read_from(origin, Reader::new(section, &state).inside(section))
}

fn read_from<T: DeserializeOwned>(
    origin: &dyn Origin,
    reader: Reader<'_>,
) -> (Option<T>, Vec<Finding>) {
    let (root, state) = (reader.node, reader.state);
    let mut findings: Vec<Finding> = Vec::new();
    let value = loop {
        state.unknown.borrow_mut().clear();
        let fault = match T::deserialize(reader) {
            Ok(value) => break Some(value),
            Err(fault) => fault,
        };
        let at = fault.at.unwrap_or(root.at);
        let place = origin.document_at(at).place_of(at);
        let (spoilt, new) = match fault.cause {
            Cause::Blank => {
                // What cannot be blank is left out: an item of a list, or what it is in.
                let Some(finding) = findings.last_mut() else {
                    break None;
                };
                let document = origin.document_at(finding.at);
                let Some(place) = finding.widen() else {
                    break None;
                };
                let at = document.offset_of(&place);
                state.bad.borrow_mut().insert(at);
                state.left_out.borrow_mut().insert(at);
                continue;
            }
            Cause::Missing(key) => (
                place.clone().key(key),
                state.missing.borrow_mut().insert((at, key)),
            ),
            _ => (
                place.clone(),
                at != root.at && state.bad.borrow_mut().insert(at),
            ),
        };
        // A key whose value was left out as bad is not missing, and has been reported.
        if !findings
            .iter()
            .any(|finding| finding.spoilt.as_ref() == Some(&spoilt))
        {
            let message = fault.message();
            findings.push(Finding {
                at,
                place,
                spoilt: Some(spoilt),
                message,
            });
        }
        if !new || findings.len() >= MAX_PROBLEMS {
            break None;
        }
    };
    findings.extend(state.unknown.take().into_iter().map(|unknown| {
        Finding {
            at: unknown.key_at,
            place: origin
                .document_at(unknown.key_at)
                .place_around(unknown.key_at),
            spoilt: None,
            message: unknown.message,
        }
    }));
    (value, findings)
}

/// What the earlier rounds found, and the unknown keys of this one.
#[derive(Default)]
struct State {
    unknown: RefCell<Vec<UnknownKey>>,
    bad: RefCell<BTreeSet<usize>>,
    /// Those that cannot be blank either.
    left_out: RefCell<BTreeSet<usize>>,
    missing: RefCell<BTreeSet<(usize, &'static str)>>,
    /// Where the object is that may have more keys than its type has, and these.
    others: Option<(usize, &'static [&'static str])>,
}

impl State {
    fn is_bad(&self, node: &Node) -> bool {
        self.bad.borrow().contains(&node.at)
    }

    fn is_left_out(&self, node: &Node) -> bool {
        self.left_out.borrow().contains(&node.at)
    }

    fn note_unknown(&self, object: &Node, member: &Member, fields: &'static [&'static str]) {
        let mut unknown = self.unknown.borrow_mut();
        if unknown.len() < MAX_PROBLEMS {
            let others = self.others.filter(|(at, _)| *at == object.at);
            let others = others.map_or(&[][..], |(_, others)| others);
            let instead = suggest::instead_of(&member.key, &[fields, others].concat());
            unknown.push(UnknownKey {
                key_at: member.key_at,
                message: format!("unknown key {}{instead}", quoted(&member.key)),
            });
        }
    }
}

struct UnknownKey {
    key_at: usize,
    message: String,
}

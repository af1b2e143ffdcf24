//! A file over another one, as the Compose Specification has it ("Merge"), by the keys of `compose.json`.
//!
//! The one thing to know: mappings are put together key by key, lists one behind the other, each item
//! once. What is at one place of a machine, or at one port of the host, is there once: the upper file's
//! takes the other's place. Commands are whole. A null takes away what is below it.

use super::keys::OF_MIXED_FORM;
use super::texts::Texts;
use crate::app::document::{Member, Node, Value};
use crate::app::text_form::Item;
use crate::app::{Port, reader};

/// Lists of a service of which the upper file's takes the other's place.
const WHOLE: [&str; 3] = ["app.entrypoint", "app.args", "healthcheck.exec"];

/// Lists of a service whose items are at a place of the machine.
const MOUNTS: [&str; 3] = ["shares", "volumes", "tmpfs"];

/// Where a null is a value: it takes a variable away that the machine would have.
const OF_NULLS: &str = "app.env";

/// Keys of which one alone can be: what a check does, and what a secret's value comes from.
const CHECKS: [&str; 5] = ["exec", "http", "tcp", "unix", "disable"];
const VALUES: [&str; 4] = ["source", "env", "command", "loadCredential"];

/// The whole file `over` on top of `under`.
pub fn file(texts: &Texts, under: Node, over: Node) -> Node {
    let overlay = Overlay(texts);
    objects(under, over, |key, under, over| match key {
        "services" => objects(under, over, |_, under, over| overlay.service(under, over)),
        "defaults" => overlay.service(under, over),
        _ => overlay.merge(key, under, over),
    })
}

/// Puts the members of two objects together, those of one key by `merge`. Anything else is `over` alone.
fn objects(mut under: Node, over: Node, merge: impl Fn(&str, Node, Node) -> Node) -> Node {
    let (Value::Object(members), true) = (&mut under.value, over.is_object()) else {
        return over;
    };
    for member in into_members(over) {
        match members.iter().position(|own| own.key == member.key) {
            None => members.push(member),
            Some(at) if matches!(member.node.value, Value::Null) => {
                members.remove(at);
            }
            Some(at) => {
                let own = members[at].node.clone();
                members[at].node = merge(&member.key, own, member.node);
            }
        }
    }
    under
}

fn into_members(node: Node) -> Vec<Member> {
    match node.value {
        Value::Object(members) => members,
        _ => Vec::new(),
    }
}

struct Overlay<'a>(&'a Texts);

impl Overlay<'_> {
    fn service(&self, mut under: Node, over: Node) -> Node {
        make_room(&mut under, &over);
        objects(under, over, |key, under, over| self.merge(key, under, over))
    }

    /// `path`: the keys of the service that lead to the value.
    fn merge(&self, path: &str, mut under: Node, mut over: Node) -> Node {
        if OF_MIXED_FORM.contains(&path) && under.is_object() != over.is_object() {
            (under, over) = (by_name(under), by_name(over));
        }
        match (&mut under.value, over.value) {
            (Value::List(lower), Value::List(upper)) if !WHOLE.contains(&path) => {
                self.append(path, lower, upper);
                under
            }
            (Value::Object(lower), Value::Object(upper)) if path == OF_NULLS => {
                for member in upper {
                    lower.retain(|own| own.key != member.key);
                    lower.push(member);
                }
                under
            }
            (_, value) => {
                let over = Node { at: over.at, value };
                objects(under, over, |key, under, over| {
                    self.merge(&format!("{path}.{key}"), under, over)
                })
            }
        }
    }

    /// Adds items, each in the place of what it stands for.
    fn append(&self, path: &str, lower: &mut Vec<Node>, upper: Vec<Node>) {
        for item in upper {
            let is_same = |own: &Node| match path {
                "ports" => match (self.port(own), self.port(&item)) {
                    (Some(one), Some(other)) => one == other,
                    _ => false,
                },
                _ if MOUNTS.contains(&path) => {
                    place(own).is_some_and(|own| place(&item) == Some(own))
                }
                _ => own.says_what(&item),
            };
            match lower.iter().position(is_same) {
                Some(at) => lower[at] = item,
                None => lower.push(item),
            }
        }
    }

    /// A port, if it is one.
    fn port(&self, node: &Node) -> Option<Port> {
        let (port, findings) = reader::read_section::<Item<Port>>(self.0, node, &[]);
        port.filter(|_| findings.is_empty()).map(|Item(port)| port)
    }
}

/// Takes away of a service what cannot be beside what is put over it.
fn make_room(under: &mut Node, over: &Node) {
    let Value::Object(members) = &mut under.value else {
        return;
    };
    let mounts = |key| {
        over.member(key)
            .map_or(&[][..], |member| items(&member.node))
    };
    for member in members {
        let key = member.key.as_str();
        if MOUNTS.contains(&key) {
            let others = MOUNTS.into_iter().filter(|other| *other != key);
            let taken: Vec<_> = others.flat_map(mounts).filter_map(place).collect();
            if let Value::List(items) = &mut member.node.value {
                items.retain(|item| place(item).is_none_or(|place| !taken.contains(&place)));
            }
        }
        let Some(over) = over.member(key) else {
            continue;
        };
        if key == "healthcheck" {
            take_alternatives(&mut member.node, &over.node, &CHECKS);
        }
        if let ("secrets", Value::Object(secrets)) = (key, &mut member.node.value) {
            for secret in secrets {
                if let Some(over) = over.node.member(&secret.key) {
                    take_alternatives(&mut secret.node, &over.node, &VALUES);
                }
            }
        }
    }
}

/// Takes `keys` away where one of them is put over it.
fn take_alternatives(under: &mut Node, over: &Node, keys: &[&str]) {
    let is_one = |member: &Member| keys.contains(&member.key.as_str());
    if let Value::Object(members) = &mut under.value
        && over.members().iter().any(is_one)
    {
        members.retain(|member| !is_one(member));
    }
}

fn items(node: &Node) -> &[Node] {
    match &node.value {
        Value::List(items) => items,
        _ => &[],
    }
}

/// Where in the machine an item of [`MOUNTS`] is: its own text in short form. Nowhere, it is known by its
/// name.
fn place(item: &Node) -> Option<&str> {
    let of = |key| match &item.member(key)?.node.value {
        Value::String(text) => Some(text.as_str()),
        _ => None,
    };
    match &item.value {
        Value::String(text) => Some(text),
        _ => of("mountPoint").or_else(|| of("name")),
    }
}

/// A list of names as the object that says nothing more of each.
fn by_name(node: Node) -> Node {
    let Value::List(items) = node.value else {
        return node;
    };
    let member = |item: Node| {
        let Value::String(key) = item.value else {
            return None;
        };
        let node = Node {
            at: item.at,
            value: Value::Object(Vec::new()),
        };
        Some(Member {
            key_at: item.at,
            key,
            node,
        })
    };
    let members = items.into_iter().filter_map(member).collect();
    Node {
        at: node.at,
        value: Value::Object(members),
    }
}

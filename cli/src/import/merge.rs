//! Values of one file over those of another: mappings key by key, lists one behind the other, as in the
//! Compose Specification ("Merge").

use super::yaml::{Over, Value, Yaml};
use super::{service, words};

/// Lists of which the service's own takes the place of the other.
const WHOLE: [&str; 3] = ["command", "entrypoint", "test"];

/// Lists that are mappings, too: of `NAME=TEXT`.
const OF_PAIRS: [&str; 5] = ["environment", "labels", "sysctls", "annotations", "args"];

/// Lists that are mappings, too: of names.
const OF_NAMES: [&str; 2] = ["depends_on", "networks"];

/// Puts `own` over `base`, which are values of the key; of a whole file, of none.
pub fn merge(key: &str, base: &mut Yaml, own: Yaml) {
    if own.over == Over::Replaced {
        *base = own;
        return;
    }
    let (lower, upper) = (as_map(key, base), as_map(key, &own));
    if let (Some(mut entries), Some(upper)) = (lower, upper) {
        for (key, value) in upper {
            if value.over == Over::Removed {
                entries.retain(|(other, _)| *other != key);
                continue;
            }
            match entries.iter_mut().find(|(other, _)| *other == key) {
                Some((_, lower)) => merge(&key, lower, value),
                None => entries.push((key, value)),
            }
        }
        base.value = Value::Map(entries);
        return;
    }
    match (&mut base.value, own.value) {
        (Value::List(lower), Value::List(upper)) if !WHOLE.contains(&key) => {
            for item in upper {
                match lower.iter().position(|other| is_same(key, other, &item)) {
                    Some(at) => lower[at] = item,
                    None => lower.push(item),
                }
            }
        }
        (_, value) => {
            *base = Yaml { value, ..own };
        }
    }
}

/// Whether an item of a list stands for another one.
fn is_same(key: &str, one: &Yaml, other: &Yaml) -> bool {
    let name = |item| match key {
        "volumes" => target(item).map(str::to_owned),
        "ports" => service::port_of(item),
        _ => None,
    };
    match (name(one), name(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one.says_what(other),
    }
}

/// Where an item of `volumes` is mounted.
fn target(item: &Yaml) -> Option<&str> {
    match item.text() {
        Some(text) => words::split(text).get(1).copied(),
        None => item.get("target")?.text(),
    }
}

/// The entries of a mapping, or of a list that stands for one.
fn as_map(key: &str, yaml: &Yaml) -> Option<Vec<(String, Yaml)>> {
    let with = |item: &Yaml, value| Yaml {
        value,
        ..item.clone()
    };
    match &yaml.value {
        Value::Map(entries) => Some(entries.clone()),
        Value::List(items) if OF_PAIRS.contains(&key) => {
            let pair = |item: &Yaml| {
                let (name, value) = match item.text()?.split_once('=') {
                    Some((name, text)) => (name, Value::Text(text.into())),
                    None => (item.text()?, Value::Null),
                };
                Some((name.to_owned(), with(item, value)))
            };
            items.iter().map(pair).collect()
        }
        Value::List(items) if OF_NAMES.contains(&key) => {
            let named = |item: &Yaml| Some((item.text()?.to_owned(), with(item, Value::Null)));
            items.iter().map(named).collect()
        }
        _ => None,
    }
}

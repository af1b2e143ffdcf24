//! `include`: services, networks, volumes and the like of other files, each with a folder of its own.
//!
//! The one thing to know: what comes out is one file in one folder, so paths that are relative to a
//! file's own folder are written as they are from there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use vmm::app::Place;

use super::merge::merge;
use super::section::Remarks;
use super::yaml::{self, Value, Yaml};
use super::{extends, words};

/// What a file has of those that it includes.
const INCLUDED: [&str; 5] = ["services", "networks", "volumes", "configs", "secrets"];

/// What is of no use outside of them.
const OWN: [&str; 2] = ["name", "version"];

/// Puts what `file` includes beside what it says itself. What cannot be is named. `around`: the files that
/// include this one, and itself.
pub fn resolve(file: &mut Yaml, folder: &Path, around: &[PathBuf], remarks: &Remarks) {
    let Some(list) = file.remove("include") else {
        return;
    };
    let place = Place::root().key("include");
    for (nth, item) in list.items().iter().enumerate() {
        let place = place.clone().index(nth);
        match part(item, folder, around, remarks) {
            Ok((part, prefix)) => {
                tell_variables(item, folder, &prefix, &place, remarks);
                take_over(file, part, remarks);
            }
            Err(error) => remarks.say(item, &place, format!("is not converted: {error:#}")),
        }
    }
}

/// What an item includes, with paths as they are from `folder`; and its own folder from there.
fn part(
    item: &Yaml,
    folder: &Path,
    around: &[PathBuf],
    remarks: &Remarks,
) -> Result<(Yaml, PathBuf)> {
    let named = item.get("path").unwrap_or(item);
    let paths: Vec<&str> = named.items().iter().filter_map(Yaml::text).collect();
    let first = paths.first().context("it names no file")?;
    let directory = item.get("project_directory").and_then(Yaml::text);
    for path in paths.iter().chain(&directory) {
        ensure!(!words::has_variable(path), "{path} has a variable");
    }
    let prefix = match directory {
        Some(directory) => Path::new(directory),
        None => Path::new(first).parent().unwrap_or(Path::new("")),
    };
    let own_folder = folder.join(prefix);
    let mut whole: Option<Yaml> = None;
    for path in &paths {
        let label = path.strip_prefix("./").unwrap_or(path).to_owned();
        let file = real(&folder.join(path));
        ensure!(!around.contains(&file), "{label} is included by itself");
        let text = fs::read_to_string(&file);
        let text = text.with_context(|| format!("cannot read {label}"))?;
        let mut tree = yaml::parse(&label, &text).with_context(|| label.clone())?;
        extends::resolve(&mut tree, &own_folder, remarks);
        resolve(&mut tree, &own_folder, &[around, &[file]].concat(), remarks);
        match &mut whole {
            None => whole = Some(tree),
            Some(under) => merge("", under, tree),
        }
    }
    let Some(mut whole) = whole else {
        bail!("it names no file");
    };
    move_paths(&mut whole, prefix);
    Ok((whole, prefix.to_owned()))
}

/// The file itself, whatever leads to it.
pub fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Variables of its own are not those of the `compose.json`.
fn tell_variables(item: &Yaml, folder: &Path, prefix: &Path, place: &Place, remarks: &Remarks) {
    let is_elsewhere = prefix != Path::new("") && prefix != Path::new(".");
    let is_beside = is_elsewhere && folder.join(prefix).join(".env").exists();
    if item.get("env_file").is_some() || is_beside {
        let message =
            "has variables of its own, which belong into the .env beside the compose.json";
        remarks.say(item, place, message);
    }
}

/// Puts sections of a file beside those of the one that includes it.
fn take_over(file: &mut Yaml, part: Yaml, remarks: &Remarks) {
    let Value::Map(sections) = part.value else {
        return;
    };
    for (key, section) in sections {
        if !INCLUDED.contains(&key.as_str()) {
            if !OWN.contains(&key.as_str()) && !key.starts_with("x-") {
                let place = Place::root().key(key);
                remarks.say(
                    &section,
                    &place,
                    "is not converted: mvm has nothing like it",
                );
            }
            continue;
        }
        let Value::Map(entries) = &mut file.value else {
            return;
        };
        let Some(at) = entries.iter().position(|(own, _)| *own == key) else {
            entries.push((key, section));
            continue;
        };
        if let (Value::Map(own), Value::Map(others)) = (&mut entries[at].1.value, section.value) {
            put_beside(&key, own, others, remarks);
        }
    }
}

fn put_beside(
    key: &str,
    own: &mut Vec<(String, Yaml)>,
    others: Vec<(String, Yaml)>,
    remarks: &Remarks,
) {
    for (name, other) in others {
        match own.iter().find(|(own, _)| *own == name) {
            None => own.push((name, other)),
            // What two files include is there once.
            Some((_, there)) if there.says_what(&other) => {}
            Some((_, there)) => {
                let place = Place::root().key(key.to_owned()).key(name);
                let Yaml {
                    file, line, column, ..
                } = there;
                let message = format!("is not converted: it is in {file}:{line}:{column}, too");
                remarks.say(&other, &place, message);
            }
        }
    }
}

/// Has all paths of a file begin in the folder that `prefix` leads from to its own.
fn move_paths(file: &mut Yaml, prefix: &Path) {
    for key in ["configs", "secrets"] {
        for value in values_mut(file.get_mut(key)) {
            move_path_of(value, "file", prefix);
        }
    }
    for service in values_mut(file.get_mut("services")) {
        for item in items_mut(service.get_mut("env_file")) {
            move_path(item, prefix);
            move_path_of(item, "path", prefix);
        }
        for item in items_mut(service.get_mut("volumes")) {
            move_mount(item, prefix);
        }
    }
}

/// A volume by its name is no path.
fn move_mount(item: &mut Yaml, prefix: &Path) {
    if item.text().is_some_and(|text| text.starts_with('.')) {
        move_path(item, prefix);
    } else if item.get("type").and_then(Yaml::text) == Some("bind") {
        move_path_of(item, "source", prefix);
    }
}

fn move_path_of(yaml: &mut Yaml, key: &str, prefix: &Path) {
    if let Some(path) = yaml.get_mut(key) {
        move_path(path, prefix);
    }
}

/// One that is absolute, or of a folder that is not known here, stays.
fn move_path(path: &mut Yaml, prefix: &Path) {
    if let Value::Text(text) = &mut path.value
        && !text.starts_with(['/', '~', '$'])
    {
        *text = moved(text, prefix);
    }
}

fn moved(text: &str, prefix: &Path) -> String {
    let prefix = prefix.to_string_lossy();
    let prefix = prefix
        .strip_prefix("./")
        .unwrap_or(&prefix)
        .trim_end_matches('/');
    let own = text.strip_prefix("./").unwrap_or(text);
    match prefix {
        "" | "." => text.into(),
        _ if prefix.starts_with('/') => format!("{prefix}/{own}"),
        _ => format!("./{prefix}/{own}"),
    }
}

fn values_mut(yaml: Option<&mut Yaml>) -> impl Iterator<Item = &mut Yaml> {
    let entries = yaml.and_then(|yaml| match &mut yaml.value {
        Value::Map(entries) => Some(entries),
        _ => None,
    });
    entries.into_iter().flatten().map(|(_, value)| value)
}

fn items_mut(yaml: Option<&mut Yaml>) -> &mut [Yaml] {
    match yaml {
        None => &mut [],
        Some(Yaml {
            value: Value::List(items),
            ..
        }) => items,
        Some(yaml) => std::slice::from_mut(yaml),
    }
}

//! A service's files: folders of the host, volumes, secrets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use serde_json::{Map, Value, json};

use super::known::Known;
use super::ordered::Ordered;
use super::section::Section;
use super::yaml::Yaml;
use super::{tmpfs, words};

/// What is mounted where.
struct Mount<'a> {
    source: &'a str,
    target: &'a str,
    is_read_only: bool,
}

/// Converts `volumes`, `secrets` and `configs`.
pub fn convert(service: &Section<'_>, known: &Known<'_>, converted: &mut Ordered) {
    let (mut shares, mut volumes) = (Vec::new(), Vec::new());
    let mut in_memory = tmpfs::convert(service);
    let is_read_only = tmpfs::is_read_only(service);
    for (nth, item) in service
        .take("volumes")
        .into_iter()
        .flat_map(Yaml::items)
        .enumerate()
    {
        let place = service.at("volumes").index(nth);
        let say = |message: &str| service.remarks.say(item, &place, message);
        let mount = match item.text() {
            Some(text) if is_read_only && is_nameless(text) => {
                in_memory.push(tmpfs::folder(text, None));
                None
            }
            Some(text) => short(text, &say),
            None => {
                let section = Section::of(item, place.clone(), service.remarks);
                long(&section, &mut in_memory, &say)
            }
        };
        let Some(mount) = mount else { continue };
        let target = words::text(mount.target);
        if !is_path(mount.source) && !known.shared.contains(mount.source) {
            volumes.push(json!({
                "name": known.name("volumes", mount.source), "mountPoint": target,
                "readOnly": mount.is_read_only,
            }));
        } else if let Some(is_read_only) = share(&mount, known, &say) {
            shares.push(json!({
                "source": source(mount.source), "mountPoint": target, "readOnly": is_read_only,
            }));
        }
    }
    converted.put("shares", shares);
    converted.put("volumes", volumes);
    converted.put("tmpfs", in_memory);
    let mut values = values(service, "secrets", &known.secrets);
    values.extend(configs(service, known));
    converted.put("secrets", values);
}

/// The volume that an item of `volumes` names, and whether it is only read.
pub fn volume_of(item: &Yaml) -> Option<(&str, bool)> {
    let mount = match item.text() {
        Some(text) => short(text, &|_| {})?,
        None => Mount {
            source: item.get("source")?.text()?,
            target: "",
            is_read_only: item.get("read_only").and_then(Yaml::text) == Some("true"),
        },
    };
    (!is_path(mount.source)).then_some((mount.source, mount.is_read_only))
}

/// Whether it is a path of the host rather than a volume's name.
fn is_path(source: &str) -> bool {
    source.starts_with(['.', '/', '~', '$'])
}

/// A path of the host as mvm has it. What has no "/" is a folder beside the file.
fn source(source: &str) -> String {
    if !is_path(source) {
        return format!("./{source}");
    }
    match source.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("${{HOME}}{rest}"),
        _ => words::text(source),
    }
}

/// Whether a share of it is read-only; none if there can be no share.
fn share(mount: &Mount<'_>, known: &Known<'_>, say: &impl Fn(&str)) -> Option<bool> {
    let path = mount
        .source
        .strip_prefix("~/")
        .map_or_else(|| known.folder.join(mount.source), |rest| home().join(rest));
    if words::has_variable(mount.source) {
        return Some(mount.is_read_only);
    }
    let kind = fs::metadata(&path)
        .ok()
        .map(|metadata| metadata.file_type());
    match kind {
        Some(kind) if kind.is_dir() => Some(mount.is_read_only),
        Some(kind) if kind.is_file() => {
            if !mount.is_read_only {
                say("is only read: machines write to folders and volumes, not to single files");
            }
            Some(true)
        }
        None if path.extension() != Some("sock".as_ref()) => {
            if is_path(mount.source) {
                say("must be there before the machine is started; docker makes such a folder");
            }
            Some(mount.is_read_only)
        }
        _ => {
            say("is not converted: machines share folders and files, nothing else");
            None
        }
    }
}

fn home() -> PathBuf {
    env::var_os("HOME").unwrap_or_default().into()
}

/// Whether a volume is one that nobody else has, nor the next container.
fn is_nameless(text: &str) -> bool {
    words::split(text).len() == 1
}

/// `[SOURCE:]TARGET[:OPTIONS]`.
fn short<'a>(text: &'a str, say: &impl Fn(&str)) -> Option<Mount<'a>> {
    let parts = words::split(text);
    let (source, target, options) = match parts[..] {
        [_] => {
            say("is left out: what has no name is in the machine's memory, as its root");
            return None;
        }
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => {
            say("is not converted: it is no mount that mvm has");
            return None;
        }
    };
    let mut is_read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => is_read_only = true,
            // What SELinux, macOS and propagation make of it means nothing to a machine.
            "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" | "rslave" | "rprivate" => {}
            _ => say(&format!("its option {option} is not converted")),
        }
    }
    Some(Mount {
        source,
        target,
        is_read_only,
    })
}

/// As a section has it. What is no mount is told, or goes to `in_memory`.
fn long<'a>(
    mount: &Section<'a>,
    in_memory: &mut Vec<Value>,
    say: &impl Fn(&str),
) -> Option<Mount<'a>> {
    let kind = mount.text("type").unwrap_or("volume");
    let (source, target) = (mount.text("source"), mount.text("target"));
    let is_read_only = mount.flag("read_only");
    // What SELinux and propagation make of it means nothing to a machine, whose volumes are empty at
    // first in any case.
    let meaningless = ["create_host_path", "propagation", "selinux", "nocopy"];
    for section in ["bind", "volume"]
        .into_iter()
        .filter_map(|key| mount.section(key))
    {
        for option in meaningless {
            section.take(option);
        }
        section.finish();
    }
    mount.take("consistency");
    if let ("tmpfs", Some(target)) = (kind, target) {
        in_memory.push(tmpfs::of_volume(target, mount));
        return None;
    }
    let is_known = ["volume", "bind"].contains(&kind);
    let (Some(source), Some(target), true) = (source, target, is_known) else {
        say("is not converted: it is no mount that mvm has");
        return None;
    };
    Some(Mount {
        source,
        target,
        is_read_only,
    })
}

/// Configs as secrets are, which are files at the root unless they say where.
fn configs(service: &Section<'_>, known: &Known<'_>) -> Map<String, Value> {
    let mut configs = values(service, "configs", &known.configs);
    for (name, value) in &mut configs {
        if value.get("path").is_none() {
            value["path"] = format!("/{name}").into();
        }
    }
    configs
}

/// What a service has of `secrets` or `configs`.
fn values(service: &Section<'_>, key: &str, known: &BTreeMap<&str, Value>) -> Map<String, Value> {
    let mut values = Map::new();
    for (nth, item) in service
        .take(key)
        .into_iter()
        .flat_map(Yaml::items)
        .enumerate()
    {
        let place = service.at(key).index(nth);
        let section = item
            .text()
            .is_none()
            .then(|| Section::of(item, place.clone(), service.remarks));
        let text = |key| section.as_ref().and_then(|section| section.text(key));
        let (source, target) = (item.text().or_else(|| text("source")), text("target"));
        let Some((name, value)) = source.and_then(|name| Some((name, known.get(name)?))) else {
            let message =
                format!("is not converted: `{key}` of the file says nothing of it that mvm has");
            service.remarks.say(item, &place, message);
            continue;
        };
        let mut value = value.clone();
        // Docker's are for all to read.
        value["mode"] = text("mode")
            .map_or("0444", |mode| mode.trim_start_matches("0o"))
            .into();
        if let Some(owner) = text("uid") {
            value["owner"] = match text("gid") {
                Some(group) => format!("{owner}:{group}").into(),
                None => owner.into(),
            };
        }
        let own = target.map_or(name, |target| {
            let file = Path::new(target).file_name();
            file.and_then(|name| name.to_str()).unwrap_or(name)
        });
        if let Some(target) = target.filter(|target| target.starts_with('/')) {
            value["path"] = target.into();
        }
        if let Some(section) = section {
            section.finish();
        }
        let own = if values.contains_key(own) { name } else { own };
        values.insert(own.into(), value);
    }
    values
}

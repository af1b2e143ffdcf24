//! A service's files: folders of the host, volumes, secrets.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::ordered::Ordered;
use super::project::Known;
use super::section::Section;
use super::words;
use super::yaml::Yaml;

/// What is mounted where.
struct Mount<'a> {
    source: &'a str,
    target: &'a str,
    is_read_only: bool,
}

/// Converts `volumes` and `secrets`.
pub fn convert(service: &Section<'_>, known: &Known<'_>, converted: &mut Ordered) {
    let (mut shares, mut volumes) = (Vec::new(), Vec::new());
    for (nth, item) in service
        .take("volumes")
        .into_iter()
        .flat_map(Yaml::items)
        .enumerate()
    {
        let place = service.at("volumes").index(nth);
        let say = |message: &str| service.remarks.say(item, &place, message);
        let mount = match item.text() {
            Some(text) => short(text, &say),
            None => long(&Section::of(item, place.clone(), service.remarks), &say),
        };
        let Some(mount) = mount else { continue };
        let target = words::text(mount.target);
        if !is_path(mount.source) {
            volumes.push(json!({
                "name": words::name(mount.source), "mountPoint": target, "readOnly": mount.is_read_only,
            }));
        } else if known.folder.join(mount.source).is_file() {
            say("is not converted: machines share folders, not single files");
        } else if mount.source.starts_with('~') {
            say("is not converted: \"~\" has no meaning in mvm's files");
        } else {
            shares.push(json!({
                "source": words::text(mount.source), "mountPoint": target, "readOnly": mount.is_read_only,
            }));
        }
    }
    converted.put("shares", shares);
    converted.put("volumes", volumes);
    converted.put("secrets", secrets(service, known));
}

/// Whether it is a folder of the host rather than a volume's name.
fn is_path(source: &str) -> bool {
    source.starts_with(['.', '/', '~', '$'])
}

/// `[SOURCE:]TARGET[:OPTIONS]`.
fn short<'a>(text: &'a str, say: &impl Fn(&str)) -> Option<Mount<'a>> {
    let parts = split(text);
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
            "rw" => {}
            _ => say(&format!("its option {option} is not converted")),
        }
    }
    Some(Mount {
        source,
        target,
        is_read_only,
    })
}

/// Parts between colons, but for those within the braces of a variable.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut depth) = (0, 0_usize);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b':' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn long<'a>(mount: &Section<'a>, say: &impl Fn(&str)) -> Option<Mount<'a>> {
    let kind = mount.text("type").unwrap_or("volume");
    let (source, target) = (mount.text("source"), mount.text("target"));
    let is_read_only = mount.flag("read_only");
    if let Some(bind) = mount.section("bind") {
        // A folder that is missing is an error here, and none there.
        bind.take("create_host_path");
        bind.finish();
    }
    if let Some(volume) = mount.section("volume") {
        volume.finish();
    }
    if kind == "tmpfs" {
        say("is left out: the machine's root is in memory");
        mount.take("tmpfs");
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

fn secrets(service: &Section<'_>, known: &Known<'_>) -> Map<String, Value> {
    let mut secrets = Map::new();
    for (nth, item) in service
        .take("secrets")
        .into_iter()
        .flat_map(Yaml::items)
        .enumerate()
    {
        let place = service.at("secrets").index(nth);
        let section = item
            .text()
            .is_none()
            .then(|| Section::of(item, place.clone(), service.remarks));
        let text = |key| section.as_ref().and_then(|section| section.text(key));
        let (source, target) = (item.text().or_else(|| text("source")), text("target"));
        let Some((name, value)) = source.and_then(|name| Some((name, known.secrets.get(name)?)))
        else {
            let message = "is not converted: `secrets` of the file says nothing of it that mvm has";
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
        secrets.insert(own.into(), value);
    }
    secrets
}

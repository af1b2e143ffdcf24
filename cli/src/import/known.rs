//! What services name that is said elsewhere in the file, or that other services say of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use super::section::{Section, boolean};
use super::yaml::{self, Yaml};
use super::{mounts, words};

/// All of it, by the names that the file has.
pub struct Known<'a> {
    /// Where the file lies.
    pub folder: &'a Path,
    /// What else services link to others by.
    pub linked: BTreeMap<&'a str, Vec<&'a str>>,
    /// Volumes that services write to at one time.
    pub shared: BTreeSet<&'a str>,
    /// What each secret's value comes from.
    pub secrets: BTreeMap<&'a str, Value>,
    /// The same of each config.
    pub configs: BTreeMap<&'a str, Value>,
    /// Networks and volumes that are somebody else's, and called otherwise there.
    elsewhere: BTreeMap<(&'static str, &'a str), String>,
}

impl<'a> Known<'a> {
    /// That of a file and its services.
    pub fn of(file: &Section<'a>, services: &'a [(String, Yaml)], folder: &'a Path) -> Self {
        Self {
            folder,
            linked: linked(services),
            shared: shared(services)
                .into_iter()
                .filter(|name| {
                    let volume = file.get("volumes").and_then(|volumes| volumes.get(name));
                    !volume.is_some_and(is_external)
                })
                .collect(),
            secrets: values(file, "secrets"),
            configs: values(file, "configs"),
            elsewhere: ["networks", "volumes"]
                .into_iter()
                .flat_map(|key| elsewhere(file, key))
                .collect(),
        }
    }

    /// What one of `networks` or `volumes` is called.
    pub fn name(&self, key: &'static str, name: &str) -> String {
        let own = self.elsewhere.get(&(key, name)).cloned();
        own.unwrap_or_else(|| words::name(name))
    }
}

/// Whether a network or a volume is somebody else's. Older files have its name in that key.
pub fn is_external(yaml: &Yaml) -> bool {
    match yaml.get("external").map(|yaml| &yaml.value) {
        Some(yaml::Value::Text(text)) => boolean(text) == Some(true),
        Some(yaml::Value::Map(_)) => true,
        _ => false,
    }
}

fn elsewhere<'a>(
    file: &Section<'a>,
    key: &'static str,
) -> impl Iterator<Item = ((&'static str, &'a str), String)> {
    let entries = file.get(key).map_or(&[][..], Yaml::entries).iter();
    entries
        .filter(|(_, yaml)| is_external(yaml))
        .filter_map(move |(name, yaml)| {
            let own = || yaml.get("external")?.get("name");
            let own = yaml.get("name").or_else(own)?.text()?;
            Some(((key, name.as_str()), words::name(own)))
        })
}

/// By `links`, as `SERVICE:ALIAS`.
fn linked(services: &[(String, Yaml)]) -> BTreeMap<&str, Vec<&str>> {
    let mut linked: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let links = services.iter().filter_map(|(_, yaml)| yaml.get("links"));
    for link in links.flat_map(Yaml::items).filter_map(Yaml::text) {
        if let Some((service, alias)) = link.split_once(':') {
            linked.entry(service).or_default().push(alias);
        }
    }
    linked
}

/// Who has a volume.
struct User<'a> {
    service: &'a (String, Yaml),
    is_reader: bool,
}

/// Volumes of which one machine at a time would not do.
fn shared(services: &[(String, Yaml)]) -> BTreeSet<&str> {
    let mut users: BTreeMap<&str, Vec<User<'_>>> = BTreeMap::new();
    for service in services {
        let volumes = service.1.get("volumes").into_iter().flat_map(Yaml::items);
        for (volume, is_reader) in volumes.filter_map(mounts::volume_of) {
            let user = User { service, is_reader };
            users.entry(volume).or_default().push(user);
        }
    }
    let clash = |one: &User<'_>, other: &User<'_>| {
        let is_shared = one.is_reader && other.is_reader;
        let (one, other) = (one.service, other.service);
        !is_shared && one.0 != other.0 && !is_after(one, other) && !is_after(other, one)
    };
    let clashes = |users: &[User<'_>]| {
        let mut all = users.iter();
        all.any(|one| users.iter().any(|other| clash(one, other)))
    };
    let shared = users.into_iter().filter(|(_, users)| clashes(users));
    shared.map(|(volume, _)| volume).collect()
}

/// Whether a service is started once another one has ended.
fn is_after(one: &(String, Yaml), other: &(String, Yaml)) -> bool {
    let needs = || {
        one.1
            .get("depends_on")?
            .get(&other.0)?
            .get("condition")?
            .text()
    };
    needs() == Some("service_completed_successfully")
}

/// What the values of `secrets` or `configs` come from.
fn values<'a>(file: &Section<'a>, key: &str) -> BTreeMap<&'a str, Value> {
    let mut values = BTreeMap::new();
    let Some(section) = file.section(key) else {
        return values;
    };
    for (name, yaml) in section.take_all() {
        let value = Section::of(yaml, section.at(name), section.remarks);
        if let Some(path) = value.text("file") {
            values.insert(name.as_str(), json!({ "source": words::text(path) }));
        } else if let Some(variable) = value.text("environment") {
            values.insert(name.as_str(), json!({ "env": variable }));
        } else {
            let message = "is not converted: its value is in no file and no variable";
            section.say(name, yaml, message);
            value.take_all();
        }
        value.finish();
    }
    values
}

//! The whole file: what it says besides its services.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::ordered::Ordered;
use super::section::Section;
use super::{service, words};

/// What services name that is said elsewhere in the file.
pub struct Known<'a> {
    /// Where the file lies.
    pub folder: &'a Path,
    /// The names of services here and there.
    pub services: BTreeMap<&'a str, String>,
    /// What each secret's value comes from.
    pub secrets: BTreeMap<&'a str, Value>,
}

/// Room of a volume of which the file says nothing: what is not written takes none.
const VOLUME_SIZE: &str = "10G";

/// Converts the whole file.
pub fn convert(file: Section<'_>, folder: &Path) -> Ordered {
    // It has meant nothing for years.
    file.take("version");
    let mut project = Ordered::default();
    project.put("version", 1);
    if let Some(name) = file.text("name") {
        project.put("name", words::name(name));
    }
    let services = file.section("services");
    let entries = services
        .as_ref()
        .map_or(&[][..], |services| services.take_all());
    let known = Known {
        folder,
        services: entries
            .iter()
            .map(|(name, _)| (name.as_str(), words::name(name)))
            .collect(),
        secrets: secrets(&file),
    };
    let mut converted = Ordered::default();
    for (name, yaml) in entries {
        if let Some(services) = &services {
            let section = Section::of(yaml, services.at(name), services.remarks);
            converted.put_object(
                &words::name(name),
                service::convert(name, &section, yaml, &known),
            );
            section.finish();
        }
    }
    project.put_object("services", converted);
    project.put("networks", networks(&file));
    project.put("volumes", volumes(&file));
    file.finish();
    project
}

fn networks(file: &Section<'_>) -> Value {
    let mut networks = serde_json::Map::new();
    let Some(section) = file.section("networks") else {
        return Value::Null;
    };
    for (name, yaml) in section.take_all() {
        let network = Section::of(yaml, section.at(name), section.remarks);
        let mut value = serde_json::Map::new();
        for key in ["internal", "external"] {
            if network.flag(key) {
                value.insert(key.into(), true.into());
            }
        }
        network.finish();
        networks.insert(words::name(name), value.into());
    }
    networks.into()
}

fn volumes(file: &Section<'_>) -> Value {
    let mut volumes = serde_json::Map::new();
    let Some(section) = file.section("volumes") else {
        return Value::Null;
    };
    for (name, yaml) in section.take_all() {
        let volume = Section::of(yaml, section.at(name), section.remarks);
        let value = if volume.flag("external") {
            json!({ "external": true })
        } else {
            section.say(
                name,
                yaml,
                format!("is given a size, {VOLUME_SIZE}, which docker's have not"),
            );
            json!({ "size": VOLUME_SIZE })
        };
        if let Some(driver) = volume.take("driver")
            && driver.text() != Some("local")
        {
            volume.say(
                "driver",
                driver,
                "is not converted: volumes are files of the host",
            );
        }
        volume.finish();
        volumes.insert(words::name(name), value);
    }
    volumes.into()
}

fn secrets<'a>(file: &Section<'a>) -> BTreeMap<&'a str, Value> {
    let mut secrets = BTreeMap::new();
    let Some(section) = file.section("secrets") else {
        return secrets;
    };
    for (name, yaml) in section.take_all() {
        let secret = Section::of(yaml, section.at(name), section.remarks);
        if let Some(path) = secret.text("file") {
            secrets.insert(name.as_str(), json!({ "source": words::text(path) }));
        } else if let Some(variable) = secret.text("environment") {
            secrets.insert(name.as_str(), json!({ "env": variable }));
        } else {
            let message = "is not converted: its value is in no file and no variable";
            section.say(name, yaml, message);
        }
        secret.finish();
    }
    secrets
}

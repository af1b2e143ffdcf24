//! The whole file: what it says besides its services.

use std::path::Path;

use serde_json::{Value, json};

use super::known::{Known, is_external};
use super::ordered::Ordered;
use super::section::Section;
use super::service::{self, FOLLOWS};
use super::words;
use super::yaml::Yaml;

/// Memory and processors of a machine of which the file says nothing: those of a container engine's.
/// Memory is not taken before it is used.
const DEFAULT_MEMORY: &str = "1G";
const DEFAULT_VCPUS: u32 = 2;

/// Room of a volume of which the file says nothing: what is not written takes none.
const VOLUME_SIZE: &str = "10G";

/// Converts the whole file.
pub fn convert<'a>(file: Section<'a>, folder: &'a Path) -> Ordered {
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
    let known = Known::of(&file, entries, folder);
    project.put(
        "defaults",
        json!({ "memory": DEFAULT_MEMORY, "vcpus": DEFAULT_VCPUS }),
    );
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
    if let (Some(services), Some(yaml)) = (&services, file.get("services")) {
        let message = format!(
            "have {DEFAULT_VCPUS} processors and {DEFAULT_MEMORY} of memory where the file sets no \
             limits; `defaults` says so"
        );
        services.remarks.say(yaml, &services.place, message);
    }
    project.put_object("services", converted);
    project.put("networks", networks(&file, &known));
    project.put("volumes", volumes(&file, &known));
    file.finish();
    project
}

fn networks(file: &Section<'_>, known: &Known<'_>) -> Value {
    let mut networks = serde_json::Map::new();
    let Some(section) = file.section("networks") else {
        return Value::Null;
    };
    for (name, yaml) in section.take_all() {
        let network = Section::of(yaml, section.at(name), section.remarks);
        let mut value = serde_json::Map::new();
        if network.flag("internal") {
            value.insert("internal".into(), true.into());
        }
        if is_named_elsewhere(&network, yaml) {
            value.insert("external".into(), true.into());
        }
        network.leave_if("driver", |driver| driver == "bridge");
        network.leave_if("attachable", |_| true);
        network.leave("ipam", FOLLOWS);
        network.finish();
        networks.insert(known.name("networks", name), value.into());
    }
    networks.into()
}

/// Takes what says that a network or a volume is somebody else's. One of the project is called as that
/// and itself are, whatever its file says.
fn is_named_elsewhere(section: &Section<'_>, yaml: &Yaml) -> bool {
    section.take("external");
    if is_external(yaml) {
        section.take("name");
        return true;
    }
    section.leave("name", "it is called as the project and its key are");
    false
}

fn volumes(file: &Section<'_>, known: &Known<'_>) -> Value {
    let mut volumes = serde_json::Map::new();
    let Some(section) = file.section("volumes") else {
        return Value::Null;
    };
    for (name, yaml) in section.take_all() {
        let volume = Section::of(yaml, section.at(name), section.remarks);
        let value = if is_named_elsewhere(&volume, yaml) {
            json!({ "external": true })
        } else {
            json!({ "size": VOLUME_SIZE })
        };
        volume.leave_if("driver", |driver| driver == "local");
        volume.leave("driver", "volumes are files of the host");
        volume.finish();
        if known.shared.contains(name.as_str()) {
            let message = format!(
                "is the folder ./{name} instead, which must be there: several machines write to it"
            );
            section.say(name, yaml, message);
            continue;
        }
        if value.get("size").is_some() {
            let message = format!("is given a size, {VOLUME_SIZE}, which docker's have not");
            section.say(name, yaml, message);
        }
        volumes.insert(known.name("volumes", name), value);
    }
    volumes.into()
}

//! `extends`: what a service takes over from another one, of its file or of another.
//!
//! The one thing to know: mappings are put together key by key and lists one behind the other, and
//! what the service says itself wins, as in the Compose Specification ("extends").

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use vmm::app::Place;

use super::merge::merge;
use super::section::Remarks;
use super::yaml::{self, Value, Yaml};

/// Services that take over from each other in a row; more than a person writes, and circles end.
const MAX_DEPTH: usize = 16;

/// Has each service say itself what it takes over. What cannot be taken over is named.
pub fn resolve(file: &mut Yaml, folder: &Path, remarks: &Remarks) {
    let source = file.clone();
    let Some(Yaml {
        value: Value::Map(services),
        ..
    }) = file.get_mut("services")
    else {
        return;
    };
    for (name, service) in services {
        let Some(extends) = service.get("extends").cloned() else {
            continue;
        };
        match whole(&source, name, folder, 0) {
            Ok(whole) => *service = whole,
            Err(error) => {
                let place = Place::root().key("services").key(name.clone());
                let message = format!("is not converted: {error:#}");
                remarks.say(&extends, &place.key("extends"), message);
                service.remove("extends");
            }
        }
    }
}

/// A service with all that it takes over.
fn whole(file: &Yaml, name: &str, folder: &Path, depth: usize) -> Result<Yaml> {
    ensure!(depth < MAX_DEPTH, "services extend each other in a circle");
    let service = file.get("services").and_then(|all| all.get(name));
    let mut own = service
        .with_context(|| format!("there is no service {name}"))?
        .clone();
    let Some(extends) = own.remove("extends") else {
        return Ok(own);
    };
    let text = |key| extends.get(key).and_then(Yaml::text);
    let base = extends.text().or_else(|| text("service"));
    let base = base.context("it names no service")?;
    let mut over = match text("file") {
        None => whole(file, base, folder, depth + 1)?,
        Some(path) => of_file(folder, path, base, depth)?,
    };
    merge("", &mut over, own);
    Ok(over)
}

/// A service of another file, which lies beside this one: its relative paths mean the same here.
fn of_file(folder: &Path, path: &str, name: &str, depth: usize) -> Result<Yaml> {
    let plain = path.strip_prefix("./").unwrap_or(path);
    if plain.contains(['/', '$']) {
        bail!("{path} is in another folder, where relative paths start");
    }
    let text = fs::read_to_string(folder.join(plain));
    let file = yaml::parse(plain, &text.with_context(|| format!("cannot read {path}"))?);
    whole(
        &file.with_context(|| path.to_owned())?,
        name,
        folder,
        depth + 1,
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{converted_text, remarks_of};

    /// The services of a file, and what is said of `extends`.
    fn resolved(text: &str) -> (serde_json::Value, String) {
        let imported = converted_text(text);
        let services = serde_json::from_str::<serde_json::Value>(&imported.text).unwrap();
        let said = remarks_of(&imported);
        let said = said.lines().filter(|line| line.contains("extends"));
        (services["services"].clone(), said.collect())
    }

    #[test]
    fn what_is_taken_over_is_below_what_is_said() {
        let (services, said) = resolved(
            "services:\n  base:\n    image: a\n    environment: [A=1, B=1]\n    ports: ['1:1']\n    \
             volumes: ['/a:/x', '/b:/y']\n    command: [a, b]\n    depends_on: [db]\n  \
             mid:\n    extends: base\n    environment: {B: 2}\n  \
             web:\n    extends: {service: mid}\n    environment: {C: 3}\n    ports: ['2:2']\n    \
             volumes: ['/c:/y']\n    command: c\n    depends_on: {cache: {condition: service_healthy}}\n  \
             db: {image: d}\n  cache: {image: c}\n",
        );
        let web = &services["web"];
        assert_eq!(said, "");
        let env = serde_json::json!({ "A": "1", "B": "2", "C": "3" });
        assert_eq!(web["app"]["env"], env);
        assert_eq!(web["app"]["args"], serde_json::json!(["c"]));
        let ports = serde_json::json!(["0.0.0.0:1:1", "0.0.0.0:2:2"]);
        assert_eq!(web["ports"], ports);
        assert_eq!(web["shares"][0]["source"], "/a");
        assert_eq!(web["shares"][1]["source"], "/c");
        let needs = serde_json::json!({ "cache": "healthy", "db": "started" });
        assert_eq!(web["dependsOn"], needs);
        assert_eq!(
            services["base"]["ports"],
            serde_json::json!(["0.0.0.0:1:1"])
        );
    }

    #[test]
    fn what_cannot_be_taken_over_is_named() {
        for (extends, expected) in [
            ("none", "there is no service none"),
            ("web", "services extend each other in a circle"),
            ("{file: x}", "it names no service"),
            (
                "{file: ./none.yml, service: a}",
                "cannot read ./none.yml: No such file",
            ),
            (
                "{file: ../a.yml, service: a}",
                "../a.yml is in another folder",
            ),
        ] {
            let text = format!("services:\n  web:\n    image: a\n    extends: {extends}\n");
            let (services, said) = resolved(&text);
            let expected =
                format!("a.yml:4:14: services.web.extends: is not converted: {expected}");
            assert!(said.starts_with(&expected), "{said}");
            assert_eq!(services["web"]["image"], "./a.tar");
        }
    }
}

//! A service's program: its command, its environment, who it is.

use std::fs;

use serde_json::{Map, Value};

use super::known::Known;
use super::ordered::Ordered;
use super::section::Section;
use super::service::pairs;
use super::yaml::{self, Yaml};
use super::{dotenv, words};

/// Converts what a service says of its program.
pub fn convert(service: &Section<'_>, known: &Known<'_>) -> Ordered {
    let mut app = Ordered::default();
    app.put("entrypoint", command(service, "entrypoint"));
    app.put("args", command(service, "command"));
    app.put("env", environment(service, known));
    if let Some(folder) = service.text("working_dir") {
        app.put("cwd", words::text(folder));
    }
    if let Some(user) = service.text("user") {
        app.put("user", words::text(user));
    }
    let groups = service.texts("group_add").into_iter().map(words::text);
    app.put("groups", groups.collect::<Vec<_>>());
    app.put("ulimits", ulimits(service));
    for (key, own) in [("tty", "tty"), ("stdin_open", "stdin")] {
        if service.flag(key) {
            app.put(own, true);
        }
    }
    if let Some(signal) = service.text("stop_signal") {
        app.put("stopSignal", signal);
    }
    let patience = service.read(
        "stop_grace_period",
        "a duration such as 1m30s",
        words::duration,
    );
    app.put("stopTimeout", patience);
    app
}

/// Limits of its processes: one number, or one that holds and one that may be set.
fn ulimits(service: &Section<'_>) -> Map<String, Value> {
    let mut converted = Map::new();
    let Some(limits) = service.section("ulimits") else {
        return converted;
    };
    for (name, yaml) in limits.take_all() {
        let limit = if let Some(text) = yaml.text() {
            ulimit(text)
        } else {
            let limit = Section::of(yaml, limits.at(name), limits.remarks);
            let read = |key| limit.read(key, "a number", ulimit);
            let both = read("soft").zip(read("hard"));
            limit.finish();
            both.map(|(soft, hard)| {
                if soft == hard {
                    soft
                } else {
                    format!("{soft}:{hard}")
                }
            })
        };
        match limit {
            Some(limit) => drop(converted.insert(name.clone(), limit.into())),
            None => limits.say(name, yaml, "is not converted: it is no limit that mvm has"),
        }
    }
    converted
}

/// One number of a limit, of which -1 is none.
fn ulimit(text: &str) -> Option<String> {
    if text == "-1" {
        return Some("unlimited".into());
    }
    words::has_variable(text)
        .then(|| words::text(text))
        .or_else(|| text.parse::<u64>().ok().map(|number| number.to_string()))
}

/// A program and its arguments: those of a list, or the words of a line.
fn command(service: &Section<'_>, key: &str) -> Vec<String> {
    let Some(yaml) = service.take(key) else {
        return Vec::new();
    };
    if matches!(yaml.value, yaml::Value::List(_)) {
        return service.texts(key).into_iter().map(words::text).collect();
    }
    let words = yaml.text().and_then(shlex::split);
    if words.is_none() {
        service.say(key, yaml, "is not converted: its quotes do not end");
    }
    words
        .unwrap_or_default()
        .iter()
        .map(|word| words::text(word))
        .collect()
}

/// What `env_file` says, and above it `environment`.
fn environment(service: &Section<'_>, known: &Known<'_>) -> Map<String, Value> {
    let mut env = Map::new();
    if let Some(yaml) = service.take("env_file") {
        for item in yaml.items() {
            from_file(service, item, known, &mut env);
        }
    }
    for (name, value) in pairs(service, "environment") {
        let value = match value {
            Some(text) => words::text(text),
            // That of whoever starts it, if there is one.
            None => format!("${{{name}:-}}"),
        };
        env.insert(name.into(), value.into());
    }
    env
}

/// The variables of a file, which are copied: an app.json names no such file.
fn from_file(service: &Section<'_>, item: &Yaml, known: &Known<'_>, env: &mut Map<String, Value>) {
    let section = || Section::of(item, service.at("env_file"), service.remarks);
    let name = item.text().or_else(|| {
        let section = section();
        // One that cannot be read is told in any case.
        section.take("required");
        section.text("path")
    });
    let Some(name) = name else { return };
    let text = fs::read_to_string(known.folder.join(name));
    let text = text.map_err(|error| format!("cannot read {name}: {error}"));
    let lines = text.and_then(|text| {
        let lines = dotenv::parse(&text);
        lines.map_err(|error| format!("{name}:{error:#}"))
    });
    let lines = match lines {
        Ok(lines) => lines,
        Err(error) => return service.say("env_file", item, format!("is not converted: {error}")),
    };
    for (name, value) in lines {
        let value = value.unwrap_or_else(|| format!("${{{name}:-}}"));
        env.insert(name, value.into());
    }
    let message = format!("is copied: changes of {name} do not count any more");
    service.say("env_file", item, message);
}

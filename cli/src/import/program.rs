//! A service's program: its command, its environment, who it is.

use std::fs;

use serde_json::{Map, Value};
use vmm::app::App;

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
        let Some(limit) = limit else {
            limits.say(name, yaml, "is not converted: it is no limit that mvm has");
            continue;
        };
        match fault(name, &limit) {
            Some(why) => limits.say(name, yaml, format!("is not converted: {why}")),
            None => drop(converted.insert(name.clone(), limit.into())),
        }
    }
    converted
}

/// Why no app.json has this limit, as far as can be told without its variables.
fn fault(name: &str, limit: &str) -> Option<String> {
    if words::has_variable(limit) {
        return None;
    }
    let mut app = App::new("app", vec!["program".into()]);
    match limit.parse() {
        Ok(limit) => drop(app.app.ulimits.insert(name.into(), limit)),
        Err(error) => return Some(error),
    }
    app.check().into_iter().next().map(|one| one.message)
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::{converted_text, remarks_of};

    #[test]
    fn limits_that_no_file_can_have_are_named() {
        let imported = converted_text(
            "services:\n  a:\n    image: a\n    ulimits:\n      nofile: -1\n      memlock: -1\n      \
             core: { soft: 2, hard: 1 }\n      nproc: ${N:-7}\n",
        );
        let file: Value = serde_json::from_str(&imported.text).unwrap();
        let kept = json!({ "memlock": "unlimited", "nproc": "${N:-7}" });
        assert_eq!(file["services"]["a"]["app"]["ulimits"], kept);
        let remarks = remarks_of(&imported);
        for line in [
            "a.yml:5:15: services.a.ulimits.nofile: is not converted: must be at most 1048576, is",
            "a.yml:7:13: services.a.ulimits.core: is not converted: must have the lower limit",
        ] {
            assert!(
                remarks.lines().any(|one| one.starts_with(line)),
                "{remarks}"
            );
        }
    }
}

//! What an image's configuration says of an app.json's program (OCI image specification 1.1).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use vmm::app::App;

/// When files of a store were made, as Nix has it: one second after time began.
pub const CREATED: &str = "1970-01-01T00:00:01Z";

/// The section `config`. What is left out is left to the engine.
pub fn config(app: &App) -> Value {
    let program = app.program();
    let mut config = Map::new();
    let mut set = |key: &str, value: Value| {
        let is_empty = match &value {
            Value::Null => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(entries) => entries.is_empty(),
            _ => false,
        };
        if !is_empty {
            config.insert(key.into(), value);
        }
    };
    let variables = program.env.iter();
    let variables =
        variables.filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)));
    set("Entrypoint", json!(program.entrypoint));
    set("Cmd", json!(program.args));
    set("Env", variables.collect::<Vec<_>>().into());
    set("WorkingDir", json!(program.cwd));
    set("User", json!(program.user));
    set("ExposedPorts", json!(set_of(ports(app))));
    set("Volumes", json!(set_of(volumes(app))));
    let signal = program.stop_signal.map(|signal| signal.to_string());
    set("StopSignal", json!(signal));
    set("Labels", json!(app.labels));
    Value::Object(config)
}

/// A set as the specification has it: an object of empty objects.
fn set_of(names: impl Iterator<Item = String>) -> BTreeMap<String, Value> {
    names.map(|name| (name, json!({}))).collect()
}

fn ports(app: &App) -> impl Iterator<Item = String> {
    app.ports.iter().flat_map(|port| {
        let numbers = port.guest.first..=port.guest.last;
        numbers.map(|number| format!("{number}/{}", port.protocol))
    })
}

fn volumes(app: &App) -> impl Iterator<Item = String> {
    let points = app
        .volumes
        .iter()
        .filter_map(|one| one.mount_point.as_ref());
    points.map(|point| point.to_string_lossy().into_owned())
}

/// What an image has no words for, by its key in the app.json.
pub fn left_out(app: &App) -> Vec<&'static str> {
    let program = app.program();
    let keys = [
        ("app.groups", !program.groups.is_empty()),
        ("app.ulimits", !program.ulimits.is_empty()),
        ("root.readOnly", app.root.read_only),
        ("tmpfs", !app.tmpfs.is_empty()),
        ("hosts", !app.hosts.is_empty()),
        ("dns", !app.dns.is_empty()),
        ("shares", !app.shares.is_empty()),
        ("secrets", !app.secrets.is_empty()),
        ("healthcheck", app.health_check().is_some()),
    ];
    let is_there = keys.into_iter().filter(|(_, is_there)| *is_there);
    is_there.map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use vmm::app::AppFile;

    use super::*;

    fn app(value: &Value) -> App {
        let bytes = value.to_string();
        let file = AppFile::parse("app.json", Path::new("/"), bytes.as_bytes());
        file.unwrap().app
    }

    #[test]
    fn all_that_an_image_can_say_is_said() {
        let app = app(&json!({
            "name": "web",
            "labels": { "tier": "web" },
            "app": {
                "entrypoint": ["/nix/store/x", "-v"], "args": ["serve"],
                "env": { "B": "2", "A": "", "GONE": null },
                "cwd": "/srv", "user": "nobody", "stopSignal": "SIGQUIT",
            },
            "ports": ["8080:80", "5000-5001:53-54/udp", "unix:/run/x.sock:90"],
            "volumes": [
                { "name": "data", "mountPoint": "/data" },
                { "name": "root" },
            ],
            "root": { "persist": "root" },
        }));
        assert_eq!(
            config(&app),
            json!({
                "Entrypoint": ["/nix/store/x", "-v"],
                "Cmd": ["serve"],
                "Env": ["A=", "B=2"],
                "WorkingDir": "/srv",
                "User": "nobody",
                "ExposedPorts": { "80/tcp": {}, "53/udp": {}, "54/udp": {}, "90/tcp": {} },
                "Volumes": { "/data": {} },
                "StopSignal": "SIGQUIT",
                "Labels": { "tier": "web" },
            })
        );
        assert!(left_out(&app).is_empty());
    }

    #[test]
    fn what_an_app_does_not_say_is_the_engines() {
        let app = app(&json!({
            "name": "web",
            "app": { "entrypoint": "sh", "groups": ["video"], "ulimits": { "core": 0 } },
            "root": { "readOnly": true },
            "tmpfs": ["/run"],
            "hosts": { "db": "10.0.0.7" },
            "dns": { "search": ["example"] },
            "shares": [{ "source": "www", "mountPoint": "/srv" }],
            "secrets": { "token": "token" },
            "healthcheck": { "tcp": { "port": 80 } },
        }));
        assert_eq!(config(&app), json!({ "Entrypoint": ["sh"] }));
        assert_eq!(
            left_out(&app),
            [
                "app.groups",
                "app.ulimits",
                "root.readOnly",
                "tmpfs",
                "hosts",
                "dns",
                "shares",
                "secrets",
                "healthcheck"
            ]
        );
    }
}

//! The schema that `mvm schema` prints, judged by a validator that knows nothing of mvm.

use std::fs;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use serde_json::{Value, json};
use vmm::app::{App, AppFile};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/bad-app-json");

/// What no schema can say: duplicate keys, arithmetic on sizes and ids, paths with a part of no
/// meaning, one value that depends on another.
const BEYOND_SCHEMAS: &[&str] = &[
    "025-duplicate-key",
    "026-duplicate-key-by-escape",
    "064-too-little-memory",
    "065-too-much-memory",
    "068-memory-not-in-mib",
    "081-user-id-too-large",
    "087-root-of-nothing",
    "099-share-in-dev",
    "100-share-in-store",
    "101-share-over-store",
    "102-same-mount-point",
    "103-same-tag",
    "104-same-tag-as-a-default",
    "105-no-store-for-entrypoint",
    "106-no-store-in-short-form",
    "117-restart-without-policy",
    "118-retries-without-on-failure",
    "119-delay-above-the-longest",
    "141-volume-of-a-broken-mib",
    "142-volume-too-small",
    "145-volume-and-share-at-one-place",
    "146-same-volume",
    "147-volume-without-a-place",
    "148-root-on-no-volume",
    "149-root-volume-with-a-place",
    "161-cpu-quota-too-fine",
    "162-memory-limit-below-memory",
    "167-io-of-nothing",
    "170-rate-of-nothing",
    "171-prefix-too-long",
    "174-bridge-without-a-name",
    "175-bridge-of-a-tap",
    "176-tap-of-a-user-interface",
    "177-address-of-a-user-interface",
    "178-outbound-without-addresses",
    "179-half-a-network-of-two",
    "180-network-of-two-families",
    "181-gateway-out-of-reach",
    "182-two-user-interfaces",
    "183-same-interface-name",
    "184-same-tap",
    "190-port-zero-of-the-machine",
    "191-port-range-backwards",
    "192-port-ranges-of-two-lengths",
    "193-any-port-for-a-range",
    "194-range-from-port-zero",
    "197-too-many-ports",
    "198-same-port",
    "199-ports-without-a-network",
    "200-ports-over-a-tap",
    "202-same-socket",
    "203-socket-for-several-ports",
    "204-socket-of-datagrams",
    "205-socket-path-too-long",
    "208-same-handed-socket",
    "209-handed-socket-of-datagrams",
    "210-watchdog-too-short",
    "215-network-without-a-name",
    "216-network-of-a-user-interface",
    "219-same-network",
    "220-gateway-of-a-network",
    "221-two-addresses-in-a-network",
    "222-tap-of-a-network",
    "224-root-of-no-folder",
    "226-own-kernel-and-another",
    "227-bundle-and-more",
    "228-bundle-and-a-list",
    "231-writable-store-that-is-none",
    "233-registered-but-read-only",
    "235-store-on-a-volume-of-others",
    "236-own-kernel-and-a-writable-store",
    "237-share-in-a-writable-store",
    "240-image-of-a-system",
    "241-image-of-a-bundle",
    "247-hosts-of-a-system",
    "248-hosts-of-a-folder",
    "250-read-only-and-written",
    "252-system-that-is-not-written",
    "253-read-only-system",
];

fn validator() -> Validator {
    let schema = serde_json::to_value(App::schema()).expect("a schema is JSON");
    jsonschema::draft202012::meta::validate(&schema).expect("a schema by its own rules");
    jsonschema::draft202012::new(&schema).expect("a schema")
}

fn parser_accepts(file: &Value) -> bool {
    AppFile::parse("app.json", Path::new("/"), file.to_string().as_bytes()).is_ok()
}

fn least() -> Value {
    json!({ "name": "a", "app": { "entrypoint": "/bin/sh" } })
}

fn with(key: &str, value: Value) -> Value {
    let mut file = least();
    file[key] = value;
    file
}

fn with_root_volume() -> Value {
    let mut file = with("root", json!({ "persist": "system" }));
    file["volumes"] = json!([{ "name": "system", "size": "8M" }]);
    file
}

fn with_program(key: &str, value: Value) -> Value {
    let mut file = least();
    file["app"][key] = value;
    file
}

/// Good files, each with another of what a file may hold.
fn good_files() -> Vec<Value> {
    vec![
        least(),
        with("version", json!(1)),
        with("$schema", json!("app.schema.json")),
        with("x-note", json!({ "any": [1, null] })),
        with("name", json!("a".repeat(63))),
        with("hostname", json!("Box.example.org")),
        with("labels", json!({ "org.example/tier": "web 1", "x-y": "" })),
        with("vcpus", json!(64)),
        with("memory", json!("1.5G")),
        with("memory", json!(32)),
        with("memory", json!("1T")),
        with("kernel", json!("./vmlinux")),
        with("kernel", json!({ "cmdline": "debug", "x-why": "slow" })),
        with("store", json!("none")),
        with("store", json!({ "mode": "closure", "closure": "paths" })),
        with("store", json!({ "mode": "all" })),
        with("store", json!({ "mode": "all", "writable": false })),
        with(
            "store",
            json!({ "writable": true, "registerClosure": true }),
        ),
        with("store", json!({ "writable": { "size": "10%" } })),
        with("store", json!({ "data": "plain" })),
        with("store", json!({ "data": "dax", "mode": "all" })),
        with("store", json!({ "data": "image", "writable": true })),
        with("shares", json!([{ "source": ".", "mountPoint": "/srv" }])),
        with(
            "shares",
            json!([{ "source": "/", "mountPoint": "/a/b", "readOnly": true, "tag": "b" }]),
        ),
        with(
            "shares",
            json!([{ "source": "data", "mountPoint": "/data", "readOnly": false }]),
        ),
        with("interfaces", json!([])),
        with(
            "interfaces",
            json!([{ "type": "user", "mtu": 1500, "mac": "02:00:00:00:00:0a" }]),
        ),
        with(
            "interfaces",
            json!([
                {},
                { "type": "tap", "hostName": "tap0", "addresses": ["10.0.0.2/24", "fd00::2/64"], "gateway": "10.0.0.1" },
                { "type": "tap", "name": "lan0", "hostAddress": "10.1.0.1", "localAddress": "10.1.0.2", "outbound": true },
                { "type": "bridge", "bridge": "br0", "x-why": "LAN" },
            ]),
        ),
        with(
            "ports",
            json!([
                "8080:80",
                ":22",
                "[::1]:5000-5009:6000-6009/udp",
                { "guest": 443 },
                "unix:/run/web.sock:80",
                { "host": "unix:/run/a:b", "guest": 80 },
                { "host": "9000-9009", "guest": "9000-9009", "address": "0.0.0.0", "protocol": "udp", "x-a": 1 },
            ]),
        ),
        with(
            "interfaces",
            json!([
                { "type": "network", "network": "shop" },
                { "type": "network", "network": "0", "aliases": ["db", "_my_db.x"], "addresses": ["10.0.0.2/24"] },
            ]),
        ),
        with("root", json!({ "type": "tmpfs", "size": "100%" })),
        with(
            "volumes",
            json!([{ "name": "data", "mountPoint": "/data" }]),
        ),
        with(
            "volumes",
            json!([
                { "image": "a.raw", "mountPoint": "/a", "size": "1.5G", "fsType": "ext4" },
                { "image": "b.raw", "mountPoint": "/b", "readOnly": true, "create": false },
            ]),
        ),
        with_root_volume(),
        with("root", json!({ "size": "0.5G" })),
        with("console", json!("stdio")),
        with(
            "console",
            json!({ "mode": "file", "path": "log", "kernel": "verbose" }),
        ),
        with_program("entrypoint", json!(["/bin/sh", "-c"])),
        with_program("args", json!(["", "é", "--"])),
        with_program("env", json!({ "A": "", "B": null, "x-y": "=" })),
        with_program("cwd", json!("/srv")),
        with_program("user", json!("1000:1000")),
        with_program("user", json!("www-data")),
        with_program("tty", json!("auto")),
        with_program("tty", json!(false)),
        with_program("stdin", json!(true)),
    ]
}

/// More of them: what services have.
fn good_services() -> Vec<Value> {
    vec![
        with(
            "limits",
            json!({ "cpu": "150%", "memory": "1G", "pids": 64, "swap": "0K" }),
        ),
        with(
            "limits",
            json!({ "cpu": 0.5, "cpuWeight": 1, "cpus": "0-3,8", "memoryHigh": "1G" }),
        ),
        with(
            "limits",
            json!({ "ioWeight": 10000, "io": { "/dev/sda": { "readBps": "1M", "writeIops": 5 } } }),
        ),
        with("secrets", json!({ "a": "./token", "b": { "env": "B" } })),
        with(
            "secrets",
            json!({ "c": { "command": ["pass"], "path": "/etc/c", "mode": "640", "owner": "1:2" } }),
        ),
        with("healthcheck", json!({ "exec": ["true", ""] })),
        with("healthcheck", json!({ "unix": "/run/a", "retries": 1 })),
        with(
            "healthcheck",
            json!({ "http": { "port": 80 }, "interval": 5, "onFailure": "stop" }),
        ),
        with("ready", json!("started")),
        with("restart", json!("always")),
        with(
            "restart",
            json!({ "policy": "on-failure", "maxRetries": 0, "maxDelay": "1.5m" }),
        ),
    ]
}

#[test]
fn what_the_parser_accepts_the_schema_accepts() {
    let validator = validator();
    for file in good_files().into_iter().chain(good_services()) {
        assert!(parser_accepts(&file), "{file}");
        assert!(validator.is_valid(&file), "{file}");
    }
}

#[test]
fn a_written_app_is_valid_by_the_schema() {
    let mut app = App::new("a", vec!["/bin/sh".into()]);
    app.app.env.insert("GONE".into(), None);
    let written = serde_json::to_value(&app).expect("JSON");
    assert!(validator().is_valid(&written), "{written}");
}

#[test]
fn the_schema_rejects_each_bad_file_that_a_schema_can_reject() {
    let validator = validator();
    let entries = fs::read_dir(FOLDER)
        .expect("folder")
        .map(|entry| entry.expect("entry").path());
    let mut files: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|found| found == "json"))
        .collect();
    files.sort();
    let read = |path: &PathBuf| serde_json::from_slice::<Value>(&fs::read(path).ok()?).ok();
    let accepted: Vec<String> = files
        .iter()
        .filter(|path| read(path).is_some_and(|file| validator.is_valid(&file)))
        .map(|path| {
            path.file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    assert_eq!(accepted, BEYOND_SCHEMAS);
}

#[test]
fn each_key_has_a_description() {
    let schema = serde_json::to_value(App::schema()).expect("JSON");
    let definitions = schema["$defs"].as_object().expect("definitions").values();
    for object in definitions.chain([&schema]) {
        for (key, value) in object["properties"].as_object().into_iter().flatten() {
            let description = value["description"].as_str().unwrap_or_default();
            let is_sentence = description.ends_with('.') && !description.contains('\n');
            assert!(is_sentence, "{key}: {description:?}");
        }
    }
}

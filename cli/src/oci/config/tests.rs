//! Tests of what becomes of a config.json.

use super::*;

/// A host with six processors and 8 GiB.
pub fn host() -> Host {
    Host {
        program: "/usr/bin/mvm".into(),
        init: "/usr/bin/mvm-init".into(),
        kernel: "/usr/lib/mvm/vmlinux".into(),
        bundle: "/run/engine/web".into(),
        inside: "/run/engine/web/mvm/inside".into(),
        processors: 6,
        memory_mib: 8192,
        open_files: 20_000,
    }
}

/// A small container as engines ask for it.
pub fn config() -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 1000, "gid": 100 },
            "args": ["/bin/web"], "env": ["A=1"], "cwd": "/srv",
            "capabilities": { "bounding": ["CAP_CHOWN"] },
            "rlimits": [{ "type": "RLIMIT_NPROC", "soft": 10, "hard": 10 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
        ],
        "hooks": { "prestart": [{ "path": "/bin/hook" }] },
        "linux": {
            "namespaces": [{ "type": "pid" }, { "type": "network", "path": "/proc/9/ns/net" }],
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "newField": { "of": "tomorrow" },
        },
    })
}

/// Sets the value at a JSON pointer, and makes the objects on the way.
pub fn set(config: &mut Value, pointer: &str, value: Value) {
    let steps = pointer.split('/').skip(1);
    *steps.fold(config, |place, step| &mut place[step]) = value;
}

fn rewritten(changes: &[(&str, Value)]) -> Value {
    let mut config = config();
    for (pointer, value) in changes {
        set(&mut config, pointer, value.clone());
    }
    rewrite(config, &host()).unwrap().0
}

/// What is behind a JSON pointer afterwards.
fn after(changes: &[(&str, Value)], pointer: &str) -> Value {
    let config = rewritten(changes);
    config.pointer(pointer).cloned().unwrap_or_default()
}

#[test]
fn the_process_is_the_monitor_as_the_same_user() {
    let expected = json!({
        "user": { "uid": 1000, "gid": 100 },
        "args": ["/dev/mvm/mvm", "oci", "machine"],
        "env": ["MVM_RUNTIME_DIR=/dev/mvm/run/machines", "MVM_STATE_DIR=/dev/mvm/run/state"],
        "cwd": "/",
        "capabilities": { "bounding": ["CAP_CHOWN"] },
        "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 20_000, "hard": 20_000 }],
        "noNewPrivileges": true,
    });
    assert_eq!(after(&[], "/process"), expected);
}

#[test]
fn what_is_not_the_monitors_stays() {
    for pointer in [
        "/ociVersion",
        "/hooks",
        "/linux/namespaces",
        "/linux/newField",
    ] {
        assert_eq!(after(&[], pointer), *config().pointer(pointer).unwrap());
    }
    let root = json!({ "path": "/run/engine/web/rootfs", "readonly": true });
    assert_eq!(after(&[], "/root"), root);
    let elsewhere = [("/root/path", "/var/lib/rootfs".into())];
    assert_eq!(after(&elsewhere, "/root/path"), "/var/lib/rootfs");
}

#[test]
fn what_a_machine_is_made_from_is_mounted_behind_all_else() {
    let mounts = after(&[], "/mounts");
    let mounts = mounts.as_array().unwrap();
    let text = |mount: &Value, key: &str| mount[key].as_str().unwrap_or_default().to_owned();
    let all: Vec<_> = mounts
        .iter()
        .map(|mount| (text(mount, "destination"), text(mount, "source")))
        .collect();
    let expected = [
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/mvm", "/run/engine/web/mvm/inside"),
        ("/dev/mvm/mvm", "/usr/bin/mvm"),
        ("/dev/mvm/mvm-init", "/usr/bin/mvm-init"),
        ("/dev/mvm/vmlinux", "/usr/lib/mvm/vmlinux"),
        ("/dev/mvm/run", "mvm"),
    ];
    assert_eq!(all, expected.map(|(to, from)| (to.into(), from.into())));
    for bound in &mounts[2..6] {
        assert_eq!(bound["options"], json!(["bind", "ro", "nosuid", "nodev"]));
    }
    let options = mounts[6]["options"].as_array().unwrap();
    assert!(options.contains(&"uid=1000".into()) && options.contains(&"mode=700".into()));
}

#[test]
fn the_monitors_devices_are_its_users() {
    let old = json!([{ "path": "/dev/kvm", "type": "c", "major": 10, "minor": 232, "uid": 0 }]);
    let changes = [("/linux/devices", old)];
    let node = |path, minor| {
        json!({ "path": path, "type": "c", "major": 10, "minor": minor, "fileMode": 0o600,
                "uid": 1000, "gid": 100 })
    };
    let nodes = json!([node("/dev/kvm", 232), node("/dev/net/tun", 200)]);
    assert_eq!(after(&changes, "/linux/devices"), nodes);
    let rule =
        |minor| json!({ "allow": true, "type": "c", "major": 10, "minor": minor, "access": "rw" });
    let rules = json!([{ "allow": false, "access": "rwm" }, rule(232), rule(200)]);
    assert_eq!(after(&changes, "/linux/resources/devices"), rules);
}

#[test]
fn the_group_has_the_machine_and_its_monitor() {
    let mib = |mib: u64| json!(mib << 20);
    let limit = |of: Value| ("/linux/resources/memory/limit", of);
    let swap = |of: Value| ("/linux/resources/memory/swap", of);
    // 40 MiB, a seventh and a 256th of the machine's memory.
    for (changes, limit, swap) in [
        (vec![], Value::Null, Value::Null),
        (vec![limit(json!(-1))], json!(-1), Value::Null),
        (vec![limit(mib(256))], mib(256 + 78), Value::Null),
        (
            vec![limit(mib(256)), swap(mib(512))],
            mib(256 + 78),
            mib(512 + 78),
        ),
        (
            vec![limit(mib(256)), swap(json!(-1))],
            mib(256 + 78),
            json!(-1),
        ),
        // The machine cannot be smaller.
        (vec![limit(mib(6))], mib(64 + 50), Value::Null),
    ] {
        let memory = after(&changes, "/linux/resources/memory");
        assert_eq!(
            (&memory["limit"], &memory["swap"]),
            (&limit, &swap),
            "{changes:?}"
        );
    }
    let wide = [
        limit(mib(64)),
        ("/annotations", json!({ "mvm.dev/memory": "256M" })),
    ];
    assert_eq!(after(&wide, "/linux/resources/memory/limit"), mib(256 + 78));
    let tasks = |limit: i64| [("/linux/resources/pids/limit", json!(limit))];
    assert_eq!(after(&tasks(100), "/linux/resources/pids/limit"), 356);
    assert_eq!(after(&tasks(-1), "/linux/resources/pids/limit"), -1);
}

#[test]
fn a_filter_of_system_calls_stays_with_what_a_monitor_needs() {
    let filter = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            { "names": ["read", "openat2"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["unshare"], "action": "SCMP_ACT_ERRNO" },
        ],
    });
    let expected = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            { "names": ["read"], "action": "SCMP_ACT_ALLOW" },
            { "names": NEEDED, "action": "SCMP_ACT_ALLOW" },
            {
                "names": ["unshare"], "action": "SCMP_ACT_ALLOW",
                "args": [{ "index": 0, "value": 0x200, "op": "SCMP_CMP_EQ" }],
            },
        ],
    });
    assert_eq!(
        after(&[("/linux/seccomp", filter)], "/linux/seccomp"),
        expected
    );
    assert_eq!(after(&[], "/linux/seccomp"), Value::Null);
}

#[test]
fn a_container_that_holds_a_pod_is_none() {
    assert!(!is_sandbox(&config()));
    for annotation in [
        "io.kubernetes.cri.container-type",
        "io.kubernetes.cri-o.ContainerType",
    ] {
        let mut config = config();
        config["annotations"] = json!({ annotation: "sandbox" });
        assert!(is_sandbox(&config), "{annotation}");
        config["annotations"] = json!({ annotation: "container" });
        assert!(!is_sandbox(&config), "{annotation}");
    }
    for args in [json!(["/pause"]), json!(["/catatonit", "-P"])] {
        let mut config = config();
        config["process"]["args"] = args;
        assert!(is_sandbox(&config));
    }
}

#[test]
fn what_a_machine_cannot_have_is_named() {
    let error = |pointer: &str, value: Value| {
        let mut config = config();
        set(&mut config, pointer, value);
        format!("{:#}", rewrite(config, &host()).unwrap_err())
    };
    let network = error("/linux/namespaces", json!([{ "type": "pid" }]));
    assert!(
        network.starts_with("a machine cannot have the host's network: "),
        "{network}"
    );
    let device = error(
        "/linux/devices",
        json!([{ "path": "/dev/sda", "type": "b" }]),
    );
    assert!(
        device.starts_with("a machine cannot have the host's device /dev/sda; "),
        "{device}"
    );
    let dev = json!([{ "destination": "/dev", "type": "bind", "source": "/dev" }]);
    let dev = error("/mounts", dev);
    assert_eq!(
        dev,
        "a machine cannot have the host's /dev; leave that mount out"
    );
}

#[test]
fn a_container_that_wants_no_network_need_not_have_one() {
    let changes = [
        ("/linux/namespaces", json!([])),
        ("/annotations", json!({ "mvm.dev/network": "none" })),
    ];
    rewritten(&changes);
}

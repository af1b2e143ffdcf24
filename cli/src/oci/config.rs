//! config.json of a container whose process is a monitor.
//!
//! The one thing to know: it is edited as JSON, so that all stays that is not named here, and that
//! this program need not know of.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};
use vmm::app::App;

use super::INSIDE;
use super::container::{Container, NETWORK, limit, process_of};

/// What the monitor itself may have running besides what the container may: its threads.
const MONITOR_TASKS: u64 = 256;

/// System calls that a monitor cannot do without and that profiles of engines leave out.
const NEEDED: [&str; 4] = [
    "landlock_create_ruleset",
    "landlock_add_rule",
    "landlock_restrict_self",
    "openat2",
];
/// The only thing that is to be unshared (`CLONE_FS`): a thread gets a umask of its own.
const CLONE_FS: u64 = 0x200;

/// Devices that the monitor opens, by their numbers (`admin-guide/devices.txt`).
const DEVICES: [(&str, u64, u64); 2] = [("/dev/kvm", 10, 232), ("/dev/net/tun", 10, 200)];

/// Devices that a machine has its own of.
const OWN_DEVICES: [&str; 9] = [
    "/dev/console",
    "/dev/full",
    "/dev/fuse",
    "/dev/null",
    "/dev/ptmx",
    "/dev/random",
    "/dev/tty",
    "/dev/urandom",
    "/dev/zero",
];

/// What this host has.
#[derive(Clone, Debug)]
pub struct Host {
    /// This program.
    pub program: PathBuf,
    /// The guest's.
    pub init: PathBuf,
    /// The guest's kernel.
    pub kernel: PathBuf,
    /// The engine's bundle.
    pub bundle: PathBuf,
    /// The folder that the container has as [`INSIDE`].
    pub inside: PathBuf,
    /// Its processors.
    pub processors: u32,
    /// Its memory.
    pub memory_mib: u64,
    /// As many files as a process that is started here may have open.
    pub open_files: u64,
}

/// Whether a container is one that only holds its pod's namespaces: what engines say of it, or run in
/// it.
pub fn is_sandbox(config: &Value) -> bool {
    let annotations = &config["annotations"];
    let kinds = [
        "io.kubernetes.cri.container-type",
        "io.kubernetes.cri-o.ContainerType",
    ];
    let args = config["process"]["args"].as_array();
    let words: Vec<_> = args.into_iter().flatten().map(Value::as_str).collect();
    kinds.iter().any(|kind| annotations[kind] == "sandbox")
        || [&[Some("/pause")][..], &[Some("/catatonit"), Some("-P")]].contains(&&*words)
}

/// The configuration that runc gets, and what the monitor is told.
///
/// # Errors
/// A container has something that a machine cannot have; says what.
pub fn rewrite(mut config: Value, host: &Host) -> Result<(Value, Container)> {
    refuse(&config)?;
    let container = Container::of(&config, host)?;
    root(&mut config, &host.bundle);
    process(&mut config, host);
    mounts(&mut config, host)?;
    devices(&mut config)?;
    resources(&mut config["linux"]["resources"], &container.app);
    seccomp(&mut config["linux"]["seccomp"]);
    Ok((config, container))
}

/// Refuses what would be wrong, or not be there, in a machine.
fn refuse(config: &Value) -> Result<()> {
    let namespaces = list(&config["linux"]["namespaces"]);
    let has_network = namespaces.iter().any(|one| one["type"] == "network");
    ensure!(
        has_network || config["annotations"][NETWORK] == "none",
        "a machine cannot have the host's network: give the container one of the engine's, or the \
         annotation {NETWORK}=none for none"
    );
    let own = |path: &str| {
        OWN_DEVICES.contains(&path) || DEVICES.iter().any(|(device, ..)| *device == path)
    };
    for device in list(&config["linux"]["devices"]) {
        let path = device["path"].as_str().unwrap_or_default();
        ensure!(
            own(path),
            "a machine cannot have the host's device {path}; without --device and --privileged the \
             container has none"
        );
    }
    let dev = list(&config["mounts"])
        .iter()
        .find(|mount| mount["destination"] == "/dev");
    match dev.map(|mount| &mount["type"]) {
        Some(kind) if kind == "tmpfs" => Ok(()),
        Some(_) => bail!("a machine cannot have the host's /dev; leave that mount out"),
        None => bail!("config.json: mounts: there must be a tmpfs on /dev"),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A path in the bundle is one of the engine's bundle.
fn root(config: &mut Value, bundle: &Path) {
    let path = config["root"]["path"].as_str().unwrap_or("rootfs");
    config["root"]["path"] = text(&bundle.join(path));
}

fn text(path: &Path) -> Value {
    path.to_string_lossy().into()
}

/// The monitor, as the user that the program would be.
fn process(config: &mut Value, host: &Host) {
    let process = &mut config["process"];
    process["args"] = json!([format!("{INSIDE}/mvm"), "oci", "machine"]);
    process["env"] = json!([
        format!("MVM_RUNTIME_DIR={}", super::inside::RUNTIME),
        format!("MVM_STATE_DIR={}", super::inside::STATE),
    ]);
    process["cwd"] = "/".into();
    // The container's are for the program, in the machine; a file server opens what that opens.
    let files = host.open_files;
    process["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": files, "hard": files }]);
}

/// What the monitor reads and where it writes, below `/dev`, which is in memory.
fn mounts(config: &mut Value, host: &Host) -> Result<()> {
    let process = process_of(config)?;
    let (uid, gid) = (process.user.uid, process.user.gid);
    let bind = |from: &Path, to: &str| {
        json!({
            "destination": format!("{INSIDE}{to}"),
            "type": "bind",
            "source": text(from),
            "options": ["bind", "ro", "nosuid", "nodev"],
        })
    };
    let own = [
        bind(&host.inside, ""),
        bind(&host.program, "/mvm"),
        bind(&host.init, "/mvm-init"),
        bind(&host.kernel, "/vmlinux"),
        json!({
            "destination": format!("{INSIDE}/run"),
            "type": "tmpfs",
            "source": "mvm",
            "options": ["nosuid", "nodev", "noexec", "mode=700", "size=1m",
                        format!("uid={uid}"), format!("gid={gid}")],
        }),
    ];
    match config["mounts"].as_array_mut() {
        Some(mounts) => mounts.extend(own),
        None => config["mounts"] = own.into_iter().collect(),
    }
    Ok(())
}

/// KVM and taps, for the user that the monitor is.
fn devices(config: &mut Value) -> Result<()> {
    let process = process_of(config)?;
    for (path, major, minor) in DEVICES {
        let node = json!({
            "path": path, "type": "c", "major": major, "minor": minor, "fileMode": 0o600,
            "uid": process.user.uid, "gid": process.user.gid,
        });
        let nodes = array(&mut config["linux"]["devices"]);
        nodes.retain(|node| node["path"] != path);
        nodes.push(node);
        let rule = json!({
            "allow": true, "type": "c", "major": major, "minor": minor, "access": "rw",
        });
        array(&mut config["linux"]["resources"]["devices"]).push(rule);
    }
    Ok(())
}

/// The list at a place, made if there is none.
fn array(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = json!([]);
    }
    value.as_array_mut().unwrap_or_else(|| unreachable!())
}

/// The container's limits are the machine's; the control group has the monitor as well.
fn resources(resources: &mut Value, app: &App) {
    if let Some(memory) = limit(&resources["memory"]["limit"]) {
        let most = memory
            .max(app.memory_bytes())
            .saturating_add(app.overhead_bytes());
        let swap = limit(&resources["memory"]["swap"]);
        if let Some(swap) = swap {
            let more = most.saturating_sub(memory);
            resources["memory"]["swap"] = swap.saturating_add(more).into();
        }
        resources["memory"]["limit"] = most.into();
    }
    if let Some(tasks) = limit(&resources["pids"]["limit"]) {
        resources["pids"]["limit"] = tasks.saturating_add(MONITOR_TASKS).into();
    }
}

/// The engine's filter of system calls, which holds for the monitor, with what that needs more.
fn seccomp(seccomp: &mut Value) {
    if !seccomp.is_object() {
        return;
    }
    let rules = array(&mut seccomp["syscalls"]);
    let is_needed = |name: &Value| {
        name.as_str()
            .is_some_and(|name| name == "unshare" || NEEDED.contains(&name))
    };
    // Rules of one system call with two actions are refused.
    for rule in rules.iter_mut() {
        array(&mut rule["names"]).retain(|name| !is_needed(name));
    }
    rules.retain(|rule| !list(&rule["names"]).is_empty());
    rules.push(json!({ "names": NEEDED, "action": "SCMP_ACT_ALLOW" }));
    rules.push(json!({
        "names": ["unshare"],
        "action": "SCMP_ACT_ALLOW",
        "args": [{ "index": 0, "value": CLONE_FS, "op": "SCMP_CMP_EQ" }],
    }));
}

#[cfg(test)]
pub mod tests;

//! A container as a machine: what its config.json says of the program, the memory and so on.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use guest::protocol::{Bounds, Limit};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use vmm::app::{App, Memory, RootKind, StoreMode, Tty, resource_number};

use super::INSIDE;
use super::config::Host;

/// What the machine is called. Nobody else is in its folder of machines.
pub const NAME: &str = "container";

/// Annotations that say more than an engine's flags can.
const MEMORY: &str = "mvm.dev/memory";
const VCPUS: &str = "mvm.dev/vcpus";
pub const NETWORK: &str = "mvm.dev/network";

/// Memory of a container without a limit, on a host that has twice as much: what programs of
/// images are happy with. The host gives only what is used.
const MEMORY_MIB: u64 = 1024;
/// What a kernel and its first process start in.
const MIN_MEMORY_MIB: u64 = 64;
/// Processors of a container without a limit, if the host has as many: each takes a start longer.
const VCPUS_MAX: u32 = 4;

/// Programs that engines put before another as its init, which a machine has.
const INITS: [&str; 4] = [
    "/run/podman-init",
    "/dev/init",
    "/sbin/docker-init",
    "/usr/bin/catatonit",
];

/// What the process of a container is told of its machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The machine.
    pub app: App,
    /// What its program may do.
    pub bounds: Bounds,
    /// The host's number of the user whose process it is.
    pub owner: u32,
}

/// A process as config.json has it, and the file of `exec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process {
    pub terminal: bool,
    pub user: User,
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: String,
    pub rlimits: Vec<Rlimit>,
}

/// Who it runs as.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub additional_gids: Vec<u32>,
    pub umask: Option<u32>,
}

/// A limit of the process.
#[derive(Clone, Debug, Deserialize)]
pub struct Rlimit {
    #[serde(rename = "type")]
    kind: String,
    soft: u64,
    hard: u64,
}

impl Process {
    /// What it may do.
    ///
    /// # Errors
    /// It has a limit of a resource that Linux does not know.
    pub fn bounds(&self) -> Result<Bounds> {
        let limits = self.rlimits.iter().map(Rlimit::of_linux);
        Ok(Bounds {
            groups: Vec::new(),
            gids: self.user.additional_gids.clone(),
            is_numbered: true,
            limits: limits.collect::<Result<_>>()?,
            umask: self.user.umask,
        })
    }

    /// User and group as app.json has them.
    pub fn user(&self) -> String {
        format!("{}:{}", self.user.uid, self.user.gid)
    }

    /// Its command line, without an init before the program.
    fn argv(&self) -> Vec<String> {
        match self.args.as_slice() {
            [init, dashes, program @ ..] if dashes == "--" && INITS.contains(&init.as_str()) => {
                program.to_vec()
            }
            all => all.to_vec(),
        }
    }
}

impl Rlimit {
    fn of_linux(&self) -> Result<Limit> {
        let name = self.kind.strip_prefix("RLIMIT_").unwrap_or(&self.kind);
        let resource = resource_number(&name.to_ascii_lowercase());
        Ok(Limit {
            resource: resource.with_context(|| format!("there is no limit {:?}", self.kind))?,
            soft: self.soft,
            hard: self.hard,
        })
    }
}

impl Container {
    /// The machine that a container's config.json asks for.
    ///
    /// # Errors
    /// It has no process, or an annotation says nothing that can be.
    pub fn of(config: &Value, host: &Host) -> Result<Self> {
        let process = process_of(config)?;
        let argv = process.argv();
        let annotations = &config["annotations"];
        let mut app = App::new(NAME, argv);
        app.hostname = config["hostname"].as_str().map(Into::into);
        app.memory = Memory::from_mib(memory_mib(config, annotations, host)?);
        app.vcpus = vcpus(config, annotations, host)?;
        app.kernel.path = Some(format!("{INSIDE}/vmlinux").into());
        app.kernel.cmdline = sysctls(&config["linux"]["sysctl"]);
        app.image = Some("/".into());
        app.root.kind = RootKind::Folder;
        app.store.mode = StoreMode::None;
        app.interfaces = Some(Vec::new());
        app.app.env = variables(&process.env);
        app.app.cwd = Some(process.cwd.clone());
        app.app.user = Some(process.user());
        app.app.tty = if process.terminal {
            Tty::Always
        } else {
            Tty::Never
        };
        Ok(Self {
            app,
            bounds: process.bounds()?,
            owner: host_id(&config["linux"]["uidMappings"], process.user.uid),
        })
    }
}

/// The process that config.json says.
pub fn process_of(config: &Value) -> Result<Process> {
    let process = Process::deserialize(&config["process"]);
    let process = process.context("config.json: process")?;
    if process.args.is_empty() {
        bail!("config.json: process.args: must name the program to run");
    }
    Ok(process)
}

/// Variables by their names; what is none is left out, as by programs that look for one.
fn variables(env: &[String]) -> BTreeMap<String, Option<String>> {
    let entries = env.iter().filter_map(|entry| entry.split_once('='));
    entries
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| (name.into(), Some(value.into())))
        .collect()
}

fn memory_mib(config: &Value, annotations: &Value, host: &Host) -> Result<u64> {
    if let Some(text) = annotations[MEMORY].as_str() {
        let memory = text.parse::<Memory>().map_err(anyhow::Error::msg);
        return Ok(memory
            .with_context(|| format!("annotation {MEMORY}"))?
            .mib());
    }
    Ok(
        match limit(&config["linux"]["resources"]["memory"]["limit"]) {
            Some(bytes) => (bytes >> 20).clamp(MIN_MEMORY_MIB, Memory::MAX_MIB),
            None => MEMORY_MIB.min(host.memory_mib / 2).max(MIN_MEMORY_MIB),
        },
    )
}

/// A limit that holds: others are absent, 0 or less.
pub fn limit(value: &Value) -> Option<u64> {
    let limit = value.as_i64()?;
    u64::try_from(limit).ok().filter(|limit| *limit > 0)
}

fn vcpus(config: &Value, annotations: &Value, host: &Host) -> Result<u32> {
    if let Some(text) = annotations[VCPUS].as_str() {
        let vcpus = text.parse().ok();
        let vcpus = vcpus.filter(|vcpus| (1..=vmm::app::MAX_VCPUS).contains(vcpus));
        return vcpus.with_context(|| {
            let most = vmm::app::MAX_VCPUS;
            format!("annotation {VCPUS}: must be a number from 1 to {most}, is {text:?}")
        });
    }
    let cpu = &config["linux"]["resources"]["cpu"];
    let quota = limit(&cpu["quota"]).zip(limit(&cpu["period"]));
    let wanted = quota.and_then(|(quota, period)| u32::try_from(quota.div_ceil(period)).ok());
    Ok(match wanted {
        Some(vcpus) => vcpus.min(host.processors).max(1),
        None => host.processors.clamp(1, VCPUS_MAX),
    })
}

/// Settings of the machine's own kernel, as words of its command line (`sysctl.` of kernel-parameters).
/// One that is no word there could say something else.
fn sysctls(settings: &Value) -> String {
    let settings = settings.as_object().into_iter().flatten();
    let words = settings.filter_map(|(name, value)| {
        let word = format!("sysctl.{name}={}", value.as_str()?);
        let is_word = word
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'"');
        is_word.then_some(word)
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The host's number of a container's user.
fn host_id(mappings: &Value, id: u32) -> u32 {
    let mappings = mappings.as_array().into_iter().flatten();
    let number = |value: &Value| u32::try_from(value.as_u64()?).ok();
    let mut mapped = mappings.filter_map(|mapping| {
        let nth = id.checked_sub(number(&mapping["containerID"])?)?;
        let is_in = nth < number(&mapping["size"])?;
        number(&mapping["hostID"])?
            .checked_add(nth)
            .filter(|_| is_in)
    });
    mapped.next().unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::oci::config::tests::host;

    fn container(changes: &[(&str, Value)]) -> Result<Container> {
        let mut config = json!({
            "process": { "args": ["/bin/sh", "-c", "true"], "cwd": "/srv", "env": ["A=b=c", "none", "=x"] },
        });
        for (pointer, value) in changes {
            crate::oci::config::tests::set(&mut config, pointer, value.clone());
        }
        Container::of(&config, &host())
    }

    #[test]
    fn the_program_is_as_the_container_has_it() {
        let user = json!({ "uid": 1000, "gid": 100, "additionalGids": [5, 6], "umask": 0o27 });
        let limits = json!([{ "type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096 }]);
        let container = container(&[
            ("/process/user", user),
            ("/process/rlimits", limits),
            ("/process/terminal", true.into()),
            ("/hostname", "web".into()),
        ])
        .unwrap();
        let app = &container.app;
        assert_eq!(app.app.entrypoint, ["/bin/sh", "-c", "true"]);
        assert_eq!(app.app.env, [("A".into(), Some("b=c".into()))].into());
        assert_eq!((app.app.cwd(), app.app.user()), ("/srv", "1000:100"));
        assert_eq!((app.app.tty, app.hostname()), (Tty::Always, "web"));
        let limit = Limit {
            resource: 7,
            soft: 1024,
            hard: 4096,
        };
        let bounds = Bounds {
            groups: Vec::new(),
            gids: vec![5, 6],
            is_numbered: true,
            limits: vec![limit],
            umask: Some(0o27),
        };
        assert_eq!((container.bounds, container.owner), (bounds, 1000));
    }

    #[test]
    fn memory_is_the_limit_and_the_annotation_wins() {
        let limit = ("/linux/resources/memory/limit", json!(512_u64 << 20));
        let annotation = ("/annotations", json!({ "mvm.dev/memory": "96M" }));
        for (changes, mib) in [
            (vec![], 1024),
            (vec![("/linux/resources/memory/limit", json!(-1))], 1024),
            (vec![("/linux/resources/memory/limit", json!(6 << 20))], 64),
            (vec![limit.clone()], 512),
            (vec![limit, annotation], 96),
        ] {
            assert_eq!(
                container(&changes).unwrap().app.memory_mib(),
                mib,
                "{changes:?}"
            );
        }
    }

    #[test]
    fn processors_are_those_of_the_quota_and_the_annotation_wins() {
        let quota = |quota: i64| {
            (
                "/linux/resources/cpu",
                json!({ "quota": quota, "period": 100_000 }),
            )
        };
        let annotation = ("/annotations", json!({ "mvm.dev/vcpus": "7" }));
        for (changes, vcpus) in [
            (vec![], 4),
            (vec![quota(-1)], 4),
            (vec![quota(150_000)], 2),
            (vec![quota(9_000_000)], 6),
            (vec![quota(150_000), annotation], 7),
        ] {
            assert_eq!(container(&changes).unwrap().app.vcpus, vcpus, "{changes:?}");
        }
    }

    #[test]
    fn what_cannot_be_is_told_by_its_name() {
        let error = |pointer, value: Value| {
            let error = container(&[(pointer, value)]).unwrap_err();
            format!("{error:#}")
        };
        assert_eq!(
            error("/annotations", json!({ "mvm.dev/vcpus": "many" })),
            "annotation mvm.dev/vcpus: must be a number from 1 to 64, is \"many\""
        );
        let memory = error("/annotations", json!({ "mvm.dev/memory": "1X" }));
        assert!(
            memory.starts_with("annotation mvm.dev/memory: "),
            "{memory}"
        );
        let limits = json!([{ "type": "RLIMIT_FUN", "soft": 1, "hard": 1 }]);
        assert_eq!(
            error("/process/rlimits", limits),
            "there is no limit \"RLIMIT_FUN\""
        );
        let args = error("/process/args", json!([]));
        assert_eq!(
            args,
            "config.json: process.args: must name the program to run"
        );
    }

    #[test]
    fn a_machine_needs_no_init() {
        let args = json!(["/run/podman-init", "--", "/bin/web", "--", "x"]);
        let container = container(&[("/process/args", args)]).unwrap();
        assert_eq!(container.app.app.entrypoint, ["/bin/web", "--", "x"]);
    }

    #[test]
    fn settings_of_the_kernel_are_words_of_its_command_line() {
        let settings =
            json!({ "net.ipv4.ip_unprivileged_port_start": "0", "a.b": "1 init=/bin/sh" });
        let container = container(&[("/linux/sysctl", settings)]).unwrap();
        assert_eq!(
            container.app.kernel.cmdline,
            "sysctl.net.ipv4.ip_unprivileged_port_start=0"
        );
    }

    #[test]
    fn the_owner_is_the_hosts_user() {
        let mappings = json!([{ "containerID": 0, "hostID": 100_000, "size": 1000 },
                              { "containerID": 1000, "hostID": 500, "size": 1 }]);
        assert_eq!(host_id(&mappings, 5), 100_005);
        assert_eq!(host_id(&mappings, 1000), 500);
        assert_eq!(host_id(&Value::Null, 7), 7);
    }
}

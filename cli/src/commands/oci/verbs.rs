//! The verbs that do something else than runc's.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::num::NonZero;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::available_parallelism;

use anyhow::{Context, Result, bail};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};
use vmm::kernel;

use super::flags::{Create, Exec};
use crate::accel::{Accel, Place};
use crate::init_binary;
use crate::oci::bundle_of;
use crate::oci::config::{self, Host};
use crate::oci::process;
use crate::oci::runc::{Runc, State};
use crate::oci::{Bundle, network};
use crate::output::print_json;

/// `create` and `run`: writes a bundle whose process is a monitor, and has runc go on.
pub fn create(runc: &Runc, create: &Create, verb: &str, accel: Option<Accel>) -> Result<ExitCode> {
    let folder = create.bundle.as_deref().unwrap_or(Path::new("."));
    let bundle = Bundle::of_engine(folder)?;
    let config = bundle.config()?;
    if config::is_sandbox(&config) {
        return Err(runc.exec(create.line(verb, bundle.engines())));
    }
    if let Place::EmulatedHost { reason } = Accel::place(accel)? {
        bail!(
            "this host cannot run a container as a machine: {reason}, and no emulated host is started \
             for an engine; `mvm doctor` tells more"
        );
    }
    let (mut config, container) = config::rewrite(config, &host(&bundle)?)?;
    if verb == "run" {
        add_hook(&mut config)?;
    }
    bundle.write(&config, &container)?;
    Err(runc.exec(create.line(verb, &bundle.path())))
}

/// `start`: the engine has made the network by now.
pub fn start(runc: &Runc, id: &str) -> Result<ExitCode> {
    let State { pid, bundle } = runc.state(id)?;
    if let Some(bundle) = Bundle::of_runc(&bundle) {
        connect(&bundle, pid)?;
    }
    Err(runc.exec(["start", id]))
}

/// Gives a machine the network of its container.
fn connect(bundle: &Bundle, pid: u32) -> Result<()> {
    let container = bundle.container()?;
    let wants_none = bundle.config()?["annotations"][crate::oci::container::NETWORK] == "none";
    if wants_none {
        return Ok(());
    }
    let interfaces = network::connect(pid, container.owner)?;
    bundle.write_interfaces(&interfaces)
}

/// With `run` there is no other moment at which the network is there and the program not yet.
fn add_hook(config: &mut Value) -> Result<()> {
    let program = env::current_exe().context("cannot tell where mvm is")?;
    let hook = json!({ "path": program, "args": ["mvm", "oci", "hook"] });
    match config["hooks"]["createRuntime"].as_array_mut() {
        Some(hooks) => hooks.push(hook),
        None => config["hooks"]["createRuntime"] = json!([hook]),
    }
    Ok(())
}

/// `hook`.
pub fn hook() -> Result<ExitCode> {
    let state = serde_json::from_reader(io::stdin()).context("the container's state")?;
    let State { pid, bundle } = state;
    let bundle = Bundle::of_runc(&bundle).context("the container is no machine")?;
    connect(&bundle, pid)?;
    Ok(ExitCode::SUCCESS)
}

/// `exec`: runc runs a client of the monitor in the container.
pub fn exec(runc: &Runc, exec: &Exec) -> Result<ExitCode> {
    let state = runc.state(&exec.id)?;
    let Some(bundle) = Bundle::of_runc(&state.bundle) else {
        return Err(runc.exec(exec.line(None)));
    };
    let container = bundle.container()?;
    let process = process::rewrite(exec.process(&container)?, &container)?;
    // Its environment is for nobody's eyes, and gone with runc.
    let file = memfd_create(c"process", MemfdFlags::empty()).context("cannot make a file")?;
    let mut file = File::from(file);
    file.write_all(&serde_json::to_vec(&process)?)?;
    // Above those that --preserve-fds counts.
    let passed = rustix::io::fcntl_dupfd_cloexec(&file, PROCESS_FD_MIN)?;
    rustix::io::fcntl_setfd(&passed, rustix::io::FdFlags::empty())?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", passed.as_raw_fd()));
    Err(runc.exec(exec.line(Some(&path))))
}

/// Descriptors below this one may be for the container.
const PROCESS_FD_MIN: i32 = 500;

/// `state`: as runc has it, but for the bundle, which is the engine's.
pub fn state(runc: &Runc, id: &str) -> Result<ExitCode> {
    let answer = runc.answer(["state", id])?;
    let mut state: Value = serde_json::from_slice(&answer).context("runc's state")?;
    let bundle = state["bundle"]
        .as_str()
        .map(Path::new)
        .and_then(Bundle::of_runc);
    if let Some(bundle) = bundle {
        state["bundle"] = bundle.engines().to_string_lossy().into();
    }
    print_json(&state)?;
    Ok(ExitCode::SUCCESS)
}

/// What a machine cannot do, and another container can.
pub fn refuse_for_machines(runc: &Runc, verb: &str, arguments: &[OsString]) -> Result<ExitCode> {
    let ids = arguments.iter().filter_map(|word| word.to_str());
    let machine = ids
        .filter(|word| !word.starts_with('-'))
        .find(|id| bundle_of(runc, id).is_some());
    if let Some(id) = machine {
        bail!("cannot {verb} {id}: it is a machine, which stays as it was made");
    }
    let verb = OsString::from(verb);
    Err(runc.exec([verb].iter().chain(arguments)))
}

/// What this host has for a machine.
fn host(bundle: &Bundle) -> Result<Host> {
    let meminfo = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
    let processors = available_parallelism().map_or(1, NonZero::get);
    Ok(Host {
        program: env::current_exe().context("cannot tell where mvm is")?,
        init: init_binary::find()?.canonicalize()?,
        kernel: kernel::find(None)?.canonicalize()?,
        bundle: bundle.engines().into(),
        inside: bundle.inside(),
        processors: u32::try_from(processors)?,
        memory_mib: kib.context("cannot read /proc/meminfo: it has no MemTotal")? >> 10,
        open_files: getrlimit(Resource::Nofile).maximum.unwrap_or(1 << 20),
    })
}

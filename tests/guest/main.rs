//! The guest tests: each a script in a real machine, whose programs come from `tests/fixtures`.
//!
//! The one thing to know: a start costs seconds where KVM is emulated, so a script looks at all
//! that belongs together, and its whole output is compared.

mod accel;
mod attach;
mod background;
mod build;
mod clock;
mod compose;
mod copy;
mod docker_tools;
mod engines;
mod exec;
mod exit_status;
mod figures;
mod fixtures;
mod flags;
mod health;
mod images;
mod images_several;
mod kernels;
mod killed;
mod limits;
mod logs;
mod memory;
mod network;
mod network_between;
mod network_root;
mod nix;
mod nix_flake;
mod nixos;
mod nixos_init;
mod nixos_update;
mod notify;
mod ordinary_user;
mod power;
mod processors;
mod read_only;
mod requests;
mod restart;
mod secrets;
mod services;
mod shares;
mod shares_writable;
mod signals;
mod single_files;
mod store;
mod store_auto;
mod store_dax;
mod store_image;
mod store_writable;
mod streams;
mod system;
mod systemd;
mod terminal;
mod update;
mod users;
mod volumes;

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mvm_test::{Machine, fixture};

/// A machine that runs `script` in bash, with all programs of the fixtures at hand.
fn shell(name: &str, script: &str) -> Machine {
    tool(name, ["bash", "-c", script])
}

/// A machine that runs one of the fixtures' programs.
fn tool<const N: usize>(name: &str, argv: [&str; N]) -> Machine {
    let bin = format!("{}/bin", fixture("tools"));
    Machine::new(name)
        .program(argv)
        .env("PATH", &bin)
        .memory_mib(128)
}

/// What the same programs print on this host.
fn on_host(script: &str) -> Vec<u8> {
    let bin = format!("{}/bin", fixture("tools"));
    let mut command = Command::new(format!("{bin}/bash"));
    let output = command
        .args(["-c", script])
        .env_clear()
        .env("PATH", bin)
        .output();
    let output = output.expect("the fixtures' bash runs on this host");
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// Waits until something is so, which takes long where KVM is emulated.
fn until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(180);
    while !is_so() {
        assert!(Instant::now() < deadline, "it has never been so");
        thread::sleep(Duration::from_millis(100));
    }
}

/// Whether machines run there; then their network is that kernel's.
fn runs_emulated_host() -> bool {
    let status = Command::new(mvm_itself())
        .args(["emulator", "status", "--json"])
        .output();
    let status = status.expect("mvm runs").stdout;
    let status: serde_json::Value = serde_json::from_slice(&status).expect("JSON");
    status["running"] == true
}

/// A command where machines run: in the emulated host, if there is one.
fn where_machines_run(command: &[&str]) -> Command {
    let mvm = mvm_itself();
    let prefix: &[&str] = if runs_emulated_host() {
        &[&mvm.to_string_lossy(), "emulator", "exec", "--"]
    } else {
        &[]
    };
    let words = [prefix, command].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// Sends SIGKILL to a process there. By the shell itself, since a small host has no such program.
fn kill_where_machines_run(pid: &str) -> Result<()> {
    let status = where_machines_run(&["sh", "-c", "kill -9 \"$0\"", pid]).status()?;
    ensure!(status.success(), "cannot kill {pid}: {status}");
    Ok(())
}

/// A program that is no kernel: a position-independent ELF file.
fn mvm_itself() -> PathBuf {
    mvm_test::mvm()
}

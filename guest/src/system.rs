//! What is done to the root of a NixOS system before its first process, where mvm stands in for its
//! stage 1.
//!
//! The one thing to know: a scripted `init` does all of it by itself. An `init` that is systemd has
//! it done before, by the script `prepare-root` of the system, or else by what its initrd brings
//! along, nixos-init, whose part is taken here.

mod etc;
mod loop_device;
mod nixos_init;

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Prepares the root. The first argument is the system's path, the second, if there is one, the
/// serial of the volume that keeps the root.
pub const PREPARE: &str = "prepare-system";

/// Carries the role out.
pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    let Some((system, volume)) = arguments.split_first() else {
        bail!("{PREPARE} needs a system");
    };
    let system = Path::new(system);
    let script = system.join("prepare-root");
    if script.exists() {
        let error = Command::new(&script)
            .env("IN_NIXOS_SYSTEMD_STAGE1", "true")
            .exec();
        return Err(error).with_context(|| format!("cannot run {}", script.display()));
    }
    if is_elf(&system.join("init")) {
        let volume = volume.first().and_then(|serial| serial.to_str());
        nixos_init::prepare(system, volume)?;
    }
    Ok(())
}

fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == *b"\x7fELF"
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_scripted_system_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("init"), "#!/bin/sh\n").unwrap();
        run(&[folder.path().into()]).unwrap();
        // With nothing that says how, nothing can be prepared.
        fs::write(folder.path().join("init"), "\x7fELF and more").unwrap();
        let error = run(&[folder.path().into()]).unwrap_err();
        let words = format!("cannot read {}/boot.json", folder.path().display());
        assert_eq!(error.to_string(), words);
    }
}

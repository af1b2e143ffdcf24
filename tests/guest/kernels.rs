//! Kernels that are none, and those of distributions.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mvm_test::{closure, fixture, fixtures_folder};
use tempfile::TempDir;

use crate::shell;

/// For an error that no machine has to run for.
const QUICKLY: Duration = Duration::from_secs(20);

/// A bzImage unpacks itself before it says a word, on one processor.
const UNPACKING: Duration = Duration::from_secs(300);

/// The kernel that all other tests run.
fn kernel() -> Result<PathBuf> {
    let named = env::var_os("MVM_KERNEL").context("tests/run names the kernel in $MVM_KERNEL")?;
    Ok(named.into())
}

/// Runs with that kernel and compares the one line of the error.
fn assert_refused(path: &Path, why: &str) -> Result<()> {
    let output = shell("kernels", "exit 0")
        .kernel(path)
        .timeout(QUICKLY)
        .run()?;
    assert_eq!(output.status, 125, "{output}");
    let expected = format!(
        "mvm: cannot start kernels: cannot boot the kernel {}: {why}\n",
        path.display()
    );
    assert_eq!(output.stderr(), expected);
    Ok(())
}

#[test]
fn no_file() -> Result<()> {
    let output = shell("kernels", "exit 0").kernel("/no/such/kernel").run()?;
    assert_eq!(output.status, 125);
    assert_eq!(
        output.stderr(),
        "mvm: kernel.path: there is no kernel /no/such/kernel\n"
    );
    Ok(())
}

#[test]
fn a_part_of_a_kernel() -> Result<()> {
    let folder = TempDir::new()?;
    let whole = fs::read(kernel()?)?;
    let first = |count: usize| -> Result<PathBuf> {
        let path = folder.path().join(format!("first-{count}"));
        fs::write(&path, &whole[..count])?;
        Ok(path)
    };
    assert_refused(&first(0)?, "it has only 0 bytes")?;
    assert_refused(&first(3)?, "it has only 3 bytes")?;
    assert_refused(&first(40)?, "it ends too early")?;
    assert_refused(&first(64)?, "it ends before its program headers")?;
    assert_refused(&first(4096)?, "it is cut short or damaged")?;
    assert_refused(&first(whole.len() / 2)?, "it is cut short or damaged")
}

#[test]
fn other_files() -> Result<()> {
    let folder = TempDir::new()?;
    let path = |name| folder.path().join(name);
    let mut state = 1_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    fs::write(
        path("random"),
        (0..1 << 20).map(|_| random()).collect::<Vec<_>>(),
    )?;
    fs::write(path("text"), "#!/bin/sh\nexec linux\n".repeat(100))?;
    File::create(path("huge"))?.set_len(2 << 30)?;
    let fifo = Command::new("mkfifo").arg(path("fifo")).status()?;
    ensure!(fifo.success(), "mkfifo: {fifo}");

    assert_refused(&path("random"), "it is neither an ELF file nor a bzImage")?;
    assert_refused(&path("text"), "it is neither an ELF file nor a bzImage")?;
    assert_refused(&path("huge"), "it has 2048 MiB; no kernel is that large")?;
    assert_refused(&path("fifo"), "it is not a regular file")?;
    assert_refused(folder.path(), "it is not a regular file")?;
    assert_refused(
        &crate::mvm_itself(),
        "it is an ELF file, but not an executable",
    )
}

#[test]
fn a_distributions_kernel_runs_programs_with_its_own_modules() -> Result<()> {
    let folder = fixtures_folder().join("debian-kernel");
    let releases = fs::read_dir(folder.join("lib/modules"))
        .context("cannot list the modules of Debian's kernel; `make debian-kernel` unpacks them")?;
    let release = releases.flatten().next().context("there are none")?;
    let share = TempDir::new()?;
    fs::write(share.path().join("file"), "on a share\n")?;

    let script = "uname -r; nproc; cat /share/file; ls /nix/store | sort; exit 42";
    let output = shell("distribution", script)
        .kernel(folder.join("vmlinuz"))
        .memory_mib(512)
        .vcpus(2)
        .share(share.path(), "/share")
        .timeout(UNPACKING)
        .run()?;
    let closure = closure(&fixture("tools"))?;
    let names: Vec<_> = closure
        .iter()
        .map(|path| path.replace("/nix/store/", ""))
        .collect();
    let expected = format!(
        "{}\n2\non a share\n{}\n",
        release.file_name().to_string_lossy(),
        names.join("\n")
    );
    assert_eq!(output.stdout(), expected, "{output}");
    assert_eq!(output.status, 42, "{output}");
    Ok(())
}

#[test]
fn a_distributions_kernel_may_be_named_by_the_variable() -> Result<()> {
    let kernel = fixtures_folder().join("debian-kernel/vmlinuz");
    let output = shell("variable", "uname -r")
        .host_env("MVM_KERNEL", kernel)
        .memory_mib(512)
        .timeout(UNPACKING)
        .run()?;
    assert_eq!(output.status, 0, "{output}");
    assert!(output.stdout().ends_with("-cloud-amd64\n"), "{output}");
    Ok(())
}

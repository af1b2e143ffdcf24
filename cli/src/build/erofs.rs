//! The store of a bundle, an EROFS, by `mkfs.erofs`.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, ensure};
use tempfile::NamedTempFile;

/// The program, and the package that has it wherever packages have names.
const MKFS: &str = "mkfs.erofs";
const PACKAGE: &str = "erofs-utils";

/// Where it is besides `$PATH`, which for users often leaves these out.
const FOLDERS: [&str; 3] = ["/usr/sbin", "/sbin", "/run/current-system/sw/bin"];

/// All that could differ from one time to the next is fixed: the time is that of all files in a store,
/// owners and attributes are none. Packed in blocks of 64 KiB, the programs of the tests take half of
/// their room; in those of 4 KiB, a seventh more than that.
const FLAGS: [&str; 7] = [
    "--quiet",
    "-zlz4hc",
    "-C65536",
    "-T1",
    "-U6d766d00-0000-4000-8000-000000000000",
    "--all-root",
    "-x-1",
];

/// Makes one of what is in `folder`; it is a file in `beside` as long as it is open.
///
/// # Errors
/// There is no such program, or it fails.
pub fn make(folder: &Path, beside: &Path) -> Result<File> {
    let image = NamedTempFile::with_prefix_in(".mvm-build-", beside)
        .with_context(|| format!("cannot write to the folder {}", beside.display()))?;
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(FOLDERS.map(Into::into));
    let output = Command::new(MKFS)
        .args(FLAGS)
        .arg(image.path())
        .arg(folder)
        .env(
            "PATH",
            env::join_paths(folders).unwrap_or_else(|_| OsString::new()),
        )
        // It would win over the time above.
        .env_remove("SOURCE_DATE_EPOCH")
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => anyhow!(
            "cannot make the store's image: there is no {MKFS} here; the package {PACKAGE} has it"
        ),
        _ => anyhow!(error).context(format!("cannot start {MKFS}")),
    })?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty());
    ensure!(
        output.status.success(),
        "cannot make the store's image: {MKFS} failed ({}): {}",
        output.status,
        last.unwrap_or("it said nothing")
    );
    // By its name, for the program may have made a new file.
    File::open(image.path()).context("cannot open the store's image")
}

//! `mvm emulator log`: what the emulated host, QEMU and the kernel inside have said.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::folder::Folder;

/// How often a log that is followed is looked at: it has no writer that would tell.
const STEP: Duration = Duration::from_millis(200);

/// Prints the log; with `follow`, until the emulated host ends.
pub fn print(folder: &Folder, follow: bool) -> Result<()> {
    let Some(mut log) = open(&folder.log())? else {
        return Ok(());
    };
    loop {
        // In this order: what is written before the end is then still printed.
        let is_alive = folder.is_claimed()?;
        let has_reader = copy(&mut log)?;
        if !follow || !is_alive || !has_reader {
            return Ok(());
        }
        std::thread::sleep(STEP);
    }
}

/// Prints the log of the emulated host before the last one.
pub fn print_previous(folder: &Folder) -> Result<()> {
    if let Some(mut log) = open(&folder.previous_log())? {
        copy(&mut log)?;
    }
    Ok(())
}

/// There is none before the first start.
fn open(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => Ok(Some(other.context("cannot open the emulated host's log")?)),
    }
}

/// Prints what has come since; false if nobody reads it any more.
fn copy(log: &mut File) -> Result<bool> {
    let mut out = io::stdout().lock();
    match io::copy(log, &mut out).and_then(|_| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        other => {
            other.context("cannot print the emulated host's log")?;
            Ok(true)
        }
    }
}

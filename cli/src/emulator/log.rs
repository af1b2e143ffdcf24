//! `mvm emulator log`: what the emulated host, QEMU and the kernel inside have said.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use anyhow::{Context, Result};

use super::folder::Folder;

/// How often a log that is followed is looked at: it has no writer that would tell.
const STEP: Duration = Duration::from_millis(200);

/// Prints the log; with `follow`, until the emulated host ends.
pub fn print(folder: &Folder, follow: bool) -> Result<()> {
    let mut log = match File::open(folder.log()) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.context("cannot open the emulated host's log")?,
    };
    let mut out = io::stdout().lock();
    loop {
        // In this order: what is written before the end is then still printed.
        let is_alive = folder.is_claimed()?;
        match io::copy(&mut log, &mut out).and_then(|_| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            other => other.context("cannot print the emulated host's log")?,
        }
        if !follow || !is_alive {
            return Ok(());
        }
        std::thread::sleep(STEP);
    }
}

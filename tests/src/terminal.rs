//! A pseudo-terminal for `mvm`, as a terminal's window gives it to a shell.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Context;
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A window's size in characters.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub rows: u16,
    pub columns: u16,
}

/// The window's end of a terminal. Reading ends when no process has the other end open.
pub struct Terminal(File);

impl Terminal {
    /// Another descriptor of it.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// The file, to write to.
    pub fn into_file(self) -> File {
        self.0
    }

    /// The window gets another size.
    pub fn resize(&self, size: Size) -> io::Result<()> {
        let Size {
            rows: ws_row,
            columns: ws_col,
        } = size;
        Ok(tcsetwinsize(
            &self.0,
            Winsize {
                ws_row,
                ws_col,
                ws_xpixel: 0,
                ws_ypixel: 0,
            },
        )?)
    }

    /// What the terminal does with what is typed, to compare.
    pub fn modes(&self) -> io::Result<String> {
        let modes = rustix::termios::tcgetattr(&self.0)?;
        Ok(format!(
            "{:?} {:?} {:?}",
            modes.input_modes, modes.output_modes, modes.local_modes
        ))
    }
}

impl Read for Terminal {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer) {
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(0),
            other => other,
        }
    }
}

/// A command that runs `mvm` with what is added to it, on a new terminal that controls it.
pub fn leader(size: Size) -> anyhow::Result<(Command, Terminal)> {
    let window = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
        .context("cannot open a terminal")?;
    grantpt(&window)
        .and_then(|()| unlockpt(&window))
        .context("cannot unlock a terminal")?;
    let name = ptsname(&window, Vec::new()).context("cannot tell the terminal's name")?;
    let name = PathBuf::from(
        name.into_string()
            .context("cannot read the terminal's name")?,
    );
    let terminal = Terminal(File::from(window));
    terminal
        .resize(size)
        .context("cannot set the terminal's size")?;
    let inner: OwnedFd = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&name)
        .with_context(|| format!("cannot open {}", name.display()))?
        .into();
    // util-linux's: signals of the terminal reach only a session that it controls.
    let mut command = Command::new("setsid");
    command
        .arg("--ctty")
        .arg(crate::mvm())
        .stdin(Stdio::from(inner.try_clone()?))
        .stdout(Stdio::from(inner.try_clone()?))
        .stderr(Stdio::from(inner));
    Ok((command, terminal))
}

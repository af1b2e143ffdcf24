//! A `mvm` that runs: its input, its output as it comes, signals, its end.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::hang;
use crate::output::Output;
use crate::terminal::{Size, Terminal};
use crate::watchdog::Watchdog;

/// What one read takes: a pipe's whole buffer.
const CHUNK_BYTES: usize = 64 << 10;

/// The files of a run, kept until its end.
pub(crate) struct Files {
    pub(crate) _folder: TempDir,
    pub(crate) app: PathBuf,
    pub(crate) statistics: Option<PathBuf>,
}

impl Files {
    /// Of a command that needs none.
    pub(crate) fn none() -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("mvm-test.").context("cannot make a folder")?;
        Ok(Self {
            app: folder.path().join("app.json"),
            _folder: folder,
            statistics: None,
        })
    }
}

/// A run that has begun. Dropping it kills it.
pub struct Running {
    child: Child,
    watchdog: Option<Watchdog>,
    stdin: Option<Box<dyn Write + Send>>,
    stdout: Source,
    /// Standard output so far.
    seen: Vec<u8>,
    /// How much of it [`wait_for`](Self::wait_for) has passed.
    passed: usize,
    stderr: Option<JoinHandle<Vec<u8>>>,
    files: Files,
}

/// Where standard output comes from.
enum Source {
    Pipe(ChildStdout),
    Terminal(Terminal),
    /// The test reads it itself.
    Taken,
}

impl Running {
    pub(crate) fn with_pipes(
        mut command: Command,
        files: Files,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let look = look(&command);
        let mut child = start(&mut command)?;
        let stdin = child.stdin.take().context("no standard input")?;
        let stdout = child.stdout.take().context("no standard output")?;
        let stderr = child.stderr.take().context("no standard error")?;
        Ok(Self {
            watchdog: Some(Watchdog::new(child.id(), timeout, look)?),
            child,
            stdin: Some(Box::new(stdin)),
            stdout: Source::Pipe(stdout),
            seen: Vec::new(),
            passed: 0,
            stderr: Some(thread::spawn(move || read_all(stderr))),
            files,
        })
    }

    pub(crate) fn with_terminal(
        mut command: Command,
        terminal: Terminal,
        files: Files,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let look = look(&command);
        let child = start(&mut command)?;
        // Our copies of the inner end: with them open, the terminal would never hang up.
        drop(command);
        Ok(Self {
            watchdog: Some(Watchdog::new(child.id(), timeout, look)?),
            child,
            stdin: Some(Box::new(terminal.try_clone()?.into_file())),
            stdout: Source::Terminal(terminal),
            seen: Vec::new(),
            passed: 0,
            stderr: None,
            files,
        })
    }

    /// Writes to the program's standard input, or types on its terminal.
    ///
    /// # Errors
    /// Nobody reads it any more.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let stdin = self.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        stdin.write_all(bytes.as_ref())?;
        stdin.flush()
    }

    /// Ends the program's standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Writes all of `bytes` and then ends the input, while the caller goes on.
    pub fn write_in_background(&mut self, bytes: Vec<u8>) {
        if let Some(mut stdin) = self.stdin.take() {
            // A program need not read what it is given.
            thread::spawn(move || stdin.write_all(&bytes).ok());
        }
    }

    /// The two ends of the pipes, for a test that streams.
    ///
    /// # Panics
    /// They were taken before, or there is a terminal instead.
    pub fn take_pipes(&mut self) -> (Box<dyn Write + Send>, File) {
        let stdin = self.stdin.take().expect("standard input was taken before");
        match std::mem::replace(&mut self.stdout, Source::Taken) {
            Source::Pipe(stdout) => (stdin, File::from(std::os::fd::OwnedFd::from(stdout))),
            Source::Terminal(_) | Source::Taken => panic!("standard output is no pipe"),
        }
    }

    /// Reads standard output until `text` has come since the last call. Returns what came.
    ///
    /// # Errors
    /// The output ends before; the message has all of it.
    pub fn wait_for(&mut self, text: &str) -> anyhow::Result<String> {
        loop {
            let new = String::from_utf8_lossy(&self.seen[self.passed..]).into_owned();
            if new.contains(text) {
                self.passed = self.seen.len();
                return Ok(new);
            }
            if self.read_some()? == 0 {
                let output = self.end()?;
                bail!("{text:?} never came; {output}");
            }
        }
    }

    /// Sends `mvm` a signal.
    ///
    /// # Errors
    /// It has been waited for.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process(self.pid()?, signal).context("cannot send a signal")
    }

    /// Gives the terminal's window another size.
    ///
    /// # Errors
    /// There is no terminal.
    pub fn resize(&self, rows: u16, columns: u16) -> anyhow::Result<()> {
        Ok(self.terminal()?.resize(Size { rows, columns })?)
    }

    /// What the terminal does with what is typed, to compare with another time.
    ///
    /// # Errors
    /// There is no terminal.
    pub fn terminal_modes(&self) -> anyhow::Result<String> {
        Ok(self.terminal()?.modes()?)
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// It takes longer than the machine's time-out.
    pub fn finish(mut self) -> anyhow::Result<Output> {
        self.end()
    }

    /// Waits for the end, which must come within `timeout` from now.
    ///
    /// # Errors
    /// It does not.
    pub fn finish_within(mut self, timeout: Duration) -> anyhow::Result<Output> {
        if let Some(watchdog) = &self.watchdog {
            watchdog.restart(timeout);
        }
        self.end()
    }

    fn end(&mut self) -> anyhow::Result<Output> {
        self.close_stdin();
        while self.read_some()? > 0 {}
        let status = self.child.wait().context("cannot wait for mvm")?;
        let stderr = self.stderr.take().map(JoinHandle::join).transpose();
        let stderr = stderr
            .map_err(|_| anyhow!("a reader panicked"))?
            .unwrap_or_default();
        let output = Output::new(status, std::mem::take(&mut self.seen), stderr);
        let watchdog = self.watchdog.take().context("mvm was waited for before")?;
        if let Some(seen) = watchdog.stop()? {
            bail!("mvm did not end in time; {output}\n{seen}");
        }
        match &self.files.statistics {
            Some(path) => output.with_requests(path),
            None => Ok(output),
        }
    }

    /// Reads what there is of standard output, at least a byte; 0 at its end.
    fn read_some(&mut self) -> io::Result<usize> {
        let length = self.seen.len();
        self.seen.resize(length + CHUNK_BYTES, 0);
        let buffer = &mut self.seen[length..];
        let count = match &mut self.stdout {
            Source::Pipe(pipe) => pipe.read(buffer),
            Source::Terminal(terminal) => terminal.read(buffer),
            Source::Taken => Ok(0),
        };
        self.seen
            .truncate(length + count.as_ref().copied().unwrap_or_default());
        count
    }

    fn terminal(&self) -> anyhow::Result<&Terminal> {
        match &self.stdout {
            Source::Terminal(terminal) => Ok(terminal),
            Source::Pipe(_) | Source::Taken => bail!("there is no terminal"),
        }
    }

    fn pid(&self) -> anyhow::Result<Pid> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        pid.filter(|_| self.watchdog.is_some())
            .context("mvm has ended")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail when it has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks at the machines that `command` will know.
fn look(command: &Command) -> impl FnOnce() -> String + Send + use<> {
    let set = |(name, value): (&OsStr, Option<&OsStr>)| Some((name.to_owned(), value?.to_owned()));
    let environment: Vec<_> = command.get_envs().filter_map(set).collect();
    move || hang::describe(&environment)
}

fn start(command: &mut Command) -> anyhow::Result<Child> {
    let name = command.get_program().to_owned();
    let child = command.spawn();
    child.with_context(|| format!("cannot start {}; `make` builds mvm", name.display()))
}

fn read_all(mut source: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What was read before an error is what a test can show.
    let _ = source.read_to_end(&mut bytes);
    bytes
}

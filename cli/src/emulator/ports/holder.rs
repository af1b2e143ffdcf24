//! The machine's side, inside: a process that asks for the ports, and gives them back when the
//! machine's monitor has ended, however that was.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use vmm::app::Port;

use super::{Answer, Outcome, PORT_NAME, Question, Wish, line, receive};

/// The kernel's serial ports, each a folder with its name in a file.
const SERIAL_PORTS: &str = "/sys/class/virtio-ports";

/// One process at a time has the port, for the few milliseconds of a question.
const ATTEMPTS: u32 = 1000;
const PAUSE: Duration = Duration::from_millis(20);

/// For the host to answer.
const ANSWER_TIMEOUT: Timespec = Timespec {
    tv_sec: 30,
    tv_nsec: 0,
};

/// Ports of the host that lead inside until this is dropped.
pub struct Published {
    process: Child,
    /// The process gives the ports back when this is closed.
    held: Option<ChildStdin>,
    /// The host's, with the numbers that were picked.
    pub ports: Vec<Port>,
    /// What the machine's own network is to publish here.
    pub inside: Vec<Port>,
}

impl Published {
    /// Has `ports` of the host lead inside. `keeper` has the sockets that systemd has handed over.
    ///
    /// # Errors
    /// One cannot be had; says which.
    pub fn open(ports: &[Port], keeper: Option<&Path>) -> Result<Self> {
        let program = env::current_exe().context("cannot tell where mvm is")?;
        let mut process = Command::new(program)
            .args(["emulator", "hold"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start a process")?;
        let stdout = process.stdout.take().map(BufReader::new);
        let mut published = Self {
            held: process.stdin.take(),
            process,
            ports: Vec::new(),
            inside: Vec::new(),
        };
        if let Some(held) = &mut published.held {
            held.write_all(&line(&(ports, keeper))?)
                .context("cannot ask for ports")?;
        }
        let outcome = stdout.and_then(|stdout| receive::<Outcome>(stdout).transpose());
        let outcome = outcome.context("nobody answers")?;
        let forwards = outcome?.map_err(|words| anyhow!(words))?;
        for forward in forwards {
            published.inside.push(forward.inside());
            published.ports.push(forward.port);
        }
        Ok(published)
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        drop(self.held.take());
        // It has given them back then; nobody is left to be told if not.
        let _ = self.process.wait();
    }
}

/// Carries `mvm emulator hold` out: the ports come in a line of standard input, and are kept until
/// that ends.
///
/// # Errors
/// The port to the host is missing, or nobody is at its other end.
pub fn hold() -> Result<()> {
    // Away from the terminal, whose Ctrl-C is for the machine.
    rustix::process::setsid().context("cannot leave the terminal")?;
    let mut stdin = io::stdin().lock();
    let Some((ports, keeper)) = receive(&mut stdin)? else {
        return Ok(());
    };
    let id = number()?;
    let wish = Wish::Publish { ports, keeper };
    let outcome = ask(id, wish).unwrap_or_else(|error| Err(format!("{error:#}")));
    // Who does not hear it has ended, and so has its input.
    let _ = io::stdout().write_all(&line(&outcome)?);
    let _ = io::copy(&mut stdin, &mut io::sink());
    match outcome {
        Ok(_) => ask(number()?, Wish::Withdraw(id)).map(drop),
        Err(_) => Ok(()),
    }
}

/// A number that no other question has.
fn number() -> Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(u64::try_from(now.as_nanos())?)
}

/// Asks the host.
fn ask(id: u64, wish: Wish) -> Result<Outcome> {
    let mut port = open()?;
    // Whatever was begun before this is a line of its own.
    let question = [b"\n".to_vec(), line(&Question { id, wish })?].concat();
    port.write_all(&question).context("cannot ask the host")?;
    let mut reader = BufReader::new(port);
    loop {
        if reader.buffer().is_empty() {
            await_answer(reader.get_ref())?;
        }
        let answer: Option<Answer> = receive(&mut reader).context("cannot hear the host")?;
        let answer = answer.context("the host has closed its port")?;
        if answer.id == id {
            return Ok(answer.outcome);
        }
    }
}

fn await_answer(port: &File) -> Result<()> {
    match poll(
        &mut [PollFd::new(port, PollFlags::IN)],
        Some(&ANSWER_TIMEOUT),
    ) {
        Ok(0) => bail!("the host does not answer"),
        Ok(_) => Ok(()),
        Err(error) => Err(error).context("cannot wait for the host"),
    }
}

/// The serial port, once nobody else has it.
fn open() -> Result<File> {
    let path = format!("/dev/{}", find()?);
    for _ in 0..ATTEMPTS {
        match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
                thread::sleep(PAUSE);
            }
            opened => return opened.with_context(|| format!("cannot open {path}")),
        }
    }
    bail!("cannot open {path}: others have it all the time")
}

fn find() -> Result<String> {
    let entries = fs::read_dir(SERIAL_PORTS);
    let entries = entries.with_context(|| format!("cannot list {SERIAL_PORTS}"))?;
    let is_ours = |entry: &fs::DirEntry| {
        let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        name.trim_end() == PORT_NAME
    };
    let entry = entries.flatten().find(is_ours);
    let entry =
        entry.context("the emulated host has no port for this; `mvm emulator stop` ends it")?;
    Ok(entry.file_name().to_string_lossy().into_owned())
}

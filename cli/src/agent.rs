//! The agent in the guest of a running machine, as commands talk to it.
//!
//! The one thing to know: what a command needs done inside, beyond a program of the user's, is a role
//! of `mvm-init` (`guest::roles`), executed as any program. Its errors are words of a guest, so
//! control characters are taken out before they are shown.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use guest::processes::Report;
use guest::protocol::{ByteString, Exec, Exit};
use guest::roles;
use rustix::pipe::{PipeFlags, pipe_with};
use vmm::app::App;

use crate::attach::{Company, Connection, Outcome, Program, Stdio, attach, collect, observe};
use crate::control::client;
use crate::machines::running;
use crate::output::{plain, say};

/// For the guest to start a process that serves this command, however busy it is: hundreds of
/// commands may have come at once, on a slow host.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(300);

/// Bytes of what a role says of its errors: some lines, whatever the guest sends.
const WORDS_MAX: u64 = 64 << 10;

/// Bytes of a report: some thousand processes.
const REPORT_MAX: usize = 4 << 20;

/// For a guest to look at its processes.
const REPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// For a role to end that nobody waits for at a terminal. Far above what the slowest host needs.
const ROLE_TIMEOUT: Duration = Duration::from_secs(120);

/// Connects with the agent of the machine called `name`; what that is made from comes with it.
///
/// # Errors
/// It does not run, is paused, or does not answer.
pub fn connect(name: &str) -> Result<(Connection, App)> {
    ensure!(running::is_running(name), "{name} does not run");
    let info = client::info(name)?;
    ensure!(
        !info.paused,
        "{name} is paused; `mvm unpause {name}` lets it go on"
    );
    let guest = Connection::open(client::agent(name)?, HELLO_TIMEOUT)
        .with_context(|| format!("cannot run a program in {name}"))?;
    Ok((guest, info.app))
}

/// Has a role of `mvm-init` carried out as root in the machine called `name`.
///
/// # Errors
/// The role failed; the error has its words.
pub fn carry_out(
    name: &str,
    role: impl IntoIterator<Item = OsString>,
    input: Option<OwnedFd>,
    output: OwnedFd,
) -> Result<()> {
    let (mut guest, _) = connect(name)?;
    let exec = Exec {
        stdin: input.is_some(),
        ..execution(role)
    };
    let (words, errors) = pipe()?;
    let words = thread::Builder::new()
        .name("words".into())
        .spawn(move || lines(words))
        .context("cannot start a thread")?;
    let stdio = Stdio {
        stdin: match input {
            Some(input) => input,
            None => null()?,
        },
        stdout: output,
        stderr: errors,
    };
    let outcome = attach(&mut guest, Program::New(&exec), stdio, Company::default())?;
    let mut words = words.join().unwrap_or_default();
    let last = match outcome {
        Outcome::Exited(Exit::Code(0)) => None,
        Outcome::Refused { message, .. } => Some(message),
        Outcome::Lost | Outcome::SwitchedOff => bail!("{name} has ended"),
        Outcome::GaveUp { .. } | Outcome::Detached => bail!("interrupted"),
        Outcome::Exited(exit) => Some(
            words
                .pop()
                .unwrap_or_else(|| format!("mvm-init ended with status {}", exit.status())),
        ),
    };
    for line in words {
        say(format_args!("{name}: {line}"));
    }
    last.map_or(Ok(()), |last| bail!("{name}: {last}"))
}

/// Has a role of `mvm-init` carried out as root in the machine of this connection; it reads `input`.
///
/// # Errors
/// The role failed, in which case the error has its first words, or takes too long.
pub fn complete(
    guest: &mut Connection,
    role: impl IntoIterator<Item = OsString>,
    input: &[u8],
) -> Result<()> {
    let exec = Exec {
        stdin: !input.is_empty(),
        ..execution(role)
    };
    let (outcome, said) = observe(guest, &exec, input, Instant::now() + ROLE_TIMEOUT)?;
    if outcome.status() != 0 {
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<_> = said.lines().map(plain).collect();
        bail!("it failed ({}): {}", outcome.status(), lines.join("\n"));
    }
    Ok(())
}

/// What runs in the machine called `name`, by its own word.
///
/// # Errors
/// It does not run, is paused, or answers nothing of use.
pub fn report(name: &str) -> Result<Report> {
    let (mut guest, _) = connect(name)?;
    let exec = execution([roles::PROCESSES.into()]);
    let cannot = || format!("cannot ask {name} for its processes");
    let (outcome, answer) =
        collect(&mut guest, &exec, REPORT_MAX, REPORT_TIMEOUT).with_context(cannot)?;
    ensure!(
        outcome == Outcome::Exited(Exit::Code(0)),
        "{}: mvm-init ended with status {}",
        cannot(),
        outcome.status()
    );
    serde_json::from_slice(&answer).with_context(cannot)
}

/// How a role of `mvm-init` is executed.
pub fn execution(role: impl IntoIterator<Item = OsString>) -> Exec {
    let argv = [OsString::from("/proc/self/exe")].into_iter().chain(role);
    Exec {
        argv: argv.map(ByteString::from).collect(),
        ..Exec::default()
    }
}

/// A pipe's reading and writing end.
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC).context("cannot make a pipe")
}

/// Where nothing comes from, and nothing goes to.
pub fn null() -> Result<OwnedFd> {
    let null = File::options().read(true).write(true).open("/dev/null");
    Ok(null.context("cannot open /dev/null")?.into())
}

/// The lines that come, without what would act on a terminal.
fn lines(words: OwnedFd) -> Vec<String> {
    let mut words = File::from(words);
    let mut bytes = Vec::new();
    // What could not be read is not shown; the role's status says that it failed.
    let _ = (&mut words).take(WORDS_MAX).read_to_end(&mut bytes);
    let _ = io::copy(&mut words, &mut io::sink());
    String::from_utf8_lossy(&bytes).lines().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_guests_words_do_nothing_to_a_terminal_and_have_an_end() {
        let (read, write) = pipe().unwrap();
        let writer = thread::spawn(move || {
            let mut file = File::from(write);
            file.write_all(b"one\x1b[2J\r\n\xfftwo\n").unwrap();
            file.write_all(&vec![b'x'; 1 << 20]).unwrap();
        });
        let lines = lines(read);
        writer.join().unwrap();
        assert_eq!(lines[..2], ["one[2J", "\u{fffd}two"]);
        assert!(lines[2].len() < usize::try_from(WORDS_MAX).unwrap());
    }
}

//! A command, carried out by the same program inside the emulated host.
//!
//! The one thing to know: the program, its arguments, its folder and its files are the host's own,
//! so nothing is copied; only what belongs to the host's kernel (running machines, the session's
//! sockets) differs inside.

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use guest::protocol::{ByteString, Exec, Tty};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use vmm::settings::Setting;

use super::files::RUNTIME_FOLDER;
use super::folder::Folder;
use super::notices::Notices;
use super::ports::Keeper;
use super::start::{reach, start_process};
use super::store;
use crate::accel;
use crate::attach::{Company, Connection, Outcome, Program, Stdio, attach};
use crate::output::say;
use crate::systemd::Sockets;
use crate::{places, systemd, terminal};

/// For the hello of an emulated host that is just starting; it gives up by itself before.
const HELLO_TIMEOUT: Duration = Duration::from_secs(90);

/// What takes longer shows that it goes on.
const SILENCE: Duration = Duration::from_secs(2);

/// An emulated host that ends for want of work may just then be connected to; the next is new.
const ATTEMPTS: u32 = 3;

/// Variables that name sockets and folders of this kernel's.
const OUTSIDE: [&str; 3] = [
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    systemd::SOCKET,
];

/// Carries this process's own command line out inside the emulated host. `reason`: why not here.
pub fn carry_out(reason: &str) -> Result<ExitCode> {
    let program = env::current_exe().context("cannot tell where mvm is")?;
    // It knows itself what a second Ctrl-C means.
    let company = Company {
        hears_twice: true,
        ..Company::default()
    };
    execute_in(
        company,
        [program.into_os_string()]
            .into_iter()
            .chain(env::args_os().skip(1)),
        reason,
    )
}

/// Executes a program of the host's files inside the emulated host.
pub fn execute(argv: impl IntoIterator<Item = OsString>, reason: &str) -> Result<ExitCode> {
    execute_in(Company::default(), argv, reason)
}

fn execute_in(
    company: Company<'_>,
    argv: impl IntoIterator<Item = OsString>,
    reason: &str,
) -> Result<ExitCode> {
    let sockets = Sockets::receive()?;
    let folder = Folder::open()?;
    let mut connection = open(&folder, reason)?;
    if let Some(time) = store::change(&folder)? {
        forget(&mut connection)?;
        store::note_time(&folder, &time)?;
    }
    let mut exec = exec(argv, tty())?;
    let notices = Notices::relay(&folder)?;
    if let Some((name, value)) = notices.as_ref().map(Notices::variable) {
        exec.env.push(entry(&name, &value));
    }
    let keeper = keep(&folder, sockets)?;
    if let Some((_, variables)) = &keeper {
        exec.env.extend(variables.iter().cloned());
    }
    run(&mut connection, &exec, company)
}

/// Keeps the sockets that systemd has handed to this process, if there are any. Returns what those
/// inside are told of them.
fn keep(folder: &Folder, sockets: Sockets) -> Result<Option<(Keeper, [ByteString; 2])>> {
    if sockets.names().is_empty() {
        return Ok(None);
    }
    let names = sockets.names().join(":");
    let keeper = Keeper::new(folder.sockets(), sockets.handed)?;
    let path = keeper.path().as_os_str().to_owned();
    let names = entry(&systemd::NAMES.into(), &names.into());
    let path = entry(&systemd::KEEPER.into(), &path);
    Ok(Some((keeper, [names, path])))
}

/// Has what is cached of the store dropped.
fn forget(connection: &mut Connection) -> Result<()> {
    let program = env::current_exe().context("cannot tell where mvm is")?;
    let forget = exec([program.into(), "emulator".into(), "forget".into()], None)?;
    let forget = Exec {
        stdin: false,
        ..forget
    };
    let outcome = run(connection, &forget, Company::default())?;
    ensure!(
        outcome == ExitCode::SUCCESS,
        "the emulated host cannot forget what it has cached of the store"
    );
    Ok(())
}

/// Runs one program inside, with this process's streams.
fn run(connection: &mut Connection, exec: &Exec, company: Company<'_>) -> Result<ExitCode> {
    let stdio = Stdio::inherited()?;
    let outcome =
        attach(connection, Program::New(exec), stdio, company).context("in the emulated host")?;
    match &outcome {
        Outcome::Refused { message, .. } => bail!("in the emulated host: {message}"),
        Outcome::Lost | Outcome::SwitchedOff => bail!(
            "the emulated host has ended while it carried the command out; \
             `mvm emulator log` shows its last words"
        ),
        Outcome::Exited(_) | Outcome::GaveUp { .. } | Outcome::Detached => {
            Ok(ExitCode::from(outcome.status()))
        }
    }
}

/// A connection that has said hello.
fn open(folder: &Folder, reason: &str) -> Result<Connection> {
    for _ in 0..ATTEMPTS {
        let stream = reach(folder, |listener| {
            // One line, and before it takes its time.
            say(format_args!(
                "no hardware KVM ({reason}): using an emulated host, which is slower"
            ));
            store::note(folder)?;
            start_process(folder, listener)
        })?;
        if await_hello(&stream)? {
            return Connection::open(stream, HELLO_TIMEOUT).context("the emulated host");
        }
    }
    bail!("the emulated host ended before it said a word; `mvm emulator log` shows its last ones")
}

/// Waits until there is something to read; false if that is the end of the connection.
fn await_hello(stream: &UnixStream) -> Result<bool> {
    let started = Instant::now();
    let deadline = started + HELLO_TIMEOUT;
    let mut progress = Progress::new(io::stderr().is_terminal());
    loop {
        let now = Instant::now();
        if now >= deadline {
            bail!(
                "the emulated host did not start within {} s",
                HELLO_TIMEOUT.as_secs()
            );
        }
        let step = progress.show(started.elapsed());
        let timeout = Timespec::try_from(step).unwrap_or_default();
        match poll(&mut [PollFd::new(stream, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => break,
            Err(error) => return Err(error).context("cannot wait for the emulated host"),
        }
    }
    match recv(stream, &mut [0; 1], RecvFlags::PEEK) {
        Ok((_, 0)) | Err(Errno::CONNRESET) => Ok(false),
        Ok(_) => Ok(true),
        Err(error) => Err(error).context("cannot hear the emulated host"),
    }
}

/// A line on the terminal for what takes long; it is wiped at the end.
struct Progress {
    is_terminal: bool,
    is_shown: bool,
}

impl Progress {
    fn new(is_terminal: bool) -> Self {
        Self {
            is_terminal,
            is_shown: false,
        }
    }

    /// Shows how long it has taken. Returns when to do so again.
    fn show(&mut self, passed: Duration) -> Duration {
        if passed < SILENCE {
            return SILENCE.saturating_sub(passed);
        }
        if self.is_terminal {
            self.is_shown = true;
            // A terminal that has gone needs no progress.
            let _ = write!(
                io::stderr(),
                "\rmvm: the emulated host starts ({} s)",
                passed.as_secs()
            );
        }
        Duration::from_secs(1)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// An execution in this process's folder and environment.
fn exec(argv: impl IntoIterator<Item = OsString>, tty: Option<Tty>) -> Result<Exec> {
    let cwd = env::current_dir().context("cannot tell the current folder")?;
    Ok(Exec {
        argv: argv.into_iter().map(ByteString::from).collect(),
        env: environment(env::vars_os(), &inside()?),
        cwd: Some(cwd.into_os_string().into()),
        user: None,
        tty,
        stdin: true,
        ..Exec::default()
    })
}

/// Variables of what runs inside. Machines are kept on the host, and run inside; those of another
/// runtime folder are another set there, too.
fn inside() -> Result<[(OsString, OsString); 4]> {
    let runtime = places::runtime();
    let runtime = runtime.strip_prefix("/").unwrap_or(&runtime);
    let runtime = Path::new(RUNTIME_FOLDER).join(runtime);
    Ok([
        (places::RUNTIME_VARIABLE.into(), runtime.into()),
        (places::STATE_VARIABLE.into(), places::state()?.into()),
        (Setting::Accel.variable().into(), "kvm".into()),
        (accel::INSIDE.into(), accel::ids_for_inside().into()),
    ])
}

/// The variables that are not this kernel's, and `inside`.
fn environment(
    variables: impl Iterator<Item = (OsString, OsString)>,
    inside: &[(OsString, OsString)],
) -> Vec<ByteString> {
    let is_other = |name: &OsString| inside.iter().all(|(inside, _)| name != inside);
    let kept = variables
        .filter(|(name, _)| is_other(name) && OUTSIDE.iter().all(|outside| name != outside));
    kept.chain(inside.iter().cloned())
        .map(|(name, value)| entry(&name, &value))
        .collect()
}

fn entry(name: &OsString, value: &OsString) -> ByteString {
    ByteString::from([name.as_bytes(), b"=", value.as_bytes()].concat())
}

/// A terminal, where this process has one for input and output.
fn tty() -> Option<Tty> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return None;
    }
    let size = terminal::window_size().unwrap_or(terminal::VT100);
    let term = env::var("TERM").unwrap_or_default();
    Some(Tty {
        rows: size.ws_row,
        cols: size.ws_col,
        term,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_this_kernels_sockets_stay_outside() {
        let variables = [
            ("HOME", "/home/web"),
            ("XDG_RUNTIME_DIR", "/run/user/1"),
            ("MVM_ACCEL", "auto"),
            ("A", "=b"),
        ];
        let inside = [("MVM_ACCEL".into(), "kvm".into())];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        let env = environment(variables.into_iter(), &inside);
        let env: Vec<_> = env.iter().map(ToString::to_string).collect();
        assert_eq!(env, ["HOME=/home/web", "A==b", "MVM_ACCEL=kvm"]);
    }

    #[test]
    fn nothing_is_shown_before_it_takes_long() {
        let mut progress = Progress::new(false);
        assert_eq!(
            progress.show(Duration::from_millis(500)),
            Duration::from_millis(1500)
        );
        assert_eq!(
            progress.show(Duration::from_secs(3)),
            Duration::from_secs(1)
        );
        assert!(!progress.is_shown);
    }
}

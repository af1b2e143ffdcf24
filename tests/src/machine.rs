//! One `mvm run`: the app.json, the command line, the environment.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::output::Output;
use crate::running::{Files, Running};
use crate::terminal::{self, Size};

/// From the command to its end, unless a test says otherwise. Above what the slowest host needs,
/// and an end to waiting for a machine that hangs.
const TIMEOUT: Duration = Duration::from_secs(180);

/// A machine to be started: what its app.json says and how `mvm` is called.
#[derive(Clone, Debug)]
pub struct Machine {
    app: Value,
    /// A file to run instead of what `app` says.
    file: Option<PathBuf>,
    /// What `mvm` is an argument of.
    wrapper: Vec<OsString>,
    flags: Vec<OsString>,
    /// For the program, behind the file.
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    input: Vec<u8>,
    timeout: Duration,
    counts_requests: bool,
}

impl Machine {
    /// A machine with the defaults of app.json.
    pub fn new(name: &str) -> Self {
        Self::of_app(json!({ "version": 1, "name": name, "app": {} }))
    }

    /// The machine of a system, by its path in the store.
    pub fn of_system(name: &str, path: &str) -> Self {
        Self::of_app(json!({ "version": 1, "name": name, "system": path }))
    }

    fn of_app(app: Value) -> Self {
        Self {
            app,
            file: None,
            wrapper: Vec::new(),
            flags: Vec::new(),
            arguments: Vec::new(),
            variables: Vec::new(),
            input: Vec::new(),
            timeout: TIMEOUT,
            counts_requests: false,
        }
    }

    /// The machine of a file that is there already.
    pub fn of_file(path: impl AsRef<Path>) -> Self {
        Self {
            file: Some(path.as_ref().to_owned()),
            ..Self::new("unused")
        }
    }

    /// What it runs.
    #[must_use]
    pub fn program<S: Into<String>>(self, argv: impl IntoIterator<Item = S>) -> Self {
        let argv: Vec<String> = argv.into_iter().map(Into::into).collect();
        self.set("/app/entrypoint", argv)
    }

    /// A variable of the program's environment.
    #[must_use]
    pub fn env(self, name: &str, value: &str) -> Self {
        self.set(&format!("/app/env/{name}"), value)
    }

    /// Who the program runs as.
    #[must_use]
    pub fn user(self, user: &str) -> Self {
        self.set("/app/user", user)
    }

    /// Number of processors.
    #[must_use]
    pub fn vcpus(self, vcpus: u32) -> Self {
        self.set("/vcpus", vcpus)
    }

    /// Memory.
    #[must_use]
    pub fn memory_mib(self, memory_mib: u64) -> Self {
        self.set("/memory", format!("{memory_mib}M"))
    }

    /// The kernel's file.
    #[must_use]
    pub fn kernel(self, path: impl AsRef<Path>) -> Self {
        self.set("/kernel/path", path.as_ref().to_string_lossy())
    }

    /// Another folder of the host that it sees.
    #[must_use]
    pub fn share(self, source: impl AsRef<Path>, mount_point: &str) -> Self {
        let nth = self.app["shares"].as_array().map_or(0, Vec::len);
        let share = json!({ "source": source.as_ref(), "mountPoint": mount_point });
        self.set(&format!("/shares/{nth}"), share)
    }

    /// Any value of app.json, by its JSON pointer (RFC 6901). Objects on the way are made, and a
    /// number one past the end of a list adds to it.
    ///
    /// # Panics
    /// The pointer leads through a value that is neither.
    #[must_use]
    pub fn set(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        let mut place = &mut self.app;
        for step in pointer.split('/').skip(1) {
            place = enter(place, step);
        }
        *place = value.into();
        self
    }

    /// A flag of `mvm run`.
    #[must_use]
    pub fn flag(mut self, flag: impl AsRef<OsStr>) -> Self {
        self.flags.push(flag.as_ref().to_owned());
        self
    }

    /// An argument of the program, instead of those of the file.
    #[must_use]
    pub fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Has a program carry `mvm` out: its arguments are these, and the command line behind them.
    #[must_use]
    pub fn under<S: Into<OsString>>(mut self, argv: impl IntoIterator<Item = S>) -> Self {
        self.wrapper = argv.into_iter().map(Into::into).collect();
        self
    }

    /// A variable of the environment of `mvm` itself.
    #[must_use]
    pub fn host_env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variables
            .push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// What [`run`](Self::run) writes to the program's standard input; nothing by default.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// How long it may take in all.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Has `mvm` count what the guest asks of its shares: [`Output::requests`].
    #[must_use]
    pub fn count_requests(mut self) -> Self {
        self.counts_requests = true;
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// `mvm` cannot be started, or takes too long.
    pub fn run(self) -> anyhow::Result<Output> {
        let input = self.input.clone();
        let mut running = self.spawn()?;
        running.write_in_background(input);
        running.finish()
    }

    /// Starts it with three pipes.
    ///
    /// # Errors
    /// `mvm` cannot be started.
    pub fn spawn(self) -> anyhow::Result<Running> {
        let files = self.write_files()?;
        let command = self.command(self.base(), &files);
        Running::with_pipes(command, files, self.timeout)
    }

    /// Starts it on a terminal of that size, as its session's leader.
    ///
    /// # Errors
    /// `mvm` cannot be started, or there is no terminal.
    pub fn spawn_on_terminal(self, rows: u16, columns: u16) -> anyhow::Result<Running> {
        let files = self.write_files()?;
        let (command, terminal) = terminal::leader(Size { rows, columns })?;
        let command = self.command(command, &files);
        Running::with_terminal(command, terminal, files, self.timeout)
    }

    /// The command up to `mvm` itself.
    fn base(&self) -> Command {
        let Some((program, arguments)) = self.wrapper.split_first() else {
            return Command::new(crate::mvm());
        };
        let mut command = Command::new(program);
        command.args(arguments).arg(crate::mvm());
        command
    }

    fn command(&self, mut command: Command, files: &Files) -> Command {
        command.arg("run").args(&self.flags);
        if let Some(statistics) = &files.statistics {
            command.arg("--statistics").arg(statistics);
        }
        command.arg(&files.app);
        if !self.arguments.is_empty() {
            command.arg("--").args(&self.arguments);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    fn write_files(&self) -> anyhow::Result<Files> {
        let folder = TempDir::with_prefix("mvm-test.").context("cannot make a folder")?;
        let app = match &self.file {
            Some(file) => file.clone(),
            None => folder.path().join("app.json"),
        };
        if self.file.is_none() {
            let text = serde_json::to_string_pretty(&self.app)?;
            fs::write(&app, text).with_context(|| format!("cannot write {}", app.display()))?;
        }
        let statistics = self
            .counts_requests
            .then(|| folder.path().join("statistics.json"));
        Ok(Files {
            _folder: folder,
            app,
            statistics,
        })
    }
}

/// The value behind one step of a JSON pointer, made if it is missing.
fn enter<'a>(place: &'a mut Value, step: &str) -> &'a mut Value {
    if place.is_null() {
        *place = if step == "0" { json!([]) } else { json!({}) };
    }
    match place {
        Value::Object(entries) => entries.entry(step).or_insert(Value::Null),
        Value::Array(items) => {
            let index: usize = step.parse().expect("a list is entered by number");
            if index == items.len() {
                items.push(Value::Null);
            }
            &mut items[index]
        }
        other => panic!("{step}: there is nothing in {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_what_was_set() {
        let machine = Machine::new("web")
            .program(["sh", "-c", "true"])
            .env("A", "b")
            .memory_mib(64)
            .share("/srv", "/www")
            .share("/etc", "/conf")
            .set("/shares/1/readOnly", false);
        let expected = json!({
            "version": 1,
            "name": "web",
            "app": { "entrypoint": ["sh", "-c", "true"], "env": { "A": "b" } },
            "memory": "64M",
            "shares": [
                { "source": "/srv", "mountPoint": "/www" },
                { "source": "/etc", "mountPoint": "/conf", "readOnly": false },
            ],
        });
        assert_eq!(machine.app, expected);
    }

    #[test]
    fn the_file_comes_last_on_the_command_line() {
        let machine = Machine::new("web").flag("--cpus=2").host_env("X", "1");
        let files = machine.write_files().unwrap();
        let command = machine.command(Command::new("mvm"), &files);
        let arguments: Vec<_> = command.get_args().collect();
        assert_eq!(
            arguments,
            [
                OsStr::new("run"),
                OsStr::new("--cpus=2"),
                files.app.as_os_str()
            ]
        );
        assert_eq!(
            command.get_envs().next(),
            Some((OsStr::new("X"), Some(OsStr::new("1"))))
        );
    }
}

//! An execution in the kernel's words: candidates for the path, arguments, environment, folder, ids.
//!
//! The one thing to know: the search in `PATH` is left to the child, which tries to execute each
//! candidate as the user it runs as. So a permission counts for that user, and a hit costs no look
//! before. execve(2), exec(3).

use std::ffi::{CStr, CString, OsStr};
use std::iter;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::accounts::Account;
use super::closure;
use super::interpreter;
use crate::protocol::{ByteString, Exec, Limit};

/// Where programs are looked up when the execution has no `PATH`; as root's login has it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// This program, wherever its file is.
pub(super) const SELF: &str = "/proc/self/exe";

/// What its processes are called. A stage 1 that ends all that runs before it makes way for the next
/// spares who has such a name (systemd's "Root Storage Daemons").
const OWN_NAME: &str = "@mvm-init";

/// Why a program does not run, as the caller is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// 125, 126 or 127.
    pub(super) code: u8,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// All that a child needs between fork and execve, where it can no longer allocate.
pub(super) struct Program {
    /// Paths to try, in order.
    pub(super) candidates: Vec<CString>,
    pub(super) argv: Vec<CString>,
    pub(super) env: Vec<CString>,
    pub(super) cwd: CString,
    /// `None` stays who the agent is.
    pub(super) account: Option<Account>,
    pub(super) limits: Vec<Limit>,
    pub(super) umask: Option<u32>,
}

/// What a child was doing when the kernel refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Step {
    Session = 1,
    Terminal,
    Descriptors,
    Limits,
    Groups,
    Group,
    User,
    Folder,
    Execute,
}

impl Program {
    /// Takes `exec` apart; fails if the kernel could not be asked at all.
    pub(super) fn new(exec: &Exec) -> Result<Self, Refusal> {
        let account = exec
            .user
            .as_ref()
            .map(|user| Account::find(user, &exec.bounds));
        let account = account
            .transpose()
            .map_err(|error| Refusal::new(126, format!("{error:#}")))?;
        let mut env = environment(exec, account.as_ref());
        let (candidates, argv) = match exec.argv.first() {
            Some(name) if name.as_bytes() == SELF.as_bytes() => {
                let rest = exec.argv.iter().skip(1).cloned();
                let argv = iter::once(OWN_NAME.into()).chain(rest).collect();
                (vec![name.clone()], argv)
            }
            Some(name) => (all_candidates(name, exec, &env), exec.argv.clone()),
            None => shell(exec, &mut env)?,
        };
        Ok(Self {
            candidates: c_strings("the path of the program", &candidates)?,
            argv: c_strings("an argument", &argv)?,
            env: c_strings("a variable of the environment", &env)?,
            cwd: c_string(
                "the working folder",
                exec.cwd.as_ref().unwrap_or(&"/".into()),
            )?,
            account,
            limits: exec.bounds.limits.clone(),
            umask: exec.bounds.umask,
        })
    }

    /// What the child's failure means. `candidate` is the one that it gave up at; past the last if
    /// none was there.
    pub(super) fn refusal(&self, step: Step, errno: Errno, candidate: usize) -> Refusal {
        let cannot = |what: &str| Refusal::new(126, format!("cannot {what}: {}", words(errno)));
        let name = self.argv[0].to_string_lossy();
        match step {
            Step::Session | Step::Terminal | Step::Descriptors => Refusal::new(
                125,
                format!("cannot start {name}: {step:?}: {}", words(errno)),
            ),
            Step::Limits => cannot("set its limits (setrlimit)"),
            Step::Groups | Step::Group | Step::User => {
                let account = self.account.as_ref();
                let (uid, gid) = account.map_or((0, 0), |account| (account.uid, account.gid));
                cannot(&format!("become user {uid}, group {gid}"))
            }
            Step::Folder => cannot(&format!("change to folder {}", self.cwd.to_string_lossy())),
            Step::Execute => match self.candidates.get(candidate) {
                Some(path) => self.execute_refusal(path, errno),
                None => self.not_found(&name),
            },
        }
    }

    /// No candidate could be executed, for want of a file; it may be another that is missing.
    fn not_found(&self, name: &str) -> Refusal {
        let existing = self
            .candidates
            .iter()
            .map(|path| (path, self.resolved(path)))
            .find(|(_, path)| path.exists());
        if let Some((path, file)) = existing {
            let path = path.to_string_lossy();
            let message = match interpreter::of(&file) {
                Some(interpreter) => {
                    format!("cannot execute {path}: its interpreter {interpreter} does not exist")
                }
                None => format!("cannot execute {path}: its interpreter does not exist"),
            };
            return Refusal::new(127, message);
        }
        let message = if name.contains('/') {
            format!("cannot execute {name}: there is no such file")
        } else {
            let path = self.path();
            format!("cannot execute {name}: no folder of PATH has it ({path})")
        };
        Refusal::new(127, message)
    }

    fn execute_refusal(&self, path: &CStr, errno: Errno) -> Refusal {
        let file = self.resolved(path);
        let is_folder = rustix::fs::stat(&file)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
        let reason = match errno {
            Errno::ACCESS if is_folder => "it is a folder".into(),
            Errno::NOEXEC => "it is neither a script with a #! line \
                nor a program for this machine"
                .into(),
            Errno::TOOBIG => {
                "the arguments and the environment are longer than the kernel takes".into()
            }
            _ => words(errno),
        };
        Refusal::new(
            126,
            format!("cannot execute {}: {reason}", path.to_string_lossy()),
        )
    }

    fn resolved(&self, path: &CStr) -> PathBuf {
        Path::new(OsStr::from_bytes(self.cwd.to_bytes())).join(OsStr::from_bytes(path.to_bytes()))
    }

    fn path(&self) -> String {
        self.env
            .iter()
            .map(|entry| entry.to_string_lossy())
            .find(|entry| entry.starts_with("PATH="))
            .unwrap_or_default()
            .into_owned()
    }
}

/// The kernel's own words for an error.
pub(super) fn words(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    // The number adds nothing for a reader.
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

fn environment(exec: &Exec, account: Option<&Account>) -> Vec<ByteString> {
    let root = Account::root();
    let account = account.unwrap_or(&root);
    let mut env = exec.env.clone();
    let mut default = |name: &str, value: &str| {
        let is_set = |entry: &ByteString| {
            let rest = entry.0.strip_prefix(name.as_bytes());
            rest.is_some_and(|rest| rest.first() == Some(&b'='))
        };
        if !value.is_empty() && !env.iter().any(is_set) {
            env.push(format!("{name}={value}").into());
        }
    };
    default("PATH", PATH);
    default("HOME", &account.home);
    default("USER", account.name.as_deref().unwrap_or_default());
    default(
        "TERM",
        exec.tty.as_ref().map_or("", |tty| tty.term.as_str()),
    );
    env
}

/// The paths that `name` may stand for, in the store at last.
fn all_candidates(name: &ByteString, exec: &Exec, env: &[ByteString]) -> Vec<ByteString> {
    let mut found = candidates(name.as_bytes(), search_path(env));
    let is_bare = found.len() > 1;
    if is_bare && !has_path(exec) && !found.iter().any(exists) {
        let path = closure::search_path("");
        found.extend(candidates(name.as_bytes(), path.as_bytes()));
    }
    found
}

/// A shell, as its path and its arguments; it finds the store's programs by `PATH`.
fn shell(
    exec: &Exec,
    env: &mut Vec<ByteString>,
) -> Result<(Vec<ByteString>, Vec<ByteString>), Refusal> {
    if !has_path(exec) {
        env.retain(|entry| !entry.0.starts_with(b"PATH="));
        let path = closure::search_path(PATH);
        env.push(ByteString([b"PATH=", path.as_bytes()].concat()));
    }
    let shell = closure::shell(OsStr::from_bytes(search_path(env)))
        .ok_or_else(|| Refusal::new(127, "there is no shell in the machine"))?;
    let path = shell.path.into_os_string().into();
    Ok((vec![path], vec![shell.name.into()]))
}

fn has_path(exec: &Exec) -> bool {
    exec.env.iter().any(|entry| entry.0.starts_with(b"PATH="))
}

/// The value of `PATH`.
fn search_path(env: &[ByteString]) -> &[u8] {
    env.iter()
        .find_map(|entry| entry.0.strip_prefix(b"PATH="))
        .unwrap_or_default()
}

/// Whether there is a file; this process is root, so it sees what others do not.
fn exists(path: &ByteString) -> bool {
    Path::new(OsStr::from_bytes(path.as_bytes())).exists()
}

/// The paths that `name` may stand for.
fn candidates(name: &[u8], path: &[u8]) -> Vec<ByteString> {
    if name.contains(&b'/') || name.is_empty() {
        return vec![ByteString(name.to_vec())];
    }
    path.split(|byte| *byte == b':')
        .map(|folder| match folder {
            // An empty entry is the working folder (POSIX, 8.3).
            b"" => ByteString([b"./", name].concat()),
            _ => ByteString([folder, b"/", name].concat()),
        })
        .collect()
}

fn c_string(what: &str, bytes: &ByteString) -> Result<CString, Refusal> {
    CString::new(bytes.as_bytes())
        .map_err(|_| Refusal::new(126, format!("{what} contains a NUL byte: {bytes:?}")))
}

fn c_strings(what: &str, strings: &[ByteString]) -> Result<Vec<CString>, Refusal> {
    strings.iter().map(|bytes| c_string(what, bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(argv: &[&str], env: &[&str]) -> Exec {
        Exec {
            argv: argv.iter().copied().map(ByteString::from).collect(),
            env: env.iter().copied().map(ByteString::from).collect(),
            ..Exec::default()
        }
    }

    fn text(strings: &[CString]) -> Vec<&str> {
        strings.iter().map(|s| s.to_str().unwrap()).collect()
    }

    #[test]
    fn a_bare_name_is_tried_in_each_folder_of_the_given_path() {
        let program = Program::new(&exec(&["ls"], &["PATH=/a::/b/c"])).unwrap();
        assert_eq!(text(&program.candidates), ["/a/ls", "./ls", "/b/c/ls"]);
    }

    #[test]
    fn a_name_with_a_slash_is_a_path() {
        let program = Program::new(&exec(&["./ls", "-l"], &[])).unwrap();
        assert_eq!(text(&program.candidates), ["./ls"]);
        assert_eq!(text(&program.argv), ["./ls", "-l"]);
    }

    #[test]
    fn defaults_are_added_and_what_is_given_wins() {
        let program = Program::new(&exec(&["ls"], &["HOME=", "X=1", "PATHS=2"])).unwrap();
        let path = format!("PATH={PATH}");
        assert_eq!(
            text(&program.env),
            ["HOME=", "X=1", "PATHS=2", &path, "USER=root"]
        );
    }

    #[test]
    fn a_nul_byte_is_named() {
        let refusal = Program::new(&exec(&["ls", "a\0b"], &[])).err().unwrap();
        assert_eq!(refusal.code, 126);
        assert_eq!(
            refusal.message,
            "an argument contains a NUL byte: \"a\\0b\""
        );
    }
}

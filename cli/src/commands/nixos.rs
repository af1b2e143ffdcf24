//! `mvm nixos`: a NixOS configuration, built and run.
//!
//! The one thing to know: the build is this host's, and what is built is run by `mvm run`, which this
//! process becomes; so all of its flags mean what they mean there.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, anyhow, ensure};
use clap::ValueEnum;

use crate::accel::Accel;
use crate::output::print;

/// What builds.
const BUILDER: &str = "nix-build";

/// Build a NixOS system of a configuration.nix, and run it
///
/// As `nix-build '<nixpkgs/nixos>' -A system` with that configuration, whose output is shown, and then
/// `mvm run` of what it has built, with 1 GiB of memory and the name that the system has.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration
    #[arg(value_name = "CONFIGURATION")]
    configuration: PathBuf,
    /// Where Nix finds what is in angle brackets, as `nix-build` has it; behind the configuration or
    /// before
    #[arg(short = 'I', value_name = "PATH")]
    include: Vec<OsString>,
    /// Print the system's path in the store, and run nothing
    #[arg(long)]
    build_only: bool,
    /// Flags of `mvm run`
    #[arg(
        value_name = "FLAGS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    rest: Vec<OsString>,
}

/// Runs the command. `is_sound` says what is wrong with the command line that it ends in.
pub fn run(
    args: &Args,
    accel: Option<Accel>,
    is_sound: impl Fn(&[OsString]) -> Result<()>,
) -> Result<ExitCode> {
    let wanted = Wanted::of(args);
    let line = |system: &OsStr| {
        let accel = accel.and_then(|accel| accel.to_possible_value());
        let accel = accel.map(|accel| format!("--accel={}", accel.get_name()).into());
        let words = accel.into_iter().chain(["run".into(), system.to_owned()]);
        words
            .chain(wanted.flags.iter().cloned())
            .collect::<Vec<_>>()
    };
    // Before a build that takes long.
    is_sound(&line(OsStr::new("system")))?;
    let configuration = args.configuration.canonicalize().with_context(|| {
        format!(
            "cannot find the configuration {}",
            args.configuration.display()
        )
    })?;
    let system = build(&configuration, &wanted.include)?;
    if wanted.build_only {
        print(format!("{}\n", system.display()).as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let line = line(system.as_os_str());
    let error = Command::new("/proc/self/exe").args(line).exec();
    Err(anyhow!(error).context("cannot run the system"))
}

/// What was asked for, wherever in the command line it stands.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    include: Vec<OsString>,
    build_only: bool,
    flags: Vec<OsString>,
}

impl Wanted {
    /// Takes this command's own words out of what else is for `mvm run`.
    fn of(args: &Args) -> Self {
        let mut wanted = Self {
            include: args.include.clone(),
            build_only: args.build_only,
            flags: Vec::new(),
        };
        let mut words = args.rest.iter();
        while let Some(word) = words.next() {
            let bytes = word.as_encoded_bytes();
            if bytes == b"--" {
                wanted.flags.push(word.clone());
                wanted.flags.extend(words.by_ref().cloned());
            } else if bytes == b"--build-only" {
                wanted.build_only = true;
            } else if bytes == b"-I" {
                wanted.include.extend(words.next().cloned());
            } else if let Some(path) = bytes.strip_prefix(b"-I") {
                wanted.include.push(OsString::from_vec(path.to_vec()));
            } else {
                wanted.flags.push(word.clone());
            }
        }
        wanted
    }
}

/// Builds the system, and returns its path. What Nix says of it goes to standard error.
fn build(configuration: &Path, include: &[OsString]) -> Result<PathBuf> {
    let mut named = OsString::from("nixos-config=");
    named.push(configuration);
    let mut command = Command::new(BUILDER);
    command.args(["<nixpkgs/nixos>", "-A", "system", "--no-out-link"]);
    for path in include.iter().chain([&named]) {
        command.arg("-I").arg(path);
    }
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| {
            format!(
                "cannot start {BUILDER}, which builds the system: PATH is {}",
                env::var("PATH").unwrap_or_default()
            )
        })?;
    ensure!(
        output.status.success(),
        "cannot build {}: {BUILDER} failed ({})",
        configuration.display(),
        output.status
    );
    let path = output.stdout.trim_ascii();
    ensure!(
        path.starts_with(b"/") && !path.contains(&b'\n'),
        "cannot tell what {BUILDER} has built: it printed {:?}",
        String::from_utf8_lossy(path)
    );
    Ok(PathBuf::from(OsString::from_vec(path.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(rest: &[&str]) -> Wanted {
        Wanted::of(&Args {
            configuration: "configuration.nix".into(),
            include: vec!["a".into()],
            build_only: false,
            rest: rest.iter().map(Into::into).collect(),
        })
    }

    #[test]
    fn its_own_words_are_told_from_those_of_run() {
        let one = wanted(&[
            "-d",
            "-I",
            "nixpkgs=/p",
            "-Ib",
            "--name",
            "web",
            "--build-only",
        ]);
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        assert_eq!(one.include, words(&["a", "nixpkgs=/p", "b"]));
        assert_eq!(one.flags, words(&["-d", "--name", "web"]));
        assert!(one.build_only);
    }

    #[test]
    fn behind_two_dashes_nothing_is_its_own() {
        let one = wanted(&["--", "-I", "x", "--build-only"]);
        assert_eq!(one.flags.len(), 4);
        assert_eq!((one.include.len(), one.build_only), (1, false));
    }
}

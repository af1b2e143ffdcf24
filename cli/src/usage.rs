//! What is said of a command line that mvm does not take: a sentence, and where to read on.
//!
//! The one thing to know: the parser's own words are of several lines, and name types of the language
//! that this program is written in; what it knows besides is enough for a sentence.

use std::error::Error;
use std::ffi::OsString;
use std::num::{ParseFloatError, ParseIntError};
use std::process::ExitCode;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use vmm::app::suggest::nearest;

use crate::FAILED;
use crate::output::say;

/// Prints help to standard output, and what is wrong with the command line `words` of `whole` to
/// standard error.
pub fn tell(error: &clap::Error, whole: &Command, words: &[OsString]) -> ExitCode {
    use ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    match error.kind() {
        DisplayHelp | DisplayVersion | DisplayHelpOnMissingArgumentOrSubcommand => {
            // Nobody to tell when the stream is closed.
            let _ = error.print();
        }
        _ => {
            say(format_args!("{}", sentence(error, whole, words)));
            let (_, name) = meant(whole, words);
            say(format_args!("`{name} --help` tells what it takes"));
        }
    }
    match error.kind() {
        DisplayHelp | DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(FAILED),
    }
}

/// What is wrong, in one sentence.
pub fn sentence(error: &clap::Error, whole: &Command, words: &[OsString]) -> String {
    let (command, name) = meant(whole, words);
    let of_kind = match error.kind() {
        ErrorKind::ValueValidation => wrong_value(error),
        ErrorKind::InvalidValue => not_allowed(error),
        ErrorKind::InvalidSubcommand => unknown_command(error, command, &name),
        ErrorKind::UnknownArgument => unknown_argument(error, command, &name),
        ErrorKind::MissingRequiredArgument => {
            let missing = texts(error, ContextKind::InvalidArg).join(" and ");
            (!missing.is_empty()).then(|| format!("`{name}` needs {missing}"))
        }
        _ => None,
    };
    of_kind.unwrap_or_else(|| own_words(error))
}

/// The command that a line names, and the words that do.
fn meant<'a>(whole: &'a Command, words: &[OsString]) -> (&'a Command, String) {
    let mut command = whole;
    let mut name = String::from("mvm");
    for word in words.iter().skip(1) {
        if let Some(below) = command.find_subcommand(word) {
            command = below;
            name = format!("{name} {}", below.get_name());
        }
    }
    (command, name)
}

fn wrong_value(error: &clap::Error) -> Option<String> {
    let argument = argument(error)?;
    let value = text(error, ContextKind::InvalidValue)?;
    let reason = error.source()?;
    let words = reason.to_string();
    let reason = if reason.is::<ParseIntError>() {
        "must be a whole number".into()
    } else if reason.is::<ParseFloatError>() {
        "must be a number such as 2 or 1.5".into()
    } else if let Some((_, range)) = words.split_once(" is not in ") {
        format!(
            "must be a whole number from {}",
            range.replace("..=", " to ")
        )
    } else {
        words
    };
    let is_told = reason.contains(", is ") || reason.contains(&format!("{value:?}"));
    let found = if is_told {
        String::new()
    } else {
        format!(", is {value:?}")
    };
    Some(format!("{argument}: {reason}{found}"))
}

/// A value that is none of a few words.
fn not_allowed(error: &clap::Error) -> Option<String> {
    let argument = argument(error)?;
    let value = text(error, ContextKind::InvalidValue)?;
    let allowed = texts(error, ContextKind::ValidValue);
    if allowed.is_empty() {
        return value
            .is_empty()
            .then(|| format!("{argument} needs a value"));
    }
    let allowed = allowed.join(", ");
    Some(format!(
        "{argument}: must be one of {allowed}, is {value:?}"
    ))
}

fn unknown_command(error: &clap::Error, command: &Command, name: &str) -> Option<String> {
    let word = text(error, ContextKind::InvalidSubcommand)?;
    let all = command.get_subcommands().filter(|one| !one.is_hide_set());
    let names: Vec<_> = all
        .flat_map(Command::get_name_and_visible_aliases)
        .collect();
    Some(match nearest(&word, &names) {
        Some(meant) => {
            format!("there is no command `{name} {word}`; did you mean `{name} {meant}`?")
        }
        None => format!("there is no command `{name} {word}`"),
    })
}

fn unknown_argument(error: &clap::Error, command: &Command, name: &str) -> Option<String> {
    let word = text(error, ContextKind::InvalidArg)?;
    let behind = if let Some(meant) = text(error, ContextKind::SuggestedArg) {
        format!("; did you mean {meant}?")
    } else if command.get_arguments().any(clap::Arg::is_last_set) {
        "; arguments of the program are behind \"--\"".into()
    } else {
        String::new()
    };
    Some(format!("`{name}` takes no {word:?}{behind}"))
}

/// The flag without what stands for its value, or what stands for an argument.
fn argument(error: &clap::Error) -> Option<String> {
    let argument = text(error, ContextKind::InvalidArg)?;
    let end = argument
        .find([' ', '='])
        .filter(|_| argument.starts_with('-'));
    Some(match end {
        Some(end) => argument[..end].trim_end_matches('[').into(),
        None => argument,
    })
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<String> {
    texts(error, kind).into_iter().next()
}

fn texts(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

/// What the parser says, without its usage, in one line.
fn own_words(error: &clap::Error) -> String {
    let words = error.to_string();
    let is_said = |line: &&str| !line.starts_with("Usage:") && !line.starts_with("For more");
    let lines = words.lines().map(str::trim).take_while(is_said);
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    lines.join(" ").trim_start_matches("error: ").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whole;

    fn said(line: &str) -> String {
        let words: Vec<OsString> = line.split(' ').map(Into::into).collect();
        let error = whole().try_get_matches_from(&words).unwrap_err();
        sentence(&error, &whole(), &words)
    }

    #[test]
    fn each_thing_that_is_wrong_is_a_sentence() {
        for (line, sentence) in [
            (
                "mvm strat web",
                "there is no command `mvm strat`; did you mean `mvm start`?",
            ),
            ("mvm dockerize", "there is no command `mvm dockerize`"),
            (
                "mvm compose lgos",
                "there is no command `mvm compose lgos`; did you mean `mvm compose logs`?",
            ),
            ("mvm run", "`mvm run` needs <FILE>"),
            ("mvm exec", "`mvm exec` needs <NAME> and <COMMAND>..."),
            ("mvm top web db", "`mvm top` takes no \"db\""),
            (
                "mvm run --cpu 2 app.json",
                "`mvm run` takes no \"--cpu\"; did you mean --cpus?",
            ),
            (
                "mvm run app.json ls",
                "`mvm run` takes no \"ls\"; arguments of the program are behind \"--\"",
            ),
            (
                "mvm run --cpus x app.json",
                "--cpus: must be a number such as 2 or 1.5, is \"x\"",
            ),
            (
                "mvm stop -t 1.5 web",
                "--time: must be a whole number, is \"1.5\"",
            ),
            (
                "mvm stop -t=-1 web",
                "--time: must be a whole number from 0 to 4294967295, is \"-1\"",
            ),
            ("mvm ps -n x", "--last: must be a whole number, is \"x\""),
            (
                "mvm port web x",
                "[PORT[/PROTOCOL]]: must be such as 80 or 53/udp, is \"x\"",
            ),
            (
                "mvm kill -s FOO web",
                "--signal: must be a signal such as \"SIGTERM\", \"SIGRTMIN+3\" or \"15\", is \"FOO\"",
            ),
            (
                "mvm --accel fast ps",
                "--accel: must be one of auto, kvm, emulated, is \"fast\"",
            ),
            ("mvm run app.json --name", "--name needs a value"),
        ] {
            assert_eq!(said(line), sentence, "{line}");
        }
    }

    #[test]
    fn whatever_else_is_wrong_takes_one_line() {
        for line in [
            "mvm run --network-alias a app.json",
            "mvm run -d --statistics a app.json",
            "mvm volume ls -q --json",
            "mvm ps --json --json",
        ] {
            let said = said(line);
            assert!(!said.contains('\n') && !said.contains("rror"), "{said}");
        }
    }
}

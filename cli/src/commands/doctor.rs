//! `mvm doctor`: what of this host mvm needs, finds and misses, a line for each.
//!
//! The one thing to know: it changes nothing, and looks with the means that the commands themselves
//! use, so what it calls good is good.

mod checks;

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use crate::output::{print, print_json};
use crate::table::table;

/// Check whether this host can run machines, and say what to do where it cannot
///
/// "fail": without this no machine runs; "warn": something is slower, weaker or not possible. Exits
/// with 1 if anything fails.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print a JSON list
    #[arg(long)]
    json: bool,
}

/// How it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    level: Level,
    /// What was found.
    found: String,
    /// What to do, unless all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            level: Level::Ok,
            found: found.into(),
            advice: None,
        }
    }

    fn warn(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            level: Level::Warn,
            advice: Some(advice.into()),
            ..Self::ok(name, found)
        }
    }

    fn fail(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            level: Level::Fail,
            ..Self::warn(name, found, advice)
        }
    }

    fn row(&self) -> [String; 3] {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        };
        let text = match &self.advice {
            Some(advice) => format!("{}; {advice}", self.found),
            None => self.found.clone(),
        };
        [level.into(), self.name.into(), text]
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let checks = checks::all();
    if args.json {
        print_json(&checks)?;
    } else {
        let rows: Vec<_> = checks.iter().map(Check::row).collect();
        print(table(["", "CHECK", "FOUND"], &rows).as_bytes())?;
    }
    Ok(status(&checks))
}

fn status(checks: &[Check]) -> ExitCode {
    let fails = checks.iter().any(|check| check.level == Level::Fail);
    ExitCode::from(u8::from(fails))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_no_failure() {
        let warn = Check::warn("a", "there is none", "make one");
        let fail = Check::fail("b", "it is broken", "mend it");
        assert_eq!(warn.row(), ["warn", "a", "there is none; make one"]);
        assert_eq!(status(std::slice::from_ref(&warn)), ExitCode::SUCCESS);
        assert_eq!(status(&[warn, fail]), ExitCode::FAILURE);
    }

    #[test]
    fn each_line_that_is_not_good_says_what_to_do() {
        for check in checks::all() {
            assert_eq!(
                check.level == Level::Ok,
                check.advice.is_none(),
                "{check:?}"
            );
            assert!(!check.found.is_empty(), "{check:?}");
        }
    }
}

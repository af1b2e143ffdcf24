//! `mvm kill`: a signal for a machine's program.

use std::process::ExitCode;

use anyhow::{Result, bail};

use super::start::for_each;
use super::stop::kill;
use crate::control::client;
use crate::control::message::Request;
use crate::machines;

const SIGKILL: u8 = 9;
const SIGTERM: u8 = 15;

/// Signals of Linux that a program can be sent, by number from 1 (signal(7), x86).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The largest of the real-time signals.
const SIGRTMAX: u8 = 64;

/// Send a signal to the programs of machines
///
/// SIGKILL, the default, ends the machine with all that runs in it, at once. A machine that was
/// sent SIGKILL or SIGTERM is not started again by its restart policy.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// The signal: a name such as TERM or SIGTERM, or a number
    #[arg(long, short, value_name = "SIGNAL", default_value = "KILL", value_parser = parse)]
    signal: u8,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    for_each(&args.names, |name| {
        let machine = machines::find(name)?;
        machine.ensure_running()?;
        if args.signal == SIGKILL {
            kill(&machine)?;
        } else {
            let signal = args.signal;
            if signal == SIGTERM {
                machine.give_up()?;
            }
            client::order(&machine.name, &Request::Signal { signal })?;
        }
        Ok(machine.name)
    })
}

fn parse(text: &str) -> Result<u8> {
    if let Ok(number) = text.parse() {
        if (1..=SIGRTMAX).contains(&number) {
            return Ok(number);
        }
        bail!("signals are 1 to {SIGRTMAX}");
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    match (1..).zip(NAMES).find(|(_, known)| *known == name) {
        Some((number, _)) => Ok(number),
        None => bail!("there is no such signal; HUP, INT, TERM, USR1 and KILL are some"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_a_number_and_names() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGTERM", 15),
            ("usr1", 10),
            ("sys", 31),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for text in ["", "0", "65", "SIG", "TERMS", "-1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}

//! `mvm kill`: a signal for a machine's program.

use std::process::ExitCode;

use anyhow::Result;
use vmm::app::Signal;

use super::start::for_each;
use super::stop::{kill, program};
use crate::control::client;
use crate::control::message::Request;
use crate::machines;

/// Send a signal to the programs of machines
///
/// SIGKILL, the default, ends the machine with all that runs in it, at once. A machine that was
/// sent SIGKILL, SIGTERM or its stop signal is not started again by its restart policy.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// The signal: a name such as TERM or SIGTERM, or a number
    #[arg(long, short, value_name = "SIGNAL", default_value_t = Signal::KILL)]
    signal: Signal,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    for_each(&args.names, |name| {
        let machine = machines::called(name)?;
        machine.ensure_running()?;
        if args.signal == Signal::KILL {
            kill(&machine)?;
        } else {
            if args.signal == Signal::TERM || args.signal == program(&machine).stop_signal() {
                machine.give_up()?;
            }
            let signal = args.signal.number();
            client::order(&machine.name, &Request::Signal { signal })?;
        }
        Ok(machine.name)
    })
}

//! `mvm version`: which mvm this is, and with which others it gets on.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use crate::control::message;
use crate::output::{print, print_json};

/// Print the version of mvm, and of what it speaks
///
/// A machine that runs is talked to by commands of the same control protocol; mvm-init must speak the
/// same guest protocol.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// What is printed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Facts {
    version: &'static str,
    guest_protocol: u32,
    control_protocol: u32,
    architecture: &'static str,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let facts = Facts {
        version: env!("CARGO_PKG_VERSION"),
        guest_protocol: guest::protocol::VERSION,
        control_protocol: message::VERSION,
        architecture: std::env::consts::ARCH,
    };
    if args.json {
        print_json(&facts)?;
    } else {
        let text = format!(
            "mvm {}\nguest protocol {}\ncontrol protocol {}\narchitecture {}\n",
            facts.version, facts.guest_protocol, facts.control_protocol, facts.architecture
        );
        print(text.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

//! `mvm network`: networks between machines.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use switch::hello::{Member, Network};

use crate::networks;
use crate::output::{print, print_json};
use crate::table::table;

/// Look at networks between machines, which are there as long as machines are in them
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List networks and the machines in them, with their addresses
    #[command(visible_alias = "list")]
    Ls {
        /// Print a JSON list, with what the machines are called and what became of their frames
        #[arg(long)]
        json: bool,
    },
    /// Be a network; standard input is its socket
    #[command(hide = true)]
    Serve {
        /// Have another process be it
        #[arg(long)]
        detach: bool,
        /// The network
        name: String,
    },
    /// Start passt once a machine speaks to somebody; standard input is the stream of its frames
    #[command(hide = true)]
    Later {
        /// Have another process do it
        #[arg(long)]
        detach: bool,
        /// What passt is told
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
}

impl Args {
    /// Whether it is about what there is already.
    pub fn finds(&self) -> bool {
        matches!(self.command, Command::Ls { .. })
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    match &args.command {
        Command::Ls { json } => list(*json)?,
        Command::Serve { detach: true, name } => networks::detach(name)?,
        Command::Serve { name, .. } => networks::serve(name)?,
        Command::Later { detach, arguments } => networks::lead_out(*detach, arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(json: bool) -> Result<()> {
    let networks = networks::all()?;
    if json {
        return print_json(&networks);
    }
    let rows: Vec<_> = networks.iter().map(row).collect();
    print(table(["NAME", "SUBNET", "MACHINES"], &rows).as_bytes())
}

fn row(network: &Network) -> [String; 3] {
    let member = |member: &Member| format!("{} {}", member.name, member.address);
    let members: Vec<_> = network.members.iter().map(member).collect();
    [
        network.name.clone(),
        network.subnet.clone(),
        members.join(", "),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_all_machines() {
        let member = |name: &str, last| Member {
            name: name.into(),
            address: [10, 64, 0, last].into(),
            mac: String::new(),
            aliases: Vec::new(),
        };
        let network = Network {
            name: "shop".into(),
            subnet: "10.64.0.0/24".into(),
            pid: 1,
            members: vec![member("db", 2), member("web", 3)],
            counters: switch::hello::Counters::default(),
        };
        assert_eq!(
            row(&network),
            ["shop", "10.64.0.0/24", "db 10.64.0.2, web 10.64.0.3"]
        );
    }
}

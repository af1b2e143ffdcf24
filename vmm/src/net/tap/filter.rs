//! A table of the host's packet filter for one tap: its machine has the host's address beyond the
//! host, and sends nothing under another's.
//!
//! The table belongs to a process of nft's (`flags owner`), which ends with this one, and the kernel
//! removes it then.

use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, bail};

/// The program, and the Debian package that has it.
const NFT: &str = "nft";
const PACKAGE: &str = "nftables";

/// Bytes of nft's answer that are looked at.
const ANSWER_MAX: u64 = 4096;

/// A table, as long as this lives.
pub struct Filter {
    process: Child,
    /// nft ends when this is closed.
    commands: Option<ChildStdin>,
    /// Kept open, or nft would end over the rest of what it says.
    answers: PipeReader,
}

impl Filter {
    /// The table for a machine that has `address` behind `tap`.
    ///
    /// # Errors
    /// nft is missing, or refuses.
    pub fn open(tap: &str, address: IpAddr) -> anyhow::Result<Self> {
        let (reader, answers) = std::io::pipe().context("cannot make a pipe")?;
        // Not in this process' group: the terminal's Ctrl-C is not for it.
        let mut process = Command::new(NFT)
            .arg("-i")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(answers.try_clone().context("cannot copy a pipe")?)
            .stderr(answers)
            .spawn()
            .with_context(|| format!("cannot start `{NFT}`, of package {PACKAGE}"))?;
        let mut filter = Self {
            commands: process.stdin.take(),
            process,
            answers: reader,
        };
        let table = name(tap);
        let commands = format!("{}\nlist table inet {table}\n", rules(tap, address));
        let written = filter
            .commands
            .as_mut()
            .map(|to| to.write_all(commands.as_bytes()));
        written
            .transpose()
            .with_context(|| format!("cannot ask {NFT}"))?;
        // The first line of the list, or of what is wrong with the table.
        let mut answer = String::new();
        BufReader::new((&filter.answers).take(ANSWER_MAX))
            .read_line(&mut answer)
            .with_context(|| format!("cannot hear {NFT}"))?;
        if !answer.contains(&table) {
            bail!("outbound: {NFT} refuses a table: {}", answer.trim());
        }
        Ok(filter)
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        drop(self.commands.take());
        // Nobody is left to be told.
        let _ = self.process.wait();
    }
}

fn name(tap: &str) -> String {
    // A tap's name may have what a table's may not.
    let word = tap.replace(['.', '-'], "_");
    format!("mvm_{word}")
}

fn rules(tap: &str, address: IpAddr) -> String {
    let (family, other) = if address.is_ipv4() {
        ("ip", "ipv6")
    } else {
        ("ip6", "ipv4")
    };
    format!(
        "table inet {table} {{ flags owner; \
         chain prerouting {{ type filter hook prerouting priority raw; \
         iifname \"{tap}\" {family} saddr != {{ {address}{link_local} }} drop; \
         iifname \"{tap}\" meta nfproto {other} drop; }}; \
         chain postrouting {{ type nat hook postrouting priority srcnat; \
         {family} saddr {address} oifname != \"{tap}\" masquerade; }}; }}",
        table = name(tap),
        // Neighbours are asked for by these.
        link_local = if family == "ip6" {
            ", fe80::/10, ::"
        } else {
            ""
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_one_address_and_the_hosts_beyond() {
        let text = rules("mvm-0", "10.0.0.2".parse().unwrap());
        assert!(
            text.starts_with("table inet mvm_mvm_0 { flags owner;"),
            "{text}"
        );
        assert!(
            text.contains("iifname \"mvm-0\" ip saddr != { 10.0.0.2 } drop;"),
            "{text}"
        );
        assert!(
            text.contains("ip saddr 10.0.0.2 oifname != \"mvm-0\" masquerade;"),
            "{text}"
        );
    }
}

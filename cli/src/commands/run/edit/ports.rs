//! Ports of the host that lead to the machine.

use anyhow::Context;
use vmm::app::{App, Port};

use crate::image;

/// Flags about ports.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct PortFlags {
    /// Have a port of the host lead to one of the machine, besides those of `ports`; without a number
    /// for the host one is picked. With "unix:" and a path for the host, a socket leads there that this
    /// user alone can connect to
    #[arg(long, short, value_name = "[[ADDRESS:][HOST]:]GUEST[/udp]", value_parser = published)]
    publish: Vec<Port>,
    /// Have a port of the host that is picked lead to each that the image says its program serves
    #[arg(long, short = 'P')]
    publish_all: bool,
}

impl PortFlags {
    /// Applies them.
    ///
    /// # Errors
    /// The ports of an image are asked for, and there is none, or it cannot be read.
    pub fn apply(&self, app: &mut App) -> anyhow::Result<()> {
        app.ports.extend(self.publish.iter().cloned());
        if self.publish_all {
            let ports = image::exposed_ports(app).context("--publish-all")?;
            app.ports.extend(ports);
        }
        Ok(())
    }
}

/// A port as the file has it in short form, or the machine's alone.
pub fn published(text: &str) -> Result<Port, String> {
    let is_guests = text.starts_with(|first: char| first.is_ascii_digit()) && !text.contains(':');
    if is_guests {
        format!(":{text}").parse()
    } else {
        text.parse()
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_port_alone_is_a_port() {
        let text = |text| published(text).map(|port| port.to_string());
        assert_eq!(text("80").unwrap(), "127.0.0.1:0:80/tcp");
        assert_eq!(text("53/udp").unwrap(), "127.0.0.1:0:53/udp");
        assert_eq!(text("8080:80").unwrap(), "127.0.0.1:8080:80/tcp");
        assert_eq!(text("unix:/a:80").unwrap(), "unix:/a:80/tcp");
        for wrong in ["", "/udp", "a", "unix:/a", "80/sctp"] {
            assert!(text(wrong).is_err(), "{wrong}");
        }
    }
}

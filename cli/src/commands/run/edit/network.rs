//! Networks between machines, names, and who is asked for them.

use std::net::IpAddr;

use vmm::app::{Addresses, App, Interface, InterfaceKind};

/// Flags about networks and names.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct NetworkFlags {
    /// Have the machine in a network of this user's, besides `interfaces`
    #[arg(long, value_name = "NAME")]
    network: Vec<String>,
    /// What the machine is called in the networks of --network, besides its name
    #[arg(long, value_name = "NAME", requires = "network")]
    network_alias: Vec<String>,
    /// An address of a name that the machine knows without asking, instead of those that `hosts` has
    /// for it
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = host)]
    add_host: Vec<(String, IpAddr)>,
    /// A name server that the machine asks, instead of those of `dns`
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
    /// A domain in which it looks for short names, instead of those of `dns`; "." is none
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// A word for `options` of its /etc/resolv.conf, instead of those of `dns`
    #[arg(long, value_name = "OPTION")]
    dns_option: Vec<String>,
}

impl NetworkFlags {
    /// Applies them.
    pub fn apply(&self, app: &mut App) {
        self.add_networks(app);
        self.set_names(app);
    }

    /// What the file has by default stays: a card that its ports need.
    fn add_networks(&self, app: &mut App) {
        if self.network.is_empty() {
            return;
        }
        let mut interfaces = app.interfaces();
        interfaces.extend(self.network.iter().map(|network| Interface {
            kind: InterfaceKind::Network,
            network: Some(network.clone()),
            aliases: self.network_alias.clone(),
            ..Interface::default()
        }));
        app.interfaces = Some(interfaces);
    }

    fn set_names(&self, app: &mut App) {
        for (name, _) in &self.add_host {
            app.hosts.remove(name);
        }
        for (name, address) in &self.add_host {
            let Addresses(addresses) = app.hosts.entry(name.clone()).or_default();
            addresses.push(*address);
        }
        replace(&mut app.dns.servers, &self.dns);
        replace(&mut app.dns.search, &self.dns_search);
        // As Docker has it that there is no domain.
        app.dns.search.retain(|domain| domain != ".");
        replace(&mut app.dns.options, &self.dns_option);
    }
}

/// What a flag says, if it does, in the place of what the file says.
fn replace<T: Clone>(of_file: &mut Vec<T>, of_flag: &[T]) {
    if !of_flag.is_empty() {
        of_file.clear();
        of_file.extend_from_slice(of_flag);
    }
}

/// A name and its address, which may stand in brackets.
fn host(text: &str) -> Result<(String, IpAddr), String> {
    let wrong = || "must be a name, \":\" and an address, such as db:10.0.0.7".to_owned();
    let (name, address) = text.split_once([':', '=']).ok_or_else(wrong)?;
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = bare.unwrap_or(address).parse().map_err(|_| wrong())?;
    Ok((name.into(), address))
}

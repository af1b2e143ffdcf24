//! A service's machine: what an [`App`] of its own would say.
//!
//! The one thing to know: what belongs to a project has its name before a "-", which a machine's name
//! may have, or before a "_", which no project's name has. So volumes and networks of two projects are
//! never the same, and machines are told apart by their labels.

use super::{Project, Service, check};
use crate::app::{App, Complaint, Interface, InterfaceKind, Volume};

/// The label that says which project a machine is of.
pub const PROJECT_LABEL: &str = "mvm.project";

/// The label that says which service it is of.
pub const SERVICE_LABEL: &str = "mvm.service";

/// What the names of a project's volumes begin with.
pub fn volume_prefix(project: &str) -> String {
    format!("{project}_")
}

/// The name of a service's machine `number`, from 1. The first keeps its name when there are more.
pub fn name(project: &str, service: &str, number: u32) -> String {
    match number {
        1 => format!("{project}-{service}"),
        _ => format!("{project}-{service}-{number}"),
    }
}

impl Project {
    /// The name of a service's machine `number`, from 1.
    pub fn machine_name(&self, service: &str, number: u32) -> String {
        name(&self.name, service, number)
    }

    /// Whether the service has a machine of that name.
    pub fn has(&self, service: &str, machine: &str) -> bool {
        let scale = self
            .services
            .get(service)
            .map_or(0, |service| service.scale);
        (1..=scale).any(|number| self.machine_name(service, number) == machine)
    }

    /// Has the service be so many machines.
    ///
    /// # Errors
    /// There is no such service, or it cannot be more than one.
    pub fn set_scale(&mut self, name: &str, scale: u32) -> Result<(), String> {
        let Some(service) = self.services.get_mut(name) else {
            return Err(format!("there is no service {name}"));
        };
        if let Some(why) = service.why_single().filter(|_| scale > 1) {
            return Err(format!("{name} must be 1, is {scale}: {why}"));
        }
        service.scale = scale;
        match self.check().first() {
            Some(complaint) => Err(complaint.to_string()),
            None => Ok(()),
        }
    }

    /// All that is wrong with its values, each with its place in a file.
    pub fn check(&self) -> Vec<Complaint> {
        check::project(self)
    }

    /// The machine `number` of `service`, from 1.
    pub fn machine(&self, name: &str, service: &Service, number: u32) -> App {
        let mut app = service.app.clone();
        app.name = self.machine_name(name, number);
        app.labels.insert(PROJECT_LABEL.into(), self.name.clone());
        app.labels.insert(SERVICE_LABEL.into(), name.into());
        self.name_volumes(&mut app);
        self.connect(&mut app, name, service);
        app
    }

    /// A name of the project's, or of all machines' if it is external.
    fn shared_name(&self, name: &str, is_external: bool) -> String {
        if is_external {
            name.to_owned()
        } else {
            volume_prefix(&self.name) + name
        }
    }

    fn name_volumes(&self, app: &mut App) {
        if let Some(persist) = &mut app.root.persist {
            *persist = self.volume_name(persist);
        }
        let writable = app.store.writable.as_mut();
        if let Some(volume) = writable.and_then(|store| store.volume.as_mut()) {
            *volume = self.volume_name(volume);
        }
        for volume in &mut app.volumes {
            self.settle_volume(volume);
        }
    }

    fn volume_name(&self, name: &str) -> String {
        let is_external = self.volumes.get(name).is_some_and(|volume| volume.external);
        self.shared_name(name, is_external)
    }

    /// Has a volume that the file has be the project's, of its size. Others are left alone.
    pub fn settle_volume(&self, volume: &mut Volume) {
        let name = volume.name.as_mut();
        let Some((name, known)) =
            name.and_then(|name| self.volumes.get(name).map(|known| (name, known)))
        else {
            return;
        };
        volume.size = known.size.unwrap_or(volume.size);
        *name = self.shared_name(name, known.external);
    }

    /// Gives it its interfaces: those of its file, else one that leads out unless its networks are all
    /// internal; and one in each network.
    fn connect(&self, app: &mut App, name: &str, service: &Service) {
        let network = |name: &String| self.networks.get(name).cloned().unwrap_or_default();
        let mut networks = service.networks.keys().map(network);
        let is_internal = networks.len() > 0 && networks.all(|network| network.internal);
        let mut interfaces = match app.interfaces.take() {
            Some(given) => given,
            None if is_internal => Vec::new(),
            None => vec![Interface::default()],
        };
        for (network_name, membership) in &service.networks {
            let mut aliases = vec![name.to_owned()];
            aliases.extend(membership.aliases.iter().cloned());
            interfaces.push(Interface {
                kind: InterfaceKind::Network,
                network: Some(self.shared_name(network_name, network(network_name).external)),
                aliases,
                ..Interface::default()
            });
        }
        app.interfaces = Some(interfaces);
    }
}

//! What a project must be, beyond what each of its services must be by itself.

use std::collections::{BTreeMap, BTreeSet};

use super::{Condition, DEFAULT_NETWORK, MAX_SCALE, Order, Project, Service};
use crate::app::check::{is_name, name_rule};
use crate::app::quote::quoted;
use crate::app::{Complaint, Place, Policy, Ready, Step, suggest};

/// Complaints about a project, each with its place in the file.
pub fn project(project: &Project) -> Vec<Complaint> {
    let mut check = Check {
        project,
        complaints: Vec::new(),
    };
    check.names();
    for (name, service) in &project.services {
        check.dependencies(name, service);
        check.networks(name, service);
        check.volumes(name, service);
        check.scale(name, service);
    }
    check.circle();
    check.writers();
    // A name that is not known would be named again in what follows from it.
    if check.complaints.is_empty() {
        check.machines();
    }
    check.complaints
}

struct Check<'a> {
    project: &'a Project,
    complaints: Vec<Complaint>,
}

fn of(service: &str) -> Place {
    Place::root().key("services").key(service.to_owned())
}

impl Check<'_> {
    fn complain(&mut self, place: Place, message: impl Into<String>) {
        self.complaints.push(Complaint {
            place,
            message: message.into(),
        });
    }

    fn names(&mut self) {
        let project = &self.project.name;
        if !is_name(project) {
            let message = format!(
                "the project's name must be {}, is {}",
                name_rule(),
                quoted(project)
            );
            self.complain(Place::root().key("name"), message);
            return;
        }
        if self.project.services.is_empty() {
            self.complain(
                Place::root().key("services"),
                "must have at least one service",
            );
        }
        for name in self.project.services.keys() {
            let longest = self.project.machine_name(name, MAX_SCALE);
            if !is_name(name) {
                let message = format!(
                    "a service's name must be {}, is {}",
                    name_rule(),
                    quoted(name)
                );
                self.complain(of(name), message);
            } else if !is_name(&longest) {
                let message = format!(
                    "is too long with the project's name: a machine would be called {}",
                    quoted(&longest)
                );
                self.complain(of(name), message);
            }
        }
        let networks = self.project.networks.keys().map(|name| ("networks", name));
        let volumes = self.project.volumes.keys().map(|name| ("volumes", name));
        for (kind, name) in networks.chain(volumes) {
            let whole = format!("{project}-{name}");
            if !is_name(name) || !is_name(&whole) {
                let rule = name_rule();
                let message = format!(
                    "a name must be {rule}, with the project's too, is {}",
                    quoted(name)
                );
                self.complain(Place::root().key(kind).key(name.clone()), message);
            }
        }
    }

    fn dependencies(&mut self, name: &str, service: &Service) {
        for (needed, condition) in &service.depends_on {
            let place = of(name).key("dependsOn");
            let Some(other) = self.project.services.get(needed) else {
                let services: Vec<_> = self.project.services.keys().map(String::as_str).collect();
                let instead = suggest::instead_of(needed, &services);
                self.complain(
                    place,
                    format!("there is no service {}{instead}", quoted(needed)),
                );
                continue;
            };
            let app = &other.app;
            // Of an image nobody knows yet whether it has one.
            let may_be_images = app.image.is_some() && app.healthcheck.is_none();
            let may_be_healthy =
                app.health_check().is_some() || may_be_images || app.ready == Ready::Notify;
            let ends = matches!(app.restart.policy, Policy::No | Policy::OnFailure);
            let shown = quoted(needed);
            match condition {
                Condition::Healthy if !may_be_healthy => self.complain(
                    place.key(needed.clone()),
                    format!("{shown} has neither a \"healthcheck\" nor \"ready\": \"notify\""),
                ),
                Condition::Completed if !ends => self.complain(
                    place.key(needed.clone()),
                    format!("{shown} is started again whenever it ends, as its \"restart\" says"),
                ),
                _ => {}
            }
        }
    }

    fn circle(&mut self) {
        if let Err(circle) = Order::of(&self.project.needs()) {
            let shown = circle.join(" → ");
            if let Some(first) = circle.first() {
                let message = format!("services need each other in a circle: {shown}");
                self.complain(of(first).key("dependsOn"), message);
            }
        }
    }

    fn networks(&mut self, name: &str, service: &Service) {
        for network in service.networks.keys() {
            if network != DEFAULT_NETWORK && !self.project.networks.contains_key(network) {
                let mut known: Vec<_> = self.project.networks.keys().map(String::as_str).collect();
                known.push(DEFAULT_NETWORK);
                let instead = suggest::instead_of(network, &known);
                let message = format!("`networks` has no {}{instead}", quoted(network));
                self.complain(of(name).key("networks"), message);
            }
        }
    }

    fn volumes(&mut self, name: &str, service: &Service) {
        for (nth, volume) in service.app.volumes.iter().enumerate() {
            let Some(volume) = &volume.name else { continue };
            if !self.project.volumes.contains_key(volume) {
                let known: Vec<_> = self.project.volumes.keys().map(String::as_str).collect();
                let instead = match known[..] {
                    [] => ", which the file does not have".into(),
                    _ => suggest::instead_of(volume, &known),
                };
                let message = format!(
                    "must be one of the project's `volumes`, is {}{instead}",
                    quoted(volume)
                );
                let place = of(name).key("volumes").index(nth);
                self.complain(place.key("name"), message);
            }
        }
    }

    /// What only one machine can have.
    fn scale(&mut self, name: &str, service: &Service) {
        let place = of(name).key("scale");
        if service.scale > MAX_SCALE {
            let message = format!("must be from 0 to {MAX_SCALE}, is {}", service.scale);
            self.complain(place, message);
        } else if let Some(why) = service.why_single().filter(|_| service.scale > 1) {
            self.complain(place, format!("must be 1, is {}: {why}", service.scale));
        }
    }

    /// Services that can never run at one time, since both write one volume.
    fn writers(&mut self) {
        let mut users: BTreeMap<&str, Vec<(&str, usize, bool)>> = BTreeMap::new();
        for (name, service) in &self.project.services {
            for (nth, volume) in service.app.volumes.iter().enumerate() {
                if let Some(volume_name) = &volume.name {
                    let user = (name.as_str(), nth, volume.read_only);
                    users.entry(volume_name).or_default().push(user);
                }
            }
        }
        for (volume, users) in users {
            for (nth, (name, at, is_reader)) in users.iter().enumerate() {
                let clash = users[..nth].iter().find(|(other, _, other_reads)| {
                    let is_shared = *is_reader && *other_reads;
                    !is_shared && !self.is_after(name, other)
                });
                if let Some((other, ..)) = clash {
                    let message = format!(
                        "{} is the volume of {} too: one machine at a time can have it, unless all \
                         have it `readOnly` or one needs the other \"completed\"",
                        quoted(volume),
                        quoted(other)
                    );
                    self.complain(of(name).key("volumes").index(*at), message);
                }
            }
        }
    }

    /// Whether one of two services is started when the other has ended.
    fn is_after(&self, one: &str, other: &str) -> bool {
        let needs = |name: &str, other: &str| {
            let service = self.project.services.get(name);
            service.and_then(|service| service.depends_on.get(other)) == Some(&Condition::Completed)
        };
        needs(one, other) || needs(other, one)
    }

    /// What the machines come to.
    fn machines(&mut self) {
        let mut taken = BTreeSet::new();
        for (name, service) in &self.project.services {
            for number in 1..=service.scale {
                let machine = self.project.machine_name(name, number);
                if !taken.insert(machine.clone()) {
                    let message = format!("two machines would be called {}", quoted(&machine));
                    self.complain(of(name), message);
                }
            }
            for complaint in self.project.machine(name, service, 1).check() {
                let is_of_network =
                    complaint.place.steps().first() == Some(&Step::Key("interfaces".into()));
                let place = if is_of_network {
                    of(name).key("networks")
                } else {
                    complaint
                        .place
                        .steps()
                        .iter()
                        .cloned()
                        .fold(of(name), Place::step)
                };
                self.complain(place, complaint.message);
            }
        }
    }
}

impl Service {
    /// Why there can be only one machine of it, if so.
    pub fn why_single(&self) -> Option<String> {
        let is_written = self.app.volumes.iter().any(|volume| !volume.read_only);
        let is_fixed = self.app.ports.iter().any(|port| port.host.is_fixed());
        if is_written {
            Some("only one machine at a time can write a volume".into())
        } else if is_fixed {
            Some("a port of the host leads to one machine; one without a number is picked".into())
        } else {
            None
        }
    }
}

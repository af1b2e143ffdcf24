//! The machines of a project: those that its file asks for, and those that there are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use vmm::app::App;
use vmm::compose::{Condition, PROJECT_LABEL, Project, SERVICE_LABEL};

use crate::commands::rm::stop_and_forget;
use crate::commands::start::start;
use crate::commands::stop::Timeout;
use crate::image::{self, Images};
use crate::machines::record::Facts;
use crate::machines::{self, Machine, Record};

/// A machine that a service is to have.
#[derive(Clone, Debug)]
pub struct Replica {
    /// The service.
    pub service: String,
    /// What it is to be.
    pub app: App,
    /// Services that must be so first.
    pub needs: BTreeMap<String, Condition>,
    /// How far the command waits for it, whatever others need.
    pub wanted: Option<Condition>,
    /// The file that says so.
    source: Arc<PathBuf>,
}

/// What has been done to have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It ran already, and was what it is to be.
    Left,
    /// It was there, and was started.
    Started,
    /// It was made.
    Created,
    /// It was something else, and was made anew.
    Recreated,
}

/// A machine that a project has.
#[derive(Clone, Debug)]
pub struct Member {
    /// The service it is of; empty for one that `mvm compose run` has made.
    pub service: String,
    /// The machine itself.
    pub machine: Machine,
    /// What it is.
    pub app: App,
}

/// The machines that `services` are to have.
///
/// # Errors
/// An image cannot be read.
pub fn replicas(project: &Project, services: &[String], source: &Path) -> Result<Vec<Replica>> {
    let source = Arc::new(source.to_owned());
    let (mut replicas, mut images) = (Vec::new(), Images::default());
    for name in services {
        let Some(service) = project.services.get(name) else {
            continue;
        };
        for number in 1..=service.scale {
            let mut app = project.machine(name, service, number);
            let complete = images
                .complete(&mut app)
                .and_then(|()| image::settle(&mut app));
            complete.with_context(|| format!("services.{name}"))?;
            replicas.push(Replica {
                service: name.clone(),
                app,
                needs: service.depends_on.clone(),
                wanted: None,
                source: Arc::clone(&source),
            });
        }
    }
    Ok(replicas)
}

/// The machines that the project called `project` has, by their names.
///
/// # Errors
/// What is kept of a machine cannot be read.
pub fn members(project: &str) -> Result<Vec<Member>> {
    let mut members = Vec::new();
    for machine in machines::all()? {
        let Some(record) = &machine.record else {
            continue;
        };
        let Ok(file) = record.app_file() else {
            // One of another version of mvm is nobody's that this one knows.
            continue;
        };
        let label = |name| file.app.labels.get(name).cloned();
        if label(PROJECT_LABEL).as_deref() == Some(project) {
            members.push(Member {
                service: label(SERVICE_LABEL).unwrap_or_default(),
                app: file.app,
                machine,
            });
        }
    }
    Ok(members)
}

impl Replica {
    /// A machine of a service that needs others.
    #[cfg(test)]
    pub fn of(service: &str, app: App, needs: BTreeMap<String, Condition>) -> Self {
        Self {
            service: service.into(),
            app,
            needs,
            wanted: None,
            source: Arc::default(),
        }
    }

    /// The machine's name.
    pub fn name(&self) -> &str {
        &self.app.name
    }

    /// The machine's name within its project.
    pub fn shown(&self) -> &str {
        own_name(&self.app)
    }

    /// Has the machine run as it is to be.
    ///
    /// # Errors
    /// It cannot, or there is another machine of its name.
    pub fn bring_up(&self) -> Result<Done> {
        let machine = Machine::named(self.name());
        let Some(record) = machine.record.as_ref() else {
            ensure!(
                !machine.is_running,
                "a machine {} runs already, in the foreground of another command",
                self.name()
            );
            start(&self.keep()?)?;
            return Ok(Done::Created);
        };
        let old = record.app_file()?.app;
        let project = |app: &App| app.labels.get(PROJECT_LABEL).cloned();
        ensure!(
            project(&old) == project(&self.app),
            "there is a machine {0} already, which is not of this project; `mvm rm {0}` removes it",
            self.name()
        );
        if old != self.app {
            stop_and_forget(&machine, &Timeout::default())?;
            start(&self.keep()?)?;
            return Ok(Done::Recreated);
        }
        if machine.is_running {
            return Ok(Done::Left);
        }
        start(record)?;
        Ok(Done::Started)
    }

    fn keep(&self) -> Result<Record> {
        let facts = Facts {
            created: Timestamp::now(),
            source: Some(self.source.to_path_buf()),
            remove_at_end: false,
        };
        Record::create(self.name(), &self.app, &facts)
    }
}

impl Member {
    /// The machine's name within its project.
    pub fn shown(&self) -> &str {
        own_name(&self.app)
    }

    /// Whether it is of no service: a machine of `mvm compose run`.
    pub const fn is_one_off(&self) -> bool {
        self.service.is_empty()
    }
}

/// The name of a machine without its project's.
fn own_name(app: &App) -> &str {
    let project = app.labels.get(PROJECT_LABEL);
    let own = project.and_then(|project| app.name.strip_prefix(project.as_str()));
    own.and_then(|name| name.strip_prefix('-'))
        .unwrap_or(&app.name)
}

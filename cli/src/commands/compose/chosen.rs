//! The machines of a project that a command is about, as they are.

use anyhow::{Result, ensure};
use vmm::compose::ComposeFile;

use super::ensure_known;
use crate::commands::stop::Timeout;
use crate::compose::{Member, Progress, Scope, Starter, Waits, in_reverse, members, replicas};

/// Which services.
#[derive(Debug, clap::Args)]
pub struct Services {
    /// The services; by default all that have machines
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// Machines that there are of services that were asked for.
pub struct Chosen {
    file: ComposeFile,
    members: Vec<Member>,
}

impl Chosen {
    /// Those of the named services, or all for none.
    ///
    /// # Errors
    /// The file has no such service, or none of them has a machine.
    pub fn of(scope: &Scope, Services { services }: &Services) -> Result<Self> {
        let file = scope.load()?;
        let project = &file.project;
        ensure_known(project, services)?;
        let mut members = members(&project.name)?;
        members.retain(|member| {
            project.services.contains_key(&member.service)
                && (services.is_empty() || services.contains(&member.service))
        });
        ensure!(
            !members.is_empty(),
            "no service has a machine; `mvm up` makes them"
        );
        Ok(Self { file, members })
    }

    /// Stops them, those first that need others, and tells each.
    ///
    /// # Errors
    /// One cannot be stopped.
    pub fn stop(
        &self,
        timeout: &Timeout,
        tell: impl Fn(&Member) -> Result<()> + Sync,
    ) -> Result<()> {
        in_reverse(Some(&self.file.project), &self.members, |member| {
            member.stop(timeout)?;
            tell(member)
        })
    }

    /// Starts those that do not run, as they are, whatever the file says by now. Returns their names.
    ///
    /// # Errors
    /// One cannot be started.
    pub fn start(&self) -> Result<Vec<String>> {
        let project = &self.file.project;
        let mut replicas = replicas(project, &project.order(), self.file.path())?;
        replicas.retain_mut(|replica| {
            let mut members = self.members.iter();
            let member = members.find(|one| one.machine.name == replica.name());
            member
                .inspect(|member| replica.app.clone_from(&member.app))
                .is_some()
        });
        let progress = Progress::of(&replicas, false);
        Starter::new(&replicas, Waits::default(), progress).carry_out()?;
        let names = replicas.iter().map(|replica| replica.name().to_owned());
        Ok(names.collect())
    }
}

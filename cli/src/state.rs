//! How a machine does, as `ps`, `inspect` and `status` tell it.

use std::fmt;

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use vmm::app::App;

use crate::control::client;
use crate::control::message::{HealthStatus, Info};
use crate::machines::record::{End, Facts};
use crate::machines::{Machine, Record};

/// In which state a machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Kept, and has never run.
    Created,
    /// Its guest is not up.
    Starting,
    /// It has ended, and its policy will start it again.
    Restarting,
    /// Its program runs.
    Running,
    /// Its processors are stopped.
    Paused,
    /// It has run, and how it ended is known.
    Exited,
    /// It has run, and its monitor was killed.
    Killed,
}

impl Status {
    /// All that there are.
    pub const ALL: [Self; 7] = [
        Self::Created,
        Self::Starting,
        Self::Restarting,
        Self::Running,
        Self::Paused,
        Self::Exited,
        Self::Killed,
    ];
}

/// What is known of a machine.
#[derive(Clone, Debug)]
pub struct State {
    /// Its name.
    pub name: String,
    /// The state itself.
    pub status: Status,
    /// What it says of itself, if it does.
    pub info: Option<Info>,
    /// How it ended, if it has.
    pub end: Option<End>,
    /// How often its policy has started it again.
    pub restarts: u32,
    /// What is kept of it.
    pub facts: Option<Facts>,
    /// What it is made from, if that could be read.
    pub app: Option<App>,
}

impl State {
    /// Asks the machine, and reads what is kept of it.
    ///
    /// # Errors
    /// What is kept cannot be read.
    pub fn of(machine: &Machine) -> Result<Self> {
        // One that ends meanwhile does not answer.
        let info = if machine.is_running {
            client::glance(&machine.name).ok().flatten()
        } else {
            None
        };
        let record = machine.record.as_ref();
        let facts = record.map(Record::facts).transpose()?;
        let end = match record {
            Some(record) if info.is_none() => record.end()?,
            _ => None,
        };
        let kept = || record.and_then(|record| record.app_file().ok());
        let app = match &info {
            Some(info) => Some(info.app.clone()),
            None => kept().map(|file| file.app),
        };
        let has_run = record.is_some_and(Record::has_started);
        let status = match (&info, &end) {
            (Some(info), _) if info.paused => Status::Paused,
            (Some(_), _) => Status::Running,
            (_, Some(_)) if machine.is_running => Status::Restarting,
            _ if machine.is_running => Status::Starting,
            (_, Some(_)) => Status::Exited,
            _ if has_run => Status::Killed,
            _ => Status::Created,
        };
        Ok(Self {
            name: machine.name.clone(),
            status,
            info,
            end,
            restarts: record.map_or(Ok(0), Record::restarts)?,
            facts,
            app,
        })
    }

    /// Whether there is a guest, or will be one soon.
    pub fn is_up(&self) -> bool {
        matches!(
            self.status,
            Status::Starting | Status::Running | Status::Paused
        )
    }

    /// How its program does, if it is checked.
    pub fn health(&self) -> Option<HealthStatus> {
        let health = self.info.as_ref()?.health.as_ref()?;
        Some(health.status)
    }

    /// When it was made; if nothing of it is kept, when it was started.
    pub fn created(&self) -> Option<Timestamp> {
        let kept = self.facts.as_ref().map(|facts| facts.created);
        kept.or(self.info.as_ref().map(|info| info.started))
    }

    /// How long it has been as it is.
    pub fn since(&self) -> Option<SignedDuration> {
        let since = match (&self.info, &self.end, &self.facts) {
            (Some(info), ..) => info.started,
            (_, Some(end), _) => end.at,
            (_, _, Some(facts)) if self.status == Status::Created => facts.created,
            _ => return None,
        };
        Some(Timestamp::now().duration_since(since))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.status, &self.end) {
            (Status::Exited, Some(end)) => write!(f, "exited ({})", end.status),
            (Status::Created, _) => f.write_str("created"),
            (Status::Starting, _) => f.write_str("starting"),
            (Status::Restarting, _) => f.write_str("restarting"),
            (Status::Running, _) => match self.health() {
                Some(HealthStatus::Starting) => f.write_str("running (health: starting)"),
                Some(HealthStatus::Healthy) => f.write_str("running (healthy)"),
                Some(HealthStatus::Unhealthy) => f.write_str("running (unhealthy)"),
                None => f.write_str("running"),
            },
            (Status::Paused, _) => f.write_str("paused"),
            (Status::Exited, None) => f.write_str("exited"),
            (Status::Killed, _) => f.write_str("killed"),
        }
    }
}

/// A duration in its largest unit, as lists show it.
pub fn age(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_one_unit() {
        for (seconds, text) in [
            (-5, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7200, "2 h"),
            (172_800, "2 d"),
        ] {
            assert_eq!(age(SignedDuration::from_secs(seconds)), text);
        }
    }
}

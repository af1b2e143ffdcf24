//! Which machines a list has.
//!
//! The one thing to know: of several filters with the same key one must hold, but all of labels, and
//! one of each key, as in Docker.

use std::str::FromStr;

use anyhow::{Result, bail};

use crate::control::message::HealthStatus;
use crate::state::{State, Status};

/// What a machine must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Its name has this in it.
    Name(String),
    /// It is in this state.
    Status(Status),
    /// Its checks say this; none: it has no checks.
    Health(Option<HealthStatus>),
    /// It has a label of this name, which says this if that is given.
    Label(String, Option<String>),
}

impl FromStr for Filter {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text.split_once('=') {
            Some(("name", name)) => Self::Name(name.into()),
            Some(("status", status)) => Self::Status(word(status, &Status::ALL)?),
            Some(("health", "none")) => Self::Health(None),
            Some(("health", health)) => {
                let all = HealthStatus::ALL.map(Some);
                Self::Health(word(health, &all)?)
            }
            Some(("label", label)) => match label.split_once('=') {
                Some((name, text)) => Self::Label(name.into(), Some(text.into())),
                None => Self::Label(label.into(), None),
            },
            _ => bail!("must be name=, status=, health= or label= and what it is to be"),
        })
    }
}

/// The one of `all` that is written so in JSON.
fn word<T: serde::Serialize + Copy>(text: &str, all: &[T]) -> Result<T> {
    let words = all.iter().map(serde_json::to_value);
    let words = words.collect::<serde_json::Result<Vec<_>>>()?;
    if let Some(nth) = words.iter().position(|word| word == text) {
        return Ok(all[nth]);
    }
    let words: Vec<_> = words.iter().filter_map(|word| word.as_str()).collect();
    bail!("must be one of {}, is {text:?}", words.join(", "))
}

impl Filter {
    /// Whether a machine that does not run can be meant.
    pub fn is_of_any(&self) -> bool {
        matches!(self, Self::Status(_))
    }

    fn holds(&self, state: &State) -> bool {
        match self {
            Self::Name(name) => state.name.contains(name.as_str()),
            Self::Status(status) => state.status == *status,
            Self::Health(health) => state.health() == *health,
            Self::Label(name, text) => {
                let labels = state.app.as_ref().map(|app| &app.labels);
                let found = labels.and_then(|labels| labels.get(name));
                found.is_some_and(|found| text.as_ref().is_none_or(|text| text == found))
            }
        }
    }

    fn is_of_kind(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// Whether the list has a machine.
pub fn want(filters: &[Filter], state: &State) -> bool {
    filters.iter().all(|filter| match filter {
        Filter::Label(..) => filter.holds(state),
        _ => filters
            .iter()
            .any(|other| other.is_of_kind(filter) && other.holds(state)),
    })
}

#[cfg(test)]
mod tests {
    use vmm::app::App;

    use super::*;

    fn state(name: &str, status: Status) -> State {
        let mut app = App::new(name, vec!["sh".into()]);
        app.labels.insert("tier".into(), "web".into());
        app.labels.insert("empty".into(), String::new());
        State {
            name: name.into(),
            status,
            info: None,
            end: None,
            restarts: 0,
            facts: None,
            app: Some(app),
        }
    }

    fn holds(filters: &str, state: &State) -> bool {
        let filters = filters.split(' ').map(str::parse);
        want(&filters.collect::<Result<Vec<_>>>().unwrap(), state)
    }

    #[test]
    fn one_of_each_key_must_hold_and_all_labels() {
        let state = state("web-2", Status::Exited);
        for filters in [
            "name=web",
            "name=x name=b-2",
            "status=running status=exited",
            "health=none",
            "label=tier",
            "label=tier=web label=empty=",
            "name=web status=exited label=empty",
        ] {
            assert!(holds(filters, &state), "{filters}");
        }
        for filters in [
            "name=x",
            "status=created",
            "health=healthy",
            "label=web",
            "label=tier=we",
            "label=tier=",
            "label=tier label=none",
            "name=web status=running",
        ] {
            assert!(!holds(filters, &state), "{filters}");
        }
        assert!(want(&[], &state));
    }

    #[test]
    fn what_is_no_filter_is_told_with_what_is() {
        let error = |text: &str| text.parse::<Filter>().unwrap_err().to_string();
        assert!(error("web").starts_with("must be name=, status=, health= or label= "));
        let states = "created, starting, restarting, running, paused, exited, killed";
        let told = format!("must be one of {states}, is \"up\"");
        assert_eq!(error("status=up"), told);
        let told = "must be one of starting, healthy, unhealthy, is \"\"";
        assert_eq!(error("health="), told);
    }
}

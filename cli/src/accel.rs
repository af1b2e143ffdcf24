//! `--accel`: on what machines run, the processor's own virtualization or an emulated host.
//!
//! The one thing to know: inside the emulated host the question is settled, so a command that is
//! carried out there never looks for another.

use std::env;

use anyhow::{Context, Result};
use clap::ValueEnum;
use rustix::process::{getegid, geteuid};
use vmm::accel::{Support, detect};
use vmm::settings::{Setting, Value};

/// Set in the environment of what runs in the emulated host: user and group of the command that is
/// carried out there, `uid:gid`, which its files belong to.
pub const INSIDE: &str = "MVM_INSIDE_EMULATED_HOST";

/// What `--accel` takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Accel {
    /// KVM where it is backed by hardware, else an emulated host
    #[default]
    Auto,
    /// KVM, whatever it is backed by
    Kvm,
    /// An emulated host, slower
    Emulated,
}

/// Where a command is to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// By this process.
    Here,
    /// By the same program inside the emulated host.
    EmulatedHost {
        /// Why, in one phrase.
        reason: String,
    },
}

/// Whether this process runs in the emulated host.
pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// User and group that files belong to which this process makes.
pub fn host_user() -> (u32, u32) {
    let outside = env::var(INSIDE).ok();
    outside.and_then(|ids| ids_of(&ids)).unwrap_or_else(own_ids)
}

/// What [`INSIDE`] is set to by this process.
pub fn ids_for_inside() -> String {
    let (uid, gid) = own_ids();
    format!("{uid}:{gid}")
}

fn ids_of(text: &str) -> Option<(u32, u32)> {
    let (uid, gid) = text.split_once(':')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

fn own_ids() -> (u32, u32) {
    (geteuid().as_raw(), getegid().as_raw())
}

impl Accel {
    /// Decides it for this process. `wanted` on the command line, else by the settings, else `auto`.
    ///
    /// # Errors
    /// It is set to something else.
    pub fn place(wanted: Option<Self>) -> Result<Place> {
        let accel = match wanted {
            Some(accel) => accel,
            // Nobody asks there.
            None if is_inside() => Self::Auto,
            None => Setting::Accel.get()?.map_or(Ok(Self::Auto), Self::of)?,
        };
        Ok(accel.place_given(is_inside(), detect))
    }

    fn of(value: Value) -> Result<Self> {
        let Value { text, origin } = value;
        let accel = text
            .to_str()
            .and_then(|text| Self::from_str(text, false).ok());
        accel.with_context(|| {
            format!(
                "{origin}: must be auto, kvm or emulated, is {:?}",
                text.display()
            )
        })
    }

    fn place_given(self, inside: bool, detect: impl FnOnce() -> Support) -> Place {
        let asked = || Support::Emulated {
            reason: "--accel emulated".into(),
        };
        let support = match self {
            _ if inside => Support::Hardware,
            Self::Auto => detect(),
            Self::Kvm => Support::Hardware,
            Self::Emulated => asked(),
        };
        match support {
            Support::Hardware => Place::Here,
            Support::Emulated { reason } => Place::EmulatedHost { reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> Support {
        Support::Emulated {
            reason: "there is no /dev/kvm".into(),
        }
    }

    #[test]
    fn auto_follows_what_is_found() {
        let place = Accel::Auto.place_given(false, none);
        assert_eq!(
            Accel::Auto.place_given(false, || Support::Hardware),
            Place::Here
        );
        assert_eq!(
            place,
            Place::EmulatedHost {
                reason: "there is no /dev/kvm".into()
            }
        );
    }

    #[test]
    fn what_is_asked_for_is_not_looked_up() {
        let never = || unreachable!();
        assert_eq!(Accel::Kvm.place_given(false, never), Place::Here);
        let place = Accel::Emulated.place_given(false, never);
        assert_eq!(
            place,
            Place::EmulatedHost {
                reason: "--accel emulated".into()
            }
        );
    }

    #[test]
    fn the_emulated_host_is_told_whose_files_it_makes() {
        assert_eq!(ids_of("1000:100"), Some((1000, 100)));
        assert_eq!(ids_of(&ids_for_inside()), Some(own_ids()));
        assert_eq!(ids_of("1"), None);
    }

    #[test]
    fn inside_the_emulated_host_there_is_no_second_one() {
        assert_eq!(Accel::Emulated.place_given(true, none), Place::Here);
        assert_eq!(Accel::Auto.place_given(true, none), Place::Here);
    }
}

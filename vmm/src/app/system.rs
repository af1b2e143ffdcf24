//! Section `system`: a whole system in place of a program.
//!
//! The one thing to know: to everyone else it is a program too, the first one of the system, which
//! is what [`App::program`] makes of it.

use std::borrow::Cow;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{App, Duration, Program, Tty, schema};

/// Where a `NixOS` system has its programs, those that need privileges first.
const PATH: &str = "/run/wrappers/bin:/run/current-system/sw/bin";

/// A `NixOS` system. Its first process is the machine's, and the machine ends when it is switched
/// off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct System {
    /// The system's folder in the store, what `nix-build '<nixpkgs/nixos>' -A system` makes.
    #[schemars(schema_with = "schema::store_path")]
    pub path: String,
    /// Which kernel it runs on.
    #[serde(default)]
    pub kernel: SystemKernel,
    /// How long it may take to switch itself off when it is asked to, before `mvm stop` switches the
    /// machine off; by default 10 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Duration")]
    pub stop_timeout: Option<Duration>,
}

/// The kernel of a system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SystemKernel {
    /// mvm's, or that of `kernel.path`; mvm does what the system's stage 1 would do.
    #[default]
    Mvm,
    /// The one in the system's folder, with its initrd, which is the stage 1.
    Own,
}

impl System {
    /// Stage 2, or systemd: what becomes process 1.
    pub fn init(&self) -> String {
        format!("{}/init", self.path)
    }

    /// What has a folder for the release of its own kernel, with that one's modules.
    pub fn modules(&self) -> PathBuf {
        PathBuf::from(format!("{}/kernel-modules/lib/modules", self.path))
    }

    /// What a system whose stage 1 would be systemd wants run before its `init`.
    pub fn prepare_root(&self) -> String {
        format!("{}/prepare-root", self.path)
    }

    fn program(&self) -> Program {
        let mut program = Program::new(vec![self.init()]);
        program.env.insert("PATH".into(), Some(PATH.into()));
        program.tty = Tty::Always;
        program.stop_timeout = self.stop_timeout;
        program
    }
}

impl App {
    /// The system, if it is one that brings its own kernel.
    pub fn own_kernel(&self) -> Option<&System> {
        let system = self.system.as_ref()?;
        (system.kernel == SystemKernel::Own).then_some(system)
    }

    /// The program to run, or that of the system.
    pub fn program(&self) -> Cow<'_, Program> {
        self.system.as_ref().map_or_else(
            || Cow::Borrowed(&self.app),
            |system| Cow::Owned(system.program()),
        )
    }
}

//! The bundle that runc gets, in a folder of the engine's.
//!
//! ```text
//! BUNDLE/config.json                 the engine's
//! BUNDLE/mvm/config.json             the same with the monitor as its process
//! BUNDLE/mvm/inside/                 what the container has as /dev/mvm
//!                   machine.json     its machine, for its user alone
//!                   interfaces.json  the network cards, once there are some
//! ```

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use vmm::app::Interface;

use super::container::Container;

/// Names in it.
const FOLDER: &str = "mvm";
const CONFIG: &str = "config.json";
const INSIDE: &str = "inside";
pub const MACHINE: &str = "machine.json";
pub const INTERFACES: &str = "interfaces.json";

/// On which files are mounted, and a folder.
const MOUNT_POINTS: [&str; 3] = ["mvm", "mvm-init", "vmlinux"];
const RUN: &str = "run";

/// A bundle that is rewritten.
pub struct Bundle {
    engines: PathBuf,
}

impl Bundle {
    /// That of the engine at `path`.
    ///
    /// # Errors
    /// There is no such folder.
    pub fn of_engine(path: &Path) -> Result<Self> {
        let engines = path.canonicalize();
        let engines =
            engines.with_context(|| format!("cannot find the bundle {}", path.display()))?;
        Ok(Self { engines })
    }

    /// The one that runc got, if it is a machine's.
    pub fn of_runc(path: &Path) -> Option<Self> {
        let engines = path.parent().filter(|_| path.ends_with(FOLDER))?.to_owned();
        let bundle = Self { engines };
        bundle.inside().join(MACHINE).exists().then_some(bundle)
    }

    /// The engine's.
    pub fn engines(&self) -> &Path {
        &self.engines
    }

    /// What runc gets.
    pub fn path(&self) -> PathBuf {
        self.engines.join(FOLDER)
    }

    /// What the container has as `/dev/mvm`.
    pub fn inside(&self) -> PathBuf {
        self.path().join(INSIDE)
    }

    /// What the engine wants.
    ///
    /// # Errors
    /// It is not there, or no JSON.
    pub fn config(&self) -> Result<Value> {
        read(&self.engines.join(CONFIG))
    }

    /// What the container's process is told.
    ///
    /// # Errors
    /// As [`Self::config`].
    pub fn container(&self) -> Result<Container> {
        read(&self.inside().join(MACHINE))
    }

    /// Writes what runc gets, in the place of what was there for an earlier start.
    ///
    /// # Errors
    /// The host does not let it.
    pub fn write(&self, config: &Value, container: &Container) -> Result<()> {
        let (path, inside) = (self.path(), self.inside());
        let write = || {
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error)?,
                _ => {}
            }
            DirBuilder::new().mode(0o711).create(&path)?;
            DirBuilder::new().mode(0o755).create(&inside)?;
            fs::create_dir(inside.join(RUN))?;
            for name in MOUNT_POINTS {
                fs::write(inside.join(name), "")?;
            }
            // Both have the program's environment.
            write(&path.join(CONFIG), 0o600, None, config)?;
            write(
                &inside.join(MACHINE),
                0o400,
                Some(container.owner),
                container,
            )
        };
        write().with_context(|| format!("cannot write to {}", path.display()))
    }

    /// Writes which network cards the machine has.
    ///
    /// # Errors
    /// The host does not let it.
    pub fn write_interfaces(&self, interfaces: &[Interface]) -> Result<()> {
        let path = self.inside().join(INTERFACES);
        write(&path, 0o444, None, interfaces)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// A file of JSON.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let shown = path.display();
    let text = fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    serde_json::from_slice(&text).with_context(|| format!("{shown}"))
}

fn write(
    path: &Path,
    mode: u32,
    owner: Option<u32>,
    value: &(impl Serialize + ?Sized),
) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let mut file = options.open(path)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    if owner.is_some() {
        fchown(&file, owner, None).context("cannot give it to the container's user")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::oci::config;
    use crate::oci::config::tests::host;

    #[test]
    fn what_runc_gets_is_known_again_and_the_engines_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        let engines = config::tests::config();
        fs::write(path.join(CONFIG), engines.to_string()).unwrap();
        let bundle = Bundle::of_engine(&path).unwrap();
        let (rewritten, mut container) =
            config::rewrite(bundle.config().unwrap(), &host()).unwrap();
        container.owner = rustix::process::getuid().as_raw();
        assert!(Bundle::of_runc(&bundle.path()).is_none());
        // Also a second time, as for a container that is started again.
        for _ in 0..2 {
            bundle.write(&rewritten, &container).unwrap();
        }
        bundle.write_interfaces(&[]).unwrap();
        let found = Bundle::of_runc(&path.join("mvm")).unwrap();
        assert_eq!(found.container().unwrap(), container);
        let machine = fs::metadata(found.inside().join(MACHINE)).unwrap();
        assert_eq!(machine.permissions().mode() & 0o777, 0o400);
        assert_eq!(read::<Value>(&path.join(CONFIG)).unwrap(), engines);
        assert!(Bundle::of_runc(&path).is_none());
    }

    #[test]
    fn a_bundle_that_is_not_there_is_named() {
        let error = Bundle::of_engine(Path::new("/no/such")).err().unwrap();
        assert_eq!(error.to_string(), "cannot find the bundle /no/such");
    }
}

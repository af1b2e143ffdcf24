//! The host's files inside the emulated host: what QEMU offers over 9p, and how it is mounted.
//!
//! The one thing to know: the host's tree is seen as it is now. Only paths of the store, which never
//! change, are cached from one command to the next, and the guests' kernel (`kernel.rs`). Leaves out
//! what is under `/proc`, `/sys` and `/dev`: the emulated host has its own.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use guest::protocol::{FileSystem, Mount, Root, Setup};

use super::{network, ports};
use crate::machines::running::any_below;

/// The host's folders: all of it, and the one whose files never change.
const ROOT: &str = "/";
const STORE: &str = "/nix/store";
const ROOT_TAG: &str = "host";
const STORE_TAG: &str = "store";

/// Folder of the machines that run inside. Below `/dev`, where no file of the host is.
pub const RUNTIME_FOLDER: &str = "/dev/mvm";

/// Inside: whether a machine runs, of any set of machines.
pub fn has_machines() -> bool {
    any_below(Path::new(RUNTIME_FOLDER))
}

/// What the guest is to prepare: the host's tree as its root, and memory for running machines.
pub fn setup() -> Setup {
    let store = Mount {
        file: None,
        fill: false,
        beside: false,
        upper: None,
        file_system: FileSystem::Plan9,
        source: STORE_TAG.into(),
        mount_point: STORE.into(),
        read_only: true,
        // Paths of the store never change; that one is gone or new is `store.rs`'s to notice.
        options: format!("{MOUNT},cache=loose"),
    };
    let runtime = Mount {
        file: None,
        fill: false,
        beside: false,
        upper: None,
        file_system: FileSystem::Tmpfs,
        source: "mvm".into(),
        mount_point: RUNTIME_FOLDER.into(),
        read_only: false,
        options: "mode=700".into(),
    };
    Setup {
        hostname: Some("mvm-emulator".into()),
        // The kernel reads whole seconds of an emulated clock, and loses some more until it knows its
        // time stamp counter.
        clock_ns: now_ns(),
        root: Root::Plan9 {
            tag: ROOT_TAG.into(),
            // Nothing is cached but what a program maps. A page that is kept would be read again after
            // the host, or somebody in here, has written to the file.
            options: format!("{MOUNT},cache=none"),
            read_only: false,
        },
        mounts: has_store()
            .then_some(store)
            .into_iter()
            .chain([runtime])
            .collect(),
        links: network::links(),
        ports: vec![ports::CARRIER_NAME.into()],
        ..Setup::default()
    }
}

/// Since 1970; none before that and after 2554.
fn now_ns() -> Option<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    now.as_nanos().try_into().ok()
}

/// A request carries as much as the transport takes (128 pages, less their headers: `VIRTQUEUE_NUM`).
/// One user in the guest stands for the user on the host.
const MOUNT: &str = "msize=512000,access=any";

fn has_store() -> bool {
    Path::new(STORE).is_dir()
}

/// Tag and folder of each share.
pub fn shares() -> impl Iterator<Item = (&'static str, &'static str)> {
    [(ROOT_TAG, ROOT)]
        .into_iter()
        .chain(has_store().then_some((STORE_TAG, STORE)))
}

/// `security_model=none`: files belong to whom QEMU runs as. `multidevs=remap`: files of several
/// file systems below one folder get different numbers.
pub fn fsdev(tag: &str, path: &str) -> String {
    format!("local,id={tag},path={path},security_model=none,multidevs=remap")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_hosts_tree_is_cached() {
        let Root::Plan9 {
            options, read_only, ..
        } = setup().root
        else {
            panic!("the root is the host's tree");
        };
        assert_eq!(
            (options.as_str(), read_only),
            ("msize=512000,access=any,cache=none", false)
        );
    }

    #[test]
    fn running_machines_are_kept_in_memory() {
        let mounts = setup().mounts;
        let runtime = mounts
            .iter()
            .find(|mount| mount.mount_point == RUNTIME_FOLDER.into());
        assert_eq!(runtime.unwrap().file_system, FileSystem::Tmpfs);
    }
}

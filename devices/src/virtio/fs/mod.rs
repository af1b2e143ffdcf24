//! virtio-fs (virtio 1.2 §5.11): a directory of the host, by FUSE messages.
//!
//! The server runs in this process and is written for trees that never change, above all the
//! closure of a program in /nix/store: the guest asks for each thing once, so that a warm start
//! of a program costs no request at all. Three walls stand around a share: names are checked
//! (`name.rs`), paths are opened so that they cannot leave it (`host.rs`), and the worker threads
//! give up every other right to files ([`Wall`]).
//!
//! A guest that mounts a share without `MS_RDONLY` is refused every change all the same, but asks
//! for a file's attributes again after each read of it (`fuse_invalidate_atime`).
//!
//! A writable share ([`Content::Writable`]) is the same server behind the same walls, and changes
//! files as a local file system does. Which file a node is, while names change, is the heart of it:
//!
//! - A directory is its name in its parent, a file its inode on the host, found at the name seen
//!   last. What the guest renames it moves in the node table, and a directory takes all below it
//!   along; hard links are one node.
//! - What the guest removes is gone: its node leads to no path any more, also when the host gives
//!   the number to a new file. Who has it open goes on by the handle, which every request for the
//!   node falls back to.
//! - What the host's programs rename or replace is found out when a path is opened: another inode
//!   is `ESTALE`, upon which the guest looks the name up again. Content goes by handles alone, so
//!   that it is never another file's.
//! - System calls that take a node's path get the file by a descriptor (`/proc/self/fd`), never a
//!   path that is walked a second time.
//!
//! On the host nothing comes of what a guest makes: its files belong to the user who runs mvm
//! ([`Owners`]), carry no set-uid bits, no capabilities and no device numbers, and leave a part of
//! the disk free (`reserve.rs`).
//!
//! Left out: `O_TMPFILE`, attributes other than `user.`, locks (which the guest keeps by itself),
//! notifications.

mod budget;
mod cache;
pub mod catalog;
mod content;
mod counters;
mod create;
mod device;
mod exchange;
mod files;
mod filter;
mod freshness;
mod handles;
mod host;
mod lookup;
mod mapping;
mod name;
mod nodes;
mod owners;
mod readdir;
mod remove;
mod reply;
mod request;
mod reserve;
mod server;
mod session;
mod setattr;
mod thread;
mod tree;
mod wall;
mod window;
pub mod wire;
mod write;
mod xattr;

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::ensure;

use super::Device;
use super::region::Region;
use crate::Memory;

pub use budget::Budget;
pub use content::Content;
pub use counters::Counters;
pub use exchange::Serve;
pub use filter::Filter;
pub use owners::Owners;
pub use reply::{Sink, Source};
pub use server::{NO_DAX, Server};
pub use wall::{Confinement, Wall};
pub use window::{MAPPED_BYTES_MIN, UNIT_BYTES, WINDOW_BYTES_MAX};

/// Bytes of a tag (§5.11.4).
pub const TAG_BYTES_MAX: usize = 36;

/// Requests that are served side by side. Reading is over in microseconds, so that more workers
/// than these would sleep.
const REQUEST_QUEUES_MAX: u16 = 4;

/// A directory to share with the guest.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name that the guest mounts it by.
    pub tag: String,
    /// The directory.
    pub root: PathBuf,
    /// What happens to its files.
    pub content: Content,
    /// Virtual CPUs of the machine, as many of which may wait for files at once.
    pub vcpus: u16,
    /// The DAX window through which the guest reads large files, where they never change.
    pub window: Option<Arc<Region>>,
}

/// A directory that is shared.
pub struct Share {
    /// What the guest sees.
    pub device: Device,
    /// What it asks for.
    pub counters: Arc<Counters>,
    /// What keeps its workers inside.
    pub wall: Arc<Wall>,
}

impl Config {
    /// Opens the directory. The machine's shares have one `budget`. The limit of open files counts
    /// as it is now, so raise it before.
    ///
    /// # Errors
    /// The tag is none, or the directory cannot be opened.
    pub fn open(&self, memory: &Memory, budget: &Arc<Budget>) -> anyhow::Result<Share> {
        let Self { tag, root, .. } = self;
        check_tag(tag, root.display())?;
        let mut server = Server::open(root, self.content.clone(), budget)?;
        if let Some(region) = &self.window {
            server = server.with_window(region.clone())?;
        }
        let wall = Arc::new(Wall::new(server.root(), self.content.clone()));
        let counters = server.counters();
        let queues = request_queues(self.vcpus);
        let server: Arc<dyn Serve> = Arc::new(server);
        Ok(Share {
            device: device::assemble(tag, queues, &server, &wall, memory),
            counters,
            wall,
        })
    }
}

/// Refuses a name that no device can have, for `what` is to be shared.
fn check_tag(tag: &str, what: impl Display) -> anyhow::Result<()> {
    ensure!(
        (1..=TAG_BYTES_MAX).contains(&tag.len()) && !tag.contains('\0'),
        "cannot share {what} as {tag:?}: a tag has 1 to {TAG_BYTES_MAX} bytes, none of them NUL",
    );
    Ok(())
}

/// Queues for requests of a machine with so many virtual CPUs.
fn request_queues(vcpus: u16) -> u16 {
    vcpus.clamp(1, REQUEST_QUEUES_MAX)
}

/// The value behind a lock. No panic can leave a table half changed: there is none to be had.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! What a machine inside tells systemd, which is outside: written to a file of the host's by the one
//! side, and passed on by the other, whom systemd knows.
//!
//! The one thing to know: a socket has its end in one kernel, a file is seen by both. The host's own
//! kernel sees QEMU write it, so the reader needs not look again and again.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};
use rustix::fs::inotify;

use super::folder::Folder;
use crate::systemd;

/// Names the file to those inside.
pub const VARIABLE: &str = "MVM_NOTICES";

/// Ends a notice in the file.
const END: u8 = 0;

/// Bytes of a notice; more are none of mvm's.
const MAX: u64 = 4096;

/// Passes notices on as long as it lives.
pub struct Notices {
    path: PathBuf,
}

impl Notices {
    /// Where systemd has started this process, has what is said inside passed on to it.
    ///
    /// # Errors
    /// The file cannot be made or watched.
    pub fn relay(folder: &Folder) -> Result<Option<Self>> {
        if env::var_os(systemd::SOCKET).is_none() {
            return Ok(None);
        }
        let notices = Self {
            path: folder.notices(),
        };
        let path = &notices.path;
        let cannot = || format!("cannot watch {}", path.display());
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600);
        let file = options.open(path).with_context(cannot)?;
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC).with_context(cannot)?;
        inotify::add_watch(&watch, path, inotify::WatchFlags::MODIFY).with_context(cannot)?;
        thread::Builder::new()
            .name("notices".into())
            .spawn(move || pass_on(&watch, file))
            .context("cannot start a thread")?;
        Ok(Some(notices))
    }

    /// The variable for those inside.
    pub fn variable(&self) -> (std::ffi::OsString, std::ffi::OsString) {
        (VARIABLE.into(), self.path.clone().into())
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        // It is empty of news, or nobody waits for them.
        let _ = fs::remove_file(&self.path);
    }
}

/// Passes on what comes until the process ends.
fn pass_on(watch: &OwnedFd, mut file: File) {
    let mut waiting = Vec::new();
    let mut buffer = [MaybeUninit::uninit(); 512];
    let mut events = inotify::Reader::new(watch, &mut buffer);
    while events.next().is_ok() {
        if Read::by_ref(&mut file)
            .take(MAX)
            .read_to_end(&mut waiting)
            .is_err()
        {
            return;
        }
        while let Some(end) = waiting.iter().position(|byte| *byte == END) {
            let notice: Vec<u8> = waiting.drain(..=end).collect();
            // Nobody may listen any more.
            let _ = systemd::send(&String::from_utf8_lossy(&notice[..end]));
        }
    }
}

/// The file, where this process is inside and somebody outside reads it.
pub fn file() -> Option<PathBuf> {
    env::var_os(VARIABLE).map(PathBuf::from)
}

/// Adds a notice to it.
///
/// # Errors
/// Nobody reads it any more.
pub fn add(file: &Path, words: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(file)?;
    file.write_all(&[words.as_bytes(), &[END]].concat())
}

//! 9p: the host's files as a machine has them that stands in for the host.
//!
//! The one thing to know: a file system of it that caches nothing would read programs, which are
//! mapped all the same, page by page.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result};

/// Where the kernel has the settings of file systems, each named by its kind and a number.
const SETTINGS: &str = "/sys/class/bdi";

/// What is read ahead of what is mapped, in KiB: a request carries no more.
const READ_AHEAD_KIB: &str = "496";

/// Options for a 9p device: the transport is not the default one, and the dialect is Linux's.
pub(super) fn options(options: &str) -> Result<CString> {
    let comma = if options.is_empty() { "" } else { "," };
    let options = format!("trans=virtio,version=9p2000.L{comma}{options}");
    CString::new(options).context("the options contain a NUL byte")
}

/// Has all that are mounted read ahead. Linux has those that cache nothing read single pages
/// (`v9fs_fill_super`).
pub(super) fn read_ahead() -> Result<()> {
    for entry in fs::read_dir(SETTINGS)? {
        let entry = entry?;
        if entry.file_name().as_bytes().starts_with(b"9p-") {
            fs::write(entry.path().join("read_ahead_kb"), READ_AHEAD_KIB)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_come_after_the_transport() {
        let bare = options("").unwrap();
        let more = options("msize=512000,cache=mmap").unwrap();
        assert_eq!(bare.to_str().unwrap(), "trans=virtio,version=9p2000.L");
        assert_eq!(
            more.to_str().unwrap(),
            "trans=virtio,version=9p2000.L,msize=512000,cache=mmap"
        );
    }
}

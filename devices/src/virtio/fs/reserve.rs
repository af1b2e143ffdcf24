//! What a guest leaves free on the host's disk.
//!
//! No guest fills the file system of a share: what would leave less free than a reserve is refused
//! with `ENOSPC`, which is what a full disk says. Asking the host how much is free costs a system
//! call, so that an amount is granted at a time and asked for again when it is used up or old.
//!
//! Where the reserve is reached, content may still be replaced in place, as on a full disk: a
//! database that writes to its own pages goes on. Not every such write does without new blocks
//! (files may share theirs, be compressed, or have them past their end and holes before it), so
//! that it stops where half of the reserve is left.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, Stat, StatVfs, fstat, fstatvfs};
use rustix::io::Errno;

use super::lock;

/// Of a file system's size and of its inodes, the part that stays free: one in so many, 5 %.
const PART: u64 = 20;

/// What is enough of a reserve for any file system: 1 GiB.
const BYTES_MAX: u64 = 1 << 30;

/// Inodes that are enough, one for each 16 KiB of [`BYTES_MAX`].
const INODES_MAX: u64 = 1 << 16;

/// Bytes granted at a time: a second of writing at the speed of a slow disk.
const GRANT_BYTES: u64 = 16 << 20;

/// Shares of a machine that may be on one file system: all are granted something at once.
const SHARES_MAX: u64 = 16;

/// For how long what was granted holds: others fill the disk as well.
const GRANT_VALID: Duration = Duration::from_secs(1);

/// What anything that is made takes at least: a block of most file systems.
pub const BLOCK_BYTES: u64 = 4096;

/// File systems of which a grant is remembered. A share has as many as the host mounted in it.
const FILE_SYSTEMS_MAX: usize = 64;

/// What is granted of the file systems of one share, by their numbers.
pub struct Reserve {
    root: Arc<OwnedFd>,
    grants: Mutex<HashMap<u64, Grant>>,
}

struct Grant {
    bytes: u64,
    until: Instant,
}

impl Reserve {
    /// Nothing is granted yet of the share whose directory is `root`.
    pub fn new(root: Arc<OwnedFd>) -> Self {
        let grants = Mutex::default();
        Self { root, grants }
    }

    /// Takes `bytes` of the file system that `file` is on.
    ///
    /// # Errors
    /// `ENOSPC`: less than the reserve would stay free.
    pub fn take(&self, file: impl AsFd, bytes: u64) -> Result<(), Errno> {
        self.take_with_inodes(file.as_fd(), bytes, 0)
    }

    /// Takes what one file more in `directory` needs.
    ///
    /// # Errors
    /// As [`Reserve::take`].
    pub fn take_for_file(&self, directory: impl AsFd) -> Result<(), Errno> {
        self.take_with_inodes(directory.as_fd(), BLOCK_BYTES, 1)
    }

    fn take_with_inodes(
        &self,
        file: BorrowedFd<'_>,
        bytes: u64,
        wanted_inodes: u64,
    ) -> Result<(), Errno> {
        let dev = fstat(file)?.st_dev;
        let now = Instant::now();
        {
            let mut grants = lock(&self.grants);
            let grant = grants.get_mut(&dev).filter(|grant| now < grant.until);
            if let Some(grant) = grant
                && let Some(left) = grant.bytes.checked_sub(bytes)
            {
                grant.bytes = left;
                return Ok(());
            }
        }
        let host = self.host(file)?;
        let inodes = free_inodes(&host);
        let left = free_bytes(&host).checked_sub(bytes);
        let left = left
            .filter(|_| inodes >= wanted_inodes)
            .ok_or(Errno::NOSPC)?;
        let grant = Grant {
            bytes: granted(left, inodes),
            until: now.checked_add(GRANT_VALID).unwrap_or(now),
        };
        let mut grants = lock(&self.grants);
        if grants.len() >= FILE_SYSTEMS_MAX {
            grants.clear();
        }
        grants.insert(dev, grant);
        Ok(())
    }

    /// Takes what a write of `bytes` at `offset` of `file` may need. What has its blocks already
    /// needs none.
    ///
    /// # Errors
    /// As [`Reserve::take`].
    pub fn take_for_write(&self, file: impl AsFd, offset: u64, bytes: u64) -> Result<(), Errno> {
        let file = file.as_fd();
        match self.take(file, bytes) {
            Err(Errno::NOSPC)
                if has_blocks(&fstat(file)?, offset, bytes)
                    && leaves_half(&self.host(file)?, bytes) =>
            {
                Ok(())
            }
            taken => taken,
        }
    }

    /// What the host says of the file system that `file` is on. Network file systems ask by name: of
    /// a file that is open and has none any more, 9p knows nothing. It counts as one of the root's.
    fn host(&self, file: BorrowedFd<'_>) -> Result<StatVfs, Errno> {
        match fstatvfs(file) {
            Err(Errno::NOENT) => fstatvfs(&self.root),
            host => host,
        }
    }

    /// Takes what fallocate(2) of `mode` may need.
    ///
    /// # Errors
    /// As [`Reserve::take`].
    pub fn take_for_fallocate(
        &self,
        file: impl AsFd,
        mode: FallocateFlags,
        bytes: u64,
    ) -> Result<(), Errno> {
        if mode.contains(FallocateFlags::PUNCH_HOLE) {
            return Ok(());
        }
        self.take(file, bytes)
    }
}

/// Whether a file has blocks for all of a range of its content.
fn has_blocks(file: &Stat, offset: u64, bytes: u64) -> bool {
    let size = file.st_size.cast_unsigned();
    // In units of 512 bytes, whatever the file system.
    let on_disk = file.st_blocks.cast_unsigned().saturating_mul(512);
    offset.saturating_add(bytes) <= size && on_disk >= size
}

/// What is granted when so many bytes and inodes are left: no more than all shares together may
/// use up before they ask again, whether for content or for as many files of a block.
fn granted(bytes: u64, inodes: u64) -> u64 {
    let files = inodes.saturating_mul(BLOCK_BYTES);
    (bytes.min(files) / SHARES_MAX).min(GRANT_BYTES)
}

/// Inodes that the guest may use.
fn free_inodes(host: &StatVfs) -> u64 {
    // File systems that make inodes as they need them say 0.
    if host.f_files == 0 {
        return u64::MAX;
    }
    let reserve = (host.f_files / PART).min(INODES_MAX);
    host.f_favail.saturating_sub(reserve)
}

fn free_bytes(host: &StatVfs) -> u64 {
    free_blocks(host).saturating_mul(host.f_frsize)
}

/// Blocks that the guest may use.
pub fn free_blocks(host: &StatVfs) -> u64 {
    host.f_bavail.saturating_sub(reserved_blocks(host))
}

fn reserved_blocks(host: &StatVfs) -> u64 {
    let enough = BYTES_MAX.checked_div(host.f_frsize).unwrap_or(0);
    (host.f_blocks / PART).min(enough)
}

/// Whether half of the reserve is left, even if `bytes` that are replaced take new blocks.
fn leaves_half(host: &StatVfs, bytes: u64) -> bool {
    let beyond = host.f_bavail.saturating_sub(reserved_blocks(host) / 2);
    beyond.saturating_mul(host.f_frsize) >= bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(blocks: u64, available: u64, inodes: u64, inodes_available: u64) -> StatVfs {
        let mut host = rustix::fs::statvfs("/").unwrap();
        (host.f_frsize, host.f_blocks, host.f_bavail) = (4096, blocks, available);
        (host.f_files, host.f_favail) = (inodes, inodes_available);
        host
    }

    #[test]
    fn a_twentieth_or_a_gibibyte_stays_free() {
        assert_eq!(free_blocks(&host(1000, 1000, 0, 0)), 950);
        assert_eq!(free_blocks(&host(1000, 51, 0, 0)), 1);
        assert_eq!(free_blocks(&host(1000, 10, 0, 0)), 0);
        let terabyte = 1 << 28;
        let gibibyte = 1 << 18;
        assert_eq!(
            free_blocks(&host(terabyte, terabyte, 0, 0)),
            terabyte - gibibyte
        );
    }

    #[test]
    fn inodes_run_out_as_well() {
        assert_eq!(free_inodes(&host(1000, 1000, 100, 5)), 0);
        assert_eq!(free_inodes(&host(1000, 1000, 100, 6)), 1);
        assert_eq!(free_inodes(&host(1000, 1000, 0, 0)), u64::MAX);
        let million = 1 << 20;
        let left = free_inodes(&host(1000, 1000, 8 * million, million));
        assert_eq!(left, million - INODES_MAX);
    }

    #[test]
    fn what_all_shares_are_granted_is_there() {
        assert_eq!(granted(u64::MAX, u64::MAX), GRANT_BYTES);
        assert_eq!(granted(1600, u64::MAX), 100);
        // Sixteen files in each of sixteen shares.
        assert_eq!(granted(u64::MAX, 256), 16 * BLOCK_BYTES);
        assert_eq!(granted(u64::MAX, 15), 15 * BLOCK_BYTES / 16);
    }

    #[test]
    fn half_of_the_reserve_is_never_used() {
        assert!(leaves_half(&host(1000, 26, 0, 0), 4096));
        assert!(!leaves_half(&host(1000, 26, 0, 0), 4097));
        assert!(!leaves_half(&host(1000, 25, 0, 0), 1));
    }

    #[test]
    fn more_than_there_is_is_refused_and_nothing_taken() {
        let file = tempfile::tempfile().unwrap();
        let reserve = Reserve::new(Arc::new(file.try_clone().unwrap().into()));
        assert_eq!(reserve.take(&file, u64::MAX), Err(Errno::NOSPC));
        reserve.take(&file, 1).unwrap();
        let granted = || {
            lock(&reserve.grants)
                .values()
                .map(|grant| grant.bytes)
                .sum::<u64>()
        };
        let before = granted();
        reserve.take(&file, 1000).unwrap();
        assert_eq!(granted(), before - 1000);
        assert_eq!(reserve.take(&file, u64::MAX), Err(Errno::NOSPC));
        assert_eq!(granted(), before - 1000);
    }

    #[test]
    fn content_is_replaced_in_place_on_a_full_disk() {
        let file = tempfile::tempfile().unwrap();
        rustix::io::write(&file, &[1; 8192]).unwrap();
        rustix::fs::fsync(&file).unwrap();
        let has = |offset, bytes| has_blocks(&fstat(&file).unwrap(), offset, bytes);
        assert!(has(0, 8192));
        assert!(has(4096, 4096));
        assert!(!has(4096, 4097), "grows");
        assert!(!has(u64::MAX, 1), "no such place");
        file.set_len(1 << 30).unwrap();
        assert!(!has(0, 4096), "a file with holes may need blocks");
    }
}

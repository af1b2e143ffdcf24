//! The root file system, and those that the kernel fills.
//!
//! The one thing to know: `/dev`, `/sys` and `/proc` are mounted on the initramfs, the first two
//! since the port is found there, all while there is nothing else to do; they are moved to the root
//! once the host has said what that is. The root is then moved over the initramfs, as
//! `switch_root(8)` does, so that `pivot_root` works for programs of the guest.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::Path;

use crate::protocol::{Root, Setup, Upper};
use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_move, mount_remount};
use rustix::process::{chdir, chroot};

use super::{etc, plan9, volumes};

/// Where the root is until it is `/`.
const NEW_ROOT: &str = "/root";

/// The layers of a root that is an overlay. They stay on the initramfs, below the root.
const LOWER: &str = "/lower";
const UPPER: &str = "/upper";

/// Folders of an empty root, with their modes.
pub const FOLDERS: [(&str, u32); 6] = [
    ("root", 0o700),
    ("run", 0o755),
    ("tmp", 0o1777),
    ("var", 0o755),
    ("var/tmp", 0o1777),
    ("etc", 0o755),
];

/// A file system of the kernel's own.
struct Kernel {
    file_system: &'static str,
    mount_point: &'static str,
    flags: MountFlags,
    options: &'static str,
    /// Whether a kernel may have been built without.
    optional: bool,
}

const NO_PROGRAMS: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

/// Mounted after `/dev` and `/sys`. Group 5 is `tty` in every distribution.
const KERNEL: [Kernel; 5] = [
    Kernel {
        file_system: "proc",
        mount_point: "/proc",
        flags: NO_PROGRAMS,
        options: "",
        optional: false,
    },
    Kernel {
        file_system: "devpts",
        mount_point: "/dev/pts",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        options: "gid=5,mode=620,ptmxmode=666",
        optional: false,
    },
    Kernel {
        file_system: "tmpfs",
        mount_point: "/dev/shm",
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
        options: "mode=1777",
        optional: false,
    },
    Kernel {
        file_system: "mqueue",
        mount_point: "/dev/mqueue",
        flags: NO_PROGRAMS,
        options: "",
        optional: true,
    },
    Kernel {
        file_system: "cgroup2",
        mount_point: "/sys/fs/cgroup",
        flags: NO_PROGRAMS,
        options: "nsdelegate",
        optional: true,
    },
];

/// Names that programs expect in `/dev`, and what they point to.
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("fd/0", "/dev/stdin"),
    ("fd/1", "/dev/stdout"),
    ("fd/2", "/dev/stderr"),
];

/// Mounts `/dev` and `/sys` on the initramfs.
pub(super) fn mount_early() -> Result<()> {
    make_folder("/dev", 0o755)?;
    mount("devtmpfs", "/dev", "devtmpfs", MountFlags::NOSUID, None).context("cannot mount /dev")?;
    make_folder("/sys", 0o755)?;
    mount("sysfs", "/sys", "sysfs", NO_PROGRAMS, None).context("cannot mount /sys")
}

/// Mounts the root, moves the kernel's file systems there, and makes it `/`.
pub(super) fn switch(setup: &Setup) -> Result<()> {
    make_folder(NEW_ROOT, 0o755)?;
    mount_root(setup).context("cannot mount the root file system")?;
    chdir(NEW_ROOT).context("cannot enter the root file system")?;
    for path in ["/dev", "/sys", "/proc"] {
        let there = &path[1..];
        make_folder(there, 0o755)?;
        // With all that is mounted below it.
        mount_move(path, there).with_context(|| format!("cannot move {path}"))?;
    }
    // It stays in memory as long as this process runs, but not a second time as a file.
    let _ = fs::remove_file("/init");
    mount_move(".", "/").context("cannot make the root file system /")?;
    chroot(".").context("cannot change to the root file system")?;
    chdir("/").context("cannot enter /")?;
    if setup.write_etc && matches!(setup.root, Root::Image { .. }) {
        // Only here: a link of the image's is followed, and leads to the image.
        etc::complete(setup).context("cannot write to the image's /etc")?;
    }
    Ok(())
}

/// Has nothing be written to the root any more; what is mounted in it stays as it is.
pub(super) fn protect() -> Result<()> {
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NODEV;
    mount_remount("/", flags, c"").context("cannot make the root file system read-only")
}

fn mount_root(setup: &Setup) -> Result<()> {
    match &setup.root {
        Root::Tmpfs { size_kib } => {
            mount_tmpfs(NEW_ROOT, *size_kib)?;
            furnish(NEW_ROOT, setup)
        }
        Root::Overlay { volume } => {
            make_folder(LOWER, 0o755)?;
            mount_tmpfs(LOWER, None)?;
            furnish(LOWER, setup)?;
            mount_volume(volume)?;
            mount_overlay(MountFlags::empty())?;
            mount_in_memory()
        }
        Root::Image { tag, upper } => {
            make_folder(LOWER, 0o755)?;
            mount(tag, LOWER, "virtiofs", MountFlags::RDONLY, None)
                .with_context(|| format!("virtiofs, tag {tag:?}"))?;
            match upper {
                Upper::Tmpfs { size_kib } => {
                    make_folder(UPPER, 0o755)?;
                    mount_tmpfs(UPPER, Some(*size_kib))?;
                }
                Upper::Volume { serial } => mount_volume(serial)?,
            }
            // A device node of the image's would be one of the guest's.
            mount_overlay(MountFlags::NODEV)
        }
        Root::Share { tag } => {
            // Its set-uid programs are the guest's, its device nodes would be.
            mount(tag, NEW_ROOT, "virtiofs", MountFlags::NODEV, None)
                .with_context(|| format!("virtiofs, tag {tag:?}"))
        }
        Root::Plan9 {
            tag,
            options,
            read_only,
        } => {
            let options = plan9::options(options)?;
            let flags = if *read_only {
                MountFlags::RDONLY
            } else {
                MountFlags::empty()
            };
            mount(tag, NEW_ROOT, "9p", flags, &*options)
                .with_context(|| format!("9p, tag {tag:?}"))?;
            plan9::read_ahead().context("cannot set its read-ahead")?;
            write_etc(NEW_ROOT, setup)
        }
        Root::Initrd => bail!("an initrd makes its root itself"),
    }
}

fn mount_tmpfs(mount_point: &str, size_kib: Option<u64>) -> Result<()> {
    let size = size_kib.map(|kib| format!(",size={kib}k"));
    let options = format!("mode=755{}", size.unwrap_or_default());
    let options = CString::new(options)?;
    mount("root", mount_point, "tmpfs", MountFlags::empty(), &*options)?;
    Ok(())
}

/// Puts into an empty root what programs expect in one.
fn furnish(root: &str, setup: &Setup) -> Result<()> {
    for (path, mode) in FOLDERS {
        make_folder(&format!("{root}/{path}"), mode)?;
    }
    symlink("../run", format!("{root}/var/run")).context("cannot make /var/run")?;
    write_etc(root, setup)
}

fn write_etc(root: &str, setup: &Setup) -> Result<()> {
    if setup.write_etc {
        etc::write(root, setup)?;
    }
    Ok(())
}

fn mount_volume(serial: &str) -> Result<()> {
    make_folder(UPPER, 0o755)?;
    volumes::mount_volume(serial, Path::new(UPPER), false)
        .with_context(|| format!("ext4 {serial:?}"))
}

/// Lays what is written over the lower layer. A file that a program of an earlier start changed hides
/// the one that this start made.
fn mount_overlay(flags: MountFlags) -> Result<()> {
    for layer in ["upper", "work"] {
        make_folder(&format!("{UPPER}/{layer}"), 0o755)?;
    }
    let options = format!("lowerdir={LOWER},upperdir={UPPER}/upper,workdir={UPPER}/work");
    let options = CString::new(options)?;
    mount("root", NEW_ROOT, "overlay", flags, &*options).context("overlay")
}

/// Has in memory what is of one start only.
fn mount_in_memory() -> Result<()> {
    for (path, options) in [("run", c"mode=755"), ("tmp", c"mode=1777")] {
        let path = format!("{NEW_ROOT}/{path}");
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("tmpfs", &path, "tmpfs", flags, options)
            .with_context(|| format!("cannot mount a tmpfs on {path}"))?;
    }
    Ok(())
}

/// Mounts `/proc` and what else programs expect from the kernel, and the links in `/dev`.
pub(super) fn mount_kernel_file_systems() -> Result<()> {
    for kernel in &KERNEL {
        let mount_point = kernel.mount_point;
        // The folders in /sys are the kernel's.
        if !mount_point.starts_with("/sys") {
            make_folder(mount_point, 0o755)?;
        }
        let options = CString::new(kernel.options)?;
        let name = kernel.file_system;
        match mount(name, mount_point, name, kernel.flags, &*options) {
            Err(Errno::NODEV | Errno::NOENT) if kernel.optional => {}
            other => other.with_context(|| format!("cannot mount {mount_point}"))?,
        }
    }
    for (target, link) in LINKS {
        symlink(target, link).with_context(|| format!("cannot make {link}"))?;
    }
    Ok(())
}

/// Makes a folder, if it is not there, with exactly this mode.
pub(super) fn make_folder(path: &str, mode: u32) -> Result<()> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        // The sticky bit's modes are those that the umask cuts.
        Ok(()) if mode > 0o777 => fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .with_context(|| format!("cannot set the mode of {path}")),
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot make folder {path}")),
    }
}

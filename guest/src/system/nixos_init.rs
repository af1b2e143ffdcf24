//! nixos-init's part: `/etc`, the links that programs expect outside the store, and what the kernel
//! is told of programs and firmware.
//!
//! The one thing to know: what it is to do stands in the system's `boot.json` (NixOS RFC 125), as an
//! extension whose fields have come and gone, so each may be missing.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::mount::{MountFlags, mount_bind, mount_remount};
use serde::Deserialize;

use super::etc::{self, Etc};

const STORE: &str = "/nix/store";

/// What the kernel starts to load a module, and where it looks for firmware; there are none without
/// modules and firmware.
const MODPROBE: &str = "/proc/sys/kernel/modprobe";
const FIRMWARE: &str = "/sys/module/firmware_class/parameters/path";

/// Mount options that a store can be wanted with, to mount with and to ask for.
const STORE_OPTIONS: [(&str, MountFlags, StatVfsMountFlags); 5] = [
    ("ro", MountFlags::RDONLY, StatVfsMountFlags::RDONLY),
    ("nosuid", MountFlags::NOSUID, StatVfsMountFlags::NOSUID),
    ("nodev", MountFlags::NODEV, StatVfsMountFlags::NODEV),
    ("noexec", MountFlags::NOEXEC, StatVfsMountFlags::NOEXEC),
    ("noatime", MountFlags::NOATIME, StatVfsMountFlags::NOATIME),
];

#[derive(Deserialize)]
struct BootJson {
    #[serde(rename = "org.nixos.nixos-init.v1")]
    nixos_init: Wishes,
}

#[derive(Deserialize)]
struct Wishes {
    etc_metadata_image: PathBuf,
    etc_basedir: PathBuf,
    /// Older ones do not say.
    etc_overlay_mutable: Option<bool>,
    #[serde(default)]
    nix_store_mount_opts: Vec<String>,
    /// Empty: there is to be none.
    env_binary: Option<PathBuf>,
    sh_binary: Option<PathBuf>,
    modprobe_binary: Option<String>,
    firmware: Option<String>,
}

/// Prepares the root of `system`, which the volume with this serial keeps, if one does.
pub(super) fn prepare(system: &Path, volume: Option<&str>) -> Result<()> {
    let wishes = read(&system.join("boot.json"))?;
    let etc = Etc {
        is_mutable: wishes.has_mutable_etc(system),
        image: &wishes.etc_metadata_image,
        content: &wishes.etc_basedir,
        volume,
    };
    etc::mount_over(&etc).context("cannot mount /etc")?;
    restrict_store(&wishes.nix_store_mount_opts)
        .with_context(|| format!("cannot mount {STORE} as the system wants it"))?;
    for link in ["/run/booted-system", "/run/current-system"] {
        place(Path::new(link), Some(system))?;
    }
    place(Path::new("/usr/bin/env"), wishes.env_binary.as_deref())?;
    place(Path::new("/bin/sh"), wishes.sh_binary.as_deref())?;
    tell(MODPROBE, wishes.modprobe_binary.as_deref())?;
    tell(FIRMWARE, wishes.firmware.as_deref())
}

fn read(path: &Path) -> Result<Wishes> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let boot: BootJson =
        serde_json::from_slice(&text).with_context(|| format!("cannot use {}", path.display()))?;
    Ok(boot.nixos_init)
}

impl Wishes {
    /// Whether `/etc` can be written to. Where `boot.json` leaves that out, the script that a switch
    /// of systems runs has it: it mounts the same image, with or without a layer for what is written.
    fn has_mutable_etc(&self, system: &Path) -> bool {
        self.etc_overlay_mutable.unwrap_or_else(|| {
            let script = fs::read(system.join("activate")).unwrap_or_default();
            let script = String::from_utf8_lossy(&script);
            !script.contains(&*self.etc_metadata_image.to_string_lossy())
                || script.contains(etc::WRITTEN)
        })
    }
}

/// Mounts the store once more, over itself, if it is not yet mounted with all of these options.
fn restrict_store(wanted: &[String]) -> Result<()> {
    let now = statvfs(STORE)?.f_flag;
    let (mut flags, mut is_restricted) = (MountFlags::BIND, true);
    for (word, flag, is_set) in STORE_OPTIONS {
        let is_wanted = wanted.iter().any(|it| it == word);
        flags.set(flag, is_wanted || now.contains(is_set));
        is_restricted &= !is_wanted || now.contains(is_set);
    }
    if !is_restricted {
        mount_bind(STORE, STORE)?;
        mount_remount(STORE, flags, c"")?;
    }
    Ok(())
}

/// Has `link` lead to `target`, or be gone if that is empty. Its folder is there in either case,
/// for systemd takes an empty `/usr` for a system that cannot be booted.
fn place(link: &Path, target: Option<&Path>) -> Result<()> {
    let Some(target) = target else {
        return Ok(());
    };
    replace(link, target).with_context(|| format!("cannot make {}", link.display()))
}

fn replace(link: &Path, target: &Path) -> io::Result<()> {
    if let Some(folder) = link.parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if target.as_os_str().is_empty() {
        return Ok(());
    }
    symlink(target, link)
}

/// Writes a value into a file of the kernel's, if it has that.
fn tell(file: &str, value: Option<&str>) -> Result<()> {
    match value.map_or(Ok(()), |value| fs::write(file, value)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot write {file}"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a system of the release that brought nixos-init says.
    const BOOT_JSON: &str = r#"{
        "org.nixos.bootspec.v1": { "system": "x86_64-linux" },
        "org.nixos.nixos-init.v1": {
            "env_binary": "/nix/store/coreutils/bin/env",
            "etc_basedir": "/nix/store/etc-lowerdir",
            "etc_metadata_image": "/nix/store/etc-metadata.erofs",
            "firmware": "/nix/store/firmware/lib/firmware",
            "modprobe_binary": "/nix/store/kmod/bin/modprobe",
            "nix_store_mount_opts": ["ro", "nodev", "nosuid"],
            "special_filesystems": [{ "mountpoint": "/proc" }]
        }
    }"#;

    fn system(boot_json: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("boot.json"), boot_json).unwrap();
        folder
    }

    #[test]
    fn what_is_to_be_done_stands_in_boot_json() {
        let folder = system(BOOT_JSON);
        let wishes = read(&folder.path().join("boot.json")).unwrap();
        let image = "/nix/store/etc-metadata.erofs";
        assert_eq!(wishes.etc_metadata_image, Path::new(image));
        assert_eq!(wishes.nix_store_mount_opts, ["ro", "nodev", "nosuid"]);
        assert_eq!(wishes.sh_binary, None);
        let script = |text: String| fs::write(folder.path().join("activate"), text).unwrap();
        assert!(wishes.has_mutable_etc(folder.path()));
        script(format!("mount --type erofs {image} $tmp\n"));
        assert!(!wishes.has_mutable_etc(folder.path()));
        script(format!("mount-etc-overlay {image} /nix/store/b /.rw-etc\n"));
        assert!(wishes.has_mutable_etc(folder.path()));
    }

    #[test]
    fn a_newer_one_says_itself_whether_etc_is_mutable() {
        let with = r#""etc_overlay_mutable": false, "env_binary""#;
        let folder = system(&BOOT_JSON.replace(r#""env_binary""#, with));
        let wishes = read(&folder.path().join("boot.json")).unwrap();
        assert!(!wishes.has_mutable_etc(folder.path()));
    }

    #[test]
    fn a_link_is_made_anew_and_taken_away_again() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("usr/bin/env");
        replace(&link, Path::new("/nix/store/old/bin/env")).unwrap();
        replace(&link, Path::new("/nix/store/new/bin/env")).unwrap();
        let target = fs::read_link(&link).unwrap();
        assert_eq!(target, Path::new("/nix/store/new/bin/env"));
        replace(&link, Path::new("")).unwrap();
        assert!(fs::read_link(&link).is_err());
        assert!(folder.path().join("usr/bin").is_dir());
    }
}

//! Secrets: files of a tmpfs, each with its owner and mode.
//!
//! The one thing to know: the tmpfs is read-only once they are written, and a secret that is wanted
//! elsewhere is a link there, so that no other file system ever holds a value.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown, symlink};
use std::path::Path;

use super::file;
use crate::agent::ids;
use crate::protocol::SecretFile;
use anyhow::{Context, Result};
use rustix::mount::{MountFlags, mount, mount_remount};

/// Where they are.
const FOLDER: &str = "/run/secrets";

/// More than a host sends ([`crate::protocol::MAX_BODY`]), so that the limit is never what fails.
const OPTIONS: &std::ffi::CStr = c"mode=755,size=16m";

const FLAGS: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

/// Makes them. Without any, there is no tmpfs either.
pub(super) fn write_all(secrets: &[SecretFile]) -> Result<()> {
    if secrets.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(FOLDER).with_context(|| format!("cannot make {FOLDER}"))?;
    mount("secrets", FOLDER, "tmpfs", FLAGS, OPTIONS)
        .with_context(|| format!("cannot mount {FOLDER}"))?;
    for secret in secrets {
        write(Path::new(FOLDER), secret)
            .with_context(|| format!("cannot make the secret {}", secret.name))?;
    }
    mount_remount(FOLDER, FLAGS | MountFlags::RDONLY, c"")
        .with_context(|| format!("cannot make {FOLDER} read-only"))
}

fn write(folder: &Path, secret: &SecretFile) -> Result<()> {
    let (uid, gid) = ids(&secret.owner)?;
    let path = folder.join(&secret.name);
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o0).open(&path)?;
    file.write_all(secret.value.bytes())?;
    fchown(&file, Some(uid), Some(gid))?;
    file.set_permissions(Permissions::from_mode(secret.mode))?;
    match &secret.link {
        Some(link) => link_to(&path, Path::new(link)).with_context(|| format!("at {link}")),
        None => Ok(()),
    }
}

/// Makes `link` a link to `path`. A link that is there already may be the last start's, and a file the
/// image's.
fn link_to(path: &Path, link: &Path) -> Result<()> {
    if let Some(parent) = link.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::symlink_metadata(link) {
        Ok(there) if there.is_symlink() => fs::remove_file(link)?,
        Ok(_) => return file::show(path, link),
        Err(_) => {}
    }
    Ok(symlink(path, link)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::protocol::SecretValue;

    fn secret(link: Option<String>) -> SecretFile {
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        SecretFile {
            name: "key".into(),
            link,
            owner: format!("{}:{}", uid.as_raw(), gid.as_raw()),
            mode: 0o440,
            value: SecretValue::from(vec![0, 0xff, b'\n']),
        }
    }

    #[test]
    fn a_secret_has_its_bytes_and_its_mode_from_the_start() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &secret(None)).unwrap();
        let path = folder.path().join("key");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o440);
        assert_eq!(fs::read(&path).unwrap(), [0, 0xff, b'\n']);
    }

    #[test]
    fn elsewhere_it_is_a_link_in_place_of_the_last_one() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("etc/key");
        let wanted = secret(Some(link.to_string_lossy().into()));
        write(folder.path(), &wanted).unwrap();
        fs::remove_file(folder.path().join("key")).unwrap();
        write(folder.path(), &wanted).unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), folder.path().join("key"));
    }
}

//! The file that a command makes: another one until it is whole, and then in its place.

use std::fs::{self, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;

/// Such a file. It is gone unless it is kept.
pub struct Target {
    path: PathBuf,
    file: NamedTempFile,
}

impl Target {
    /// A file to be at `path`, where one may be already.
    ///
    /// # Errors
    /// Something else is there, or its folder takes no file.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        match fs::symlink_metadata(path) {
            Ok(facts) => ensure!(
                facts.is_file(),
                "cannot write {shown}: something is there that is no file"
            ),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot write {shown}")),
        }
        let folder = folder_of(path);
        let file = tempfile::Builder::new()
            .prefix(".mvm-build-")
            // As for any new file, less what the umask takes.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .with_context(|| format!("cannot write to the folder {}", folder.display()))?;
        let path = path.to_path_buf();
        Ok(Self { path, file })
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where there is room for what becomes a part of it.
    pub fn folder(&self) -> &Path {
        folder_of(&self.path)
    }

    /// To write to.
    pub fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Puts it in its place; returns its length in bytes.
    ///
    /// # Errors
    /// It cannot be written back or renamed.
    pub fn keep(self) -> Result<u64> {
        let cannot = || format!("cannot write {}", self.path.display());
        self.file.as_file().sync_all().with_context(cannot)?;
        let file = self.file.persist(&self.path);
        let file = file.map_err(|error| error.error).with_context(cannot)?;
        Ok(file.metadata().with_context(cannot)?.len())
    }
}

fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().unwrap_or(Path::new("/"));
    if folder.as_os_str().is_empty() {
        return Path::new(".");
    }
    folder
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn it_takes_the_place_of_a_file_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        fs::write(&path, "before").unwrap();
        let names = || fs::read_dir(folder.path()).unwrap().count();
        let mut target = Target::open(&path).unwrap();
        target.file().write_all(b"half").unwrap();
        drop(target);
        assert_eq!((fs::read(&path).unwrap(), names()), (b"before".to_vec(), 1));
        let mut target = Target::open(&path).unwrap();
        target.file().write_all(b"whole").unwrap();
        assert_eq!(target.keep().unwrap(), 5);
        assert_eq!((fs::read(&path).unwrap(), names()), (b"whole".to_vec(), 1));
    }

    #[test]
    fn what_is_no_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = |path: &Path| format!("{:#}", Target::open(path).err().unwrap());
        let shown = folder.path().display();
        let expected = format!("cannot write {shown}: something is there that is no file");
        assert_eq!(refusal(folder.path()), expected);
        let below = folder.path().join("none/out");
        let error = refusal(&below);
        let expected = format!("cannot write to the folder {shown}/none: ");
        assert!(error.starts_with(&expected), "{error}");
        assert_eq!(folder_of(Path::new("out")), Path::new("."));
    }
}

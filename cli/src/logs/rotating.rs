//! A file that is set aside when it is full.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Bytes of one file, and files of one log, the one that is written included: enough to look back
/// days, and nothing that fills a disk.
pub const FILE_BYTES: u64 = 10 << 20;
pub const FILES: usize = 3;

/// Writes to `path`; what is full becomes `path.1`, and that `path.2`, until it is too old.
pub struct Rotating {
    path: PathBuf,
    file: File,
    size: u64,
    limit: u64,
}

impl Rotating {
    /// Goes on with the file at `path`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::with_limit(path, FILE_BYTES)
    }

    fn with_limit(path: &Path, limit: u64) -> io::Result<Self> {
        let file = append(path)?;
        Ok(Self {
            size: file.metadata()?.len(),
            path: path.to_path_buf(),
            file,
            limit,
        })
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..FILES).rev() {
            let older = aside(&self.path, number);
            let newer = match number {
                1 => self.path.clone(),
                _ => aside(&self.path, number - 1),
            };
            match fs::rename(&newer, &older) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.file = append(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

impl Write for Rotating {
    /// Writes all of `bytes` into one file.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len() as u64;
        if self.size > 0 && self.size + length > self.limit {
            self.rotate()?;
        }
        self.file.write_all(bytes)?;
        self.size += length;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The files of the log at `path` that there are, oldest first.
pub fn files(path: &Path) -> Vec<PathBuf> {
    let older = (1..FILES).rev().map(|number| aside(path, number));
    let all = older.chain([path.to_path_buf()]);
    all.filter(|file| file.exists()).collect()
}

fn aside(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_all_are_full() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = Rotating::with_limit(&path, 4).unwrap();
        for text in ["aaaa", "bb", "bb", "cccc", "d"] {
            log.write_all(text.as_bytes()).unwrap();
        }
        let texts: Vec<_> = files(&path)
            .iter()
            .map(|file| fs::read_to_string(file).unwrap())
            .collect();
        assert_eq!(texts, ["bbbb", "cccc", "d"]);
    }

    #[test]
    fn what_is_longer_than_a_file_is_not_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = Rotating::with_limit(&path, 4).unwrap();
        log.write_all(b"abcdef").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"abcdef");
    }

    #[test]
    fn a_log_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        for _ in 0..2 {
            let mut log = Rotating::with_limit(&path, 6).unwrap();
            log.write_all(b"abcd").unwrap();
        }
        assert_eq!(files(&path).len(), 2);
    }
}

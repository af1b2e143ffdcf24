//! Reads a log from its oldest line, and goes on when more comes.
//!
//! The one thing to know: a log that is set aside while it is read is read to its end first. New
//! lines are looked for, since file systems over a network tell nobody of them.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::rotating::files;

/// Lines of one log, oldest first.
pub struct Reader {
    path: PathBuf,
    /// Files that were set aside before the reader began.
    older: VecDeque<PathBuf>,
    current: Option<BufReader<File>>,
    /// A line that has not come as a whole.
    begun: Vec<u8>,
}

impl Reader {
    /// Reads the log at `path`. One that does not exist is empty.
    pub fn open(path: &Path) -> Self {
        let older = files(path).into_iter().filter(|file| file != path);
        Self {
            path: path.to_path_buf(),
            older: older.collect(),
            current: None,
            begun: Vec::new(),
        }
    }

    /// The next line with its line feed; `None` if there is none so far.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let Some(file) = &mut self.current else {
                if !self.open_next()? {
                    return Ok(None);
                }
                continue;
            };
            file.read_until(b'\n', &mut self.begun)?;
            if self.begun.ends_with(b"\n") {
                return Ok(Some(std::mem::take(&mut self.begun)));
            }
            if !self.is_set_aside()? {
                return Ok(None);
            }
            self.current = None;
        }
    }

    /// What has come of a line without an end.
    pub fn rest(&mut self) -> Option<Vec<u8>> {
        (!self.begun.is_empty()).then(|| std::mem::take(&mut self.begun))
    }

    fn open_next(&mut self) -> io::Result<bool> {
        let path = self.older.pop_front().unwrap_or_else(|| self.path.clone());
        match File::open(&path) {
            Ok(file) => {
                self.current = Some(BufReader::new(file));
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the current file is written no more.
    fn is_set_aside(&self) -> io::Result<bool> {
        if !self.older.is_empty() {
            return Ok(true);
        }
        let Some(file) = &self.current else {
            return Ok(false);
        };
        let current = file.get_ref().metadata()?;
        Ok(match fs::metadata(&self.path) {
            Ok(now) => (now.dev(), now.ino()) != (current.dev(), current.ino()),
            // Between two renames, or removed with its machine.
            Err(_) => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn all(reader: &mut Reader) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = reader.next_line().unwrap() {
            lines.push(String::from_utf8(line).unwrap());
        }
        lines
    }

    #[test]
    fn it_reads_what_was_set_aside_first_and_goes_on_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(folder.path().join("log.1"), "one\n").unwrap();
        fs::write(&path, "two\nthr").unwrap();
        let mut reader = Reader::open(&path);
        assert_eq!(all(&mut reader), ["one\n", "two\n"]);
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"ee\n").unwrap();
        fs::rename(&path, folder.path().join("log.1")).unwrap();
        fs::write(&path, "four\n").unwrap();
        assert_eq!(all(&mut reader), ["three\n", "four\n"]);
    }

    #[test]
    fn a_log_that_does_not_exist_is_empty_until_it_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut reader = Reader::open(&path);
        assert_eq!(all(&mut reader), Vec::<String>::new());
        fs::write(&path, "one\nre").unwrap();
        assert_eq!(all(&mut reader), ["one\n"]);
        assert_eq!(reader.rest(), Some(b"re".to_vec()));
    }
}

//! Where it is written down what starts of closures have cost: a small file for each closure, JSON.
//!
//! The one thing to know: nothing depends on it. What cannot be read is as if nothing were known, and
//! what cannot be written is not. Two machines that end at once may leave one of them out.

use std::fs::{self, DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;

use super::costs::Costs;
use super::key::Key;
use super::unfinished::{self, Unfinished};

/// Files that are kept: when there are more, those go that were not written to for longest.
const FILES_MAX: usize = 256;

/// Bytes of a file; with three ways it has a fifth of that.
const FILE_BYTES_MAX: u64 = 16 << 10;

/// The file of a closure.
#[derive(Clone, Debug)]
pub struct Book {
    folder: PathBuf,
    path: PathBuf,
}

impl Book {
    /// That of the closure that is known by `key`, among those in `folder`, which need not be there yet.
    pub fn of(key: &Key, folder: PathBuf) -> Self {
        Self {
            path: folder.join(key.as_str()),
            folder,
        }
    }

    /// What is known, as far as it is not too old.
    pub fn read(&self) -> Costs {
        let mut costs = read(&self.path).unwrap_or_default();
        costs.forget(now_us());
        costs
    }

    /// Has what is known changed.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn change(&self, change: impl FnOnce(&mut Costs)) -> Result<()> {
        let mut costs = self.read();
        change(&mut costs);
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.folder)?;
        let mut unfinished = Unfinished::new(&self.folder)?;
        unfinished.file.write_all(&serde_json::to_vec(&costs)?)?;
        unfinished.rename(&self.path)?;
        self.remove_oldest();
        Ok(())
    }

    fn remove_oldest(&self) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut files: Vec<_> = entries
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .filter(|(written, path)| !unfinished::is_being_made(path, *written))
            .collect();
        files.sort();
        let too_many = files.len().saturating_sub(FILES_MAX);
        for (_, path) in files.into_iter().take(too_many) {
            // What cannot be removed is in nobody's way.
            let _ = fs::remove_file(path);
        }
    }
}

fn read(path: &Path) -> Option<Costs> {
    let mut text = Vec::new();
    File::open(path)
        .ok()?
        .take(FILE_BYTES_MAX)
        .read_to_end(&mut text)
        .ok()?;
    serde_json::from_slice(&text).ok()
}

/// Now, in µs since 1970.
pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs::FileTimes;
    use std::time::Duration;

    use super::super::costs::Start;
    use super::*;
    use crate::app::StoreData;

    fn start() -> Start {
        Start {
            began_us: now_us(),
            way: StoreData::Plain,
            ready_us: 1,
            requests: 2,
            busy_us: 3,
            sent_bytes: 4,
        }
    }

    fn book(folder: &Path) -> Book {
        Book::of(
            &Key::of_names(&BTreeSet::from(["one"])),
            folder.join("costs"),
        )
    }

    #[test]
    fn what_is_written_is_read_again_whatever_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let book = book(folder.path());
        assert_eq!(book.read(), Costs::default());
        fs::create_dir(folder.path().join("costs")).unwrap();
        for damage in ["", "{", "{\"starts\": 1}", "[]"] {
            fs::write(&book.path, damage).unwrap();
            assert_eq!(book.read(), Costs::default(), "{damage}");
            let start = start();
            book.change(|costs| costs.note(start.clone())).unwrap();
            assert_eq!(book.read().starts, [start], "{damage}");
        }
        fs::write(&book.path, vec![b' '; 1 << 20]).unwrap();
        assert_eq!(book.read(), Costs::default());
    }

    #[test]
    fn where_nothing_can_be_written_it_is_an_error_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let book = book(folder.path());
        // As who is root may write anywhere, a file is where the folder should be.
        fs::write(folder.path().join("costs"), "").unwrap();
        assert!(book.change(|_| ()).is_err());
        assert_eq!(book.read(), Costs::default());
    }

    #[test]
    fn the_oldest_go_where_there_are_many() {
        let folder = tempfile::tempdir().unwrap();
        let book = book(folder.path());
        book.change(|_| ()).unwrap();
        let old = |nth: usize| folder.path().join("costs").join(format!("old-{nth}"));
        for nth in 0..FILES_MAX {
            let file = File::create(old(nth)).unwrap();
            let then = SystemTime::now() - Duration::from_secs(1000 - nth as u64);
            file.set_times(FileTimes::new().set_modified(then)).unwrap();
        }
        // Somebody is writing this one.
        let unfinished = folder.path().join("costs/.new-1");
        fs::write(&unfinished, "").unwrap();
        book.change(|costs| costs.note(start())).unwrap();
        assert!(unfinished.exists());
        fs::remove_file(unfinished).unwrap();
        let left = fs::read_dir(folder.path().join("costs")).unwrap().count();
        assert_eq!(left, FILES_MAX);
        assert!(!old(0).exists() && old(1).exists());
        assert_eq!(book.read().starts.len(), 1);
    }
}

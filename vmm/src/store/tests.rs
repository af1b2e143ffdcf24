//! What is kept of file systems, and which machines can have them.

use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::cache::{Cache, Head, NotMade};
use super::image::compose;
use super::key::Key;
use super::plan::{Plan, Size};
use super::tree::Root;

/// A store with two paths, and a cache beside it.
struct Fixture {
    folder: TempDir,
}

const NAMES: [&str; 2] = ["one", "two"];

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fixture = Self { folder };
        for name in NAMES {
            fs::create_dir_all(fixture.store().join(name)).unwrap();
            fs::write(fixture.store().join(name).join("small"), name).unwrap();
            fs::write(
                fixture.store().join(name).join("large"),
                name.repeat(50_000),
            )
            .unwrap();
        }
        fixture
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    fn cached(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path().join("cache")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    fn get(&self, names: &[&str]) -> Head {
        self.get_among(names, u64::MAX).unwrap()
    }

    /// The same where all that are kept may have so many bytes.
    fn get_among(&self, names: &[&str], most: u64) -> anyhow::Result<Head> {
        let root = Root::at(&self.store())?;
        let names = names.iter().copied().collect();
        let key = Key::of(&root, &names)?;
        let cache = self.cache();
        match cache.find(&key) {
            Some(head) => Ok(head),
            None => cache.make(&key, &Plan::of(&root, &names)?, &root, most),
        }
    }

    fn cache(&self) -> Cache {
        Cache::open(self.folder.path().join("cache")).unwrap()
    }

    fn inode(&self) -> u64 {
        let [one] = &self.cached()[..] else {
            panic!("{:?}", self.cached());
        };
        fs::metadata(one).unwrap().ino()
    }
}

#[test]
fn it_is_made_once() {
    let fixture = Fixture::new();
    let made = fixture.get(&NAMES);
    let inode = fixture.inode();
    let found = fixture.get(&NAMES);
    assert_eq!((fixture.inode(), &found.files), (inode, &made.files));
    let paths: Vec<_> = found.files.iter().map(|file| &file.path[..]).collect();
    assert_eq!(paths, [b"one/large", b"two/large"]);
    // Other paths are another file.
    fixture.get(&NAMES[..1]);
    assert_eq!(fixture.cached().len(), 2);
}

#[test]
fn of_a_path_that_was_built_again_it_is_made_anew() {
    let fixture = Fixture::new();
    fixture.get(&NAMES);
    let again = fixture.store().join("one");
    fs::rename(&again, fixture.store().join("gone")).unwrap();
    fs::create_dir(&again).unwrap();
    assert_eq!(fixture.get(&NAMES).files.len(), 1);
    assert_eq!(fixture.cached().len(), 2);
}

#[test]
fn what_is_damaged_is_made_anew() {
    let fixture = Fixture::new();
    let made = fixture.get(&NAMES);
    let path = fixture.cached().remove(0);
    let whole = fs::read(&path).unwrap();
    let length = whole.len();
    let damages: [fn(&mut Vec<u8>); 6] = [
        |bytes| bytes.truncate(bytes.len() - 1),
        |bytes| bytes.truncate(4096),
        Vec::clear,
        |bytes| bytes.push(0),
        |bytes| bytes[1030] ^= 1,
        |bytes| {
            let at = bytes.len() - 70;
            bytes[at] ^= 1;
        },
    ];
    for damage in damages {
        let mut bytes = whole.clone();
        damage(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        assert_eq!(fixture.get(&NAMES).files, made.files);
        assert!(
            fs::read(&path).unwrap() == whole,
            "{} of {length}",
            bytes.len()
        );
    }
}

#[test]
fn who_makes_the_same_at_once_has_the_same() {
    let fixture = Fixture::new();
    let made: Vec<Head> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| fixture.get(&NAMES)))
            .collect();
        makers
            .into_iter()
            .map(|maker| maker.join().unwrap())
            .collect()
    });
    fixture.inode();
    assert!(made.iter().all(|head| head.files == made[0].files));
}

#[test]
fn what_nobody_has_used_for_a_month_is_removed_when_one_is_made() {
    let fixture = Fixture::new();
    fixture.get(&NAMES);
    let path = fixture.cached().remove(0);
    let set_age = |days: u64| used_days_ago(std::slice::from_ref(&path), &[days]);
    set_age(31);
    // Who uses it keeps it.
    fixture.get(&NAMES);
    fixture.get(&NAMES[..1]);
    assert!(path.exists());
    set_age(29);
    fixture.get(&NAMES[1..]);
    assert!(path.exists());
    set_age(31);
    fs::write(fixture.folder.path().join("cache/.new-1"), "").unwrap();
    fixture.get(&[]);
    assert!(!path.exists());
    assert_eq!(fixture.cached().len(), 4);
}

/// Has the files of the cache used so many days ago, in turn.
fn used_days_ago(paths: &[PathBuf], days: &[u64]) {
    for (path, days) in paths.iter().zip(days) {
        let then = SystemTime::now() - Duration::from_secs(24 * 60 * 60 * days);
        let file = File::open(path).unwrap();
        file.set_times(FileTimes::new().set_modified(then)).unwrap();
    }
}

#[test]
fn the_longest_unused_go_where_there_is_no_room_for_all() {
    let fixture = Fixture::new();
    fixture.cache();
    let made = |names: &[&str], most| {
        let before = fixture.cached();
        fixture.get_among(names, most).unwrap();
        let mut now = fixture.cached().into_iter();
        now.find(|path| !before.contains(path)).unwrap()
    };
    let (both, one) = (made(&NAMES, u64::MAX), made(&NAMES[..1], u64::MAX));
    let bytes = |path: &PathBuf| fs::metadata(path).unwrap().len();
    let most = bytes(&both) + bytes(&one) + 4095;
    used_days_ago(&[both.clone(), one.clone()], &[1, 2]);
    let other = made(&NAMES[1..], most);
    assert!(both.exists() && !one.exists() && other.exists());
    // Nothing else has to go for what has no room by itself.
    let error = fixture.get_among(&[], 4095).unwrap_err();
    let told = "it has 1 MiB, and all that are kept may have 0 MiB (storeImagesMib)";
    assert!(format!("{error:#}").ends_with(told), "{error:#}");
    assert!(error.is::<NotMade>());
    assert_eq!(fixture.cached().len(), 2);
}

#[test]
fn what_is_being_made_has_no_room_made_of_it() {
    let fixture = Fixture::new();
    fixture.cache();
    let paths = ["one", "other", "killed"].map(|name| {
        let path = fixture.folder.path().join(format!("cache/.new-{name}"));
        File::create(&path).unwrap().set_len(1 << 20).unwrap();
        path
    });
    used_days_ago(&paths[2..], &[2]);
    fixture.get_among(&NAMES, 1 << 20).unwrap();
    assert_eq!(paths.map(|path| path.exists()), [true, true, false]);
}

#[test]
fn what_is_planned_is_what_is_made() {
    let fixture = Fixture::new();
    let root = Root::at(&fixture.store()).unwrap();
    let planned = Plan::of(&root, &NAMES.into()).unwrap().size();
    assert_eq!(fixture.get(&NAMES).size(), planned);
    let Size { bytes, files, .. } = planned;
    assert_eq!((bytes, files), (2 << 20, 2));
}

#[test]
fn what_it_is_composed_of_is_checked_once_more() {
    let fixture = Fixture::new();
    let root = Root::at(&fixture.store()).unwrap();
    let head = fixture.get(&NAMES);
    let bytes = compose(&head, &root, |_| true).unwrap().bytes();
    assert_eq!(bytes, head.size().bytes);
    let error = compose(&head, &root, |path| path.starts_with(b"one/")).unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        "cannot map two/large: it is not of this closure"
    );
    let mut file = File::options()
        .append(true)
        .open(fixture.store().join("one/large"))
        .unwrap();
    file.write_all(b"x").unwrap();
    let error = compose(&head, &root, |_| true).unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        "cannot map one/large: its size has changed"
    );
    fs::remove_file(fixture.store().join("one/large")).unwrap();
    std::os::unix::fs::symlink("../two/large", fixture.store().join("one/large")).unwrap();
    let error = compose(&head, &root, |_| true).unwrap_err();
    assert!(
        format!("{error:#}").starts_with("cannot map one/large: "),
        "{error:#}"
    );
}

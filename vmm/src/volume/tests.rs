//! Volumes on a host that has them, lacks them, or has something else in their place.

use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;

use super::*;
use crate::app::VolumeSize;

const MIB: u64 = 1 << 20;

fn volume(path: &Path) -> Volume {
    Volume {
        name: None,
        image: Some(path.into()),
        mount_point: Some("/data".into()),
        size: VolumeSize::from_mib(64),
        fs_type: crate::app::VolumeFileSystem::Ext4,
        read_only: false,
        create: true,
        rate_limit: None,
    }
}

fn reading(path: &Path) -> Volume {
    Volume {
        read_only: true,
        ..volume(path)
    }
}

fn open(volume: &Volume) -> anyhow::Result<File> {
    let path = path(volume)?;
    super::open(volume, &path, (1000, 100))
}

/// Opens what has just been closed: a program that another test starts has a copy of each descriptor,
/// and so of its lock, until it is executed.
fn open_again(volume: &Volume) -> File {
    let mut tries = (0..1000).map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        open(volume)
    });
    tries.find_map(Result::ok).expect("nobody has it")
}

fn words(outcome: anyhow::Result<File>) -> String {
    format!("{:#}", outcome.expect_err("an error"))
}

#[test]
fn one_is_made_whole_sparse_and_for_its_user() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/folder/data.raw");
    let made = open(&volume(&path)).unwrap();
    let facts = fs::metadata(&path).unwrap();
    assert_eq!(facts.ino(), made.metadata().unwrap().ino());
    assert_eq!((facts.len(), facts.mode() & 0o777), (64 * MIB, 0o600));
    assert!(facts.blocks() * 512 < 8 * MIB, "{} blocks", facts.blocks());
    let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
    e2fs("e2fsck", &["-f", "-n"], &path);
    let top = e2fs("debugfs", &["-R", "stat /"], &path);
    assert!(top.contains("User:  1000   Group:   100"), "{top}");
}

/// What a program of the file system's own package says of the file.
fn e2fs(program: &str, arguments: &[&str], path: &Path) -> String {
    let mut command = Command::new(Path::new("/sbin").join(program));
    let output = command.args(arguments).arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn what_a_crash_left_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.raw");
    fs::write(folder.path().join("data.raw.unfinished"), [7; 9999]).unwrap();
    drop(open(&volume(&path)).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().len(), 64 * MIB);
    assert!(!folder.path().join("data.raw.unfinished").exists());
}

#[test]
fn one_that_is_there_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.raw");
    fs::write(&path, "whatever it is").unwrap();
    drop(open(&volume(&path)).unwrap());
    assert_eq!(fs::read(&path).unwrap(), b"whatever it is");
}

#[test]
fn only_one_process_has_it_by_whatever_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.raw");
    let first = open(&volume(&path)).unwrap();
    let (link, name) = (folder.path().join("link"), folder.path().join("name"));
    symlink(&path, &link).unwrap();
    fs::hard_link(&path, &name).unwrap();
    let holder = format!("it is in use by process {} (", std::process::id());
    for path in [&path, &link, &name] {
        for second in [volume(path), reading(path)] {
            let words = words(open(&second));
            assert!(words.starts_with(&holder), "{words}");
        }
    }
    drop(first);
    open_again(&volume(&link));
}

#[test]
fn several_read_and_none_writes_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.raw");
    drop(open(&volume(&path)).unwrap());
    let readers = [open_again(&reading(&path)), open(&reading(&path)).unwrap()];
    assert!(rustix::io::pwrite(&readers[0], b"x", 0).is_err());
    assert!(words(open(&volume(&path))).starts_with("it is in use by"));
    drop(readers);
    open_again(&volume(&path));
}

#[test]
fn who_makes_it_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.raw");
    let opened: Vec<_> = std::thread::scope(|scope| {
        let threads = [(); 4].map(|()| scope.spawn(|| open(&volume(&path))));
        threads.map(|thread| thread.join().unwrap()).into()
    });
    let (made, refused): (Vec<_>, Vec<_>) = opened.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (1, 3));
    for error in refused {
        assert!(words(error).starts_with("it is in use by process"));
    }
}

#[test]
fn what_is_no_disk_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let fifo = folder.path().join("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let neither = "neither a file nor a block device";
    for (path, why) in [
        (folder.path(), "Is a directory"),
        (&socket, "No such device or address"),
        (&fifo, neither),
        (Path::new("/dev/null"), neither),
    ] {
        let words = words(open(&volume(path)));
        assert!(words.contains(why), "{words}");
    }
}

#[test]
fn one_that_is_missing_is_not_made_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.raw");
    let unmade = Volume {
        create: false,
        ..volume(&path)
    };
    let shown = path.display();
    let ends = [
        (unmade, "create is false"),
        (reading(&path), "readOnly is true"),
    ];
    for (volume, end) in ends {
        let expected = format!("there is no {shown}, and it is not made where {end}");
        assert_eq!(words(open(&volume)), expected);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn without_room_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    // More than a file can be.
    let large = Volume {
        size: VolumeSize::from_mib(u64::MAX >> 20),
        ..volume(&folder.path().join("data.raw"))
    };
    assert!(words(open(&large)).starts_with("cannot make a file of"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

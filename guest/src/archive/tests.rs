//! Trees that come back as they were, and archives that want what they may not have.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use anyhow::Result;
use tar::{Builder, EntryType, Header};
use tempfile::{TempDir, tempdir};

use super::{Cut, Destination, Form, Rules, Source, unpack};

fn packed(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let source = Source::find(path).unwrap();
    source
        .pack(&mut bytes, &mut |path, what| panic!("{path:?}: {what}"))
        .unwrap();
    bytes
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let bytes = packed(from);
    unpack(
        bytes.as_slice(),
        &Destination::find(to, Form::Copy)?,
        Rules::default(),
    )
}

fn header(kind: EntryType, name: &[u8], size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_size(size);
    header.set_cksum();
    header
}

/// An archive of those entries, whatever they are.
fn archive(entries: &[(Header, &[u8])]) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    for (header, data) in entries {
        archive.append(header, *data).unwrap();
    }
    archive.into_inner().unwrap()
}

fn link(name: &[u8], target: &[u8]) -> Header {
    let mut header = header(EntryType::Symlink, name, 0);
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
    header.set_cksum();
    header
}

/// Unpacks into `folder/in`; the error's words.
fn refusal(folder: &TempDir, bytes: &[u8]) -> String {
    let inside = folder.path().join("in");
    fs::create_dir_all(&inside).unwrap();
    let destination = Destination::find(&inside, Form::Stream).unwrap();
    let error = unpack(bytes, &destination, Rules::default()).unwrap_err();
    format!("{error:#}")
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let folder = tempdir().unwrap();
    let from = folder.path().join("from");
    let long = "n".repeat(200);
    fs::create_dir_all(from.join("sub").join(&long)).unwrap();
    fs::write(from.join("sub").join(&long).join("file"), "text").unwrap();
    fs::write(from.join("run"), "#!").unwrap();
    fs::set_permissions(from.join("run"), PermissionsExt::from_mode(0o750)).unwrap();
    fs::set_permissions(from.join("sub"), PermissionsExt::from_mode(0o500)).unwrap();
    symlink("/nowhere/../at all", from.join("link")).unwrap();
    symlink("x".repeat(300), from.join("long link")).unwrap();
    let to = folder.path().join("to");
    copy(&from, &to).unwrap();
    let text = fs::read_to_string(to.join("sub").join(&long).join("file")).unwrap();
    assert_eq!(text, "text");
    assert_eq!(fs::metadata(to.join("run")).unwrap().mode() & 0o7777, 0o750);
    let sub = fs::metadata(to.join("sub")).unwrap();
    assert_eq!(sub.mode() & 0o7777, 0o500);
    assert_eq!(sub.mtime(), fs::metadata(from.join("sub")).unwrap().mtime());
    let target = fs::read_link(to.join("link")).unwrap();
    assert_eq!(target, Path::new("/nowhere/../at all"));
    let target = fs::read_link(to.join("long link")).unwrap();
    assert_eq!(target.as_os_str().len(), 300);
}

#[test]
fn a_file_of_the_kernels_is_copied_whatever_size_it_says() {
    let folder = tempdir().unwrap();
    let to = folder.path().join("to");
    for path in [
        "/proc/version",
        "/sys/kernel/mm/transparent_hugepage/enabled",
    ] {
        let path = Path::new(path);
        // Not each kernel has the second.
        let Ok(content) = fs::read(path) else {
            continue;
        };
        assert_ne!(fs::metadata(path).unwrap().len(), content.len() as u64);
        copy(path, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), content);
    }
    assert!(to.is_file());
}

#[test]
fn a_small_file_without_an_end_is_refused() {
    let error = super::pack::gather(fs::File::open("/dev/zero").unwrap()).unwrap_err();
    assert!(error.to_string().ends_with("more than 32 MiB"), "{error}");
}

#[test]
fn a_device_alone_is_refused_and_not_left_out() {
    let source = Source::find(Path::new("/dev/null")).unwrap();
    let error = source
        .pack(Vec::new(), &mut |path, _| panic!("{path:?} left out"))
        .unwrap_err();
    assert_eq!(error.to_string(), "cannot copy /dev/null: it is a device");
}

#[test]
fn of_a_file_that_is_cut_off_nothing_is_left() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("whole"), "1").unwrap();
    let mut bytes = packed(&folder.path().join("whole"));
    bytes.extend(archive(&[(
        header(EntryType::Regular, b"part", 5000),
        &[7; 5000],
    )]));
    // The two blocks at the end of the first archive, and some of what follows.
    let mut parts = bytes[..1024].to_vec();
    parts.extend(&bytes[2048..2048 + 512 + 600]);
    let words = refusal(&folder, &parts);
    assert!(words.ends_with("the archive is cut off"), "{words}");
    assert!(folder.path().join("in/whole").exists());
    assert!(!folder.path().join("in/part").exists());
}

#[test]
fn names_follow_the_rules_of_cp() {
    let folder = tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("folder")).unwrap();
    fs::write(at("folder/inner"), "i").unwrap();
    fs::write(at("file"), "f").unwrap();
    fs::create_dir(at("existing")).unwrap();

    copy(&at("file"), &at("new")).unwrap();
    copy(&at("file"), &at("existing/")).unwrap();
    copy(&at("folder"), &at("existing")).unwrap();
    copy(&at("folder/."), &at("existing")).unwrap();
    copy(&at("folder/."), &at("made")).unwrap();
    copy(&at("folder"), &at("made too/")).unwrap();
    for name in [
        "new",
        "existing/file",
        "existing/folder/inner",
        "existing/inner",
        "made/inner",
        "made too/inner",
    ] {
        assert!(at(name).is_file(), "{name}");
    }

    let words = |from: &str, to: &str| format!("{:#}", copy(&at(from), &at(to)).unwrap_err());
    assert!(words("file", "missing/").ends_with("there is no such folder"));
    assert!(words("folder", "file").ends_with("which is a file"));
    assert!(words("file", "file/").contains("cannot write to"));
    assert!(words("file", "missing/deep").contains("No such file"));
    assert!(Source::find(&at("missing")).is_err());
}

#[test]
fn a_link_is_copied_and_with_a_slash_what_it_points_to() {
    let folder = tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("folder")).unwrap();
    symlink("folder", at("link")).unwrap();
    copy(&at("link"), &at("one")).unwrap();
    copy(&at("link/"), &at("two")).unwrap();
    assert!(fs::symlink_metadata(at("one")).unwrap().is_symlink());
    assert!(fs::symlink_metadata(at("two")).unwrap().is_dir());
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in [
        &b"../out"[..],
        b"a/../../out",
        b"/out",
        b"..",
        b"a/..",
        b"./../out",
    ] {
        let folder = tempdir().unwrap();
        let bytes = archive(&[(header(EntryType::Regular, name, 1), b"x")]);
        let words = refusal(&folder, &bytes);
        assert!(words.ends_with("leads out of the archive"), "{words}");
        assert!(!folder.path().join("out").exists());
    }
}

#[test]
fn a_link_of_the_archive_is_no_way_out() {
    for target in [&b".."[..], b"/", b"/proc/self/cwd"] {
        let folder = tempdir().unwrap();
        for (name, kind) in [
            (&b"way/out"[..], EntryType::Regular),
            (b"way/deep/out", EntryType::Regular),
            (b"way/out", EntryType::Directory),
            (b"way", EntryType::Directory),
        ] {
            let bytes = archive(&[(link(b"way", target), b""), (header(kind, name, 0), b"")]);
            let words = refusal(&folder, &bytes);
            assert!(words.contains("on the way"), "{words}");
        }
        assert!(!folder.path().join("out").exists());
    }
}

#[test]
fn a_file_replaces_a_link_and_not_what_it_points_to() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("secret"), "kept").unwrap();
    let inside = folder.path().join("in");
    fs::create_dir(&inside).unwrap();
    let bytes = archive(&[
        (link(b"name", b"../secret"), b""),
        (header(EntryType::Regular, b"name", 3), b"new"),
    ]);
    let destination = Destination::find(&inside, Form::Stream).unwrap();
    unpack(bytes.as_slice(), &destination, Rules::default()).unwrap();
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    assert_eq!(read(&folder.path().join("secret")), "kept");
    assert_eq!(read(&inside.join("name")), "new");
}

#[test]
fn kinds_that_are_no_files_are_refused() {
    for (kind, words) in [
        (EntryType::Char, "is a device"),
        (EntryType::Block, "is a device"),
        (EntryType::Fifo, "is a pipe"),
        (
            EntryType::GNUSparse,
            "is of a kind ('S') that is not copied",
        ),
        (
            EntryType::new(b'Z'),
            "is of a kind ('Z') that is not copied",
        ),
        (EntryType::Link, "a name in the archive is empty"),
    ] {
        let folder = tempdir().unwrap();
        let bytes = archive(&[(header(kind, b"x", 0), b"")]);
        let error = refusal(&folder, &bytes);
        assert!(error.ends_with(words), "{error}");
    }
}

#[test]
fn a_second_name_is_one_of_the_archives_own_files_at_most() {
    let folder = tempdir().unwrap();
    let inside = folder.path().join("in");
    fs::create_dir(&inside).unwrap();
    let first = header(EntryType::Regular, b"first", 1);
    let hard = |target: &[u8]| {
        let mut header = link(b"second", target);
        header.set_entry_type(EntryType::Link);
        header.set_cksum();
        archive(&[(first.clone(), b"x"), (header, b"")])
    };
    let words = refusal(&folder, &hard(b"first"));
    assert!(words.ends_with("it is a second name of a file"), "{words}");
    let rules = Rules {
        hard_links: true,
        ..Rules::default()
    };
    let destination = Destination::find(&inside, Form::Stream).unwrap();
    let with_links = |target: &[u8]| unpack(hard(target).as_slice(), &destination, rules);
    with_links(b"first").unwrap();
    assert_eq!(fs::metadata(inside.join("second")).unwrap().nlink(), 2);
    fs::write(folder.path().join("secret"), "").unwrap();
    assert!(with_links(b"../secret").is_err());
    symlink("..", inside.join("up")).unwrap();
    assert!(with_links(b"up/secret").is_err());
    assert_eq!(
        fs::metadata(folder.path().join("secret")).unwrap().nlink(),
        1
    );
}

#[test]
fn special_bits_and_owners_are_not_taken() {
    let folder = tempdir().unwrap();
    let mut file = header(EntryType::Regular, b"run", 0);
    file.set_mode(0o6755);
    file.set_uid(12345);
    file.set_cksum();
    let mut sub = header(EntryType::Directory, b"sub", 0);
    sub.set_mode(0o3777);
    sub.set_cksum();
    let bytes = archive(&[(file, b""), (sub, b"")]);
    let destination = Destination::find(folder.path(), Form::Stream).unwrap();
    unpack(bytes.as_slice(), &destination, Rules::default()).unwrap();
    let run = fs::metadata(folder.path().join("run")).unwrap();
    assert_eq!(run.mode() & 0o7777, 0o755);
    assert_eq!(run.uid(), rustix::process::geteuid().as_raw());
    let sub = fs::metadata(folder.path().join("sub")).unwrap();
    assert_eq!(sub.mode() & 0o7777, 0o777);
}

#[test]
fn names_without_end_cost_no_memory() {
    let folder = tempdir().unwrap();
    for kind in [
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::XHeader,
    ] {
        // The data never come: the size alone is the reason.
        let bytes = header(kind, b"x", 1 << 50).as_bytes().to_vec();
        let words = refusal(&folder, &bytes);
        assert_eq!(words, "a name in the archive is longer than Linux takes");
    }
    let bytes = archive(&[(header(EntryType::GNULongName, b"x", 4098), &[b'a'; 4098])]);
    let words = refusal(&folder, &bytes);
    assert_eq!(words, "a name in the archive is longer than Linux takes");
}

#[test]
fn names_of_pax_are_checked_like_all_others() {
    let folder = tempdir().unwrap();
    let with = |record: &[u8]| {
        archive(&[
            (
                header(EntryType::XHeader, b"x", record.len() as u64),
                record,
            ),
            (header(EntryType::Regular, b"fine", 0), b""),
        ])
    };
    for (record, end) in [
        (&b"15 path=../out\n"[..], "leads out of the archive"),
        (b"13 path=/out\n", "leads out of the archive"),
        (b"9 path=\n\0", "a pax header is broken"),
        (b"8 size=1", "a pax header is broken"),
        (b"99 path=short\n", "a pax header is broken"),
        (b"nonsense", "a pax header is broken"),
        (b"10 size=1\n", "are not understood"),
        (b"22 GNU.sparse.major=1\n", "are not understood"),
    ] {
        let words = refusal(&folder, &with(record));
        assert!(words.contains(end), "{record:?}: {words}");
    }
}

#[test]
fn an_archive_that_is_cut_off_is_told_so() {
    let folder = tempdir().unwrap();
    let whole = archive(&[(header(EntryType::Regular, b"file", 3000), &[1; 3000])]);
    for length in [100, 512, 1000, 3000] {
        let inside = folder.path().to_path_buf();
        let destination = Destination::find(&inside, Form::Stream).unwrap();
        let error = unpack(&whole[..length], &destination, Rules::default()).unwrap_err();
        assert!(error.is::<Cut>(), "{length}: {error:#}");
    }
}

#[test]
fn an_archive_of_noise_is_an_error() {
    let folder = tempdir().unwrap();
    let noise: Vec<u8> = (0..4096u32).map(|n| (n * 7 + n / 5) as u8).collect();
    assert!(refusal(&folder, &noise).starts_with("cannot read the archive"));
    let mut bad = header(EntryType::Regular, b"file", 0);
    bad.as_old_mut().size.fill(b'9');
    bad.set_cksum();
    let words = refusal(&folder, bad.as_bytes());
    assert!(words.starts_with("cannot read the archive"), "{words}");
}

#[test]
fn a_copy_is_of_one_thing() {
    let folder = tempdir().unwrap();
    let destination = Destination::find(&folder.path().join("new"), Form::Copy).unwrap();
    let two = archive(&[
        (header(EntryType::Regular, b"one", 0), b""),
        (header(EntryType::Regular, b"two", 0), b""),
    ]);
    let error = unpack(two.as_slice(), &destination, Rules::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the archive is not only a copy of \"one\""
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_is_no_file_is_left_out_and_told() {
    let folder = tempdir().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("s")).unwrap();
    let mut told = Vec::new();
    let source = Source::find(folder.path()).unwrap();
    source
        .pack(io::sink(), &mut |path, what| {
            told.push((path.to_path_buf(), what.to_owned()));
        })
        .unwrap();
    assert_eq!(told, [(folder.path().join("s"), "a socket".to_owned())]);
}

//! A writable share and a guest, or a host, that means ill.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use devices::virtio::fs::wire::{
    CreateIn, LinkIn, MkdirIn, MknodIn, ROOT_ID, Rename2In, RenameIn, Set, WriteIn, opcode,
};
use proptest::prelude::*;
use rustix::io::Errno;
use zerocopy::{FromZeros, IntoBytes};

use crate::changes::{mount_writable, set};
use crate::client::{Client, header};
use crate::hostile::{bodies, nodes, numbers, sample, silent};

/// Requests that end in one name, and the bytes before it.
fn naming(file: u64) -> [(u32, Vec<u8>); 7] {
    let mut mknod = MknodIn::new_zeroed();
    mknod.mode = libc::S_IFREG;
    [
        (opcode::CREATE, CreateIn::new_zeroed().as_bytes().to_vec()),
        (opcode::MKNOD, mknod.as_bytes().to_vec()),
        (opcode::MKDIR, MkdirIn::new_zeroed().as_bytes().to_vec()),
        (opcode::LINK, LinkIn { oldnodeid: file }.as_bytes().to_vec()),
        (opcode::UNLINK, vec![]),
        (opcode::RMDIR, vec![]),
        (opcode::LOOKUP, vec![]),
    ]
}

#[test]
fn no_name_leads_anywhere_but_to_itself() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("inside");
    fs::create_dir_all(inside.join("directory")).unwrap();
    fs::write(folder.path().join("beside"), "kept").unwrap();
    let client = mount_writable(&inside);
    let directory = client.node("directory");
    let file = client.create_file(ROOT_ID, b"file", b"");
    let long = [b'n'; 256];
    let names: [(&[u8], Errno); 9] = [
        (b"", Errno::INVAL),
        (b".", Errno::INVAL),
        (b"..", Errno::INVAL),
        (b"/etc", Errno::INVAL),
        (b"a/b", Errno::INVAL),
        (b"../beside", Errno::INVAL),
        (b"directory/", Errno::INVAL),
        (b"a\0b", Errno::INVAL),
        (&long, Errno::NAMETOOLONG),
    ];
    for (name, error) in names {
        for (opcode, arguments) in naming(file) {
            let body = [&*arguments, name, b"\0"].concat();
            let answer = client.call(opcode, directory, &body);
            assert_eq!(answer, Err(error), "{opcode} {name:?}");
            let unended = [&*arguments, b"name"].concat();
            assert_eq!(client.call(opcode, directory, &unended), Err(Errno::INVAL));
        }
        let made = client.symlink(directory, name, b"target").map(drop);
        assert!(
            made == Err(error) || name.contains(&0),
            "{name:?}: {made:?}"
        );
        for (from, to) in [(name, &b"file"[..]), (b"file", name)] {
            let renamed = client.rename((directory, from), (directory, to), 0);
            assert!(
                [Err(error), Err(Errno::INVAL)].contains(&renamed),
                "{name:?}"
            );
        }
    }
    assert_eq!(fs::read_dir(inside.join("directory")).unwrap().count(), 0);
    assert_eq!(fs::read(folder.path().join("beside")).unwrap(), b"kept");
}

#[test]
fn a_link_swapped_in_is_never_written_through() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "kept").unwrap();
    let client = mount_writable(folder.path());
    let directory = client.mkdir(ROOT_ID, b"directory", 0o755).unwrap().nodeid;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (path, aside) = (folder.path().join("directory"), folder.path().join("aside"));
            while !done.load(Ordering::Relaxed) {
                // A file of the guest becomes a link, and so does its directory.
                let name = path.join("secret");
                let _ = fs::remove_file(&name);
                let _ = symlink(&secret, &name);
                let _ = fs::rename(&path, &aside);
                let _ = symlink(outside.path(), &path);
                let _ = fs::remove_file(&path);
                let _ = fs::rename(&aside, &path);
            }
        });
        for round in 0..1500 {
            let flags = libc::O_RDWR | libc::O_TRUNC;
            if let Ok((entry, open)) = client.create(directory, b"secret", flags, 0o600) {
                client
                    .write(entry.nodeid, open.fh, 0, b"overwritten", 0)
                    .unwrap();
                let _ = client.chmod(entry.nodeid, 0o777);
                let _ = client.truncate(entry.nodeid, None, 1);
                client.release(entry.nodeid, open.fh).unwrap();
            }
            let _ = client.mkdir(directory, format!("made-{round}").as_bytes(), 0o700);
            let _ = client.unlink(directory, b"secret");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read(&secret).unwrap(), b"kept");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn places_beyond_any_file_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let client = mount_writable(folder.path());
    let (entry, open) = client
        .create(ROOT_ID, b"file", libc::O_RDWR, 0o600)
        .unwrap();
    let (node, fh) = (entry.nodeid, open.fh);
    let most = i64::MAX.cast_unsigned();
    for offset in [most, most + 1, u64::MAX] {
        assert_eq!(client.write(node, fh, offset, b"x", 0), Err(Errno::FBIG));
        let length = u64::MAX - offset + 1;
        assert_eq!(
            client.fallocate(node, fh, 0, offset, length.max(1)),
            Err(Errno::FBIG)
        );
        assert_eq!(
            client.copy((node, fh, 0), (node, fh, offset), 1),
            Err(Errno::FBIG)
        );
        assert_eq!(
            client.copy((node, fh, offset), (node, fh, 0), 1),
            Err(Errno::FBIG)
        );
    }
    assert_eq!(
        client.truncate(node, None, most + 1).err(),
        Some(Errno::FBIG)
    );
    assert_eq!(client.fallocate(node, fh, 0, 0, most), Err(Errno::NOSPC));
    assert_eq!(
        client.lseek(node, fh, u64::MAX, libc::SEEK_DATA).err(),
        Some(Errno::NXIO)
    );
    // A WRITE that claims more than it brings, and one above the limit.
    for size in [6, 4096, (1 << 20) + 1, u32::MAX] {
        let mut write = WriteIn::new_zeroed();
        (write.fh, write.size) = (fh, size);
        let body = [write.as_bytes(), b"short"].concat();
        assert_eq!(client.call(opcode::WRITE, node, &body), Err(Errno::INVAL));
    }
    assert_eq!(fs::metadata(folder.path().join("file")).unwrap().len(), 0);
}

#[test]
fn attributes_of_any_size_are_answered() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let client = mount_writable(folder.path());
    let node = client.create_file(ROOT_ID, b"file", b"");
    let value = vec![1; (64 << 10) + 1];
    assert_eq!(
        client.setxattr(node, b"user.a", &value, 0),
        Err(Errno::TOOBIG)
    );
    for size in [2, 70_000, u32::MAX] {
        let mut body = [size.to_le_bytes(), [0; 4]].concat();
        body.extend(b"user.a\0v");
        let refused = client.call(opcode::SETXATTR, node, &body);
        assert!(refused == Err(Errno::INVAL) || refused == Err(Errno::TOOBIG));
    }
    let bad_flags = client.setxattr(node, b"user.a", b"", 1 << 7);
    assert_eq!(bad_flags, Err(Errno::INVAL));
    let long = [&b"user."[..], &[b'a'; 251]].concat();
    assert_eq!(client.setxattr(node, &long, b"", 0), Err(Errno::RANGE));
    assert_eq!(client.setxattr(node, b"user.", b"", 0), Err(Errno::INVAL));
    assert_eq!(client.setxattr(node, b"", b"", 0), Err(Errno::RANGE));
    client.setxattr(node, b"user.a", b"value", 0).unwrap();
    for size in [5, 70_000, u32::MAX] {
        assert_eq!(
            client.getxattr(node, b"user.a", size),
            Ok(b"value".to_vec())
        );
        let listed = client.listxattr(node, size.max(7));
        assert_eq!(listed, Ok(b"user.a\0".to_vec()));
    }
    let body = [&[0, 1, 0, 0, 0, 0, 0, 0][..], b"user.a\0"].concat();
    let no_room = client.call_with_room(opcode::GETXATTR, node, &body, 4);
    assert_eq!(no_room, Err(Errno::INVAL));
}

#[test]
fn handles_are_of_one_node_of_one_share() {
    let folder = tempfile::tempdir().unwrap();
    let client = mount_writable(folder.path());
    let a = client.create_file(ROOT_ID, b"a", b"a");
    let b = client.create_file(ROOT_ID, b"b", b"b");
    let fh = client.open(a, libc::O_RDWR).unwrap().fh;
    let directory = client.opendir(ROOT_ID).unwrap().fh;
    let closed = client.open(a, libc::O_RDWR).unwrap().fh;
    client.release(a, closed).unwrap();
    let other = mount_writable(folder.path());
    let theirs = other.node("a");
    for (client, node, fh) in [
        (&client, b, fh),
        (&client, a, closed),
        (&client, a, directory),
        (&client, a, u64::MAX),
        (&client, 0, fh),
        (&client, u64::MAX, fh),
        (&other, theirs, fh),
    ] {
        assert_eq!(client.write(node, fh, 0, b"x", 0), Err(Errno::BADF));
        assert_eq!(client.fsync(node, fh, 0), Err(Errno::BADF));
        assert_eq!(client.fallocate(node, fh, 0, 0, 1), Err(Errno::BADF));
        assert_eq!(client.lseek(node, fh, 0, libc::SEEK_DATA), Err(Errno::BADF));
        assert_eq!(client.truncate(node, Some(fh), 0).err(), Some(Errno::BADF));
        assert_eq!(
            client.copy((node, fh, 0), (node, fh, 0), 1),
            Err(Errno::BADF)
        );
    }
    let on_directory = client.write(ROOT_ID, directory, 0, b"x", 0);
    assert_eq!(on_directory, Err(Errno::ISDIR));
    assert_eq!(client.truncate(ROOT_ID, None, 0).err(), Some(Errno::ISDIR));
    assert_eq!(fs::read(folder.path().join("b")).unwrap(), b"b");
}

#[test]
fn requests_cut_short_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let client = mount_writable(folder.path());
    let node = client.create_file(ROOT_ID, b"file", b"kept");
    for opcode in 0..=60 {
        // FORGETs have no reply; INIT and DESTROY end the session.
        if [opcode::FORGET, opcode::BATCH_FORGET, opcode::INTERRUPT].contains(&opcode)
            || [opcode::INIT, opcode::DESTROY].contains(&opcode)
        {
            continue;
        }
        for bytes in 0..8 {
            for node in [ROOT_ID, node, 0, u64::MAX] {
                let _ = client.call(opcode, node, &vec![0xff; bytes]);
                let _ = client.call_with_room(opcode, node, &[0; 88], bytes);
            }
        }
    }
    assert_eq!(fs::read(folder.path().join("file")).unwrap(), b"kept");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_directory_never_gets_below_itself() {
    let folder = tempfile::tempdir().unwrap();
    let client = mount_writable(folder.path());
    let a = client.mkdir(ROOT_ID, b"a", 0o755).unwrap().nodeid;
    let b = client.mkdir(a, b"b", 0o755).unwrap().nodeid;
    assert_eq!(
        client.rename((ROOT_ID, b"a"), (b, b"a"), 0),
        Err(Errno::INVAL)
    );
    assert_eq!(
        client.rename((ROOT_ID, b"a"), (a, b"a"), 0),
        Err(Errno::INVAL)
    );
    let exchange = libc::RENAME_EXCHANGE;
    assert_eq!(
        client.rename((ROOT_ID, b"a"), (a, b"b"), exchange),
        Err(Errno::INVAL)
    );
    assert_eq!(client.node("a/b"), b);
    // Flags that are none, or not both at once, and a whiteout, which is a device node.
    for flags in [3, 4, 8, u32::MAX] {
        assert_eq!(
            client.rename((a, b"b"), (ROOT_ID, b"c"), flags),
            Err(Errno::INVAL)
        );
    }
    let rename = Rename2In::new_zeroed();
    let one_name = [rename.as_bytes(), b"b\0"].concat();
    assert_eq!(
        client.call(opcode::RENAME2, a, &one_name),
        Err(Errno::INVAL)
    );
    let three = [rename.as_bytes(), b"b\0c\0d\0"].concat();
    assert_eq!(client.call(opcode::RENAME2, a, &three), Err(Errno::INVAL));
    let old_form = [RenameIn { newdir: ROOT_ID }.as_bytes(), b"b\0c\0"].concat();
    client.call(opcode::RENAME, a, &old_form).unwrap();
    assert_eq!(client.node("c"), b);
}

#[test]
fn numbers_that_are_nobodys_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let client = mount_writable(folder.path());
    let node = client.create_file(ROOT_ID, b"file", b"");
    for (uid, gid) in [(u32::MAX, 0), (0, u32::MAX)] {
        assert_eq!(client.chown(node, uid, gid).err(), Some(Errno::INVAL));
    }
    let mut everything = set(Set::all() - Set::FH);
    everything.uid = u32::MAX;
    assert_eq!(client.setattr(node, &everything).err(), Some(Errno::INVAL));
    let mut unknown = set(Set::MODE);
    unknown.valid |= !Set::all().bits();
    unknown.mode = 0o640;
    assert_eq!(client.setattr(node, &unknown).unwrap().mode & 0o7777, 0o640);
}

/// Arguments of any request, then two names or one.
fn arguments() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::collection::vec(prop_oneof![4 => 0..4u64, 1 => any::<u64>()], 0..12);
    let names = prop_oneof![
        Just(&b"file\0"[..]),
        Just(&b"new\0"[..]),
        Just(&b"directory\0"[..]),
        Just(&b"link\0"[..]),
        Just(&b"../secret\0"[..]),
        Just(&b"user.a\0"[..]),
        Just(&b""[..]),
    ];
    (words, names.clone(), names)
        .prop_map(|(words, one, other)| [words.as_bytes(), one, other].concat())
}

proptest! {
    #[test]
    fn any_sequence_of_changes_stays_inside(
        requests in prop::collection::vec(
            (numbers(), nodes(), prop_oneof![arguments(), bodies()], 0..9000usize),
            1..200,
        ),
    ) {
        let folder = sample();
        let client = mount_writable(&folder.path().join("share"));
        for name in ["file", "directory", "link"] {
            client.node(name);
        }
        for (number, node, body, room) in &requests {
            let header = header(*number, 1, *node, body.len());
            let request = [header.as_bytes(), body].concat();
            let reply = client.send(&request, *room);
            prop_assert_eq!(reply.is_some(), !silent(*number));
            let reply = reply.map(|(_, body)| body).unwrap_or_default();
            let found = reply.windows(7).any(|window| window == b"outside");
            prop_assert!(!found);
        }
        client.init(7, 41, 0).unwrap();
        client.mkdir(ROOT_ID, b"still in order", 0o700).unwrap();
        let secret = fs::read(folder.path().join("secret")).unwrap();
        prop_assert_eq!(secret, b"outside");
        prop_assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}

#[test]
fn many_workers_change_one_tree() {
    let folder = tempfile::tempdir().unwrap();
    let client = mount_writable(folder.path());
    let names: Vec<_> = (0..4).map(|n| format!("directory-{n}")).collect();
    let nodes: Vec<_> = names
        .iter()
        .map(|name| {
            client
                .mkdir(ROOT_ID, name.as_bytes(), 0o755)
                .unwrap()
                .nodeid
        })
        .collect();
    let work = |client: &Client, own: usize| {
        for round in 0..400 {
            let file = client.create_file(nodes[own], b"file", own.to_string().as_bytes());
            // Directories change places all the while, and each node stays its own directory.
            let exchange = libc::RENAME_EXCHANGE;
            let (one, other) = (&names[round % 4], &names[(round + 1) % 4]);
            let places = ((ROOT_ID, one.as_bytes()), (ROOT_ID, other.as_bytes()));
            client.rename(places.0, places.1, exchange).unwrap();
            assert_eq!(client.getattr(file).unwrap().size, 1);
            let fh = client.open(file, libc::O_RDONLY).unwrap().fh;
            assert_eq!(
                client.read_open(file, fh, 0, 9),
                Ok(own.to_string().into_bytes())
            );
            client.release(file, fh).unwrap();
            client.unlink(nodes[own], b"file").unwrap();
            client.forget(file, 1);
        }
    };
    thread::scope(|scope| {
        for own in 0..4 {
            let (client, work) = (&client, &work);
            scope.spawn(move || work(client, own));
        }
    });
    for name in &names {
        assert_eq!(fs::read_dir(folder.path().join(name)).unwrap().count(), 0);
    }
}

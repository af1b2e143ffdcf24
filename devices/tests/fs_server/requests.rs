//! One request at a time: what each answers, when it is right and when it is wrong.

use std::fs;
use std::os::unix::fs::symlink;

use devices::virtio::fs::wire::{
    BatchForgetIn, EntryOut, ForgetOne, InHeader, ROOT_ID, StatfsOut, opcode,
};
use rustix::io::Errno;
use tempfile::TempDir;
use zerocopy::IntoBytes;

use crate::client::{Client, changing, header, immutable, object, read_in};

fn sample() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "content").unwrap();
    fs::create_dir(folder.path().join("directory")).unwrap();
    symlink("file", folder.path().join("link")).unwrap();
    folder
}

#[test]
fn names_that_are_no_names_are_refused() {
    let folder = sample();
    let client = Client::mount(folder.path(), immutable());
    let long = [&[b'n'; 256][..], b"\0"].concat();
    let longest = [&[b'n'; 255][..], b"\0"].concat();
    let table: &[(&[u8], Result<(), Errno>)] = &[
        (b"file\0", Ok(())),
        (b"..\0", Err(Errno::INVAL)),
        (b".\0", Err(Errno::INVAL)),
        (b"\0", Err(Errno::INVAL)),
        (b"", Err(Errno::INVAL)),
        (b"/\0", Err(Errno::INVAL)),
        (b"/etc\0", Err(Errno::INVAL)),
        (b"directory/..\0", Err(Errno::INVAL)),
        (b"../etc\0", Err(Errno::INVAL)),
        (b"file", Err(Errno::INVAL)),
        (b"file\0\0", Err(Errno::INVAL)),
        (b"fi\0le\0", Err(Errno::INVAL)),
        (&long, Err(Errno::NAMETOOLONG)),
        (&longest, Err(Errno::NOENT)),
    ];
    for (body, expected) in table {
        let answer = client.call(opcode::LOOKUP, ROOT_ID, body).map(drop);
        assert_eq!(answer, *expected, "{body:?}");
    }
}

#[test]
fn extensions_after_a_name_are_no_part_of_it() {
    let folder = sample();
    let client = Client::mount(folder.path(), immutable());
    let body = b"file\0extended";
    let answer = |units| {
        let mut header = header(opcode::LOOKUP, 5, ROOT_ID, body.len());
        header.total_extlen = units;
        let request = [header.as_bytes(), body].concat();
        client.send(&request, 4096).unwrap().0.error
    };
    assert_eq!(answer(1), 0);
    for wrong in [0, 2, u16::MAX] {
        assert_eq!(answer(wrong), -libc::EINVAL);
    }
}

#[test]
fn a_name_below_what_is_no_directory_does_not_exist() {
    let folder = sample();
    symlink("/", folder.path().join("root")).unwrap();
    for content in [immutable(), changing()] {
        let client = Client::mount(folder.path(), content);
        for name in ["file", "link", "root"] {
            let below = client.lookup(client.node(name), b"etc");
            assert_eq!(below.err(), Some(Errno::NOTDIR));
        }
    }
}

#[test]
fn unknown_nodes_are_stale_to_every_request() {
    let folder = sample();
    for content in [immutable(), changing()] {
        let client = Client::mount(folder.path(), content);
        client.node("file");
        for node in [
            0,
            3,
            1 << 32 | 1,
            1 << 32 | 2,
            u64::MAX,
            u64::from(u32::MAX),
        ] {
            let stale = Some(Errno::STALE);
            assert_eq!(client.lookup(node, b"file").err(), stale);
            assert_eq!(client.getattr(node).err(), stale);
            assert_eq!(client.readlink(node).err(), stale);
            let listing = client.readdir(opcode::READDIR, node, 0, 0, 4096);
            assert_eq!(listing.err(), stale);
            let read = client.read(node, 0, 1).unwrap_err();
            assert!(matches!(read, Errno::STALE | Errno::BADF));
        }
    }
}

#[test]
fn what_was_forgotten_is_stale() {
    let folder = sample();
    let client = Client::mount(folder.path(), immutable());
    let node = client.node("file");
    client.node("file");
    client.forget(node, 1);
    assert_eq!(client.getattr(node).map(|attr| attr.size), Ok(7));
    client.forget(node, u64::MAX);
    assert_eq!(client.getattr(node).err(), Some(Errno::STALE));
    assert_eq!(client.read(node, 0, 1), Err(Errno::STALE));
    client.forget(node, 1);
    client.forget(ROOT_ID, u64::MAX);
    assert_ne!(client.node("file"), node);
}

#[test]
fn many_are_forgotten_at_once() {
    let folder = sample();
    let client = Client::mount(folder.path(), immutable());
    let nodes = ["file", "directory", "link"].map(|name| client.node(name));
    let send = |count: u32, listed: &[u64]| {
        let batch = BatchForgetIn { count, dummy: 0 };
        let ones = listed.iter().map(|nodeid| ForgetOne {
            nodeid: *nodeid,
            nlookup: 1,
        });
        let ones: Vec<_> = ones.collect();
        let body = [batch.as_bytes(), ones.as_bytes()].concat();
        let header = header(opcode::BATCH_FORGET, 7, 0, body.len());
        let request = [header.as_bytes(), &body].concat();
        assert_eq!(client.send(&request, 0), None);
    };
    // One that claims more than it holds changes nothing.
    send(4, &nodes);
    send(u32::MAX, &nodes);
    assert!(nodes.iter().all(|node| client.getattr(*node).is_ok()));
    send(2, &nodes);
    let left = nodes.map(|node| client.getattr(node).is_ok());
    assert_eq!(left, [false, false, true]);
}

/// Offset, size, and what is read.
type Read<'a> = (u64, u32, Result<&'a [u8], Errno>);

#[test]
fn reads_end_where_the_file_does() {
    let folder = sample();
    for content in [immutable(), changing()] {
        let client = Client::mount(folder.path(), content);
        let node = client.node("file");
        let fh = client.open(node, libc::O_RDONLY).map_or(0, |open| open.fh);
        let max = i64::MAX.cast_unsigned();
        let table: &[Read<'_>] = &[
            (0, 7, Ok(b"content")),
            (0, 1 << 20, Ok(b"content")),
            (3, 2, Ok(b"te")),
            (6, 100, Ok(b"t")),
            (7, 100, Ok(b"")),
            (0, 0, Ok(b"")),
            (1 << 40, 4096, Ok(b"")),
            (max, 1, Err(Errno::INVAL)),
            (max + 1, 1, Err(Errno::INVAL)),
            (u64::MAX, 1, Err(Errno::INVAL)),
            (0, (1 << 20) + 1, Err(Errno::INVAL)),
            (0, u32::MAX, Err(Errno::INVAL)),
        ];
        for (offset, size, expected) in table {
            let answer = client.read_open(node, fh, *offset, *size);
            let expected = expected.map(<[u8]>::to_vec);
            // The host's file systems differ in whether the last byte of all can be addressed.
            let answer = answer.map_err(|error| match error {
                Errno::OVERFLOW => Errno::INVAL,
                other => other,
            });
            assert!(
                answer == expected || *offset == max && answer == Ok(vec![]),
                "{offset} {size} {answer:?}"
            );
        }
    }
}

#[test]
fn only_files_are_read_and_opened() {
    let folder = sample();
    let client = Client::mount(folder.path(), immutable());
    assert_eq!(client.read(ROOT_ID, 0, 1), Err(Errno::ISDIR));
    assert_eq!(client.read(client.node("link"), 0, 1), Err(Errno::LOOP));
    assert_eq!(client.readlink(client.node("file")), Err(Errno::INVAL));
    assert_eq!(client.readlink(ROOT_ID), Err(Errno::INVAL));
    let client = Client::mount(folder.path(), changing());
    let open = |node| client.open(node, libc::O_RDONLY).map(drop);
    assert_eq!(open(client.node("directory")), Err(Errno::ISDIR));
    assert_eq!(open(client.node("link")), Err(Errno::LOOP));
    let opendir = client.opendir(client.node("file")).map(drop);
    assert_eq!(opendir, Err(Errno::NOTDIR));
}

#[test]
fn devices_fifos_and_sockets_are_seen_but_never_opened() {
    let folder = sample();
    let path = |name| folder.path().join(name);
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, path("fifo"), fifo, 0o666.into(), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    for content in [immutable(), changing()] {
        let client = Client::mount(folder.path(), content);
        for (name, kind) in [("fifo", libc::S_IFIFO), ("socket", libc::S_IFSOCK)] {
            let node = client.node(name);
            assert_eq!(client.getattr(node).unwrap().mode & libc::S_IFMT, kind);
            let read = client.read(node, 0, 1).unwrap_err();
            assert!(matches!(read, Errno::ACCESS | Errno::BADF));
            let open = client.open(node, libc::O_RDONLY).map(drop).unwrap_err();
            assert!(matches!(open, Errno::ACCESS | Errno::NOSYS));
        }
    }
}

#[test]
fn what_is_not_offered_is_not_there() {
    let folder = sample();
    let client = Client::mount(folder.path(), immutable());
    let node = client.node("file");
    for absent in [
        opcode::GETXATTR,
        opcode::LISTXATTR,
        opcode::LSEEK,
        opcode::FLUSH,
        opcode::ACCESS,
        opcode::GETLK,
        opcode::SETLK,
        opcode::SETLKW,
        opcode::BMAP,
        opcode::IOCTL,
        opcode::POLL,
        opcode::NOTIFY_REPLY,
        opcode::SETUPMAPPING,
        opcode::REMOVEMAPPING,
        opcode::STATX,
        0,
        7,
        19,
        opcode::END,
        4096,
        u32::MAX,
    ] {
        assert_eq!(client.call(absent, node, &[0; 64]), Err(Errno::NOSYS));
    }
    for fine in [opcode::FSYNC, opcode::FSYNCDIR, opcode::SYNCFS] {
        assert_eq!(client.call(fine, node, &[0; 16]), Ok(vec![]));
    }
}

#[test]
fn statfs_is_the_hosts() {
    let folder = sample();
    let client = Client::mount(folder.path(), immutable());
    let answer: StatfsOut = object(&client.call(opcode::STATFS, ROOT_ID, &[]).unwrap());
    let host = rustix::fs::statvfs(folder.path()).unwrap();
    assert_eq!(answer.blocks, host.f_blocks);
    assert_eq!(answer.files, host.f_files);
    assert_eq!(u64::from(answer.frsize), host.f_frsize);
    assert_eq!(answer.namelen, 255);
}

#[test]
fn a_length_that_is_not_true_is_refused() {
    let folder = sample();
    let client = Client::mount(folder.path(), immutable());
    let body = b"file\0";
    let whole = size_of::<InHeader>() + body.len();
    for claimed in [
        0,
        1,
        39,
        40,
        whole - 1,
        whole + 1,
        1 << 20,
        u32::MAX as usize,
    ] {
        let mut header = header(opcode::LOOKUP, 77, ROOT_ID, 0);
        header.len = claimed as u32;
        let request = [header.as_bytes(), body].concat();
        let (reply, _) = client.send(&request, 4096).unwrap();
        assert_eq!(
            (reply.error, reply.unique),
            (-libc::EINVAL, 77),
            "{claimed}"
        );
    }
}

#[test]
fn a_piece_of_a_header_is_answered() {
    let folder = sample();
    let client = Client::mount(folder.path(), immutable());
    let whole = header(opcode::LOOKUP, 0x1122_3344_5566_7788, ROOT_ID, 0);
    for bytes in 0..size_of::<InHeader>() {
        let (reply, body) = client.send(&whole.as_bytes()[..bytes], 4096).unwrap();
        assert_eq!(reply.error, -libc::EINVAL);
        assert_eq!(body, []);
        assert!(bytes < 16 || reply.unique == whole.unique);
    }
}

#[test]
fn a_reply_without_room_is_an_error_and_changes_nothing() {
    let folder = sample();
    let client = Client::mount(folder.path(), immutable());
    let room = size_of::<EntryOut>() - 1;
    let refused = client.call_with_room(opcode::LOOKUP, ROOT_ID, b"file\0", room);
    assert_eq!(refused, Err(Errno::INVAL));
    let node = client.node("file");
    client.forget(node, 1);
    assert_eq!(client.getattr(node).err(), Some(Errno::STALE));
    let (file, link) = (client.node("file"), client.node("link"));
    let read = read_in(0, 0, 7);
    for (opcode, node, body, room) in [
        (opcode::GETATTR, file, &[0; 16][..], 103),
        (opcode::READLINK, link, &[], 3),
        (opcode::STATFS, file, &[], 79),
        (opcode::READ, file, read.as_bytes(), 6),
    ] {
        let refused = client.call_with_room(opcode, node, body, room);
        assert_eq!(refused, Err(Errno::INVAL), "{opcode}");
    }
}

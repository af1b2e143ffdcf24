//! What a guest makes has no power on the host: permissions, device nodes, attributes, owners.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use devices::virtio::fs::wire::ROOT_ID;
use devices::virtio::fs::{Content, Owners, Wall};
use rustix::fs::{XattrFlags, lsetxattr};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use tempfile::TempDir;

use crate::changes::{mount_writable, own, writable};
use crate::client::Client;
use crate::writable::{mode, read, share};

/// Does something as a user does that is not root.
fn without_root(act: impl FnOnce() + Send) {
    let act = || {
        let none = CapabilitySet::empty();
        let rights = CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        };
        set_capabilities(None, rights).unwrap();
        act();
    };
    std::thread::scope(|scope| scope.spawn(act).join().unwrap());
}

#[test]
fn set_uid_and_set_group_bits_do_not_arrive() {
    let (folder, client) = share();
    let (entry, _) = client
        .create(ROOT_ID, b"file", libc::O_RDWR, 0o6755)
        .unwrap();
    assert_eq!(entry.attr.mode & 0o7777, 0o755);
    let attr = client.chmod(entry.nodeid, 0o6711).unwrap();
    assert_eq!((attr.mode & 0o7777, mode(&folder, "file")), (0o711, 0o711));
    let made = client
        .mknod(ROOT_ID, b"made", libc::S_IFREG | 0o6755, 0)
        .unwrap();
    assert_eq!(made.attr.mode & 0o7777, 0o755);
    let directory = client.mkdir(ROOT_ID, b"directory", 0o7755).unwrap().nodeid;
    assert_eq!(mode(&folder, "directory"), 0o1755);
    client.chmod(directory, 0o6755).unwrap();
    assert_eq!(
        mode(&folder, "directory"),
        0o2755,
        "whose group new files get"
    );
}

#[test]
fn device_nodes_are_refused() {
    let (folder, client) = share();
    for kind in [
        libc::S_IFCHR,
        libc::S_IFBLK,
        libc::S_IFDIR,
        libc::S_IFLNK,
        libc::S_IFMT,
    ] {
        let made = client
            .mknod(ROOT_ID, b"node", kind | 0o666, 0x0103)
            .map(drop);
        assert_eq!(made, Err(Errno::PERM), "{kind:#o}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    client
        .mknod(ROOT_ID, b"fifo", libc::S_IFIFO | 0o600, 0)
        .unwrap();
    client
        .mknod(ROOT_ID, b"socket", libc::S_IFSOCK | 0o600, 0)
        .unwrap();
    // Opened here they could wait for ever; the guest's kernel does it by itself.
    let fifo = client.node("fifo");
    assert_eq!(client.open(fifo, libc::O_RDWR).err(), Some(Errno::ACCESS));
    assert_eq!(client.truncate(fifo, None, 0).err(), Some(Errno::INVAL));
}

/// A folder whose file system keeps attributes of users.
fn share_with_attributes() -> (TempDir, Client) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let client = mount_writable(folder.path());
    (folder, client)
}

#[test]
fn users_attributes_are_kept_and_no_others() {
    let (folder, client) = share_with_attributes();
    let node = client.create_file(ROOT_ID, b"file", b"");
    client.setxattr(node, b"user.one", b"first", 0).unwrap();
    client.setxattr(node, b"user.two", b"", 0).unwrap();
    let path = folder.path().join("file");
    let mut buffer = [0; 100];
    let bytes = rustix::fs::lgetxattr(&path, "user.one", &mut buffer[..]).unwrap();
    assert_eq!(&buffer[..bytes], b"first");
    assert_eq!(client.getxattr(node, b"user.one", 5), Ok(b"first".to_vec()));
    assert_eq!(client.getxattr(node, b"user.one", 4), Err(Errno::RANGE));
    assert_eq!(
        Client::size_of(client.getxattr(node, b"user.one", 0)),
        Ok(5)
    );
    assert_eq!(client.getxattr(node, b"user.two", 10), Ok(vec![]));
    assert_eq!(client.getxattr(node, b"user.three", 10), Err(Errno::NODATA));
    let mut names: Vec<_> = client
        .listxattr(node, 100)
        .unwrap()
        .split(|byte| *byte == 0)
        .map(<[u8]>::to_vec)
        .collect();
    names.sort();
    assert_eq!(names, [&b""[..], b"user.one", b"user.two"]);
    assert_eq!(Client::size_of(client.listxattr(node, 0)), Ok(18));
    assert_eq!(client.listxattr(node, 17), Err(Errno::RANGE));
    let create = client.setxattr(node, b"user.one", b"", libc::XATTR_CREATE as u32);
    assert_eq!(create, Err(Errno::EXIST));
    let replace = client.setxattr(node, b"user.no", b"", libc::XATTR_REPLACE as u32);
    assert_eq!(replace, Err(Errno::NODATA));
    for name in [
        &b"security.capability"[..],
        b"security.selinux",
        b"trusted.overlay.opaque",
        b"system.posix_acl_access",
        b"mine",
        b"users.a",
    ] {
        let unknown = Err(Errno::OPNOTSUPP);
        assert_eq!(client.setxattr(node, name, b"\x01\0\0\x02", 0), unknown);
        assert_eq!(client.getxattr(node, name, 100).map(drop), unknown);
        assert_eq!(client.removexattr(node, name), unknown);
    }
    client.removexattr(node, b"user.one").unwrap();
    assert_eq!(client.removexattr(node, b"user.one"), Err(Errno::NODATA));
    // What the host's own programs have set is not listed either, where they may set it.
    let _ = lsetxattr(&path, "trusted.host", b"", XattrFlags::empty());
    assert_eq!(client.listxattr(node, 100), Ok(b"user.two\0".to_vec()));
}

#[test]
fn files_are_the_programs_own_for_a_user_without_root() {
    let folder = tempfile::tempdir().unwrap();
    let content = Content::Writable {
        timeout: Content::CHANGING_TIMEOUT,
        owners: Owners::Own {
            host: own(),
            guest: (4321, 8765),
        },
        closed: None,
    };
    let client = Client::mount(folder.path(), content);
    let node = client.create_file(ROOT_ID, b"file", b"");
    let attr = client.getattr(node).unwrap();
    assert_eq!((attr.uid, attr.gid), (4321, 8765));
    let stat = fs::metadata(folder.path().join("file")).unwrap();
    assert_eq!((stat.uid(), stat.gid()), own());
    let listed = client.lookup(ROOT_ID, b"file").unwrap().attr;
    assert_eq!((listed.uid, listed.gid), (4321, 8765));
    // This is all that such a user may set.
    without_root(|| {
        client.chown(node, 4321, 8765).unwrap();
        assert_eq!(client.chown(node, 5, 8765).err(), Some(Errno::PERM));
        assert_eq!(client.chown(node, u32::MAX, 0).err(), Some(Errno::INVAL));
    });
}

#[test]
fn what_was_opened_to_write_is_cut_whatever_its_permissions_are_now() {
    let (folder, client) = share();
    without_root(|| {
        let (entry, open) = client
            .create(ROOT_ID, b"file", libc::O_WRONLY, 0o400)
            .unwrap();
        let (node, fh) = (entry.nodeid, open.fh);
        client.write(node, fh, 0, b"content", 0).unwrap();
        client.truncate(node, Some(fh), 4).unwrap();
        let refused = client.truncate(node, None, 0);
        assert_eq!(refused.err(), Some(Errno::ACCESS));
    });
    assert_eq!(read(&folder, "file"), b"cont");
}

#[test]
fn a_worker_of_roots_takes_set_uid_bits_off_and_has_no_umask() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    fs::write(&program, "the host's").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o6755)).unwrap();
    let client = mount_writable(folder.path());
    let wall = Wall::new(client.server.root(), writable());
    std::thread::scope(|scope| {
        let work = || {
            wall.confine_thread().unwrap();
            let node = client.node("program");
            let fh = client.open(node, libc::O_WRONLY).unwrap().fh;
            client.write(node, fh, 0, b"the guest's", 0).unwrap();
            client
                .create(ROOT_ID, b"open", libc::O_RDWR, 0o666)
                .unwrap();
            client
                .rename((ROOT_ID, b"open"), (ROOT_ID, b"moved"), 0)
                .unwrap();
            client.link(node, ROOT_ID, b"linked").unwrap();
            client.chmod(node, 0o700).unwrap();
            client.chmod(node, 0o755).unwrap();
        };
        scope.spawn(work).join().unwrap();
    });
    assert_eq!(mode(&folder, "program"), 0o755);
    assert_eq!(mode(&folder, "moved"), 0o666);
    assert_eq!(read(&folder, "linked"), b"the guest's");
}

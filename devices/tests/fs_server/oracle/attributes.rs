//! Operations on attributes.

use devices::virtio::fs::wire::Set;
use rustix::fs::{self, AtFlags, CWD, FileType, Mode, XattrFlags};

use super::host::path_of;
use super::{Open, Worlds, assert_same, kept};
use crate::changes::set;

impl Worlds {
    pub(super) fn chmod(&mut self) {
        let path = self.chance.path();
        let kind = self.host.kind(&path);
        if kind == Some(FileType::Symlink) {
            return;
        }
        let mode = self
            .chance
            .permissions(&[0o644, 0o755, 0o4711, 0o2755, 0o1777, 0]);
        let changed = self.guest.retry(&[&path], |guest| {
            let node = guest.node(&path)?;
            guest.client.chmod(node, mode)
        });
        let mode = Mode::from_raw_mode(kept(mode, kind));
        let expected = self
            .host
            .reach(&path)
            .and_then(|file| fs::chmodat(CWD, path_of(&file), mode, AtFlags::empty()));
        assert_eq!(changed.map(drop), expected);
    }

    pub(super) fn times(&mut self) {
        let path = self.chance.path();
        let seconds = self.chance.below(1 << 32);
        let mut setattr = set(Set::MTIME);
        (setattr.mtime, setattr.mtimensec) = (seconds, 5);
        let attr = self.guest.retry(&[&path], |guest| {
            let node = guest.node(&path)?;
            guest.client.setattr(node, &setattr)
        });
        assert_eq!(attr.map(drop), self.host.stat(&path).map(drop));
        if let Ok(attr) = attr {
            assert_eq!((attr.mtime, attr.mtimensec), (seconds, 5));
        }
    }

    pub(super) fn attributes(&mut self) {
        let path = self.chance.path();
        let name = self.chance.of(&["user.a", "user.b"]);
        let value = vec![7; self.chance.below(60) as usize];
        let flags = self
            .chance
            .of(&[0, libc::XATTR_CREATE, libc::XATTR_REPLACE]);
        let flags = XattrFlags::from_bits_retain(flags.cast_unsigned());
        let remove = self.chance.below(3) == 0;
        let changed = self.guest.retry(&[&path], |guest| {
            let node = guest.node(&path)?;
            let client = &guest.client;
            if remove {
                client.removexattr(node, name.as_bytes())
            } else {
                client.setxattr(node, name.as_bytes(), &value, flags.bits())
            }
        });
        let expected = self.host.reach(&path).and_then(|file| {
            let path = path_of(&file);
            if remove {
                fs::removexattr(path, name)
            } else {
                fs::setxattr(path, name, &value, flags)
            }
        });
        assert_eq!(changed, expected);
    }

    pub(super) fn stat(&mut self) {
        if let Some(nth) = self.some_open() {
            let Open { node, file, .. } = &self.open[nth];
            // Linux tells no handle for fstat(2), also of a file that has no name any more.
            let attr = self.guest.client.getattr(*node).unwrap();
            assert_same(&attr, &fs::fstat(file).unwrap());
        }
        let path = self.chance.path();
        let attr = self.guest.retry(&[&path], |guest| {
            let node = guest.node(&path)?;
            guest.client.getattr(node)
        });
        let stat = self.host.stat(&path);
        assert_eq!(attr.map(drop), stat.map(drop));
        if let (Ok(attr), Ok(stat)) = (attr, stat) {
            assert_same(&attr, &stat);
        }
    }
}

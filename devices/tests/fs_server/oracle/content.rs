//! Operations on the content of files that are open.

use rustix::fs::{self, FallocateFlags, FileType, SeekFrom};

use super::{Open, Worlds, assert_same};

impl Worlds {
    pub(super) fn write(&mut self) {
        let Some(nth) = self.some_open() else { return };
        let (offset, size) = (
            self.chance.below(20_000),
            self.chance.of(&[1, 100, 4096, 9000]),
        );
        let data = vec![self.chance.next() as u8; size];
        let Open {
            node,
            fh,
            file,
            flags,
        } = &self.open[nth];
        let client = &self.guest.client;
        let written = client.write(*node, *fh, offset, &data, *flags);
        // Linux appends also with pwrite(2).
        assert_eq!(written, rustix::io::pwrite(file, &data, offset));
    }

    pub(super) fn read(&mut self) {
        let Some(nth) = self.some_open() else { return };
        let Open { node, fh, file, .. } = &self.open[nth];
        let offset = self.chance.below(25_000);
        let read = self.guest.client.read_open(*node, *fh, offset, 8192);
        let mut buffer = [0; 8192];
        let expected = rustix::io::pread(file, &mut buffer, offset);
        assert_eq!(read, expected.map(|bytes| buffer[..bytes].to_vec()));
    }

    pub(super) fn truncate(&mut self) {
        let size = self.chance.of(&[0, 1, 5000, 30_000]);
        if let Some(nth) = self.some_open().filter(|_| size != 1) {
            let Open { node, fh, file, .. } = &self.open[nth];
            // ftruncate(2) of what is not open for writing is the guest kernel's to refuse.
            if fs::ftruncate(file, size).is_ok() {
                let attr = self.guest.client.truncate(*node, Some(*fh), size).unwrap();
                assert_same(&attr, &fs::fstat(file).unwrap());
            }
            return;
        }
        let path = self.chance.path();
        if self.host.kind(&path) != Some(FileType::RegularFile) {
            return;
        }
        let cut = self.guest.retry(&[&path], |guest| {
            let node = guest.node(&path)?;
            guest.client.truncate(node, None, size)
        });
        let file = self.host.open(&path, libc::O_WRONLY, 0).unwrap();
        fs::ftruncate(&file, size).unwrap();
        assert_same(&cut.unwrap(), &fs::fstat(&file).unwrap());
    }

    pub(super) fn fallocate(&mut self) {
        let Some(nth) = self.some_open() else { return };
        let Open { node, fh, file, .. } = &self.open[nth];
        let keep = libc::FALLOC_FL_KEEP_SIZE;
        let mode = self
            .chance
            .of(&[0, keep, keep | libc::FALLOC_FL_PUNCH_HOLE]);
        let (offset, length) = (self.chance.below(20_000), self.chance.of(&[0, 100, 10_000]));
        let done = self
            .guest
            .client
            .fallocate(*node, *fh, mode, offset, length);
        let mode = FallocateFlags::from_bits_retain(mode.cast_unsigned());
        assert_eq!(done, fs::fallocate(file, mode, offset, length));
    }

    pub(super) fn seek(&mut self) {
        let Some(nth) = self.some_open() else { return };
        let Open { node, fh, file, .. } = &self.open[nth];
        let offset = self.chance.below(30_000);
        let whence = self.chance.of(&[libc::SEEK_DATA, libc::SEEK_HOLE]);
        let found = self.guest.client.lseek(*node, *fh, offset, whence);
        let from = match whence {
            libc::SEEK_DATA => SeekFrom::Data(offset),
            _ => SeekFrom::Hole(offset),
        };
        assert_eq!(found, fs::seek(file, from));
    }

    pub(super) fn copy(&mut self) {
        let (Some(from), Some(to)) = (self.some_open(), self.some_open()) else {
            return;
        };
        let (from, to) = (&self.open[from], &self.open[to]);
        // The guest's kernel refuses to copy to a file that is open with O_APPEND.
        if to.flags & libc::O_APPEND != 0 {
            return;
        }
        let (mut off_in, mut off_out) = (self.chance.below(9000), self.chance.below(20_000));
        let source = (from.node, from.fh, off_in);
        let target = (to.node, to.fh, off_out);
        let copied = self.guest.client.copy(source, target, 6000);
        let (off_in, off_out) = (Some(&mut off_in), Some(&mut off_out));
        let expected = fs::copy_file_range(&from.file, off_in, &to.file, off_out, 6000);
        assert_eq!(copied, expected);
    }
}

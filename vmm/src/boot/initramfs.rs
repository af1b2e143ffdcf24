//! A cpio archive in the "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst):
//! the first root file system, which holds mvm's init and the modules that it loads.

use std::io::Write;

use anyhow::Context;
use devices::Memory;
use vm_memory::{Address, Bytes, GuestAddress};

use super::modules::Module;
use crate::window::Window;

/// Where mvm's init is, as the kernel is told.
pub const INIT: &str = "/init";

/// Where it is beside another archive's `/init`, and what its process is called: a stage 1 that ends all
/// that runs before it makes way for the next spares who has such a name (systemd's "Root Storage
/// Daemons").
pub const INIT_BESIDE: &str = "@mvm-init";

/// The folder of the modules, whose name no other archive has.
const MODULES: &str = "mvm-modules";

/// The bytes of a file in an archive.
#[derive(Debug)]
pub enum Content {
    /// These.
    Bytes(Vec<u8>),
    /// A file's, which are read when the archive is put where it is to be.
    File(Window),
}

impl Content {
    fn bytes(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(file) => file.bytes(),
        }
    }

    fn place(&self, memory: &Memory, at: GuestAddress) -> anyhow::Result<()> {
        match self {
            Self::Bytes(bytes) => Ok(memory.write_slice(bytes, at)?),
            Self::File(file) => file.copy(memory, at, 0, usize::try_from(file.bytes())?),
        }
    }

    fn write(&self, to: &mut dyn Write) -> anyhow::Result<()> {
        match self {
            Self::Bytes(bytes) => Ok(to.write_all(bytes)?),
            Self::File(file) => file.write(to),
        }
    }
}

/// The archive that starts `init`, which is at `path`, as the first program: itself, the console
/// that the kernel opens for it, and the modules that it loads, numbered in their order.
///
/// # Errors
/// A file has 4 GiB, which is too large for an archive.
pub fn of_init(path: &str, init: Content, modules: Vec<Module>) -> anyhow::Result<Archive> {
    let mut archive = Archive::default();
    archive.directory("dev")?;
    archive.character_device("dev/console", (5, 1))?;
    archive.file(path.trim_start_matches('/'), 0o755, init)?;
    if !modules.is_empty() {
        archive.directory(MODULES)?;
    }
    for (number, module) in modules.into_iter().enumerate() {
        let path = format!("{MODULES}/{number:03}-{}", module.file_name);
        archive.file(&path, 0o644, Content::Bytes(module.content))?;
    }
    archive.finish()
}

/// An archive of a few files; the kernel makes parent folders itself no matter the order, so each
/// must be added before what is in it.
#[derive(Debug, Default)]
pub struct Archive {
    /// Headers and padding, and between them the files' content.
    parts: Vec<Content>,
    entries: u32,
}

/// File types, as in `stat(2)`.
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const CHARACTER: u32 = 0o020_000;

impl Archive {
    /// Its length.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(Content::bytes).sum()
    }

    /// Puts it into guest memory, with nothing in between.
    ///
    /// # Errors
    /// There is no such memory, or a file cannot be read or has become shorter.
    pub fn place(&self, memory: &Memory, mut at: GuestAddress) -> anyhow::Result<()> {
        for part in &self.parts {
            part.place(memory, at)?;
            at = at.unchecked_add(part.bytes());
        }
        Ok(())
    }

    /// Writes it.
    ///
    /// # Errors
    /// `to` takes no more, or a file cannot be read or has become shorter.
    pub fn write(&self, to: &mut dyn Write) -> anyhow::Result<()> {
        self.parts.iter().try_for_each(|part| part.write(to))
    }

    /// One that is no archive.
    #[cfg(test)]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self {
            parts: vec![Content::Bytes(bytes.into())],
            entries: 0,
        }
    }

    /// Adds a folder.
    fn directory(&mut self, path: &str) -> anyhow::Result<()> {
        self.entry(path, DIRECTORY | 0o755, (0, 0), None)
    }

    /// Adds a regular file with the permissions `mode`.
    fn file(&mut self, path: &str, mode: u32, content: Content) -> anyhow::Result<()> {
        self.entry(path, REGULAR | mode, (0, 0), Some(content))
    }

    /// Adds a character device with the number `device` (major, minor).
    fn character_device(&mut self, path: &str, device: (u32, u32)) -> anyhow::Result<()> {
        self.entry(path, CHARACTER | 0o600, device, None)
    }

    /// Ends the archive.
    fn finish(mut self) -> anyhow::Result<Self> {
        self.entry("TRAILER!!!", 0, (0, 0), None)?;
        Ok(self)
    }

    fn entry(
        &mut self,
        path: &str,
        mode: u32,
        device: (u32, u32),
        content: Option<Content>,
    ) -> anyhow::Result<()> {
        self.entries += 1;
        let size = content.as_ref().map_or(0, Content::bytes);
        let size = u32::try_from(size).context("a file is too large for an archive")?;
        let name_size = u32::try_from(path.len() + 1)?;
        let inode = self.entries;
        // magic, ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor,
        // rdevminor, namesize, check
        let (major, minor) = device;
        let fields = [
            inode, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0,
        ];
        let fields = fields.map(|field| format!("{field:08x}")).concat();
        let mut header = format!("070701{fields}{path}\0").into_bytes();
        header.resize(header.len().next_multiple_of(4), 0);
        self.parts.push(Content::Bytes(header));
        if let Some(content) = content {
            self.parts.push(content);
            let padding = size.wrapping_neg() % 4;
            self.parts.push(Content::Bytes(vec![0; padding as usize]));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory;

    /// One entry: the fields that matter by their place, and the name and content as padded.
    fn entry(fields: [&str; 13], rest: &[u8]) -> Vec<u8> {
        [b"070701", fields.concat().as_bytes(), rest].concat()
    }

    fn written(archive: &Archive) -> String {
        let mut bytes = Vec::new();
        archive.write(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, archive.bytes());
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_archive_is_laid_out_as_the_kernel_reads_it() {
        let mut archive = Archive::default();
        archive.directory("dev").unwrap();
        archive.character_device("dev/console", (5, 1)).unwrap();
        let content = Content::Bytes(b"12345".into());
        archive.file("init", 0o755, content).unwrap();
        let zero = "00000000";
        let one = "00000001";
        let expected = [
            entry(
                [
                    one, "000041ed", zero, zero, one, zero, zero, zero, zero, zero, zero,
                    "00000004", zero,
                ],
                b"dev\0\0\0",
            ),
            entry(
                [
                    "00000002", "00002180", zero, zero, one, zero, zero, zero, zero, "00000005",
                    one, "0000000c", zero,
                ],
                b"dev/console\0\0\0",
            ),
            entry(
                [
                    "00000003", "000081ed", zero, zero, one, zero, "00000005", zero, zero, zero,
                    zero, "00000005", zero,
                ],
                b"init\0\0" as &[u8],
            ),
            b"12345\0\0\0".to_vec(),
            entry(
                [
                    "00000004", zero, zero, zero, one, zero, zero, zero, zero, zero, zero,
                    "0000000b", zero,
                ],
                b"TRAILER!!!\0\0\0\0",
            ),
        ];
        assert_eq!(
            written(&archive.finish().unwrap()).as_bytes(),
            expected.concat()
        );
    }

    #[test]
    fn modules_are_numbered_in_their_order() {
        let module = |name: &str| Module {
            file_name: name.into(),
            content: name.into(),
        };
        let text = |modules| {
            let init = Content::Bytes(b"init".into());
            written(&of_init(INIT, init, modules).unwrap())
        };
        let with = text(vec![module("z.ko"), module("a.ko")]);
        let [folder, first, second] = [
            "mvm-modules\0",
            "mvm-modules/000-z.ko\0",
            "mvm-modules/001-a.ko\0",
        ]
        .map(|name| with.find(name).unwrap());
        assert!(folder < first && first < second);
        assert!(!text(Vec::new()).contains("modules"));
    }

    #[test]
    fn a_file_is_read_once_the_archive_is_placed() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"-12345-").unwrap();
        let archive = |content| of_init(INIT, content, Vec::new()).unwrap();
        let of_file = || archive(Content::File(Window::part(file.try_clone().unwrap(), 1..6)));
        let of_bytes = archive(Content::Bytes(b"12345".into()));
        assert_eq!(written(&of_file()), written(&of_bytes));

        let memory = memory::allocate(1 << 20).unwrap();
        let at = GuestAddress(0x1001);
        of_file().place(&memory, at).unwrap();
        let mut placed = vec![0; written(&of_bytes).len()];
        memory.read_slice(&mut placed, at).unwrap();
        assert_eq!(placed, written(&of_bytes).as_bytes());

        let shortened = of_file();
        file.set_len(3).unwrap();
        assert!(shortened.place(&memory, at).is_err());
        assert!(shortened.write(&mut Vec::new()).is_err());
    }

    #[test]
    fn an_archive_of_nothing_is_its_trailer() {
        assert_eq!(Archive::default().finish().unwrap().bytes(), 124);
    }
}

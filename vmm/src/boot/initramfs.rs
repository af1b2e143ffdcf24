//! A cpio archive in the "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst):
//! the first root file system, which holds mvm's init and the modules that it loads.

use super::modules::Module;

/// Where mvm's init is, as the kernel is told.
pub const INIT: &str = "/init";

/// Where it is beside another archive's `/init`, and what its process is called: a stage 1 that ends all
/// that runs before it makes way for the next spares who has such a name (systemd's "Root Storage
/// Daemons").
pub const INIT_BESIDE: &str = "@mvm-init";

/// The folder of the modules, whose name no other archive has.
const MODULES: &str = "mvm-modules";

/// The archive that starts `init`, which is at `path`, as the first program: itself, the console
/// that the kernel opens for it, and the modules that it loads, numbered in their order.
#[must_use]
pub fn of_init(path: &str, init: &[u8], modules: &[Module]) -> Vec<u8> {
    let mut archive = Archive::default();
    archive.directory("dev");
    archive.character_device("dev/console", (5, 1));
    archive.file(path.trim_start_matches('/'), 0o755, init);
    if !modules.is_empty() {
        archive.directory(MODULES);
    }
    for (number, module) in modules.iter().enumerate() {
        let path = format!("{MODULES}/{number:03}-{}", module.file_name);
        archive.file(&path, 0o644, &module.content);
    }
    archive.finish()
}

/// Makes archives of a few files; the kernel makes parent folders itself no matter the order, so
/// each must be added before what is in it.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

/// File types, as in `stat(2)`.
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const CHARACTER: u32 = 0o020_000;

impl Archive {
    /// Adds a folder.
    fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[]);
    }

    /// Adds a regular file with the permissions `mode`.
    fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path, REGULAR | mode, (0, 0), content);
    }

    /// Adds a character device with the number `device` (major, minor).
    fn character_device(&mut self, path: &str, device: (u32, u32)) {
        self.entry(path, CHARACTER | 0o600, device, &[]);
    }

    /// Ends the archive.
    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(content.len()).expect("an archive's file is below 4 GiB");
        let name_size = u32::try_from(path.len() + 1).expect("a path is short");
        let inode = self.entries;
        // magic, ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor,
        // rdevminor, namesize, check
        let (major, minor) = device;
        let fields = [
            inode, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0,
        ];
        self.bytes.extend(b"070701");
        self.bytes.extend(
            fields
                .iter()
                .flat_map(|field| format!("{field:08x}").into_bytes()),
        );
        self.bytes.extend(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One entry: the fields that matter by their place, and the name and content as padded.
    fn entry(fields: [&str; 13], rest: &[u8]) -> Vec<u8> {
        [b"070701", fields.concat().as_bytes(), rest].concat()
    }

    #[test]
    fn an_archive_is_laid_out_as_the_kernel_reads_it() {
        let mut archive = Archive::default();
        archive.directory("dev");
        archive.character_device("dev/console", (5, 1));
        archive.file("init", 0o755, b"12345");
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
            String::from_utf8(archive.finish()),
            String::from_utf8(expected.concat())
        );
    }

    #[test]
    fn modules_are_numbered_in_their_order() {
        let module = |name: &str| Module {
            file_name: name.into(),
            content: name.into(),
        };
        let archive = of_init(INIT, b"init", &[module("z.ko"), module("a.ko")]);
        let text = String::from_utf8(archive).unwrap();
        let [folder, first, second] = [
            "mvm-modules\0",
            "mvm-modules/000-z.ko\0",
            "mvm-modules/001-a.ko\0",
        ]
        .map(|name| text.find(name).unwrap());
        assert!(folder < first && first < second);
        assert!(
            !String::from_utf8(of_init(INIT, b"init", &[]))
                .unwrap()
                .contains("modules")
        );
    }

    #[test]
    fn an_archive_of_nothing_is_its_trailer() {
        assert_eq!(Archive::default().finish().len(), 124);
    }
}

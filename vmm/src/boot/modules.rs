//! Drivers that a distribution's kernel keeps in modules: those that a guest needs to reach its
//! host, out of the kernel's own folder (kmod's `modules.dep(5)`).
//!
//! mvm's own kernel has its drivers built in; a `vmlinux` is taken to be like it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::{bzimage, unpack};
use crate::kernel::is_elf;
use crate::window::Window;

/// Without these two no guest can say that it is there.
const NEEDED: [&str; 2] = ["virtio_mmio", "virtio_console"];
/// Without these one can: the store and shares are missed when they are mounted, the network when it
/// is set up, randomness and a balloon are not, and more connections than the first cannot be made.
const USEFUL: [&str; 5] = [
    "virtiofs",
    "virtio_net",
    "virtio_rng",
    "virtio_balloon",
    "vmw_vsock_virtio_transport",
];

/// A disk that is memory, and the file system on it that needs no copy of what is there.
const MEMORY_DISK: [&str; 3] = ["virtio_pmem", "nd_pmem", "erofs"];

/// The modules of these. EROFS asks for its checksum by the algorithm's name.
pub const MEMORY_DISK_MODULES: [&str; 4] = ["virtio_pmem", "nd_pmem", "crc32c_generic", "erofs"];

/// Formats of such memory: a kernel that was built with none of them makes no disk of it.
const MEMORY_FORMATS: [&str; 2] = ["nd_pfn", "nd_btt"];

/// Bytes of a `vmlinux` that are looked at at once; it has some dozens of MiB.
const KERNEL_PART_BYTES: usize = 256 << 10;

/// Bytes of a word that are looked at: one more than the longest driver's name has.
const WORD_BYTES_MAX: usize = 12;

/// Where installed kernels have their modules, below which is a folder named by the release.
const FOLDERS: [&str; 4] = [
    "/lib/modules",
    "/usr/lib/modules",
    "/run/booted-system/kernel-modules/lib/modules",
    "/run/current-system/kernel-modules/lib/modules",
];

/// A module, unpacked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Name of the file without that of its compression, such as `virtiofs.ko`.
    pub file_name: String,
    /// What the kernel is given.
    pub content: Vec<u8>,
}

/// The modules that a guest under `kernel` loads, `more` among them, in this order; none where there is no folder of
/// its release, since then all may be built in. `beside` is looked into first.
///
/// # Errors
/// The kernel has no driver that is needed, or a file cannot be read.
pub fn of_kernel(
    kernel: &Path,
    beside: Option<&Path>,
    more: &[&'static str],
) -> anyhow::Result<Vec<Module>> {
    let Some(release) = release(kernel)? else {
        return Ok(Vec::new());
    };
    let Some(folder) = folder(kernel, beside, &release) else {
        return Ok(Vec::new());
    };
    let folder = Folder::open(folder)?;
    let paths = folder.in_order(more).with_context(|| {
        let kernel = kernel.display();
        format!("cannot boot the kernel {kernel}")
    })?;
    paths.into_iter().map(|path| folder.module(path)).collect()
}

/// What a guest under `kernel` may lack: one that keeps drivers in modules, of which none are here.
pub fn missing(kernel: &Path, beside: Option<&Path>) -> Option<String> {
    let release = release(kernel).ok()??;
    folder(kernel, beside, &release)
        .is_none()
        .then(|| format!("there are no modules of Linux {release} here, which may be why"))
}

/// What a guest under `kernel` has not of [`MEMORY_DISK`], as far as can be seen: neither in a module nor
/// built in. A `vmlinux` that has a driver has its name somewhere.
///
/// # Errors
/// A file cannot be read.
pub fn lacking_for_memory_disk(kernel: &Path) -> anyhow::Result<Option<&'static str>> {
    if is_elf(kernel) {
        let name = || format!("cannot read the kernel {}", kernel.display());
        let lacking = File::open(kernel).and_then(lacking_in);
        return lacking.with_context(name);
    }
    let found = release(kernel)?.and_then(|release| folder(kernel, None, &release));
    let folder = found.map(Folder::open).transpose()?;
    let has = |driver: &&str| folder.as_ref().is_some_and(|folder| folder.has(driver));
    Ok(MEMORY_DISK.into_iter().find(|driver| !has(driver)))
}

/// What is not among the strings of C in a kernel, of which a part is in memory at a time.
fn lacking_in(kernel: impl Read) -> io::Result<Option<&'static str>> {
    let mut kernel = BufReader::with_capacity(KERNEL_PART_BYTES, kernel);
    let mut missing: Vec<_> = MEMORY_DISK.into_iter().chain(MEMORY_FORMATS).collect();
    let mut word = Vec::with_capacity(WORD_BYTES_MAX);
    let mut look = |word: &mut Vec<u8>| {
        missing.retain(|name| name.as_bytes() != &word[..]);
        word.clear();
    };
    loop {
        let part = kernel.fill_buf()?;
        let bytes = part.len();
        for (nth, rest) in part.split(|byte| *byte == 0).enumerate() {
            if nth > 0 {
                look(&mut word);
            }
            // One that is cut off is longer than any name.
            let room = WORD_BYTES_MAX - word.len();
            word.extend(&rest[..rest.len().min(room)]);
        }
        if bytes == 0 {
            break;
        }
        kernel.consume(bytes);
    }
    look(&mut word);
    let driver = MEMORY_DISK.iter().find(|name| missing.contains(name));
    let has_format = MEMORY_FORMATS.iter().any(|name| !missing.contains(name));
    Ok(driver
        .copied()
        .or((!has_format).then_some(MEMORY_FORMATS[0])))
}

/// What `uname -r` says under a bzImage. Another file is none of this module's concern.
fn release(kernel: &Path) -> anyhow::Result<Option<String>> {
    // Whoever loads it says better what is wrong with it.
    if !kernel.is_file() || is_elf(kernel) {
        return Ok(None);
    }
    let file = File::open(kernel)
        .with_context(|| format!("cannot open the kernel {}", kernel.display()))?;
    let file = Window::whole(file)?;
    let Some(offset) = bzimage::version_offset(&file) else {
        return Ok(None);
    };
    let mut text = [0; 256];
    let bytes = file.read_some_at(&mut text, offset)?;
    let text = text[..bytes].split(|&byte| byte == 0).next();
    let word = text.and_then(|text| std::str::from_utf8(text).ok()?.split(' ').next());
    // It becomes part of a path.
    Ok(word
        .filter(|word| !word.is_empty() && !word.contains('/') && !word.starts_with('.'))
        .map(str::to_owned))
}

/// The folder of a release: beside the kernel or its folder, or where it is installed.
fn folder(kernel: &Path, beside: Option<&Path>, release: &str) -> Option<PathBuf> {
    // In a Nix package, and in a tree that an installed kernel's package was unpacked to.
    let around = kernel
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("lib/modules"));
    let named = beside.map(Path::to_owned).into_iter();
    named
        .chain(around)
        .chain(FOLDERS.map(PathBuf::from))
        .map(|folder| folder.join(release))
        .find(|folder| folder.join(DEPENDENCIES).exists())
}

const DEPENDENCIES: &str = "modules.dep";
const BUILTIN: &str = "modules.builtin";

/// The modules of one release.
struct Folder {
    path: PathBuf,
    /// Lines of `modules.dep`: a module's path and what must be loaded before, last first.
    dependencies: String,
    /// Paths that the modules would have that are built in.
    builtin: String,
}

impl Folder {
    fn open(path: PathBuf) -> anyhow::Result<Self> {
        let read = |name: &str| {
            let file = path.join(name);
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
        };
        let dependencies = read(DEPENDENCIES)?;
        let builtin = match path.join(BUILTIN).try_exists() {
            Ok(false) => String::new(),
            _ => read(BUILTIN)?,
        };
        Ok(Self {
            path,
            dependencies,
            builtin,
        })
    }

    /// Paths of what a guest loads, each behind all that it depends on.
    fn in_order(&self, more: &[&str]) -> anyhow::Result<Vec<&str>> {
        let lines = self.dependencies.lines().filter_map(|l| l.split_once(':'));
        let by_name: HashMap<_, _> = lines
            .map(|(path, before)| (module_name(path), (path, before)))
            .collect();
        let mut order = Vec::new();
        for name in NEEDED.into_iter().chain(USEFUL).chain(more.iter().copied()) {
            match by_name.get(name) {
                Some((path, before)) => {
                    for path in before.split_whitespace().rev().chain([*path]) {
                        if !order.contains(&path) {
                            order.push(path);
                        }
                    }
                }
                None if NEEDED.contains(&name) && !self.has_builtin(name) => {
                    let folder = self.path.display();
                    bail!("it has no driver {name}, neither built in nor in {folder}");
                }
                None => {}
            }
        }
        Ok(order)
    }

    fn has(&self, name: &str) -> bool {
        let mut lines = self.dependencies.lines().filter_map(|l| l.split_once(':'));
        self.has_builtin(name) || lines.any(|(path, _)| module_name(path) == name)
    }

    fn has_builtin(&self, name: &str) -> bool {
        self.builtin.lines().any(|path| module_name(path) == name)
    }

    fn module(&self, path: &str) -> anyhow::Result<Module> {
        let full = self.path.join(path);
        let content = fs::read(&full)
            .with_context(|| format!("cannot read the module {}", full.display()))?;
        let (file_name, content) = unpack::module(file_name(path), content)
            .with_context(|| format!("cannot use the module {}", full.display()))?;
        Ok(Module { file_name, content })
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The kernel's name for the module in a file: without extensions, and `_` for every `-`.
fn module_name(path: &str) -> String {
    let name = file_name(path);
    let stem = name.split_once(".ko").map_or(name, |(stem, _)| stem);
    stem.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_has_the_names_of_its_drivers() {
        let lacking_in = |text: &[u8]| lacking_in(text).unwrap();
        let all = b"\x7fELF\0virtio_pmem\0nd_pmem\0x\0erofs\0nd_btt\0";
        assert_eq!(lacking_in(all), None);
        // A name may lie in two parts of the file, and one that is longer is another.
        let before = vec![b'x'; KERNEL_PART_BYTES - 5];
        assert_eq!(lacking_in(&[&before, &all[4..]].concat()), None);
        let names = MEMORY_DISK.iter().chain(&MEMORY_FORMATS);
        assert_eq!(names.map(|name| name.len()).max(), Some(WORD_BYTES_MAX - 1));
        for (name, other) in [
            ("virtio_pmem", "virtio_pmem2"),
            ("nd_pmem", "nd"),
            ("erofs", "xerofs"),
        ] {
            let text = String::from_utf8_lossy(all).replace(name, other);
            assert_eq!(lacking_in(text.as_bytes()), Some(name));
        }
        assert_eq!(lacking_in(b"virtio_pmem\0nd_pmem\0erofs"), Some("nd_pfn"));
        assert_eq!(lacking_in(b""), Some("virtio_pmem"));
    }
}

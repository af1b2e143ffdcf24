//! Writes what an archive has below a folder, and nothing anywhere else.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, Uid,
};
use rustix::io::Errno;
use tar::Archive;

use super::destination::Destination;
use super::entries::{Cut, Item, Kind, Names};

/// Bytes of folders' names that are remembered until the end: their modes and times are set when
/// nothing more is written to them. Some hundred thousand folders.
const FOLDERS_MAX: usize = 32 << 20;

/// What an archive may decide besides contents.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Owners and groups, by their numbers; this needs root.
    pub owners: bool,
    /// The set-uid, set-gid and sticky bits.
    pub special_bits: bool,
    /// Further names for files of the archive.
    pub hard_links: bool,
}

/// Unpacks `input` to `destination`, and reads it to its end.
///
/// # Errors
/// The archive has something that it may not have, is cut off ([`Cut`]), or cannot be written.
pub fn unpack(mut input: impl Read, destination: &Destination, rules: Rules) -> Result<()> {
    let mut unpacker = Unpacker {
        destination,
        rules,
        root: None,
        folders: Vec::new(),
        folder_bytes: 0,
    };
    let has_ended = Cell::new(false);
    let mut archive = Archive::new(Watched {
        input: &mut input,
        has_ended: &has_ended,
    });
    let mut names = Names::default();
    for entry in archive.entries().context(BROKEN)?.raw(true) {
        let mut entry = entry.map_err(|error| broken(error, has_ended.get()))?;
        if let Some(item) = names.take(&mut entry)? {
            unpacker.write(&item, &mut entry)?;
        }
    }
    unpacker.finish()?;
    // Whoever writes it may fill it up, and would find nobody.
    io::copy(&mut input, &mut io::sink()).context(BROKEN)?;
    Ok(())
}

const BROKEN: &str = "cannot read the archive";

/// The library's words for an end in the middle are of no kind of their own.
fn broken(error: io::Error, has_ended: bool) -> anyhow::Error {
    if has_ended {
        Cut.into()
    } else {
        anyhow::Error::new(error).context(BROKEN)
    }
}

/// The input, and whether its end was met.
struct Watched<'a, R> {
    input: R,
    has_ended: &'a Cell<bool>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.has_ended.set(count == 0 && !buffer.is_empty());
        Ok(count)
    }
}

/// The archive's root as the first entry has it, and its name here.
struct Root {
    name: Option<PathBuf>,
    new_name: Option<OsString>,
}

/// A folder that was made.
struct Folder {
    path: PathBuf,
    mode: u32,
    times: Timestamps,
    owner: (u32, u32),
}

struct Unpacker<'a> {
    destination: &'a Destination,
    rules: Rules,
    root: Option<Root>,
    folders: Vec<Folder>,
    folder_bytes: usize,
}

impl Unpacker<'_> {
    fn write(&mut self, item: &Item, data: &mut impl Read) -> Result<()> {
        let names = self.renamed(item)?;
        let path: PathBuf = names.iter().collect();
        let Some((name, parent)) = names.split_last() else {
            // The destination itself, which is there.
            ensure!(
                item.kind == Kind::Folder,
                "a file of the archive has no name"
            );
            return Ok(());
        };
        let cannot = || format!("cannot write {path:?}");
        let parent = self.make_parent(parent).with_context(cannot)?;
        match &item.kind {
            Kind::File => self.file(&parent, name, item, data),
            Kind::Folder => self.folder(&parent, name, &path, item),
            Kind::Link(text) => self.link(&parent, name, text, item),
            Kind::HardLink(names) => self.hard_link(&parent, name, names),
        }
        .with_context(cannot)
    }

    /// The item's names below the destination's folder.
    fn renamed(&mut self, item: &Item) -> Result<Vec<PathBuf>> {
        if self.root.is_none() {
            let new_name = self.destination.new_name(item)?.cloned();
            ensure!(
                new_name.is_none() || item.names.len() < 2,
                "the archive does not begin with what it is a copy of"
            );
            self.root = Some(Root {
                name: item.names.first().cloned(),
                new_name,
            });
        }
        self.below_root(&item.names)
    }

    fn below_root(&self, names: &[PathBuf]) -> Result<Vec<PathBuf>> {
        let Some(Root {
            name,
            new_name: Some(new_name),
        }) = &self.root
        else {
            return Ok(names.to_vec());
        };
        let rest = match name {
            None => names,
            Some(name) if names.first() == Some(name) => &names[1..],
            Some(name) => bail!("the archive is not only a copy of {name:?}"),
        };
        Ok([PathBuf::from(new_name)]
            .into_iter()
            .chain(rest.iter().cloned())
            .collect())
    }

    /// The folder of those names, made where it is missing.
    fn make_parent(&self, names: &[PathBuf]) -> Result<OwnedFd> {
        let whole: PathBuf = names.iter().collect();
        match self.open(&whole, OFlags::PATH) {
            Err(Errno::NOENT) => {}
            other => return other.map_err(told),
        }
        let mut path = PathBuf::new();
        let mut folder = self.open(&path, OFlags::PATH).map_err(told)?;
        for name in names {
            match rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => path.push(name),
                Err(error) => return Err(error.into()),
            }
            folder = self.open(&path, OFlags::PATH).map_err(told)?;
        }
        Ok(folder)
    }

    /// Opens a folder below the destination's, through no link.
    fn open(&self, path: &Path, how: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let flags = how | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat2(
            self.destination.folder(),
            path,
            flags,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
        )
    }

    fn file(&self, parent: &OwnedFd, name: &Path, item: &Item, data: &mut impl Read) -> Result<()> {
        make_room(parent, name)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let owner_only = Mode::RUSR | Mode::WUSR;
        let mut file = File::from(rustix::fs::openat(parent, name, flags, owner_only)?);
        let mut write = || {
            let written = io::copy(data, &mut file)?;
            ensure!(written == item.size, Cut);
            self.settle(&file, item.mode, (item.owner, item.group), &times(item))
        };
        write().inspect_err(|_| {
            // A part of a file would pass for all of it. The first error is the one to report.
            let _ = rustix::fs::unlinkat(parent, name, AtFlags::empty());
        })
    }

    fn folder(&mut self, parent: &OwnedFd, name: &Path, path: &Path, item: &Item) -> Result<()> {
        match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => {}
            // One that was there stays as it is.
            Err(Errno::EXIST) => {
                self.open(path, OFlags::PATH).map_err(told)?;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        self.folder_bytes += size_of::<Folder>() + path.as_os_str().len();
        ensure!(
            self.folder_bytes <= FOLDERS_MAX,
            "the archive has more folders than can be remembered"
        );
        self.folders.push(Folder {
            path: path.to_path_buf(),
            mode: item.mode,
            times: times(item),
            owner: (item.owner, item.group),
        });
        Ok(())
    }

    fn link(&self, parent: &OwnedFd, name: &Path, text: &Path, item: &Item) -> Result<()> {
        make_room(parent, name)?;
        rustix::fs::symlinkat(text, parent, name)?;
        if self.rules.owners {
            let (uid, gid) = ids(item.owner, item.group);
            rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }

    fn hard_link(&self, parent: &OwnedFd, name: &Path, names: &[PathBuf]) -> Result<()> {
        ensure!(self.rules.hard_links, "it is a second name of a file");
        let names = self.below_root(names)?;
        let (old_name, old_parent) = names.split_last().context("it is a name of a folder")?;
        let old_parent = self
            .open(&old_parent.iter().collect::<PathBuf>(), OFlags::PATH)
            .map_err(told)?;
        let stat = rustix::fs::statat(&old_parent, old_name, AtFlags::SYMLINK_NOFOLLOW)?;
        ensure!(
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
            "it is a second name of what is no file"
        );
        make_room(parent, name)?;
        Ok(rustix::fs::linkat(
            &old_parent,
            old_name,
            parent,
            name,
            AtFlags::empty(),
        )?)
    }

    /// Sets what the archive may decide.
    fn settle(
        &self,
        file: impl AsFd,
        mode: u32,
        owner: (u32, u32),
        times: &Timestamps,
    ) -> Result<()> {
        // First, since it takes the special bits away.
        if self.rules.owners {
            let (uid, gid) = ids(owner.0, owner.1);
            rustix::fs::fchown(&file, uid, gid).context("cannot set the owner")?;
        }
        let allowed = if self.rules.special_bits {
            0o7777
        } else {
            0o777
        };
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & allowed))?;
        Ok(rustix::fs::futimens(&file, times)?)
    }

    /// Sets what waits for the end; the innermost first, since others may be closed by it.
    fn finish(&self) -> Result<()> {
        for folder in self.folders.iter().rev() {
            let path = &folder.path;
            let set = || {
                let opened = self.open(path, OFlags::RDONLY).map_err(told)?;
                self.settle(opened, folder.mode, folder.owner, &folder.times)
            };
            set().with_context(|| format!("cannot write {path:?}"))?;
        }
        Ok(())
    }
}

/// Removes a file or link that has the name already.
fn make_room(parent: &OwnedFd, name: &Path) -> Result<()> {
    let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Symlink => {}
        FileType::Directory => bail!("there is a folder of that name"),
        _ => bail!("there is a device, pipe or socket of that name"),
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?)
}

/// What the kernel's refusal of a way means.
fn told(error: Errno) -> anyhow::Error {
    match error {
        Errno::LOOP => anyhow::anyhow!("there is a link on the way"),
        Errno::NOTDIR => anyhow::anyhow!("there is a file or link on the way"),
        other => other.into(),
    }
}

fn times(item: &Item) -> Timestamps {
    let omitted = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_OMIT,
    };
    let modified = Timespec {
        tv_sec: i64::try_from(item.modified).unwrap_or(0),
        tv_nsec: 0,
    };
    Timestamps {
        last_access: omitted,
        last_modification: modified,
    }
}

fn ids(owner: u32, group: u32) -> (Option<Uid>, Option<Gid>) {
    // -1 stands for no change, and is nobody's number.
    let uid = (owner != u32::MAX).then(|| Uid::from_raw(owner));
    let gid = (group != u32::MAX).then(|| Gid::from_raw(group));
    (uid, gid)
}

//! Writes a file, a link or a folder with all below it as an archive.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::OFlags;
use tar::{Builder, EntryType, Header};

/// Files that say to have so many bytes or fewer may be the kernel's (/proc, /sys), which say none or a
/// page whatever they have.
const KERNELS_SIZE: u64 = 4096;

/// Bytes of such a file: its content is in memory before its size is told. The kernel's largest, its
/// symbols, has some ten million.
const GATHERED_MAX: usize = 32 << 20;

/// What is to be copied.
pub struct Source {
    path: PathBuf,
    /// Its name in the archive.
    name: PathBuf,
    follows_link: bool,
}

impl Source {
    /// The file, link or folder at `path`. Behind `/.` it is the contents of a folder, behind `/`
    /// what a link points to.
    ///
    /// # Errors
    /// There is none.
    pub fn find(path: &Path) -> Result<Self> {
        let bytes = path.as_os_str().as_bytes();
        let is_contents = bytes == b"." || bytes.ends_with(b"/.");
        let name = path.file_name().filter(|_| !is_contents);
        let source = Self {
            path: path.to_path_buf(),
            name: name.map_or_else(|| ".".into(), PathBuf::from),
            follows_link: is_contents || name.is_none() || bytes.ends_with(b"/"),
        };
        source.metadata()?;
        Ok(source)
    }

    /// Writes the archive. `left_out` is told of each file of a kind that is not copied.
    ///
    /// # Errors
    /// It is of such a kind itself, a file cannot be read, or `out` takes no more.
    pub fn pack(&self, out: impl Write, left_out: &mut dyn FnMut(&Path, &str)) -> Result<()> {
        let mut archive = Builder::new(out);
        // Depth first, with no more descriptors than one however deep it goes.
        let mut waiting = vec![(self.path.clone(), self.name.clone(), self.metadata()?)];
        while let Some((path, name, metadata)) = waiting.pop() {
            let cannot = || format!("cannot copy {}", path.display());
            match kind(&metadata) {
                Ok(kind) => append(&mut archive, &path, &name, &metadata, kind),
                Err(what) => {
                    let is_all = path == self.path;
                    ensure!(!is_all, "cannot copy {}: it is {what}", path.display());
                    left_out(&path, what);
                    continue;
                }
            }
            .with_context(cannot)?;
            if metadata.is_dir() {
                waiting.extend(children(&path, &name).with_context(cannot)?);
            }
        }
        archive
            .into_inner()
            .and_then(|mut out| out.flush())
            .context("cannot write the archive")
    }

    fn metadata(&self) -> Result<Metadata> {
        let metadata = if self.follows_link {
            fs::metadata(&self.path)
        } else {
            fs::symlink_metadata(&self.path)
        };
        metadata.with_context(|| format!("cannot read {}", self.path.display()))
    }
}

/// How an archive has it, or what it is that none has.
fn kind(metadata: &Metadata) -> Result<EntryType, &'static str> {
    use std::os::unix::fs::FileTypeExt;
    let kind = metadata.file_type();
    match () {
        () if kind.is_file() => Ok(EntryType::Regular),
        () if kind.is_dir() => Ok(EntryType::Directory),
        () if kind.is_symlink() => Ok(EntryType::Symlink),
        () if kind.is_fifo() => Err("a pipe"),
        () if kind.is_socket() => Err("a socket"),
        () => Err("a device"),
    }
}

/// What is in a folder, the first name last.
fn children(path: &Path, name: &Path) -> io::Result<Vec<(PathBuf, PathBuf, Metadata)>> {
    let mut names = fs::read_dir(path)?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort_by(|one, other| other.cmp(one));
    let mut children = Vec::with_capacity(names.len());
    for child in names {
        let path = path.join(&child);
        match fs::symlink_metadata(&path) {
            Ok(metadata) => children.push((path, name.join(&child), metadata)),
            // It has gone since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(children)
}

fn append(
    archive: &mut Builder<impl Write>,
    path: &Path,
    name: &Path,
    metadata: &Metadata,
    kind: EntryType,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(metadata.mode() & 0o7777);
    header.set_uid(metadata.uid().into());
    header.set_gid(metadata.gid().into());
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header.set_size(0);
    match kind {
        EntryType::Symlink => archive.append_link(&mut header, name, fs::read_link(path)?),
        EntryType::Directory => archive.append_data(&mut header, name, io::empty()),
        _ => {
            // It may have become a pipe since, whose other end nobody opens.
            let flags = OFlags::NONBLOCK.bits().cast_signed();
            let mut options = File::options();
            let file = options.read(true).custom_flags(flags).open(path)?;
            let size = file.metadata()?.len();
            if size > KERNELS_SIZE {
                header.set_size(size);
                // One that grows or shrinks meanwhile has the size that was told all the same.
                let data = file.chain(io::repeat(0)).take(size);
                return archive.append_data(&mut header, name, data);
            }
            let bytes = gather(file)?;
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, name, bytes.as_slice())
        }
    }
}

/// All that a file has, whatever size it says.
pub(super) fn gather(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(GATHERED_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > GATHERED_MAX {
        let mib = GATHERED_MAX >> 20;
        return Err(io::Error::other(format!(
            "it says that it is empty or small, and has more than {mib} MiB"
        )));
    }
    Ok(bytes)
}

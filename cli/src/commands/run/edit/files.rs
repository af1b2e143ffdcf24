//! Files: folders and volumes of the host, folders in memory, and what may be written to.

use vmm::app::{App, Tmpfs};

use super::mount::Mount;
use crate::tmpfs;

/// Flags about files.
#[derive(Clone, Debug, clap::Args)]
// A group is named by its type, which other commands have as well.
#[group(skip)]
pub struct FileFlags {
    /// Have a folder of the host in the machine, besides `shares`, or the volume of that name, besides
    /// `volumes`: what has no "/" is a name. The machine may write to it unless ":ro" is behind it. With
    /// ":ro" it may be a single file
    #[arg(long, short, value_name = "HOST:GUEST[:ro]")]
    volume: Vec<Mount>,
    /// Have a folder of the machine in its memory, besides those of `tmpfs`, with a size such as 64M or
    /// 10% if that is to be another than half of it
    #[arg(long, value_name = "PATH[:size=SIZE]", value_parser = folder)]
    tmpfs: Vec<Tmpfs>,
    /// Have nothing be written to the machine's root, as `root.readOnly` has it
    #[arg(long)]
    read_only: bool,
}

impl FileFlags {
    /// Applies them.
    ///
    /// # Errors
    /// One names nothing that is there, or a file that is to be written to.
    pub fn apply(&self, app: &mut App) -> anyhow::Result<()> {
        for mount in &self.volume {
            mount.add_to(app)?;
        }
        app.tmpfs.extend(self.tmpfs.iter().cloned());
        app.root.read_only |= self.read_only;
        Ok(())
    }
}

/// A folder in memory, and how much it may hold.
fn folder(text: &str) -> Result<Tmpfs, String> {
    let (place, options) = text.split_once(':').unwrap_or((text, ""));
    let mut refused = None;
    let size = tmpfs::size(options, |option, why| {
        refused.get_or_insert_with(|| format!("{option}: {why}"));
    });
    match refused {
        Some(words) => Err(words),
        None => Ok(Tmpfs {
            mount_point: place.into(),
            size: size.unwrap_or_default(),
        }),
    }
}

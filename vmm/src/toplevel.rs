//! A NixOS system's folder as a boot loader sees it: its kernel, its initrd, what the kernel is told,
//! and by which tags its stage 1 mounts what the host shares.
//!
//! The one thing to know: all of it is read on the host before the machine starts, and nothing of it
//! decides what the machine may see. Left out: specialisations.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};

use devices::virtio::fs::catalog::Catalog;

use crate::app::check::is_name;
use crate::app::{App, MAX_CMDLINE_SIZE, MAX_TAG_SIZE, Memory, STORE_TAG, System, SystemKernel};
use crate::boot::modules::{self, Module};
use crate::bundle::{Bundle, Facts};
use crate::closure::{STORE_DIR, StorePath};
use crate::kernel::is_elf;
use crate::machine::VOLUME_DRIVERS;

/// Where systems mount a store that they then show in its place.
const HIDDEN_STORE: &str = "/nix/.ro-store";

/// Bytes of an fstab; that of a host with a thousand file systems has a tenth.
const MAX_FSTAB_SIZE: u64 = 1 << 20;

/// What a boot loader, or nixos-init, is to know of a system, in its folder.
const BOOT_JSON: &str = "boot.json";

/// The part of it that is for nixos-init.
const NIXOS_INIT: &str = "org.nixos.nixos-init.v1";

/// Bytes of it; one with a hundred specialisations has a tenth.
const MAX_BOOT_JSON_SIZE: u64 = 1 << 20;

/// Memory of a system that no file says it for: enough for the services that each has.
const MEMORY_MIB: u64 = 1024;

/// What makes a running system another one, in that one's folder.
pub const SWITCH: &str = "bin/switch-to-configuration";

/// What a system's folder is called in the store, before its name and its version.
const STORE_NAME: &str = "nixos-system-";

/// The machine of a system's folder in the store, or of a link to one; none if `path` is none. Its
/// name is the system's.
pub fn app_of(path: &Path) -> Option<App> {
    if !path.is_dir() {
        return None;
    }
    let folder = path.canonicalize().ok()?;
    let version = fs::read_to_string(folder.join("nixos-version")).ok()?;
    let stored = StorePath::containing(&folder).filter(|it| folder == Path::new(it.as_str()))?;
    let (_, name) = stored.base_name().split_once('-')?;
    let name = name.strip_prefix(STORE_NAME).unwrap_or(name);
    let name = name.strip_suffix(version.trim()).unwrap_or(name);
    let mut system = System {
        path: stored.as_str().into(),
        kernel: SystemKernel::Mvm,
        stop_timeout: None,
    };
    if ensure_bootable(&system).is_err() {
        system.kernel = SystemKernel::Own;
    }
    let name = name.trim_end_matches('-');
    let name = if is_name(name) { name } else { "nixos" };
    let mut app = App::new(name, Vec::new());
    app.memory = Memory::from_mib(MEMORY_MIB);
    app.system = Some(system);
    Some(app)
}

/// Whether mvm can do what the system's stage 1 would, if that is asked for.
///
/// # Errors
/// It cannot: the system's initrd does what a stage 2 would (`system.nixos-init.enable`), so that its
/// `init` is systemd itself, and the system does not say what is to be done.
pub fn ensure_bootable(system: &System) -> anyhow::Result<()> {
    if !is_prepared_by_mvm(system) {
        return Ok(());
    }
    let path = Path::new(&system.path).join(BOOT_JSON);
    let says_what = says_what_is_prepared(&path);
    let says_what = says_what.with_context(|| format!("cannot use {}", path.display()))?;
    ensure!(
        says_what,
        "must be \"own\": the initrd of this system does what its stage 2 would (nixos-init), and \
         {} does not say what its /etc is made of (etc_metadata_image, etc_basedir)",
        path.display()
    );
    Ok(())
}

/// Whether mvm does for it what its initrd would beyond a stage 1.
pub(crate) fn is_prepared_by_mvm(system: &System) -> bool {
    let has_script = || Path::new(&system.prepare_root()).exists();
    system.kernel == SystemKernel::Mvm && is_elf(Path::new(&system.init())) && !has_script()
}

/// Whether such a file (`NixOS` RFC 125) has all that `mvm-init` cannot do without.
fn says_what_is_prepared(path: &Path) -> anyhow::Result<bool> {
    let bytes = limited(path, MAX_BOOT_JSON_SIZE)?;
    if bytes.is_empty() {
        return Ok(false);
    }
    let boot: serde_json::Value = serde_json::from_slice(&bytes)?;
    let is_text = |key: &str| boot[NIXOS_INIT][key].is_string();
    Ok(is_text("etc_metadata_image") && is_text("etc_basedir"))
}

/// What changed between two systems that a running one cannot take on; none if it can become the
/// other by that one's `switch-to-configuration`.
pub fn change_for_a_boot(old: &System, new: &System) -> Option<String> {
    let of = |system: &System, name: &str| Path::new(&system.path).join(name);
    if !of(new, SWITCH).exists() {
        return Some(format!("the new system has no {SWITCH}"));
    }
    let text = |system: &System, name: &str| fs::read(of(system, name)).ok();
    let link = |system: &System, name: &str| fs::canonicalize(of(system, name)).ok();
    // The kernel is mvm's otherwise, whatever the system brings.
    let is_own = new.kernel == SystemKernel::Own;
    let links = ["kernel", "initrd", "kernel-modules"];
    let links = links.iter().filter(|_| is_own);
    let texts = ["init-interface-version"].into_iter();
    let mut texts = texts.chain(is_own.then_some("kernel-params"));
    let changed = links
        .copied()
        .find(|name| link(old, name) != link(new, name))
        .or_else(|| texts.find(|name| text(old, name) != text(new, name)));
    changed.map(|name| format!("its {name} is another"))
}

/// What a system is booted with.
#[derive(Debug)]
pub struct Toplevel {
    /// Its kernel, a bzImage, where the link to it leads, or the bundle that has it.
    pub kernel: PathBuf,
    /// Its stage 1, one or more cpio archives, or the bundle that has it.
    pub initrd: PathBuf,
    modules: Modules,
    /// Its store, if that is a bundle's.
    pub store: Option<Arc<Catalog>>,
    /// What the kernel is told: the system's own words, and where stage 2 is.
    pub cmdline: String,
    /// Tag and mount point of the virtio-fs devices in its fstab.
    tags: Vec<(String, PathBuf)>,
}

/// Drivers of its kernel.
#[derive(Debug)]
enum Modules {
    /// This has a folder for the kernel's release, with its modules.
    Beside(PathBuf),
    /// A bundle has those that are loaded.
    Packed(Vec<Module>),
}

impl Toplevel {
    /// That of the system that brings its own kernel, if `app` is one: from its folder, or its bundle.
    ///
    /// # Errors
    /// As [`Self::read`], or the bundle is damaged.
    pub fn of(app: &App) -> anyhow::Result<Option<Self>> {
        let Some(system) = app.own_kernel() else {
            return Ok(None);
        };
        match &app.bundle {
            None => Self::read(system).map(Some),
            Some(path) => Self::unpack(path)
                .map(Some)
                .with_context(|| format!("cannot use the bundle {}", path.display())),
        }
    }

    fn unpack(path: &Path) -> anyhow::Result<Self> {
        let bundle = Bundle::open(path)?;
        let system = bundle.system()?;
        let store = bundle.tree(&system)?;
        let Facts {
            cmdline,
            tags,
            modules,
        } = system.facts;
        ensure!(is_line(&cmdline), "its command line is none");
        Ok(Self {
            kernel: path.into(),
            initrd: path.into(),
            modules: Modules::Packed(modules),
            store: Some(Arc::new(store)),
            cmdline,
            tags,
        })
    }

    /// What a bundle keeps of it, with the modules for all that a machine can have.
    ///
    /// # Errors
    /// A module cannot be read.
    pub fn pack(&self) -> anyhow::Result<Facts> {
        Ok(Facts {
            cmdline: self.cmdline.clone(),
            tags: self.tags.clone(),
            modules: self.modules(&VOLUME_DRIVERS)?,
        })
    }

    /// The modules that its kernel is given, `more` among them.
    ///
    /// # Errors
    /// It has no driver that is needed, or a file cannot be read.
    pub(crate) fn modules(&self, more: &[&'static str]) -> anyhow::Result<Vec<Module>> {
        match &self.modules {
            Modules::Beside(folder) => modules::of_kernel(&self.kernel, Some(folder), more),
            Modules::Packed(modules) => Ok(modules.clone()),
        }
    }

    /// Reads what is in the system's folder.
    ///
    /// # Errors
    /// It has no kernel or no initrd, or the words for the kernel cannot be passed on.
    pub fn read(system: &System) -> anyhow::Result<Self> {
        let folder = Path::new(&system.path);
        let there = |name: &str| {
            let link = folder.join(name);
            fs::canonicalize(&link).with_context(|| {
                format!(
                    "cannot find {}, which a system with a kernel of its own has",
                    link.display()
                )
            })
        };
        let (kernel, initrd) = (there("kernel")?, there("initrd")?);
        let words = folder.join("kernel-params");
        let words =
            read_words(&words).with_context(|| format!("cannot use {}", words.display()))?;
        Ok(Self {
            kernel,
            initrd,
            modules: Modules::Beside(system.modules()),
            store: None,
            cmdline: format!("{words} init={}", system.init()).trim().to_owned(),
            tags: virtiofs_tags(&fstab(folder)?),
        })
    }

    /// The tag of the store's device.
    pub fn store_tag(&self) -> String {
        [STORE_DIR, HIDDEN_STORE]
            .iter()
            .find_map(|point| self.tag_at(Path::new(point)))
            .unwrap_or(STORE_TAG)
            .to_owned()
    }

    /// The tag of each share, in their order: its own, or the one that is mounted where the share
    /// is wanted.
    pub fn share_tags(&self, app: &App) -> Vec<String> {
        let tags = app.shares.iter().zip(app.share_tags());
        tags.map(
            |(share, default)| match (&share.tag, self.tag_at(&share.mount_point)) {
                (None, Some(tag)) => tag.to_owned(),
                _ => default,
            },
        )
        .collect()
    }

    fn tag_at(&self, mount_point: &Path) -> Option<&str> {
        // Path's own comparison, for which "/srv/" is "/srv".
        let mut tags = self.tags.iter();
        tags.find_map(|(tag, point)| (point == mount_point).then_some(tag.as_str()))
    }
}

/// The words of `kernel-params`; a system without that file has none.
fn read_words(path: &Path) -> anyhow::Result<String> {
    let bytes = limited(path, MAX_CMDLINE_SIZE as u64)?;
    let text = String::from_utf8(bytes).context("it is no text")?;
    let words = text.trim();
    ensure!(
        is_line(words),
        "it has other characters than a kernel's command line may have"
    );
    Ok(words.to_owned())
}

/// Whether it is nothing but what a kernel's command line may have.
fn is_line(words: &str) -> bool {
    words.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

fn fstab(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join("etc/fstab");
    let bytes = limited(&path, MAX_FSTAB_SIZE);
    let bytes = bytes.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What a file has, which is nothing where there is none.
fn limited(path: &Path, most: u64) -> anyhow::Result<Vec<u8>> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    // Not a FIFO, which would be waited for.
    ensure!(metadata.is_file(), "it is not a regular file");
    let mut bytes = Vec::new();
    let file = fs::File::open(path)?;
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= most, "it has more than {most} bytes");
    Ok(bytes)
}

/// Tags and mount points of the lines for virtio-fs; that of a bind mount has a path, and is none.
fn virtiofs_tags(fstab: &str) -> Vec<(String, PathBuf)> {
    let lines = fstab.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (tag, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        let is_tag = kind == "virtiofs"
            && !tag.starts_with(['/', '#'])
            && tag.len() <= MAX_TAG_SIZE
            && tag.bytes().all(|byte| byte.is_ascii_graphic());
        is_tag.then(|| (tag.to_owned(), PathBuf::from(point)))
    });
    lines.collect()
}

#[cfg(test)]
mod tests;

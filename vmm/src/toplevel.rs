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
mod tests {
    use super::*;
    use crate::app::Share;

    fn system(folder: &Path) -> System {
        System {
            path: folder.to_str().unwrap().into(),
            kernel: SystemKernel::Own,
            stop_timeout: None,
        }
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in ["bzImage", "archive"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        for (link, file) in [("kernel", "bzImage"), ("initrd", "archive")] {
            std::os::unix::fs::symlink(file, folder.path().join(link)).unwrap();
        }
        folder
    }

    #[test]
    fn a_system_is_booted_with_what_its_folder_has() {
        let folder = folder();
        let path = folder.path();
        fs::write(path.join("kernel-params"), "loglevel=4 root=fstab\n").unwrap();
        let toplevel = Toplevel::read(&system(path)).unwrap();
        assert_eq!(
            toplevel.kernel,
            path.canonicalize().unwrap().join("bzImage")
        );
        let init = format!("loglevel=4 root=fstab init={}/init", path.display());
        assert_eq!(toplevel.cmdline, init);
        assert_eq!(toplevel.store_tag(), "store");
    }

    #[test]
    fn a_system_that_does_not_say_what_its_initrd_prepares_needs_its_own_kernel() {
        let folder = folder();
        let path = folder.path();
        let of = |kernel| System {
            kernel,
            ..system(path)
        };
        let write = |name: &str, text: &str| fs::write(path.join(name), text).unwrap();
        write("init", "#!/bin/sh\n");
        ensure_bootable(&of(SystemKernel::Mvm)).unwrap();
        write("init", "\x7fELF and more");
        let refusal = || ensure_bootable(&of(SystemKernel::Mvm)).unwrap_err();
        let error = refusal().to_string();
        assert!(error.starts_with("must be \"own\""), "{error}");
        ensure_bootable(&of(SystemKernel::Own)).unwrap();
        write(
            "boot.json",
            r#"{ "org.nixos.nixos-init.v1": { "firmware": "" } }"#,
        );
        let error = refusal().to_string();
        assert!(error.starts_with("must be \"own\""), "{error}");
        write("boot.json", "{");
        let words = format!("cannot use {}/boot.json", path.display());
        assert_eq!(refusal().to_string(), words);
        let etc = r#""etc_basedir": "/nix/store/b", "etc_metadata_image": "/nix/store/m""#;
        let text = format!(r#"{{ "org.nixos.nixos-init.v1": {{ {etc} }} }}"#);
        write("boot.json", &text);
        ensure_bootable(&of(SystemKernel::Mvm)).unwrap();
        write("boot.json", "{}");
        write("prepare-root", "#!/bin/sh\n");
        ensure_bootable(&of(SystemKernel::Mvm)).unwrap();
    }

    #[test]
    fn a_boot_is_needed_for_another_kernel_or_another_kind_of_init() {
        let (old, new) = (folder(), folder());
        let change = |kernel| {
            let of = |folder: &tempfile::TempDir| System {
                kernel,
                ..system(folder.path())
            };
            change_for_a_boot(&of(&old), &of(&new))
        };
        let write = |name: &str, text: &str| fs::write(new.path().join(name), text).unwrap();
        let without = "the new system has no bin/switch-to-configuration";
        assert_eq!(change(SystemKernel::Mvm).as_deref(), Some(without));
        fs::create_dir(new.path().join("bin")).unwrap();
        write(SWITCH, "");
        write("kernel-params", "quiet");
        assert_eq!(change(SystemKernel::Mvm), None);
        let kernel = "its kernel is another";
        assert_eq!(change(SystemKernel::Own).as_deref(), Some(kernel));
        for link in ["kernel", "initrd"] {
            let new = new.path().join(link);
            fs::remove_file(&new).unwrap();
            std::os::unix::fs::symlink(old.path().join(link), new).unwrap();
        }
        let params = "its kernel-params is another";
        assert_eq!(change(SystemKernel::Own).as_deref(), Some(params));
        write("init-interface-version", "systemd 3");
        let init = "its init-interface-version is another";
        assert_eq!(change(SystemKernel::Mvm).as_deref(), Some(init));
    }

    #[test]
    fn a_folder_elsewhere_is_no_system() {
        let folder = folder();
        fs::write(folder.path().join("nixos-version"), "25.11").unwrap();
        assert_eq!(app_of(folder.path()), None);
        assert_eq!(app_of(Path::new("/nix/store")), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let folder = folder();
        fs::remove_file(folder.path().join("initrd")).unwrap();
        let error = format!("{:#}", Toplevel::read(&system(folder.path())).unwrap_err());
        let path = folder.path().display();
        assert_eq!(
            error,
            format!(
                "cannot find {path}/initrd, which a system with a kernel of its own has: \
                 No such file or directory (os error 2)"
            )
        );
    }

    #[test]
    fn words_that_no_kernel_takes_are_refused() {
        let folder = folder();
        let words = folder.path().join("kernel-params");
        let refusal = |bytes: &[u8]| {
            fs::write(&words, bytes).unwrap();
            let error = Toplevel::read(&system(folder.path())).unwrap_err();
            error.root_cause().to_string()
        };
        let other = "it has other characters than a kernel's command line may have";
        assert_eq!(refusal(b"quiet\nsplash"), other);
        assert_eq!(refusal(b"a\0b"), other);
        assert_eq!(
            refusal(b"\xff"),
            "invalid utf-8 sequence of 1 bytes from index 0"
        );
        assert_eq!(refusal(&[b'x'; 3000]), "it has more than 2047 bytes");
    }

    #[test]
    fn tags_are_those_that_the_system_mounts() {
        let folder = folder();
        fs::create_dir(folder.path().join("etc")).unwrap();
        let lines = "# a comment\nrootfs / tmpfs mode=755\nro-store /nix/.ro-store virtiofs defaults 0 2\n\
            /nix/.ro-store /nix/store virtiofs ro,bind\nwww /srv virtiofs\nshort\n";
        fs::write(folder.path().join("etc/fstab"), lines).unwrap();
        let toplevel = Toplevel::read(&system(folder.path())).unwrap();
        assert_eq!(toplevel.store_tag(), "ro-store");
        let mut app = App::new("box", vec!["sh".into()]);
        let share = |point: &str, tag: Option<&str>| Share {
            source: "/tmp".into(),
            mount_point: point.into(),
            read_only: true,
            tag: tag.map(Into::into),
        };
        app.shares = vec![
            share("/srv/", None),
            share("/srv", Some("mine")),
            share("/other", None),
        ];
        assert_eq!(toplevel.share_tags(&app), ["www", "mine", "share2"]);
    }
}

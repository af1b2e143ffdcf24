//! Which kernel a machine boots, and the line it is given.

use std::env;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};

use crate::app::App;
use crate::settings::{Setting, Value};
use crate::toplevel::Toplevel;

/// Name of the kernel in the folders below.
const FILE: &str = "vmlinux";
/// Where a package puts it, seen from the folder that has `bin/mvm`.
const BESIDE: &str = "lib/mvm";
/// Where one puts it that has its programs elsewhere.
const SYSTEM_FOLDERS: [&str; 2] = ["/usr/local/lib/mvm", "/usr/lib/mvm"];

/// What every kernel is told. Each word saves a probe or decides what happens at the end.
const BASE: [&str; 10] = [
    // Messages before there is a real console go the same way, so that an early panic is seen.
    // The level must come before, or everything goes there until it does.
    // Without the port's name Linux reads on into the next word.
    "earlyprintk=serial,ttyS0",
    "console=ttyS0",
    // A panic ends the machine at once.
    "panic=-1",
    // By a triple fault: Debian's kernel hangs on its way to the reset register when it panics.
    "reboot=t",
    // No bus to look for: everything is in the ACPI tables.
    "pci=off",
    // The timer is KVM's and works.
    "no_timer_check",
    // The time stamp counter comes from KVM's clock and needs no watchdog.
    "tsc=reliable",
    // The CPU's random numbers may seed the pool, or the first reader waits for interrupts.
    "random.trust_cpu=on",
    // One port, not the four that Linux would look for.
    "8250.nr_uarts=1",
    // Free memory is reported in blocks of 64 KiB: of those of 2 MiB, the default, what init and
    // the boot freed leaves none.
    "page_reporting.page_reporting_order=4",
];

/// Finds the kernel: `given` by app.json, else by the settings, else `vmlinux` in the user's data
/// folder, in `../lib/mvm` of the folder of this program, or the system's.
///
/// # Errors
/// There is none; says which command builds one.
pub fn find(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = given {
        return existing(path, "kernel.path");
    }
    if let Some(Value { text, origin }) = Setting::Kernel.get()? {
        return existing(Path::new(&text), &origin.to_string());
    }
    installed()
}

fn installed() -> anyhow::Result<PathBuf> {
    let program = env::current_exe().ok();
    find_among(&candidates(data_folder(), program.as_deref()))
}

/// Where a kernel may be, each place once.
fn candidates(data: Option<PathBuf>, program: Option<&Path>) -> Vec<PathBuf> {
    let prefix = program.and_then(|program| program.parent()?.parent());
    let folders = data
        .into_iter()
        .chain(prefix.map(|prefix| prefix.join(BESIDE)))
        .chain(SYSTEM_FOLDERS.map(PathBuf::from));
    let mut candidates: Vec<PathBuf> = Vec::new();
    for path in folders.map(|folder| folder.join(FILE)) {
        if !candidates.contains(&path) {
            candidates.push(path);
        }
    }
    candidates
}

fn find_among(candidates: &[PathBuf]) -> anyhow::Result<PathBuf> {
    candidates
        .iter()
        .find(|path| path.exists())
        .cloned()
        .ok_or_else(|| {
            let tried: Vec<_> = candidates
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            anyhow!(
                "cannot find a kernel: no $MVM_KERNEL, {}; build one with `make kernel` in mvm's \
             source, or name one in app.json (\"kernel\": \"/boot/vmlinuz-...\")",
                tried.join(", ")
            )
        })
}

/// Finds mvm's own kernel, with all drivers built in: what [`find`] finds, unless the
/// settings name a compressed one, as distributions have them.
///
/// # Errors
/// There is none; says which command builds one.
pub fn find_own() -> anyhow::Result<PathBuf> {
    match find(None) {
        Ok(path) if !is_elf(&path) => installed(),
        found => found,
    }
}

/// Whether a file is ELF: a kernel that is, is mapped.
pub fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    // Not a FIFO, which would be waited for.
    path.is_file()
        && File::open(path).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok())
        && magic == *b"\x7fELF"
}

fn existing(path: &Path, origin: &str) -> anyhow::Result<PathBuf> {
    if !path.exists() {
        bail!("{origin}: there is no kernel {}", path.display());
    }
    Ok(path.to_owned())
}

/// `$XDG_DATA_HOME/mvm`, by default `~/.local/share/mvm`.
fn data_folder() -> Option<PathBuf> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .and_then(absolute)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".local/share")))
        .map(|folder| folder.join("mvm"))
}

/// The kernel of a machine: the system's own, that of its bundle, or what [`find`] finds.
///
/// # Errors
/// There is none.
pub fn of(app: &App) -> anyhow::Result<PathBuf> {
    match (app.own_kernel(), &app.bundle) {
        (Some(system), None) => Ok(Toplevel::read(system)?.kernel),
        (_, bundle) => find(app.kernel.path.as_deref().or(bundle.as_deref())),
    }
}

/// The kernel's command line for a machine of `vcpus`, which starts `init` of its initramfs: messages
/// below `loglevel` are shown, and what the user adds comes last, where it wins.
pub fn cmdline(vcpus: u8, loglevel: u8, init: &str, added: &[&str]) -> String {
    // First, or the kernel prints everything until it comes to it.
    let level = match loglevel {
        8.. => "ignore_loglevel".into(),
        level => format!("quiet loglevel={level}"),
    };
    // Not to patch the locked instructions out, which takes longer than they ever do.
    let single = if vcpus == 1 { "noreplace-smp" } else { "" };
    // Distribution kernels look for a root of their own without this.
    let init = format!("rdinit={init}");
    let words = [level.as_str()]
        .into_iter()
        .chain(BASE)
        .chain([init.as_str(), single])
        .chain(added.iter().copied());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_adds_comes_last() {
        let line = cmdline(2, 3, "/init", &["", "loglevel=7"]);
        assert!(
            line.starts_with("quiet loglevel=3 ") && line.ends_with(" loglevel=7"),
            "{line}"
        );
    }

    #[test]
    fn the_one_beside_the_program_comes_before_the_systems() {
        let root = tempfile::tempdir().unwrap();
        let (data, beside) = (root.path().join("data"), root.path().join("lib/mvm"));
        let program = root.path().join("bin/mvm");
        let find = || find_among(&candidates(Some(data.clone()), Some(&program))[..2]);
        let error = find().unwrap_err().to_string();
        let tried = format!(
            "{0}/data/vmlinux, {0}/lib/mvm/vmlinux;",
            root.path().display()
        );
        assert!(error.contains(&tried), "{error}");
        for folder in [&beside, &data] {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join(FILE), "").unwrap();
            assert_eq!(find().unwrap(), folder.join(FILE));
        }
        let usual = candidates(None, Some(Path::new("/usr/local/bin/mvm")));
        let expected = ["/usr/local/lib/mvm/vmlinux", "/usr/lib/mvm/vmlinux"];
        assert_eq!(usual, expected.map(PathBuf::from));
    }

    #[test]
    fn a_kernel_that_is_named_must_exist() {
        let error = find(Some(Path::new("/no/such/kernel"))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "kernel.path: there is no kernel /no/such/kernel"
        );
    }
}

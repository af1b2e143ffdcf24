//! What is looked at.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::Result;
use landlock::{AccessFs, LandlockStatus, Ruleset, RulesetAttr};
use rustix::fs::{Access, access, statvfs};
use rustix::process::{Resource, getrlimit};
use vmm::accel::{Support, detect};
use vmm::closure::{Nix, STORE_DIR};
use vmm::settings::Setting;

use super::Check;
use crate::accel::Accel;
use crate::{init_binary, places, size};

/// The emulated host's program, and its package in Debian.
const QEMU: (&str, &str) = ("qemu-system-x86_64", "qemu-system-x86");

/// Bytes of room below which logs will soon be cut; and none for anything.
const LITTLE_ROOM: u64 = 1 << 30;
const NO_ROOM: u64 = 16 << 20;

/// Files that the file server keeps open, and as many again for everything else.
const DESCRIPTORS: u64 = 1024;

/// All checks, those first without which nothing runs.
pub fn all() -> Vec<Check> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = env::split_paths(&path)
        // Where programs for administrators are, which a user's PATH may not have.
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .collect();
    let find = |name: &str| find(&folders, name);
    vec![
        version(),
        settings(),
        kvm(&detect(), find(QEMU.0).is_some()),
        found("kernel", vmm::kernel::find(None)),
        found("mvm-init", init_binary::find()),
        runtime_folder(),
        state_folder(),
        store(),
        landlock(),
        cgroup(),
        descriptors(),
        program("passt", find("passt"), "passt", "a network without root"),
        program(
            "nft",
            find("nft"),
            "nftables",
            "address translation for root",
        ),
        program("mkfs.ext4", find("mkfs.ext4"), "e2fsprogs", "new volumes"),
        tun(),
    ]
}

fn version() -> Check {
    let kernel = rustix::system::uname();
    let kernel = kernel.release().to_string_lossy().into_owned();
    Check::ok(
        "version",
        format!("mvm {} on Linux {kernel}", env!("CARGO_PKG_VERSION")),
    )
}

fn settings() -> Check {
    let wrong = Setting::ALL.iter().find_map(|setting| setting.get().err());
    match wrong.or_else(|| Accel::place(None).err()) {
        None => Check::ok("settings", "`mvm settings` lists them"),
        Some(error) => Check::fail("settings", format!("{error:#}"), "no machine starts so"),
    }
}

fn kvm(support: &Support, has_qemu: bool) -> Check {
    let reason = match support {
        Support::Hardware => return Check::ok("kvm", "/dev/kvm, backed by the processor"),
        Support::Emulated { reason } => reason,
    };
    if has_qemu {
        let advice = "machines run in an emulated host, which is slower";
        return Check::warn("kvm", reason, advice);
    }
    Check::fail(
        "kvm",
        format!("{reason}, and there is no {} to stand in", QEMU.0),
        format!("allow /dev/kvm, or `apt-get install {}`", QEMU.1),
    )
}

/// What a command would not start without. Its error says what to do behind a semicolon.
fn found(name: &'static str, path: Result<PathBuf>) -> Check {
    match path {
        Ok(path) => Check::ok(name, path.display().to_string()),
        Err(error) => {
            let words = format!("{error:#}");
            match words.rsplit_once("; ") {
                Some((found, advice)) => Check::fail(name, found, advice),
                None => Check::fail(name, words, "name another, or none"),
            }
        }
    }
}

fn runtime_folder() -> Check {
    let path = places::runtime();
    folder("runtime folder", &path, places::RUNTIME_VARIABLE)
}

fn state_folder() -> Check {
    match places::state() {
        Ok(path) => folder("state folder", &path, places::STATE_VARIABLE),
        Err(error) => Check::fail(
            "state folder",
            format!("{error:#}"),
            format!("set ${}", places::STATE_VARIABLE),
        ),
    }
}

/// One that will be made need not be there; who can be written to is the nearest that is.
fn folder(name: &'static str, path: &Path, variable: &str) -> Check {
    let shown = path.display();
    let Some(nearest) = path.ancestors().find(|path| path.exists()) else {
        return Check::fail(
            name,
            format!("{shown} cannot be made"),
            format!("set ${variable}"),
        );
    };
    if access(nearest, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let advice = format!("set ${variable} to a folder of this user's");
        return Check::fail(
            name,
            format!("{} cannot be written", nearest.display()),
            advice,
        );
    }
    let room = statvfs(nearest).map_or(0, |facts| facts.f_bavail.saturating_mul(facts.f_frsize));
    let found = format!("{shown}, with {} of room", size::bytes(room));
    let advice = "remove files from its file system, or `mvm prune`";
    match room {
        ..NO_ROOM => Check::fail(name, found, advice),
        NO_ROOM..LITTLE_ROOM if name == "state folder" => Check::warn(name, found, advice),
        _ => Check::ok(name, found),
    }
}

fn store() -> Check {
    if !Path::new(STORE_DIR).is_dir() {
        let advice = "install Nix, or share the program's folder and say \"store\": \"none\"";
        return Check::warn("nix store", format!("there is no {STORE_DIR}"), advice);
    }
    let database = Nix::of_this_host().database;
    match File::open(&database) {
        Ok(_) => Check::ok("nix store", format!("{STORE_DIR}, {}", database.display())),
        Err(error) => Check::warn(
            "nix store",
            format!("{STORE_DIR}, but not {}: {error}", database.display()),
            "closures are asked of nix-store, or listed in the file",
        ),
    }
}

/// Asked by a thread that gives up nothing but what it does not have.
fn landlock() -> Check {
    let ask = || {
        let ruleset = Ruleset::default().handle_access(AccessFs::MakeChar)?;
        anyhow::Ok(ruleset.create()?.restrict_self()?.landlock)
    };
    match thread::spawn(ask).join() {
        Ok(Ok(LandlockStatus::Available { effective_abi, .. })) => {
            Check::ok("landlock", format!("version {}", effective_abi as i32))
        }
        _ => Check::warn(
            "landlock",
            "the kernel has none: two walls are around each share, not three",
            "boot with lsm=landlock in front of the others",
        ),
    }
}

fn cgroup() -> Check {
    let name = "cgroup";
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let advice = "limits need one of version 2 that is this user's: \
                  `systemd-run --user --scope -p Delegate=yes`";
    let Some(path) = own.lines().find_map(|line| line.strip_prefix("0::")) else {
        return Check::warn(name, "this process is in none of version 2", advice);
    };
    let folder = Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'));
    let shown = folder.display();
    if !folder.join("cgroup.controllers").exists() {
        return Check::warn(name, format!("there is no {shown} of version 2"), advice);
    }
    match access(folder.join("cgroup.subtree_control"), Access::WRITE_OK)
        .and_then(|()| access(&folder, Access::WRITE_OK))
    {
        Ok(()) => Check::ok(name, format!("{shown}, delegated")),
        Err(_) => Check::warn(name, format!("{shown} is not this user's"), advice),
    }
}

fn descriptors() -> Check {
    let maximum = getrlimit(Resource::Nofile).maximum;
    match maximum {
        Some(few) if few < DESCRIPTORS => Check::warn(
            "descriptors",
            format!("this user may open {few} files"),
            format!("file servers get on better with {DESCRIPTORS}: `ulimit -Hn`"),
        ),
        Some(many) => Check::ok("descriptors", format!("this user may open {many} files")),
        None => Check::ok("descriptors", "this user may open any number of files"),
    }
}

/// One without which something does not work, but machines do.
fn program(name: &'static str, path: Option<PathBuf>, package: &str, purpose: &str) -> Check {
    match path {
        Some(path) => Check::ok(name, path.display().to_string()),
        None => Check::warn(
            name,
            "there is none",
            format!("for {purpose}: `apt-get install {package}`"),
        ),
    }
}

fn tun() -> Check {
    let path = "/dev/net/tun";
    match access(path, Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => Check::ok("tun", path),
        Err(error) => Check::warn(
            "tun",
            format!("{path} cannot be opened: {error}"),
            "only interfaces of type tap and bridge need it: `modprobe tun`",
        ),
    }
}

fn find(folders: &[PathBuf], name: &str) -> Option<PathBuf> {
    let candidates = folders.iter().map(|folder| folder.join(name));
    let mut usable =
        candidates.filter(|path| path.is_file() && access(path, Access::EXEC_OK).is_ok());
    usable.next()
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn without_kvm_and_qemu_nothing_runs() {
        let none = Support::Emulated {
            reason: "there is no /dev/kvm".into(),
        };
        assert_eq!(kvm(&Support::Hardware, false).level, Level::Ok);
        assert_eq!(kvm(&none, true).level, Level::Warn);
        let fail = kvm(&none, false);
        assert_eq!(fail.level, Level::Fail);
        assert!(fail.advice.unwrap().contains("apt-get install"));
    }

    #[test]
    fn what_to_do_is_behind_the_semicolon() {
        let check = found(
            "kernel",
            Err(anyhow::anyhow!("cannot find it: a; b; make it")),
        );
        assert_eq!(check.found, "cannot find it: a; b");
        assert_eq!(check.advice.as_deref(), Some("make it"));
        assert_eq!(check.level, Level::Fail);
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_judged_by_its_parent() {
        let parent = tempfile::tempdir().unwrap();
        let check = folder("runtime folder", &parent.path().join("a/b"), "X");
        assert_eq!(check.level, Level::Ok, "{check:?}");
        let check = folder("state folder", Path::new("/proc/nowhere"), "X");
        assert_eq!(check.level, Level::Fail, "{check:?}");
    }

    #[test]
    fn a_program_is_found_where_it_may_be_executed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("sh"), "").unwrap();
        let folders = [folder.path().to_path_buf(), "/bin".into()];
        assert_eq!(find(&folders[..1], "sh"), None);
        assert_eq!(find(&folders, "sh"), Some("/bin/sh".into()));
    }
}

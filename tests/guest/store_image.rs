//! The store as memory of the machine, `store.data: image`: the same files, and nothing asked for or kept.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use mvm_test::{Machine, Machines, closure, fixture};
use tempfile::TempDir;

use crate::store::{CHANGE, LOOK_OUTSIDE, assert_same, look_at_odd_files};
use crate::{on_host, shell, tool};

/// As the other tests list a store, but for the sizes of folders, of which each file system has its own.
const LIST: &str = r#"
    list() {
        find "$@" ! -type d -print0 | LC_ALL=C sort -z | LC_ALL=C xargs -0 stat -c '%N %f %u:%g %s'
        find "$@" -type d -print0 | LC_ALL=C sort -z | LC_ALL=C xargs -0 stat -c '%N %f %u:%g'
    }
"#;

fn image(name: &str, script: &str) -> Machine {
    shell(name, script).set("/store/data", "image")
}

#[test]
fn every_file_of_the_closure_is_the_hosts() -> Result<()> {
    let sums = r#"find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum"#;
    let paths = closure(&fixture("tools"))?.join(" ");
    let script = format!("set -- {paths}; {LIST} list \"$@\"; {sums}; LC_ALL=C ls -A /nix/store");
    let names = closure(&fixture("tools"))?;
    let names: String = names
        .iter()
        .map(|path| path.replace("/nix/store/", "") + "\n")
        .collect();
    let mut expected = on_host(&script.replace("; LC_ALL=C ls -A /nix/store", ""));
    expected.extend(names.bytes());
    let lines = expected.split(|byte| *byte == b'\n').count();
    assert!(lines > 1000, "{lines} lines");

    let output = image("sums", &script)
        .memory_mib(128)
        .count_requests()
        .run()?;
    assert_same(&output, &expected);
    // There is no file server that it could have asked.
    assert_eq!(output.shares(), Vec::<&str>::new());
    Ok(())
}

#[test]
fn odd_names_links_and_sizes_are_the_hosts() -> Result<()> {
    let script = look_at_odd_files(LIST);
    let output = image("odd", &script).run()?;
    assert_same(&output, &on_host(&script));
    Ok(())
}

#[test]
fn a_path_outside_the_closure_does_not_exist() -> Result<()> {
    let outside = fixture("outside");
    let output = image("outside", LOOK_OUTSIDE)
        .input(format!("{outside}\n"))
        .run()?;
    assert_eq!(output.stdout(), format!("{outside}/*\nabsent\n"));
    let absences = output.stderr().matches("No such file or directory").count();
    assert_eq!(absences, 6, "{output}");
    Ok(())
}

/// Writes to the memory itself as well, which is a disk to the guest.
const OVERWRITE: &str = "
    before=$(md5sum < $TARGET/links/file)
    dd if=/dev/zero of=/dev/pmem0 bs=4096 count=16 conv=fsync status=none
    echo 3 > /proc/sys/vm/drop_caches
    [ \"$before\" = \"$(md5sum < $TARGET/links/file)\" ] && echo same
";

#[test]
fn nobody_can_change_it() -> Result<()> {
    let target = fixture("odd-files");
    let list = format!("{LIST} list {target}; md5sum {target}/links/file; ls /nix/store");
    let host_before = on_host(&list);
    let output = image("change", CHANGE).env("TARGET", &target).run()?;
    let overwritten = image("overwrite", OVERWRITE).env("TARGET", &target).run()?;
    let host_after = on_host(&list);

    assert_eq!(output.success(), "remounted: 0\n13\n13\ntarget\n");
    assert_eq!(overwritten.stdout(), "same\n", "{overwritten}");
    assert!(host_before == host_after, "the host's store has changed");
    Ok(())
}

/// Prints what the kernel keeps of files, in KiB, before and after all bytes of the store are read, and
/// how many these are in KiB.
const READ_ALL: &str = r"
    kept() {
        local sum=0
        while read -r name value _; do
            case $name in Cached:|Buffers:) sum=$((sum + value)) ;; esac
        done < /proc/meminfo
        echo $sum
    }
    find /nix/store > /dev/null
    kept
    find /nix/store -type f -print0 | xargs -0 cat | wc -c > /tmp/bytes
    kept
    echo $(($(cat /tmp/bytes) / 1024))
";

/// What may be kept of a store that is read: names of files are, bytes of them are not.
const KEPT_KIB_MAX: u64 = 1024;

#[test]
fn the_guest_keeps_no_copy_of_what_it_reads() -> Result<()> {
    let numbers = |machine: Machine| -> Result<Vec<u64>> {
        let output = machine.memory_mib(512).run()?.success();
        Ok(output.lines().map(str::parse).collect::<Result<_, _>>()?)
    };
    let image = numbers(image("reads", READ_ALL))?;
    let [before, after, bytes] = image[..] else {
        panic!("{image:?}")
    };
    assert!(bytes > 32 * KEPT_KIB_MAX, "{image:?}");
    assert!(after <= before + KEPT_KIB_MAX, "{image:?}");
    // The same words of a machine that keeps what it reads.
    let plain = numbers(shell("reads", READ_ALL))?;
    assert!(plain[1] > plain[0] + bytes / 2, "{plain:?}");
    Ok(())
}

#[test]
fn python_finds_its_libraries() -> Result<()> {
    let imports = "import ssl, sqlite3; print(sqlite3.connect(':memory:').execute('select 6 * 7').fetchone())";
    let output = tool("python", ["python3", "-c", imports])
        .set("/store/data", "image")
        .memory_mib(256)
        .run()?;
    assert_eq!(output.success(), "(42,)\n");
    Ok(())
}

#[test]
fn what_is_added_to_it_is_over_it() -> Result<()> {
    let script = "echo new > /nix/store/new && cat /nix/store/new && rm $TARGET/links/file && \
                  ls $TARGET/links/file; grep -c ' / \\| /nix/store ' /proc/mounts";
    let output = image("writes", script)
        .set("/store/writable", true)
        .env("TARGET", &fixture("odd-files"))
        .run()?;
    let gone = "ls: cannot access";
    assert!(output.stdout().starts_with("new\n"), "{output}");
    assert!(output.stderr().starts_with(gone), "{output}");
    Ok(())
}

/// The only file in a folder of state.
fn made(state: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(state.join("stores"))?;
    let entries: Vec<_> = entries.collect::<Result<_, _>>()?;
    ensure!(entries.len() == 1, "{entries:?}");
    Ok(entries[0].path())
}

#[test]
fn it_is_made_once_and_again_if_it_is_damaged() -> Result<()> {
    let state = TempDir::new()?;
    let run = || -> Result<u64> {
        let machine = image("once", "echo ran").host_env("MVM_STATE_DIR", state.path());
        assert_eq!(machine.run()?.success(), "ran\n");
        Ok(fs::metadata(made(state.path())?)?.ino())
    };
    let inode = run()?;
    assert_eq!(run()?, inode);
    let path = made(state.path())?;
    let bytes = fs::metadata(&path)?.len();
    fs::File::options()
        .write(true)
        .open(&path)?
        .set_len(bytes - 1)?;
    assert_ne!(run()?, inode);
    assert_eq!(fs::metadata(made(state.path())?)?.len(), bytes);
    Ok(())
}

#[test]
fn a_kernel_without_its_driver_has_the_store_plain() -> Result<()> {
    let folder = TempDir::new()?;
    let named = std::env::var_os("MVM_KERNEL").context("tests/run names the kernel")?;
    let mut kernel = fs::read(named)?;
    let places: Vec<usize> = kernel
        .windows(13)
        .enumerate()
        .filter(|(_, window)| window == b"\0virtio_pmem\0")
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty());
    for at in places {
        kernel[at + 8] = b'X';
    }
    let path = folder.path().join("vmlinux");
    fs::write(&path, &kernel)?;
    let output = image("old", "grep -c ' /nix/store virtiofs' /proc/mounts")
        .kernel(&path)
        .run()?;
    assert_eq!(
        (output.status, output.stdout().as_str()),
        (0, "1\n"),
        "{output}"
    );
    let line = format!(
        "mvm: store.data: old has its store plain: the kernel {} has no driver virtio_pmem\n",
        path.display()
    );
    assert_eq!(output.stderr(), line);
    Ok(())
}

#[test]
fn inspect_tells_how_the_store_comes() -> Result<()> {
    let machines = Machines::new()?;
    machines.start(image("memory", "exec sleep 1000"))?;
    machines.start(shell("asked", "exec sleep 1000"))?;
    machines.start(shell("pieces", "exec sleep 1000").set("/store/data", "dax"))?;
    for (name, data) in [("memory", "image"), ("asked", "plain"), ("pieces", "dax")] {
        assert_eq!(machines.inspect(name)?["storeData"], data);
    }
    Ok(())
}

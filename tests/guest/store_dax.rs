//! The store through a DAX window, `store.data: dax`: its large files are memory of the machine, a piece at a time.

use std::fs;

use anyhow::Result;
use mvm_test::{Machine, closure, fixture};
use serde_json::json;

use crate::requests::requests_but_reads;
use crate::{on_host, shell, tool, where_machines_run};

/// Pieces of files that a window of a machine with so much memory holds, of 2 MiB each.
const PIECES_OF_96_MIB: u64 = 96;

fn dax(name: &str, script: &str) -> Machine {
    shell(name, script).set("/store/data", "dax")
}

#[test]
fn every_file_is_the_hosts_also_where_the_window_is_too_small_for_all() -> Result<()> {
    let paths = closure(&fixture("tools"))?.join(" ");
    let sums = format!(
        "find {paths} -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum | md5sum; \
         find {paths} -type f -size +127 | wc -l"
    );
    let expected = String::from_utf8(on_host(&sums))?;
    let large: u64 = expected.lines().last().unwrap_or_default().parse()?;
    assert!(large > 2 * PIECES_OF_96_MIB, "{large} large files");
    let output = dax("sums", &sums).memory_mib(96).count_requests().run()?;
    assert_eq!(output.success(), expected);
    let requests = output.requests("store");
    assert!(requests["SETUPMAPPING"] > large, "{requests:?}");
    assert!(requests["REMOVEMAPPING"] > 0, "{requests:?}");
    Ok(())
}

/// Prints what the kernel keeps of files before and after it has read the large ones of the store, and in
/// between how many bytes these are, all in KiB.
const READ_LARGE: &str = r"
    kept() { while read -r name value _; do [ $name != Cached: ] || echo $value; done < /proc/meminfo; }
    find $PATHS -type f -size +127 > /tmp/names
    kept
    echo $(($(xargs cat < /tmp/names | wc -c) / 1024))
    kept
";

/// What is kept of the large files when they have been read, and their bytes, in KiB.
fn kept(machine: Machine) -> Result<(u64, u64)> {
    let paths = closure(&fixture("tools"))?.join(" ");
    let output = machine.env("PATHS", &paths).memory_mib(512).run()?;
    let numbers: Vec<u64> = (output.success().lines())
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    Ok((numbers[2].saturating_sub(numbers[0]), numbers[1]))
}

#[test]
fn the_guest_keeps_no_copy_of_large_files() -> Result<()> {
    let (copied, bytes) = kept(shell("copies", READ_LARGE))?;
    let (left, same_bytes) = kept(dax("keeps", READ_LARGE))?;
    assert_eq!(bytes, same_bytes);
    assert!(copied > bytes / 10 * 9, "{copied} of {bytes} KiB");
    assert!(left < bytes / 20, "{left} of {bytes} KiB");
    Ok(())
}

#[test]
fn a_program_that_ran_before_starts_without_a_request() -> Result<()> {
    let twice = requests_but_reads(2, "dax")?;
    let twelve_times = requests_but_reads(12, "dax")?;
    assert!(twice["SETUPMAPPING"] > 0, "{twice:?}");
    assert_eq!(twice, twelve_times);
    Ok(())
}

/// Reads and writes the window itself: its first page, which holds a file, and its last, which holds nothing.
/// Behind 128 MiB of memory it begins at 4 GiB and has twice as many.
const TOUCH: &str = "
import mmap, os
fd = os.open('/dev/mem', os.O_RDWR)
first, last = [mmap.mmap(fd, 4096, offset=at) for at in (0x100000000, 0x110000000 - 4096)]
held = first[:]
print(last[:] == bytes(4096), held == bytes(4096))
for page in first, last: page[0:16] = b'0123456789abcdef'
print(last[:] == bytes(4096), first[:] == held)
";

#[test]
fn a_guest_may_touch_the_window_as_it_likes() -> Result<()> {
    // What it writes there is an access to memory that KVM carries out itself, for which it knows no AVX.
    let machine = tool("touch", ["python3", "-c", TOUCH])
        .env(
            "GLIBC_TUNABLES",
            "glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load",
        )
        .set("/store/data", "dax");
    assert_eq!(machine.run()?.success(), "True False\nTrue True\n");
    Ok(())
}

/// Has a mapped file of the store written by the devices themselves, without a copy, then a copy of it.
const HAND_OVER: &str = "
import mmap, os, sys
source = mmap.mmap(os.open(sys.argv[1], os.O_RDONLY), 0, prot=mmap.PROT_READ)
mapped = memoryview(source)[:8192]
copied = mmap.mmap(-1, 8192)
copied[:] = mapped
for path in '/data/file', '/share/file':
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o644)
    try: os.pwrite(fd, mapped, 0)
    except OSError as error: print(path, error.strerror)
    os.pwrite(fd, copied, 0)
    print(open(path, 'rb').read() == copied[:])
";

#[test]
fn devices_that_are_handed_what_is_mapped_fail_that_and_go_on() -> Result<()> {
    let file = format!("{}/sizes/five-million-1", fixture("odd-files"));
    for data in ["dax", "image"] {
        let (state, share) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let volume = json!({ "name": "data", "mountPoint": "/data", "size": "64M" });
        let machine = tool("hands-over", ["python3", "-c", HAND_OVER, &file])
            .set("/store/data", data)
            .share(share.path(), "/share")
            .set("/shares/0/readOnly", false)
            .host_env("MVM_STATE_DIR", state.path())
            .set("/volumes/0", volume);
        let output = machine.run()?;
        let expected = "/data/file Input/output error\nTrue\n/share/file Bad address\nTrue\n";
        assert_eq!(output.stdout(), expected, "{data}: {output}");
        assert_eq!(output.status, 0, "{data}: {output}");
    }
    Ok(())
}

/// Maps a file, and looks at what of it is gone when it is told to.
const LOOK_AT_LOST: &str = "import mmap, sys; \
    f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); \
    print('up', m[0] == m[0], flush=True); sys.stdin.readline(); print(m[1 << 20])";

/// Cuts a file of the store short that a machine has mapped: a copy in its place, which only this script sees.
const CUT_SHORT: &str = r#"
    trap "" PIPE
    mkdir "$0/run" "$0/copy"; mount -t tmpfs -o mode=700 tmpfs "$0/run"; mount -t tmpfs tmpfs "$0/copy"
    export MVM_RUNTIME_DIR=$0/run MVM_STATE_DIR=$0/run/state HOME=$0/run
    cp "$2" "$0/copy/file"; mount --bind "$0/copy/file" "$2"
    cd "$0/run"; mkfifo in; : > out
    "$1" run "$0/app.json" < in > out 2> err & machine=$!
    exec 3> in
    while kill -0 $machine 2> /dev/null && ! grep -q up out; do sleep 0.2; done
    : > "$0/copy/file"
    echo >&3
    wait $machine; echo "status $?"
    cat out err
"#;

#[test]
fn a_file_that_is_cut_short_ends_the_machine_with_a_reason() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (python, odd) = (fixture("python3"), fixture("odd-files"));
    let file = format!("{odd}/sizes/five-million-1");
    let paths = [closure(&python)?, closure(&odd)?].concat();
    fs::write(folder.path().join("paths"), paths.join("\n") + "\n")?;
    let app = json!({
        "version": 1,
        "name": "cut",
        "store": { "data": "dax", "closure": "paths" },
        "app": { "entrypoint": [format!("{python}/bin/python3"), "-c", LOOK_AT_LOST, file] },
    });
    fs::write(folder.path().join("app.json"), app.to_string())?;
    let output = where_machines_run(&["unshare", "--mount", "sh", "-c", CUT_SHORT])
        .args([folder.path(), &mvm_test::mvm()])
        .arg(&file)
        .output()?;
    let seen = String::from_utf8_lossy(&output.stdout);
    assert!(seen.starts_with("status 125\nup True\n"), "{output:?}");
    let reason = "a file that is mapped for it, of the store or its kernel's, was cut short";
    assert!(seen.contains(reason), "{output:?}");
    Ok(())
}

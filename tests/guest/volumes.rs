//! Volumes: made on first use, held by one machine, and durable.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use mvm_test::{Machine, Signal, fixtures_folder};
use serde_json::json;
use tempfile::TempDir;

use crate::shell;

const MIB: u64 = 1 << 20;

/// A machine with the volume `data` of `state` at /data.
fn with_data(name: &str, script: &str, state: &TempDir) -> Machine {
    let volume = json!({ "name": "data", "mountPoint": "/data", "size": "64M" });
    shell(name, script)
        .host_env("MVM_STATE_DIR", state.path())
        .set("/volumes/0", volume)
}

#[test]
fn what_a_machine_writes_the_next_one_reads() -> Result<()> {
    let state = TempDir::new()?;
    let write = "ls -A /data; stat -c '%u:%g' /data; echo kept > /data/file; head -c 9M /dev/zero > /data/9M";
    let first = with_data("writer", write, &state).user("1000:100").run()?;
    let image = fs::metadata(state.path().join("volumes/data.raw"))?;
    let script = "cat /data/file; stat -c %s /data/9M; grep /data /proc/mounts | cut -d' ' -f 3,4";
    let second = with_data("reader", script, &state).run()?;

    assert_eq!(first.success(), "1000:100\n");
    assert_eq!(image.len(), 64 * MIB);
    assert_eq!(image.mode() & 0o777, 0o600);
    assert!(image.blocks() * 512 < 32 * MIB, "{} blocks", image.blocks());
    let options = "ext4 rw,nosuid,nodev,relatime,nodioread_nolock,discard,noinit_itable";
    assert_eq!(second.success(), format!("kept\n{}\n{options}\n", 9 * MIB));
    Ok(())
}

#[test]
fn two_machines_cannot_have_it_and_two_can_read_it() -> Result<()> {
    let state = TempDir::new()?;
    let hold = "echo holds; read -r _";
    let mut first = with_data("first", hold, &state).spawn()?;
    first.wait_for("holds\n")?;
    let second = with_data("second", hold, &state).run()?;
    first.write("end\n")?;
    first.finish()?.success();
    let read = "cat /sys/block/vda/ro; touch /data/new; umount /data; echo x > /dev/vda; echo reads; read -r _";
    let reading = |name| with_data(name, read, &state).set("/volumes/0/readOnly", true);
    let mut readers = [reading("third").spawn()?, reading("fourth").spawn()?];
    for reader in &mut readers {
        assert_eq!(reader.wait_for("reads\n")?, "1\nreads\n");
    }

    let words = second.stderr();
    assert_eq!(second.status, 125, "{second}");
    let start = "mvm: cannot start second: cannot use volume data: it is in use by process ";
    assert!(words.starts_with(start), "{words}");
    assert!(
        words.contains("mvm run /") && words.ends_with("/app.json)\n"),
        "{words}"
    );
    assert_eq!(words.lines().count(), 1, "{words}");
    for mut reader in readers {
        reader.write("end\n")?;
        let output = reader.finish()?;
        assert_eq!(output.status, 0, "{output}");
        let words = output.stderr();
        assert!(
            words.contains("touch: cannot touch '/data/new': Read-only file system"),
            "{words}"
        );
        let refused = "echo: write error: Operation not permitted";
        assert!(words.contains(refused), "{words}");
    }
    Ok(())
}

#[test]
fn what_was_synchronized_survives_a_monitor_that_is_killed() -> Result<()> {
    let state = TempDir::new()?;
    let script = r"
        for n in 1 2 3; do
            head -c 3M /dev/urandom > /data/$n
            sync /data/$n
            echo $n $(cksum < /data/$n)
        done
        sync /data
        echo synchronized
        exec sleep 1000
    ";
    let mut victim = with_data("victim", script, &state).spawn()?;
    let sums = victim.wait_for("synchronized\n")?;
    victim.signal(Signal::KILL)?;
    assert_eq!(victim.finish()?.status, 128 + 9);
    let script = "for n in 1 2 3; do echo $n $(cksum < /data/$n); done; echo synchronized";
    let output = with_data("heir", script, &state).run()?;
    assert_eq!(output.success(), sums);
    Ok(())
}

/// In memory: files of an emulated host's own host, which it sees by 9p, take no holes.
#[test]
fn what_is_deleted_takes_no_room_on_the_host() -> Result<()> {
    let name = format!("mvm-test-{}.raw", std::process::id());
    let image = Path::new("/dev/shm").join(&name);
    let script = r#"
        room() { sync; sleep 1.1; stat -c %b "/host/$1"; }
        room "$1"
        head -c 24M /dev/urandom > /data/file
        room "$1"
        rm /data/file
        room "$1"
    "#;
    let volume = json!({ "image": image, "mountPoint": "/data", "size": "64M" });
    let machine = crate::tool("deletes", ["bash", "-c", script, "bash", &name]);
    let output = machine
        .share("/dev/shm", "/host")
        .set("/volumes/0", volume)
        .run();
    remove(&image)?;
    let text = output?.success();
    let room: Vec<u64> = text
        .lines()
        .map(|blocks| blocks.parse::<u64>().map(|blocks| blocks * 512))
        .collect::<Result<_, _>>()?;
    let [before, full, after] = room[..] else {
        panic!("{text}");
    };
    assert!(full >= before + 24 * MIB, "{room:?}");
    // The journal has been written, too.
    assert!(after <= before + 6 * MIB, "{room:?}");
    Ok(())
}

/// Removes a file of the kernel that machines run on: this one's, or the emulated host's.
fn remove(path: &Path) -> Result<()> {
    if fs::remove_file(path).is_ok() {
        return Ok(());
    }
    let mut command = Command::new(mvm_test::mvm());
    let inside = ["emulator", "exec", "--", "/bin/rm"];
    let status = command.args(inside).arg(path).status()?;
    ensure!(status.success(), "{} is left", path.display());
    Ok(())
}

#[test]
fn a_root_is_kept_on_a_volume() -> Result<()> {
    let state = TempDir::new()?;
    let machine = |name: &str, script: &str| {
        shell(name, script)
            .host_env("MVM_STATE_DIR", state.path())
            .set("/root/persist", "system")
            .set("/volumes/0", json!({ "name": "system", "size": "64M" }))
    };
    let script = r"
        cat /etc/hostname; ls -A /opt /run /tmp 2>&1
        mkdir /opt; echo kept > /opt/file; echo changed >> /etc/passwd; rm /etc/hosts
        touch /run/gone /tmp/gone; stat -c '%n %a %U' / /tmp /run /root
        grep ' / ' /proc/mounts | cut -d' ' -f 3
    ";
    let first = machine("first", script).run()?;
    let script = r"
        cat /etc/hostname /opt/file; tail -n 1 /etc/passwd; ls -A /run /tmp /opt; ls /etc/hosts 2>&1
        echo $?
    ";
    let second = machine("second", script).run()?;

    let empty = "ls: cannot access '/opt': No such file or directory\n/run:\n\n/tmp:\n";
    let modes = "/ 755 root\n/tmp 1777 root\n/run 755 root\n/root 700 root\noverlay\n";
    assert_eq!(first.success(), format!("first\n{empty}{modes}"));
    let lists = "/opt:\nfile\n\n/run:\n\n/tmp:\n";
    let hosts = "ls: cannot access '/etc/hosts': No such file or directory\n2\n";
    assert_eq!(
        second.success(),
        format!("second\nkept\nchanged\n{lists}{hosts}")
    );
    Ok(())
}

#[test]
fn a_distributions_kernel_has_them_too() -> Result<()> {
    let state = TempDir::new()?;
    let kernel = fixtures_folder().join("debian-kernel/vmlinuz");
    for script in ["echo kept > /data/file; echo kept", "cat /data/file"] {
        let machine = with_data("debian", script, &state).kernel(&kernel);
        assert_eq!(machine.memory_mib(256).run()?.success(), "kept\n");
    }
    Ok(())
}

#[test]
fn one_with_a_rate_loses_nothing() -> Result<()> {
    let state = TempDir::new()?;
    let rate = json!({ "bytesPerSecond": "16M", "opsPerSecond": 400, "burst": "64K" });
    let script = "seq 300000 > /data/numbers; sync; echo 3 > /proc/sys/vm/drop_caches; sha256sum < /data/numbers";
    let machine = with_data("slow", script, &state).set("/volumes/0/rateLimit", rate);
    let output = machine.run()?;
    assert_eq!(
        output.success().as_bytes(),
        crate::on_host("seq 300000 | sha256sum")
    );
    Ok(())
}

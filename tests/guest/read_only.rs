//! Roots that nothing is written to, and folders in memory.

use anyhow::Result;
use mvm_test::Machines;
use serde_json::json;
use tar::EntryType;
use tempfile::tempdir;

use crate::images::{busybox, machine, saved};
use crate::shell;

/// Tells where something can be written.
const TRY: &str = "for folder in / /etc /run /tmp /data /scratch /dev/shm
    do if echo x > $folder/new; then echo $folder; fi
    done 2>/dev/null";

#[test]
fn nothing_is_written_to_a_read_only_root_but_where_it_may_be() -> Result<()> {
    let machines = Machines::new()?;
    let fixed = shell("fixed", TRY).set("/root/readOnly", true);
    let fixed = fixed.set(
        "/volumes/0",
        json!({ "name": "data", "mountPoint": "/data" }),
    );
    let fixed = fixed.set(
        "/tmpfs",
        json!([{ "mountPoint": "/scratch", "size": "1M" }]),
    );
    let fixed = fixed.flag("--tmpfs=/tmp").user("nobody");
    assert_eq!(
        machines.own(fixed).run()?.success(),
        "/tmp\n/data\n/scratch\n/dev/shm\n"
    );
    // It is small, and the rest is as before.
    let script =
        "head -c 2M /dev/zero > /scratch/much; stat -c %s /scratch/much; touch /new && echo new";
    let roomy = shell("roomy", script).set(
        "/tmpfs",
        json!([{ "mountPoint": "/scratch", "size": "1M" }]),
    );
    let said = machines.own(roomy).run()?.stdout();
    assert_eq!(said, "1048576\nnew\n");
    Ok(())
}

#[test]
fn a_program_of_a_read_only_root_tells_how_it_does_and_has_its_secrets() -> Result<()> {
    let machines = Machines::new()?;
    let script = "import os, socket, time
name = os.environ['NOTIFY_SOCKET']
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', '\\0' + name[1:])
print(name, open('/etc/token').read(), flush=True)
time.sleep(1000)";
    let machine = shell("tells", "exec python3 -c \"$SCRIPT\"").env("SCRIPT", script);
    let machine = machine
        .set("/ready", "notify")
        .set(
            "/secrets/token",
            json!({ "command": ["echo", "-n", "word"], "path": "/etc/token" }),
        )
        .flag("--read-only")
        .flag("--wait");
    machines.start(machine)?;
    let said = machines.mvm(["logs", "tells"])?.success();
    assert_eq!(said, "@mvm/notify word\n");
    machines.mvm(["kill", "tells"])?.success();
    Ok(())
}

#[test]
fn what_an_image_says_to_be_written_to_is_in_memory() -> Result<()> {
    let (machines, folder) = (Machines::new()?, tempdir()?);
    let layer = busybox()
        .full("data", EntryType::Directory, 0o750, (7, 8), "", &[])
        .file("data/file", "of the image\n");
    let script =
        "stat -c '%a %u:%g' /data; cat /data/file; echo x > /data/new && echo new; echo x > /new";
    let config = json!({
        "Cmd": ["/bin/sh", "-c", script], "Env": ["PATH=/bin"], "Volumes": { "/data": {} },
    });
    let image = saved(vec![layer], &config);
    let machine = machine(&machines, &folder.path().join("web.tar"), &image)?;
    let output = machine.flag("--read-only").run()?;
    assert_eq!(output.stdout(), "750 7:8\nof the image\nnew\n");
    let expected = "/bin/sh: can't create /new: Read-only file system\n";
    assert_eq!(output.stderr(), expected);
    Ok(())
}

#[test]
fn the_check_of_an_image_can_be_disabled() -> Result<()> {
    let (machines, folder) = (Machines::new()?, tempdir()?);
    let config = json!({
        "Cmd": ["/bin/sh", "-c", "read line"], "Env": ["PATH=/bin"],
        "Healthcheck": { "Test": ["CMD", "/bin/false"], "Interval": 1_000_000_000 },
    });
    std::fs::write(
        folder.path().join("web.tar"),
        saved(vec![busybox()], &config),
    )?;
    let app = json!({
        "name": "web", "image": "./web.tar", "memory": "128M", "app": { "stdin": true },
        "healthcheck": { "disable": true },
    });
    let path = folder.path().join("app.json");
    std::fs::write(&path, app.to_string())?;
    let run = ["run", "-d", "--wait", &path.to_string_lossy()];
    assert_eq!(machines.mvm(run)?.success(), "web\n");
    assert!(machines.inspect("web")?["health"].is_null());
    machines.mvm(["kill", "web"])?.success();
    Ok(())
}

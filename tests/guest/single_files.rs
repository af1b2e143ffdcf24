//! Single files of the host in the machine, and what an image has where something is mounted.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use anyhow::Result;
use mvm_test::{Machine, Machines};
use serde_json::json;
use tar::EntryType;
use tempfile::tempdir;

use crate::images::{busybox, machine, saved};

#[test]
fn a_single_file_is_in_its_place_and_nothing_of_what_is_beside_it() -> Result<()> {
    let (machines, folder) = (Machines::new()?, tempdir()?);
    let host = folder.path().join("host");
    fs::create_dir(&host)?;
    // As a home is: the program's user may not enter it, but has the file.
    fs::set_permissions(&host, Permissions::from_mode(0o700))?;
    let file = host.join("conf");
    fs::write(&file, "of the host\n")?;
    fs::write(host.join("beside"), "hidden\n")?;
    let layer = busybox().folder("etc").file("etc/conf", "of the image\n");
    let script = "exec 2>&1; cat /etc/conf /new/conf; ls /run/mvm/files/*
        echo x > /etc/conf; read line; sleep 2; cat /etc/conf /new/conf";
    let config = json!({ "Cmd": ["/bin/sh", "-c", script], "Env": ["PATH=/bin"], "User": "1000" });
    let shown = file.display();
    let image = saved(vec![layer.link("bin/sleep", "busybox")], &config);
    let mut running = machine(&machines, &folder.path().join("web.tar"), &image)?
        .flag(format!("--volume={shown}:/etc/conf:ro"))
        .flag(format!("--volume={shown}:/new/conf:ro"))
        .spawn()?;
    let said = running.wait_for("Read-only file system\n")?;
    // As editors do.
    fs::write(host.join("new"), "edited\n")?;
    fs::set_permissions(host.join("new"), Permissions::from_mode(0o644))?;
    fs::rename(host.join("new"), &file)?;
    running.write("\n")?;
    let output = running.finish()?;
    let files = "/run/mvm/files/share0:\nconf\n\n/run/mvm/files/share1:\nconf\n";
    let refused = "/bin/sh: can't create /etc/conf: Read-only file system\n";
    let expected = format!("of the host\nof the host\n{files}{refused}");
    assert_eq!(said, expected);
    assert_eq!(output.stdout(), format!("{expected}edited\nedited\n"));
    Ok(())
}

#[test]
fn what_cannot_be_a_share_is_told() -> Result<()> {
    let folder = tempdir()?;
    let file = folder.path().join("conf");
    fs::write(&file, "")?;
    let shown = file.display();
    let output = crate::shell("writes", "true")
        .flag(format!("--volume={shown}:/etc/conf"))
        .run()?;
    let expected = format!(
        "mvm: --volume: {shown} is a file, which can only be read: put \":ro\" behind it\n"
    );
    assert_eq!((output.status, output.stderr()), (125, expected));
    Ok(())
}

#[test]
fn a_volume_has_at_first_what_the_image_has_there() -> Result<()> {
    let (machines, folder) = (Machines::new()?, tempdir()?);
    let regular = EntryType::Regular;
    let layer = busybox()
        .full("data", EntryType::Directory, 0o750, (1000, 100), "", &[])
        .full(
            "data/file",
            regular,
            0o640,
            (1000, 100),
            "",
            b"of the image",
        )
        .full("data/in", EntryType::Directory, 0o700, (7, 8), "", &[])
        .full("data/in/hard", EntryType::Link, 0, (0, 0), "data/file", &[])
        .link("data/link", "file");
    let script = "cd /data; stat -c '%n %a %u:%g' . file in; readlink link; ls; cat file; echo
        stat -c %h file; echo changed > file; cat in/hard";
    let config = json!({ "Cmd": ["/bin/sh", "-c", script], "Env": ["PATH=/bin"] });
    let image = saved(vec![layer], &config);
    let path = folder.path().join("web.tar");
    let run = || {
        let machine = machine(&machines, &path, &image)?;
        machine.flag("--volume=data:/data").run()
    };
    let there = "in 700 7:8\nfile\nfile\nin\nlink\n";
    let first = run()?;
    let expected = format!(". 750 1000:100\nfile 640 1000:100\n{there}of the image\n2\nchanged\n");
    assert_eq!((first.status, first.stdout()), (0, expected), "{first}");
    let second = run()?.success();
    assert!(
        second.ends_with("\nlink\nchanged\n\n2\nchanged\n"),
        "{second}"
    );
    Ok(())
}

#[test]
fn a_secret_takes_the_place_of_a_file_of_the_image() -> Result<()> {
    let (machines, folder) = (Machines::new()?, tempdir()?);
    let layer = busybox().folder("etc").file("etc/conf", "of the image\n");
    let config = json!({ "Cmd": ["/bin/cat", "/etc/conf"], "User": "1000" });
    fs::write(folder.path().join("web.tar"), saved(vec![layer], &config))?;
    fs::write(folder.path().join("value"), "of the host\n")?;
    let secret = json!({ "source": "./value", "path": "/etc/conf" });
    let app = json!({ "name": "web", "image": "./web.tar", "memory": "128M", "secrets": { "conf": secret } });
    let path = folder.path().join("app.json");
    fs::write(&path, app.to_string())?;
    let output = machines.own(Machine::of_file(&path)).run()?;
    assert_eq!(output.success(), "of the host\n");
    // The image is as it was.
    let output = machines.own(Machine::of_file(folder.path().join("web.tar")));
    assert_eq!(output.run()?.success(), "of the image\n");
    Ok(())
}

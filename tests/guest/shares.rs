//! Folders of the host in the machine, for reading.

use std::fs;

use anyhow::Result;
use mvm_test::{Machine, fixture};
use tempfile::TempDir;

use crate::shell;

#[test]
fn a_change_on_the_host_is_seen_a_second_later() -> Result<()> {
    let folder = TempDir::new()?;
    let file = folder.path().join("file");
    fs::write(&file, "first")?;
    let script = r"
        cd /share; ls; cat file; echo
        read -r _; sleep 1; ls; cat file; echo
        read -r _; sleep 1; ls; cat file
    ";
    let mut running = shell("edits", script)
        .share(folder.path(), "/share")
        .spawn()?;
    let start = running.wait_for("first\n")?;
    fs::write(&file, "another text")?;
    fs::write(folder.path().join("new"), "")?;
    running.write("edited\n")?;
    let edited = running.wait_for("another text\n")?;
    fs::remove_file(&file)?;
    running.write("removed\n")?;
    let output = running.finish()?;

    assert_eq!(start, "file\nfirst\n");
    assert_eq!(edited, "file\nnew\nanother text\n");
    assert_eq!(
        output.stdout(),
        "file\nfirst\nfile\nnew\nanother text\nnew\n"
    );
    assert_eq!(output.stderr(), "cat: file: No such file or directory\n");
    Ok(())
}

#[test]
fn the_machine_cannot_write_and_sees_no_more_than_the_folder() -> Result<()> {
    let folder = TempDir::new()?;
    let inside = folder.path().join("inside");
    fs::create_dir(&inside)?;
    fs::write(inside.join("file"), "kept")?;
    fs::write(folder.path().join("secret"), "not shared")?;
    std::os::unix::fs::symlink("../secret", inside.join("escape"))?;
    std::os::unix::fs::symlink(folder.path().join("secret"), inside.join("absolute"))?;
    let script = r"
        exec 2>&1
        cat /share/file; echo
        mount -o remount,rw /share
        touch /share/new; rm /share/file; echo more >> /share/file; chmod 600 /share/file
        cat /share/escape /share/absolute /share/../secret
        cd /share; ls -A
    ";
    let output = shell("read-only", script).share(&inside, "/share").run()?;
    let text = output.success();

    assert_eq!(text.lines().next(), Some("kept"));
    assert_eq!(text.matches("Read-only file system").count(), 4, "{text}");
    assert_eq!(
        text.matches("No such file or directory").count(),
        3,
        "{text}"
    );
    assert!(text.ends_with("absolute\nescape\nfile\n"), "{text}");
    assert_eq!(fs::read_to_string(inside.join("file"))?, "kept");
    assert_eq!(fs::read_dir(&inside)?.count(), 3);
    Ok(())
}

#[test]
fn a_program_runs_from_a_share_without_a_store() -> Result<()> {
    let bin = format!("{}/bin", fixture("busybox"));
    let script = "ls / | grep -c nix; echo \"$0\"; exit 4";
    let machine = Machine::new("no-store")
        .program(["/tools/busybox", "sh", "-c", script])
        .env("PATH", "/tools")
        .set("/store/mode", "none")
        .share(bin, "/tools")
        .memory_mib(64);
    let output = machine.run()?;
    assert_eq!(
        (output.status, output.stdout()),
        (4, "0\nsh\n".into()),
        "{output}"
    );
    Ok(())
}

#[test]
fn a_missing_one_is_a_clear_error() -> Result<()> {
    let missing = shell("missing", "exit 0")
        .share("/no/such/folder", "/share")
        .run()?;
    assert_eq!(missing.status, 125);
    let words = missing.stderr();
    assert!(words.starts_with("mvm: cannot "), "{words}");
    assert!(
        words.contains("/no/such/folder: No such file or directory"),
        "{words}"
    );
    assert_eq!(words.lines().count(), 1, "{words}");
    Ok(())
}

//! What is left of a `mvm` that was killed.

use anyhow::Result;
use mvm_test::Signal;
use tempfile::TempDir;

use crate::shell;

/// Lists the run folders each time that a line comes. In an emulated host they are in its own /dev,
/// below the name that the folder has on the host, which stays empty.
const WATCH: &str = r#"
    shopt -s nullglob
    echo ready
    while read -r _; do
        for folder in /named/victim "/host/mvm$NAMED/victim"; do
            [ -d "$folder" ] && echo "${folder##*/}: $(ls -A "$folder")"
        done
        echo listed
    done
"#;

#[test]
fn a_folder_with_a_socket_that_the_next_command_removes() -> Result<()> {
    let folders = TempDir::new()?;
    let watch = |name| {
        let machine = shell(name, WATCH)
            .env("NAMED", &folders.path().to_string_lossy())
            .share(folders.path(), "/named")
            .share("/dev", "/host");
        machine.host_env("MVM_RUNTIME_DIR", folders.path())
    };
    let mut watcher = watch("watcher").spawn()?;
    watcher.wait_for("ready\n")?;
    let victim = shell("victim", "echo ready; exec sleep 1000");
    let mut victim = victim.host_env("MVM_RUNTIME_DIR", folders.path()).spawn()?;
    victim.wait_for("ready\n")?;

    victim.signal(Signal::KILL)?;
    let output = victim.finish()?;
    watcher.write("now\n")?;
    let after_the_kill = watcher.wait_for("listed\n")?;
    // It removes the folder only if nobody holds its lock: no process is left either.
    let mut next = watch("next").spawn()?;
    next.wait_for("ready\n")?;
    next.write("now\n")?;
    let after_the_next = next.wait_for("listed\n")?;

    assert_eq!(output.status, 128 + 9);
    assert_eq!(after_the_kill, "victim: control\nlisted\n");
    assert_eq!(after_the_next, "listed\n");
    Ok(())
}

//! Another file for a machine that is kept.

use std::fs;
use std::path::Path;

use anyhow::Result;
use mvm_test::{Machine, Machines, fixture};
use serde_json::json;
use tempfile::tempdir;

fn write(path: &Path, name: &str, word: &str) -> Result<()> {
    let app = json!({
        "name": name,
        "app": {
            "entrypoint": ["bash", "-c", format!("echo {word}; exec sleep 1000")],
            "env": { "PATH": format!("{}/bin", fixture("tools")) },
        },
        "memory": "128M",
    });
    Ok(fs::write(path, app.to_string())?)
}

#[test]
fn one_that_was_never_started_is_waited_for() -> Result<()> {
    let machines = Machines::new()?;
    let folder = tempdir()?;
    let file = folder.path().join("app.json");
    let app = json!({
        "name": "later",
        "app": {
            "entrypoint": ["bash", "-c", "exit 7"],
            "env": { "PATH": format!("{}/bin", fixture("tools")) },
        },
        "memory": "128M",
    });
    fs::write(&file, app.to_string())?;
    let word = file.to_string_lossy();
    machines.mvm(["create", &*word])?.success();
    let waiting = machines.spawn(["wait", "later"])?;
    machines.mvm(["start", "later"])?;
    assert_eq!(waiting.finish()?.success(), "7\n");
    Ok(())
}

#[test]
fn it_is_restarted_only_if_the_file_says_something_else() -> Result<()> {
    let machines = Machines::new()?;
    let folder = tempdir()?;
    let file = folder.path().join("app.json");
    let word = file.to_string_lossy();
    let update = || {
        let output = machines.mvm(["update", "service", &*word])?;
        assert_eq!((output.status, output.stderr()), (0, String::new()));
        anyhow::Ok(output.stdout())
    };
    write(&file, "service", "one")?;
    machines.start(Machine::of_file(&file))?;
    assert_eq!(update()?, "service: unchanged\n");
    // Its name stays; and so does what it has said.
    write(&file, "another", "two")?;
    assert_eq!(update()?, "service: restarted\n");
    machines.logs_until("service", |said| said == "one\ntwo\n")?;

    fs::write(&file, r#"{ "name": "service", "memroy": 1 }"#)?;
    let refused = machines.mvm(["update", "service", &*word])?;
    assert_eq!(refused.status, 125);
    assert!(refused.stderr().contains("memroy"), "{refused}");
    assert_eq!(machines.mvm(["status", "service"])?.status, 0);

    machines.mvm(["stop", "-t", "1", "service"])?;
    write(&file, "service", "three")?;
    assert_eq!(update()?, "service: updated\n");
    assert_eq!(machines.mvm(["status", "service"])?.status, 3);
    assert_eq!(machines.mvm(["start", "service"])?.status, 0);
    machines.logs_until("service", |said| said == "one\ntwo\nthree\n")?;
    Ok(())
}

//! Secrets: what the machine sees of them, and that nobody else sees a thing.

use std::fs;
use std::path::Path;

use anyhow::Result;
use mvm_test::{Machine, Machines};
use serde_json::json;

use crate::shell;

/// Values that are nowhere else in the world.
const FROM_FILE: &str = "filesecret-6d9c";
const FROM_VARIABLE: &str = "variablesecret-1f04";
const FROM_PROGRAM: &str = "programsecret-77ab";

/// Of a command in the foreground, in whose environment it is for all who may look there.
const IN_FOREGROUND: &str = "variablesecret-open";

/// A machine with three secrets, one of each kind.
fn with_secrets(machine: Machine, file: &Path, variable: &str) -> Machine {
    // The value is not in the file that says how to come by it.
    let program = json!(["sh", "-c", "printf 'program%s-77ab' secret"]);
    machine
        .set("/secrets/file", file.to_string_lossy())
        .set(
            "/secrets/variable",
            json!({ "env": "WEB_TOKEN", "owner": "1234:5", "mode": "0440" }),
        )
        .set(
            "/secrets/program",
            json!({ "command": program, "path": "/etc/service/key" }),
        )
        .host_env("WEB_TOKEN", variable)
}

/// Whether a file below `folder` holds one of the values.
fn holds_a_value(folder: &Path) -> Result<bool> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let found = if path.is_dir() {
            holds_a_value(&path)?
        } else {
            let bytes = fs::read(&path)?;
            has_a_value(&String::from_utf8_lossy(&bytes))
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_a_value(text: &str) -> bool {
    let values = [FROM_FILE, FROM_VARIABLE, FROM_PROGRAM];
    values.iter().any(|value| text.contains(value))
}

#[test]
fn the_program_reads_them_and_nobody_can_write() -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(&file, FROM_FILE)?;
    let script = r"
        cd /run/secrets
        stat -c '%n %a %u:%g %s' *
        cat file; echo; cat variable; echo; cat /etc/service/key; echo
        readlink /etc/service/key
        stat -f -c %T .
        echo x 2>/dev/null >new || echo read-only
        [[ $(</proc/cmdline) == *secret-* ]] || echo no command line
        [[ $(tr '\0' '\n' </proc/1/environ) == *secret-* ]] || echo no environment
    ";
    let output = with_secrets(shell("secrets", script), file.path(), IN_FOREGROUND).run()?;
    let expected = format!(
        "file 400 0:0 15\nprogram 400 0:0 18\nvariable 440 1234:5 19\n\
         {FROM_FILE}\n{IN_FOREGROUND}\n{FROM_PROGRAM}\n/run/secrets/program\ntmpfs\n\
         read-only\nno command line\nno environment\n"
    );
    assert_eq!(
        (output.stderr(), output.stdout()),
        (String::new(), expected)
    );
    Ok(())
}

#[test]
fn no_value_is_kept_or_shown_anywhere() -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(&file, FROM_FILE)?;
    let machines = Machines::new()?;
    let service = shell("keeper", "[[ -s /run/secrets/file ]] && exec sleep 1000");
    machines.start(with_secrets(service, file.path(), FROM_VARIABLE))?;

    for command in [
        &["inspect", "keeper"][..],
        &["ps", "--all", "--json"],
        &["logs", "keeper"],
        &["logs", "--console", "keeper"],
        &["logs", "--mvm", "keeper"],
    ] {
        let output = machines.mvm(command)?;
        assert_eq!(output.status, 0, "{output}");
        assert!(!has_a_value(&output.stdout()), "{output}");
    }
    assert!(!holds_a_value(machines.state().as_ref())?);

    // A program that runs where the machine does looks at all processes there. What it looks for is
    // not on its own command line.
    let look = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' \
                | grep -c 'secret-[167][fd7][0a9][4bc]' ; true";
    let looker = shell("looker", "cat /run/secrets/found")
        .set("/secrets/found", json!({ "command": ["sh", "-c", look] }));
    let found = machines.own(looker).run()?;
    assert_eq!(
        (found.stderr(), found.stdout()),
        (String::new(), "0\n".into())
    );
    Ok(())
}

#[test]
fn one_that_cannot_be_had_is_told_before_anything_starts() -> Result<()> {
    let machines = Machines::new()?;
    let machine = shell("without", "true").set("/secrets/key", json!({ "env": "MVM_TEST_NONE" }));
    let output = machines.own(machine).flag("--detach").run()?;
    let why = "mvm: cannot read the secret key: $MVM_TEST_NONE is not set\n";
    assert_eq!((output.status, output.stderr()), (125, why.into()));
    assert_eq!(machines.mvm(["ps", "-aq"])?.stdout(), "");

    let folder = tempfile::tempdir()?;
    let key = folder.path().join("key");
    fs::write(&key, FROM_FILE)?;
    let with = shell("with", "exec sleep 1000").set("/secrets/key", key.to_string_lossy());
    machines.start(with)?;
    fs::remove_file(&key)?;
    let refused = machines.mvm(["restart", "with"])?;
    assert_eq!(refused.status, 125);
    assert!(
        refused
            .stderr()
            .starts_with("mvm: cannot read the secret key: "),
        "{refused}"
    );
    assert_eq!(
        machines.mvm(["status", "with"])?.status,
        0,
        "it is not stopped"
    );
    Ok(())
}

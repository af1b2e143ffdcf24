//! Flags that say what the file could.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Result;
use mvm_test::{Machines, fixture};
use serde_json::json;
use tempfile::TempDir;

/// Tells all that the flags say.
const SCRIPT: &str = r#"
    echo "$# $1 $2"; echo "$(id -u):$(id -g)"; pwd; uname -n; echo "$A, $B, $C"
    cat /fixed/word; touch /fixed/new 2>/dev/null || echo fixed
    echo machine > /shared/word && echo written; touch kept && echo kept
"#;

/// A file that says other things.
fn write_app(path: &Path) -> Result<()> {
    let app = json!({
        "name": "flags",
        "hostname": "file.example",
        "app": {
            "entrypoint": ["false", "-c"],
            "args": ["from", "the", "file"],
            "env": { "PATH": format!("{}/bin", fixture("tools")), "A": "file" },
        },
        "memory": "128M",
    });
    Ok(fs::write(path, app.to_string())?)
}

#[test]
fn flags_say_what_the_file_does() -> Result<()> {
    let machines = Machines::new()?;
    let folder = TempDir::new()?;
    let place = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (app, env) = (place("app.json"), place("env"));
    write_app(Path::new(&app))?;
    fs::write(
        &env,
        "# what the flags beside it do not say\nB=b c\nA=gone\n",
    )?;
    for name in ["fixed", "shared"] {
        fs::create_dir(place(name))?;
        fs::set_permissions(place(name), fs::Permissions::from_mode(0o777))?;
    }
    fs::write(place("fixed/word"), "host\n")?;
    let fixed = format!("{}:/fixed:ro", place("fixed"));
    let shared = format!("{}:/shared", place("shared"));
    let settings = ["--entrypoint", "bash", "-u1000:100", "-w", "/data"];
    let names = ["--hostname", "flags.example", "-eA=a", "-eC=", "--env-file"];
    let mounts = ["-vdata:/data", "-v", &fixed, "-v", &shared];
    let arguments = ["--", "-c", SCRIPT, "bash", "--", "word"];
    let run = [
        &["run"],
        &settings[..],
        &names,
        &[&env],
        &mounts,
        &[&app],
        &arguments,
    ]
    .concat();
    let output = machines.mvm(run)?.success();
    assert_eq!(
        output,
        "2 -- word\n1000:100\n/data\nflags.example\na, b c, \nhost\nfixed\nwritten\nkept\n"
    );
    assert_eq!(fs::read_to_string(place("shared/word"))?, "machine\n");
    assert!(!Path::new(&place("fixed/new")).exists());

    // A machine that is made by the same flags keeps them, the volume too.
    let flags = ["--name", "kept", "--entrypoint", "ls", "-vdata:/data"];
    let create = [&["create"], &flags[..], &[&app, "--", "/data/kept"]].concat();
    let created = machines.mvm(create)?.success();
    assert_eq!(created, "kept\n");
    machines.mvm(["start", "kept"])?.success();
    machines.mvm(["wait", "kept"])?.success();
    assert_eq!(machines.mvm(["logs", "kept"])?.success(), "/data/kept\n");
    Ok(())
}

#[test]
fn a_flag_that_is_wrong_is_told_before_anything_starts() -> Result<()> {
    let machines = Machines::new()?;
    let folder = TempDir::new()?;
    let app = folder.path().join("app.json");
    write_app(&app)?;
    let output = machines.mvm(["run", "-w", "data", &*app.to_string_lossy()])?;
    assert_eq!((output.status, output.stdout()), (125, String::new()));
    let why = "mvm: --workdir: must be an absolute path, is \"data\"\n";
    assert_eq!(output.stderr(), why);
    Ok(())
}

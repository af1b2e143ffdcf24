//! What is set once for all machines, by variables and files.

use std::fs;
use std::process::Command;

use serde_json::Value;
use tempfile::tempdir;

const APP: &str = r#"{"name":"a","app":{"entrypoint":"/bin/sh"},"store":"none"}"#;

#[test]
fn a_setting_is_read_from_a_file_told_and_overruled() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("mvm/mvm.conf");
    fs::create_dir(folder.path().join("mvm")).unwrap();
    fs::write(&file, r#"{ "accel": "fast", "kernel": "vmlinux" }"#).unwrap();
    let mvm = |arguments: &[&str], accel: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mvm"));
        command.args(arguments).env_clear();
        command.env("XDG_CONFIG_HOME", folder.path());
        command.env("HOME", folder.path());
        command.env("MVM_HOME", folder.path().join("machines"));
        command.envs(accel.map(|accel| ("MVM_ACCEL", accel)));
        command.output().unwrap()
    };
    let told = |accel| {
        let output = mvm(&["settings", "--json"], accel);
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    assert_eq!(told(None)[0]["value"], "fast");
    assert_eq!(told(None)[0]["origin"], file.to_str().unwrap());
    let kernel = folder.path().join("mvm/vmlinux");
    assert_eq!(told(None)[1]["value"], kernel.to_str().unwrap());
    assert_eq!(told(Some("kvm"))[0]["origin"], "$MVM_ACCEL");

    // What starts a machine needs it; what looks at those that run does not.
    fs::write(folder.path().join("app.json"), APP).unwrap();
    let app = folder.path().join("app.json");
    let expected = "accel: must be auto, kvm or emulated, is \"fast\"";
    for (arguments, status, behind) in [
        (&["run", app.to_str().unwrap()][..], 125, ""),
        (&["ps"], 0, "; it is not heeded"),
    ] {
        let output = mvm(arguments, None);
        let why = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{why}");
        assert_eq!(
            why,
            format!("mvm: {}: {expected}{behind}\n", file.display())
        );
    }
    let output = mvm(&["doctor", "--json"], None);
    let checks: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = checks.as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == "settings");
    assert_eq!(check.unwrap()["level"], "fail");
}

//! What is installed beside `mvm`: completion and manual pages.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// What completion offers for the last of `words`, where there are a machine, a volume and a network.
fn offered(words: &[&str]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("folder");
    let app = folder.path().join("app.json");
    let text = r#"{"name":"database","app":{"entrypoint":"/bin/sh"},"store":"none"}"#;
    fs::write(&app, text).expect("write");
    let created = mvm(&folder)
        .args(["create".as_ref(), app.as_os_str()])
        .output();
    assert!(created.expect("run mvm").status.success());
    let volumes = folder.path().join("state/volumes");
    fs::create_dir_all(&volumes).expect("folder");
    fs::write(volumes.join("data.raw"), "").expect("write");
    fs::create_dir_all(folder.path().join("run/.networks/shop")).expect("folder");
    let output = mvm(&folder)
        .env("MVM_COMPLETE", "fish")
        .args(["--", "mvm"])
        .args(words)
        .output()
        .expect("run mvm");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    // Fish shows what stands behind a tab as a description.
    let words = text
        .lines()
        .map(|line| line.split('\t').next().unwrap_or_default());
    words.map(String::from).collect()
}

fn mvm(folder: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mvm"));
    command.env("MVM_STATE_DIR", folder.path().join("state"));
    command.env("MVM_RUNTIME_DIR", folder.path().join("run"));
    command.env("MVM_ACCEL", "kvm");
    command
}

#[test]
fn names_of_machines_are_completed() {
    assert_eq!(offered(&["stop", "da"]), ["database"]);
    assert_eq!(offered(&["logs", "--follow", "d"]), ["database"]);
    assert_eq!(offered(&["exec", "x"]), Vec::<String>::new());
    let commands = offered(&["st"]);
    assert_eq!(commands, ["start", "stop", "status", "stats"]);
}

#[test]
fn names_of_volumes_and_networks_are_completed() {
    assert_eq!(offered(&["volume", "rm", "d"]), ["data"]);
    assert_eq!(offered(&["run", "-v", "da"]), ["data:"]);
    assert_eq!(
        offered(&["run", "--volume", "data:/s"]),
        Vec::<String>::new()
    );
    assert_eq!(offered(&["run", "-v", "/usr/sh"]), ["/usr/share/"]);
    assert_eq!(offered(&["create", "--network", ""]), ["shop"]);
}

#[test]
fn names_of_manual_pages_are_completed() {
    assert_eq!(offered(&["man", "net"]), ["network"]);
    assert_eq!(offered(&["man", "app"]), ["app.json"]);
    assert_eq!(offered(&["man", "compose", "u"]), ["up"]);
    assert_eq!(offered(&["man", "network", "l"]), ["ls"]);
    assert_eq!(offered(&["man", "nothing", "l"]), Vec::<String>::new());
    assert_eq!(offered(&["man", "moni"]), Vec::<String>::new());
}

#[test]
fn each_shell_has_a_script_that_asks_mvm() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let folder = tempfile::tempdir().expect("folder");
        let output = mvm(&folder).args(["completion", shell]).output();
        let output = output.expect("run mvm");
        assert!(output.status.success(), "{shell}");
        let script = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(script.contains("MVM_COMPLETE"), "{shell}: {script}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }
}

#[test]
fn the_page_of_a_command_is_printed_and_written_nowhere() {
    let folder = tempfile::tempdir().expect("folder");
    let man = |words: &[&str]| {
        let mut command = mvm(&folder);
        let output = command.arg("man").args(words).current_dir(&folder).output();
        let output = output.expect("run mvm");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let status = output.status.code();
        (status, text(output.stdout), text(output.stderr))
    };
    for (words, title) in [
        (&["run"][..], ".TH mvm-run 1"),
        (&["compose", "up"], ".TH mvm-compose-up 1"),
        (&[], ".TH mvm 1"),
        (&["app.json"], ".TH mvm-app.json 5"),
    ] {
        let (status, page, _) = man(words);
        assert_eq!(status, Some(0), "{words:?}");
        assert!(page.contains(title), "{words:?}: {page}");
    }
    let words = "mvm: there is no page of \"rnu\"; did you mean \"run\"?\n";
    assert_eq!(man(&["rnu"]), (Some(125), String::new(), words.into()));
    assert_eq!(fs::read_dir(&folder).expect("folder").count(), 0);
}

#[test]
fn each_command_and_the_file_have_a_manual_page() {
    let folder = tempfile::tempdir().expect("folder");
    let man = folder.path().join("man");
    let pages = man.join("man1");
    let status = mvm(&folder).args(["man", "--dir"]).arg(&man).status();
    assert!(status.expect("run mvm").success());
    let page = |name: &str| fs::read_to_string(pages.join(name)).unwrap_or_default();
    assert!(page("mvm.1").contains(".TH mvm 1"), "{}", page("mvm.1"));
    for (name, words) in [("mvm-run.1", "\\-\\-detach"), ("mvm-cp.1", "\\-\\-archive")] {
        assert!(page(name).contains(words), "{name}: {}", page(name));
    }
    assert!(!Path::new(&pages).join("mvm-monitor.1").exists());
    let format = fs::read_to_string(man.join("man5/mvm-app.json.5")).expect("a page");
    assert!(format.contains("the machine it runs in"), "{format}");
}

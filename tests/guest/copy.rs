//! Files that come and go while a machine runs.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use anyhow::Result;
use mvm_test::{Machines, Output};
use tempfile::tempdir;

use crate::shell;

/// Bytes of the largest file: some windows of the agent's protocol.
const LARGE: usize = 8 << 20;

fn machines(script: &str) -> Result<Machines> {
    let machines = Machines::new()?;
    machines.start(shell(
        "copy",
        &format!("{script}\necho up; exec sleep 1000"),
    ))?;
    // What is to be copied is there, then.
    machines.logs_until("copy", |said| said == "up\n")?;
    Ok(machines)
}

/// The status and both streams.
fn all(output: &Output) -> (i32, String, String) {
    (output.status, output.stdout(), output.stderr())
}

fn nothing() -> (i32, String, String) {
    (0, String::new(), String::new())
}

fn word(path: &Path) -> &str {
    path.to_str().expect("folders of tests have plain names")
}

#[test]
fn a_tree_goes_into_a_machine_and_comes_back() -> Result<()> {
    let machines = machines("mkdir /copies")?;
    let folder = tempdir()?;
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("tree/sub/empty"))?;
    fs::write(at("tree/large"), vec![7; LARGE])?;
    fs::write(at("tree/sub/run"), "#!")?;
    fs::set_permissions(at("tree/sub/run"), PermissionsExt::from_mode(0o751))?;
    symlink("sub/run", at("tree/link"))?;
    let into = machines.mvm(["cp", word(&at("tree")), "copy:/copies"])?;
    assert_eq!(all(&into), nothing());

    let script = "cd /copies/tree; md5sum <large; stat -c '%a %u' sub/run; readlink link; \
                  [[ -d sub/empty ]] && echo empty";
    let inside = machines.mvm(["exec", "copy", "bash", "-c", script])?;
    let sum = inside
        .stdout()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned();
    let on_host = crate::on_host(&format!("md5sum <{}", word(&at("tree/large"))));
    assert_eq!(format!("{sum}\n").as_bytes(), on_host);
    let rest: Vec<_> = inside.stdout().lines().skip(1).map(String::from).collect();
    assert_eq!(rest, ["751 0", "sub/run", "empty"]);

    let out = machines.mvm(["cp", "copy:/copies/tree/.", word(&at("back"))])?;
    assert_eq!(all(&out), nothing());
    assert_eq!(fs::read(at("back/large"))?, vec![7; LARGE]);
    assert_eq!(fs::metadata(at("back/sub/run"))?.mode() & 0o777, 0o751);
    assert_eq!(fs::read_link(at("back/link"))?, Path::new("sub/run"));
    assert!(at("back/sub/empty").is_dir());
    Ok(())
}

#[test]
fn a_stream_is_an_archive_both_ways() -> Result<()> {
    let machines = machines("mkdir /in; echo text >/in/file; mkdir /out")?;
    let stream = machines.mvm(["cp", "copy:/in", "-"])?;
    assert_eq!((stream.status, stream.stderr()), (0, String::new()));
    let mut archive = tar::Archive::new(stream.stdout.as_slice());
    let names = archive
        .entries()?
        .map(|entry| Ok(entry?.path()?.into_owned()))
        .collect::<Result<Vec<_>>>()?;
    assert_eq!(names, [Path::new("in"), Path::new("in/file")]);
    let mut back = machines.spawn(["cp", "-", "copy:/out"])?;
    back.write_in_background(stream.stdout);
    assert_eq!(all(&back.finish()?), nothing());
    let text = machines.mvm(["exec", "copy", "cat", "/out/in/file"])?;
    assert_eq!(text.stdout(), "text\n");
    Ok(())
}

#[test]
fn what_the_kernel_tells_in_files_is_copied() -> Result<()> {
    let machines = machines("true")?;
    let inside = machines.mvm(["exec", "copy", "cat", "/proc/version"])?;
    let folder = tempdir()?;
    let copied = machines.mvm(["cp", "copy:/proc/version", word(folder.path())])?;
    assert_eq!(all(&copied), nothing());
    let version = fs::read_to_string(folder.path().join("version"))?;
    assert_eq!(version, inside.stdout());
    assert!(version.starts_with("Linux version "), "{version}");
    Ok(())
}

#[test]
fn of_a_file_that_does_not_fit_nothing_is_left() -> Result<()> {
    let machines = machines("mkdir /small; mount -t tmpfs -o size=1m tmpfs /small")?;
    let folder = tempdir()?;
    let large = folder.path().join("large");
    fs::write(&large, vec![7; LARGE])?;
    let full = machines.mvm(["cp", word(&large), "copy:/small"])?;
    let words = "mvm: copy: cannot write \"large\": No space left on device (os error 28)\n";
    assert_eq!(all(&full), (125, String::new(), words.into()));
    let left = machines.mvm(["exec", "copy", "ls", "/small"])?;
    assert_eq!(all(&left), nothing());
    Ok(())
}

#[test]
fn what_is_wrong_is_said_by_the_side_that_knows() -> Result<()> {
    let machines = machines("mkfifo /pipe; mkdir /full; mkfifo /full/pipe; echo x >/full/x")?;
    let folder = tempdir()?;
    let here = word(folder.path());
    let words = |arguments: &[&str]| {
        let output = machines.mvm([&["cp"], arguments].concat())?;
        anyhow::Ok((output.status, output.stderr()))
    };
    let missing = "mvm: copy: cannot read /nowhere: No such file or directory (os error 2)\n";
    assert_eq!(words(&["copy:/nowhere", here])?, (125, missing.into()));
    let missing = "mvm: cannot read /nowhere: No such file or directory (os error 2)\n";
    assert_eq!(words(&["/nowhere", "copy:/"])?, (125, missing.into()));
    let missing = "mvm: copy: cannot write to the folder /no: \
                   No such file or directory (os error 2)\n";
    assert_eq!(
        words(&["/etc/passwd", "copy:/no/way"])?,
        (125, missing.into())
    );
    let left_out = "mvm: copy: left out /full/pipe, which is a pipe\n";
    assert_eq!(words(&["copy:/full", here])?, (0, left_out.into()));
    assert_eq!(fs::read_to_string(folder.path().join("full/x"))?, "x\n");
    let device = "mvm: copy: cannot copy /dev/null: it is a device\n";
    assert_eq!(words(&["copy:/dev/null", here])?, (125, device.into()));
    let neither = "mvm: one of the two paths must be NAME:PATH, within a machine\n";
    assert_eq!(words(&["/etc/passwd", here])?, (125, neither.into()));
    Ok(())
}

//! Files that are bad by their kind or size: one clear line each, and never a wait.

use std::fs;
use std::path::Path;

use rustix::fs::{CWD, FileType, mknodat};
use tempfile::TempDir;
use vmm::app::{AppFile, MAX_DEPTH, MAX_FILE_SIZE, MAX_PROBLEMS, MAX_VALUES};

fn error_of(path: &Path) -> String {
    AppFile::load(path).expect_err("a bad file").to_string()
}

fn parse_error(text: &str) -> String {
    AppFile::parse("app.json", Path::new("/"), text.as_bytes())
        .expect_err("a bad file")
        .to_string()
}

/// The error of a file of this many bytes, without a byte on the disk.
fn error_of_size(folder: &TempDir, size: u64) -> String {
    let path = folder.path().join("app.json");
    fs::File::create(&path)
        .and_then(|file| file.set_len(size))
        .expect("sparse file");
    error_of(&path).replace(&path.display().to_string(), "app.json")
}

#[test]
fn a_file_of_100_mib_is_too_large() {
    let folder = tempfile::tempdir().expect("folder");
    let error = error_of_size(&folder, 100 << 20);
    assert_eq!(error, "app.json: must be at most 1 MiB, is larger");
}

#[test]
fn the_largest_file_is_still_read() {
    let folder = tempfile::tempdir().expect("folder");
    let read = "app.json:1:1: must be UTF-8, is UTF-16 or binary";
    let too_large = "app.json: must be at most 1 MiB, is larger";
    assert_eq!(error_of_size(&folder, MAX_FILE_SIZE), read);
    assert_eq!(error_of_size(&folder, MAX_FILE_SIZE + 1), too_large);
}

#[test]
fn a_folder_is_no_file() {
    let folder = tempfile::tempdir().expect("folder");
    let name = folder.path().display();
    let expected = format!("{name}: must be a file, is a folder; name the file in it");
    assert_eq!(error_of(folder.path()), expected);
}

#[test]
fn a_device_is_no_file() {
    assert_eq!(
        error_of(Path::new("/dev/zero")),
        "/dev/zero: must be a file, is a device"
    );
}

#[test]
fn a_pipe_without_a_writer_is_not_waited_for() {
    let folder = tempfile::tempdir().expect("folder");
    let pipe = folder.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, 0o600.into(), 0).expect("FIFO");
    let hint = "give it as standard input, with \"-\" as the file";
    let expected = format!("{}: must be a file, is a pipe; {hint}", pipe.display());
    assert_eq!(error_of(&pipe), expected);
}

#[test]
fn a_file_that_is_not_there_is_named_in_one_line() {
    let folder = tempfile::tempdir().expect("folder");
    let name = folder.path().display();
    let expected =
        format!("{name}/two\\nlines: cannot open: No such file or directory (os error 2)");
    assert_eq!(error_of(&folder.path().join("two\nlines")), expected);
}

#[test]
fn a_loop_of_links_is_named() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("loop");
    std::os::unix::fs::symlink("loop", &path).expect("link");
    assert!(
        error_of(&path).contains("Too many levels of symbolic links"),
        "{}",
        error_of(&path)
    );
}

#[test]
fn a_nesting_of_100_000_ends_at_the_limit() {
    for opening in ["[", "{\"a\":"] {
        let column = MAX_DEPTH * opening.len() + 1;
        let message = format!("lists and objects are nested more than {MAX_DEPTH} deep");
        let error = parse_error(&opening.repeat(100_000));
        assert_eq!(error, format!("app.json:1:{column}: {message}"));
    }
}

#[test]
fn a_file_full_of_values_ends_at_the_limit() {
    let error = parse_error(&format!(
        r#"{{"shares":[{}]}}"#,
        vec!["0"; 400_000].join(",")
    ));
    assert!(
        error.contains(&format!("at most {MAX_VALUES} are allowed")),
        "{error}"
    );
}

#[test]
fn the_number_of_errors_is_bounded_whatever_their_kind() {
    const COUNT: usize = 20_000;
    let in_file = |section: &str| format!(r#"{{"name":"a","app":{{"entrypoint":"x"}},{section}}}"#);
    let in_app = |key: &str| format!(r#"{{"name":"a","app":{{"entrypoint":"x",{key}}}}}"#);
    let numbered =
        |text: &dyn Fn(usize) -> String| (0..COUNT).map(text).collect::<Vec<_>>().join(",");
    let repeated = |text: &str| vec![text; COUNT].join(",");
    for text in [
        in_file(&numbered(&|nth| format!(r#""k{nth}":1"#))),
        in_file(&repeated(r#""vcpus":1"#)),
        in_file(&format!(r#""shares":[{}]"#, repeated("0"))),
        in_file(&format!(
            r#""shares":[{}]"#,
            repeated(r#"{"source":"","mountPoint":"/"}"#)
        )),
        in_app(&format!(
            r#""env":{{{}}}"#,
            numbered(&|nth| format!(r#""{nth}=":"""#))
        )),
        in_app(&format!(r#""args":[{}]"#, repeated("{}"))),
    ] {
        let lines = parse_error(&text).lines().count();
        assert!((1..=MAX_PROBLEMS + 1).contains(&lines), "{lines} lines");
    }
}

#[test]
fn a_key_of_half_a_megabyte_is_cut_in_its_error() {
    let key = "m".repeat(500_000);
    let error = parse_error(&format!(
        r#"{{"name":"a","app":{{"entrypoint":"x"}},"{key}":1}}"#
    ));
    assert!(error.len() < 1000, "{} bytes", error.len());
}

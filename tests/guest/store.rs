//! The store in the machine is the closure of its program, as it is on the host, and no more.

use anyhow::{Result, ensure};
use mvm_test::{Output, closure, fixture};

use crate::{on_host, shell, tool, where_machines_run};

#[test]
fn python_finds_its_libraries() -> Result<()> {
    let imports = "import ssl, sqlite3, ctypes; \
        print(ssl.OPENSSL_VERSION_INFO[0], sqlite3.connect(':memory:').execute('select 6 * 7').fetchone(), \
        ctypes.CDLL('libc.so.6').abs(-42))";
    let output = tool("python", ["python3", "-c", imports])
        .memory_mib(256)
        .run()?;
    assert_eq!(output.success(), "3 (42,) 42\n");
    Ok(())
}

/// The path comes as input: named in the file it would be part of the closure.
pub(crate) const LOOK_OUTSIDE: &str = r#"
    read -r outside
    stat "$outside"; ls "$outside"; cat "$outside/secret"; cd "$outside"
    echo "$outside"/*; readlink -e "$outside/secret"; [ -e "$outside" ] || echo absent
    cat "/nix/store/../store/${outside##*/}/secret"; cat "/proc/self/root$outside/secret"
"#;

#[test]
fn a_path_outside_the_closure_does_not_exist() -> Result<()> {
    let outside = fixture("outside");
    assert!(std::fs::exists(format!("{outside}/secret"))?);
    let output = shell("outside", LOOK_OUTSIDE)
        .input(format!("{outside}\n"))
        .run()?;
    let errors = output.stderr();

    assert_eq!(output.stdout(), format!("{outside}/*\nabsent\n"));
    let absences = errors.matches("No such file or directory").count();
    assert_eq!((absences, errors.lines().count()), (6, 6), "{errors}");
    Ok(())
}

#[test]
fn the_store_lists_the_closure() -> Result<()> {
    let tools = closure(&fixture("tools"))?;
    let names = |paths: &[String]| -> String {
        paths
            .iter()
            .map(|path| path.replace("/nix/store/", "") + "\n")
            .collect()
    };
    let all = shell("listing", "LC_ALL=C ls -A /nix/store").run()?;
    assert_eq!(all.success(), names(&tools));

    let busybox = fixture("busybox");
    let program = format!("{busybox}/bin/busybox");
    let one = tool("listing", [&program, "ls", "-A", "/nix/store"])
        .set("/app/env", serde_json::json!({}));
    assert_eq!(one.run()?.success(), names(&[busybox]));
    Ok(())
}

/// Tries to change the store in every way, and prints each answer's words.
pub(crate) const CHANGE: &str = r#"
    try() { "$@" 2>&1 && echo "done: $*"; }
    change() {
        try touch /nix/store/new
        try touch $TARGET/links/file
        try mkdir $TARGET/new
        try rm $TARGET/links/file
        try rmdir $TARGET/links/folder
        try mv $TARGET/links/file $TARGET/links/moved
        try ln -s x $TARGET/new
        try ln $TARGET/links/file $TARGET/new
        try chmod 777 $TARGET/links/file
        try chown 1:1 $TARGET/links/file
        try truncate -s 0 $TARGET/links/file
        try mknod $TARGET/new p
        (echo more >> $TARGET/links/file) 2>&1 && echo "done: append"
    }
    change > /tmp/before
    mount -o remount,rw /nix/store; echo "remounted: $?"
    change > /tmp/after
    for file in before after; do
        grep -c 'Read-only file system' /tmp/$file; grep -v 'Read-only file system' /tmp/$file
    done
    cat $TARGET/links/file
"#;

/// All that can be told of files without their content: names, kinds, modes, owners, sizes, targets.
const LIST: &str = r#"
    list() {
        find "$@" -print0 | LC_ALL=C sort -z | LC_ALL=C xargs -0 stat -c '%N %f %u:%g %s'
    }
"#;

#[test]
fn nobody_can_change_it() -> Result<()> {
    let target = fixture("odd-files");
    let list = format!("{LIST} list {target}; md5sum {target}/links/file; ls /nix/store");
    let host_before = on_host(&list);
    let output = shell("change", CHANGE).env("TARGET", &target).run()?;
    let host_after = on_host(&list);

    assert_eq!(output.success(), "remounted: 0\n13\n13\ntarget\n");
    assert!(host_before == host_after, "the host's store has changed");
    Ok(())
}

#[test]
fn every_file_of_the_closure_is_the_hosts() -> Result<()> {
    let sums = r#"find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum"#;
    let paths = closure(&fixture("tools"))?.join(" ");
    let script = format!("set -- {paths}; {LIST} list \"$@\"; {sums}");
    let expected = on_host(&script);
    let lines = expected.split(|byte| *byte == b'\n').count();
    assert!(lines > 1000, "{lines} lines");

    let output = shell("sums", &script).memory_mib(512).run()?;
    assert_same(&output, &expected);
    Ok(())
}

/// Looks at files with odd names, links and sizes, after `list` has told what there are.
pub(crate) fn look_at_odd_files(list: &str) -> String {
    let odd = fixture("odd-files");
    format!(
        "{list} list {odd}; find {odd} -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum; \
         cd {odd}; cat links/relative links/absolute links/to-folder/../file; \
         cat links/dangling links/loop deep/level-0/no-such-file 2>&1; \
         dd if=sizes/five-million-1 bs=4097 skip=1220 status=none | md5sum; ls many | wc -l"
    )
}

#[test]
fn odd_names_links_and_sizes_are_the_hosts() -> Result<()> {
    let script = look_at_odd_files(LIST);
    let output = shell("odd", &script).run()?;
    assert_same(&output, &on_host(&script));
    Ok(())
}

/// Compares, by line, what is too long to print.
#[track_caller]
pub(crate) fn assert_same(output: &Output, expected: &[u8]) {
    output.success();
    let lines = |bytes: &[u8]| -> Vec<String> {
        let lines = bytes.split(|byte| *byte == b'\n');
        lines.map(|line| line.escape_ascii().to_string()).collect()
    };
    let (found, expected) = (lines(&output.stdout), lines(expected));
    let differences: Vec<_> = found
        .iter()
        .zip(&expected)
        .filter(|(a, b)| a != b)
        .collect();
    let some = &differences[..differences.len().min(10)];
    assert!(
        differences.is_empty(),
        "{} lines differ: {some:#?}",
        differences.len()
    );
    assert_eq!(found.len(), expected.len());
}

/// Descriptors of processes, where machines run, that have `path` open. Nix's garbage collector
/// looks at these; it cannot be asked itself, as the emulated host cannot open its database.
pub fn openings(path: &str) -> Result<String> {
    let script = r#"find /proc/[0-9]*/fd -lname "$0" 2> /dev/null || true"#;
    let output = where_machines_run(&["sh", "-c", script, path]).output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn what_a_machine_may_see_is_open_so_that_nix_keeps_it() -> Result<()> {
    let outside = fixture("outside");
    let mut running = shell("rooted", "echo up; read -r _")
        .env("SEEN", &outside)
        .spawn()?;
    running.wait_for("up\n")?;
    let during = openings(&outside)?;
    running.write("end\n")?;
    running.finish()?.success();
    assert_eq!(during.lines().count(), 1, "{during}");
    assert_eq!(openings(&outside)?, "");
    Ok(())
}

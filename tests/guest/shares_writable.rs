//! Folders of the host that the machine writes to.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::Result;
use mvm_test::Machine;
use tempfile::TempDir;

use crate::{on_host, shell, tool};

/// A machine that may change a folder.
fn writing(machine: Machine, folder: &Path) -> Machine {
    machine
        .share(folder, "/share")
        .set("/shares/0/readOnly", false)
}

/// Names, modes, sizes and contents, as a program sees them.
const LOOK: &str = "find . ! -name . -exec stat -c '%n %F %a %h %s' {} + | sort; \
    find . -type f ! -name '.*' -exec md5sum {} + | sort; find . -type l -exec readlink {} ';' | sort";

/// What coreutils do to a folder. The pause is longer than the host's answer about its free space is
/// good for, so that it is asked about a file without a name.
const WORK: &str = r#"
    umask 022
    mkdir -p a/b/c
    echo first > a/file; echo second >> a/file; printf x | dd of=a/file bs=1 seek=100 conv=notrunc 2>&1 | tail -c 0
    ln a/file a/b/hard; ln -s ../file a/b/soft
    seq 100000 > numbers; head -c 1000 numbers > part; truncate --size=5000 part
    mv a/b moved; cp -a moved copy; rm -r copy/c
    cat a/file moved/hard > both; chmod 640 both; chmod u=rwx,g=rx,o= moved
    exec 5> gone; exec 6< gone; rm gone; sleep 1.1; echo kept >&5; read -r line <&6; echo "$line" > read-back
    touch --date=2001-02-03T04:05:06Z dated; stat --format=%Y dated > when
    tar -cf archive.tar moved; mkdir out; tar -xf archive.tar -C out; rm archive.tar
    cp numbers sparse; dd if=/dev/zero of=sparse bs=1 count=0 seek=3000000 2>&1 | tail -c 0
    sync both; sync"#;

#[test]
fn programs_leave_what_they_leave_on_a_local_file_system() -> Result<()> {
    let (share, local) = (TempDir::new()?, TempDir::new()?);
    let script = format!("set -e; cd /share; {WORK}\n{LOOK}");
    let seen = writing(shell("writable", &script), share.path())
        .run()?
        .success();
    let at = |folder: &TempDir, script: &str| {
        on_host(&format!("cd {}; {script}", folder.path().display()))
    };
    at(&local, WORK);
    let expected = String::from_utf8(at(&local, LOOK))?;

    assert_eq!(seen, expected);
    // And so does the host see it.
    assert_eq!(String::from_utf8(at(&share, LOOK))?, expected);
    Ok(())
}

const DATABASE: &str = r#"
import mmap, os, sqlite3, threading
os.chdir("/share")
base = sqlite3.connect("base")
base.execute("create table numbers (n integer primary key, text text)")
for begin in range(0, 3000, 1000):
    with base:
        base.executemany("insert into numbers values (?, ?)", ((n, "x" * 100) for n in range(begin, begin + 1000)))
try:
    with base:
        base.execute("delete from numbers")
        raise KeyError
except KeyError:
    pass
other = sqlite3.connect("base")
print(other.execute("select count(*), sum(n) from numbers").fetchone())
other.close(); base.close()

with open("mapped", "w+b") as file:
    file.truncate(8192)
    with mmap.mmap(file.fileno(), 8192) as pages:
        pages[4090:4100] = b"0123456789"
        pages.flush()
descriptor = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_DSYNC)
threads = [threading.Thread(target=lambda: [os.write(descriptor, b"line\n") for _ in range(50)]) for _ in range(4)]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
os.fsync(descriptor); os.fdatasync(descriptor)
folder = os.open(".", os.O_RDONLY); os.fsync(folder)
os.setxattr("log", "user.note", b"kept"); print(os.getxattr("log", "user.note"), os.listxattr("log"))
"#;

#[test]
fn a_database_and_mapped_files_arrive() -> Result<()> {
    let folder = TempDir::new()?;
    let machine = tool("database", ["python3", "-c", DATABASE]).vcpus(2);
    let text = writing(machine, folder.path()).run()?.success();

    assert_eq!(text, "(3000, 4498500)\nb'kept' ['user.note']\n");
    let read = |name: &str| fs::read(folder.path().join(name));
    assert_eq!(&read("mapped")?[4088..4102], b"\0\x000123456789\0\0");
    assert_eq!(read("log")?, "line\n".repeat(200).into_bytes());
    assert!(read("base")?.starts_with(b"SQLite format 3\0"));
    Ok(())
}

const CALLS: &str = r#"
import errno, fcntl, mmap, os, sys
os.chdir("/share")
def attempt(call, *arguments):
    try:
        call(*arguments)
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]

pages = mmap.mmap(-1, 8192)
pages[:] = b"d" * 8192
direct = os.open("direct", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
print(os.write(direct, pages), os.preadv(direct, [pages], 4096))

first, second = (os.open("direct", os.O_RDWR) for _ in range(2))
fcntl.flock(first, fcntl.LOCK_EX)
print(attempt(fcntl.flock, second, fcntl.LOCK_EX | fcntl.LOCK_NB))
fcntl.flock(first, fcntl.LOCK_UN)
fcntl.lockf(first, fcntl.LOCK_EX)
sys.stdout.flush()
child = os.fork()
if child == 0:
    print(attempt(fcntl.lockf, second, fcntl.LOCK_EX | fcntl.LOCK_NB), flush=True)
    os._exit(0)
os.waitpid(child, 0)

print(attempt(os.open, ".", os.O_TMPFILE | os.O_RDWR))
shared = os.statvfs(".")
print(shared.f_bavail < shared.f_bfree, shared.f_namemax)
"#;

#[test]
fn locks_hold_and_direct_writes_arrive() -> Result<()> {
    let folder = TempDir::new()?;
    let machine = tool("calls", ["python3", "-c", CALLS]);
    let text = writing(machine, folder.path()).run()?.success();

    assert_eq!(text, "8192 4096\nEAGAIN\nEAGAIN\nENOTSUP\nTrue 255\n");
    assert_eq!(fs::read(folder.path().join("direct"))?, [b'd'; 8192]);
    Ok(())
}

#[test]
fn what_would_harm_the_host_does_not_arrive() -> Result<()> {
    let folder = TempDir::new()?;
    let (inside, outside) = (folder.path().join("inside"), folder.path().join("outside"));
    fs::create_dir(&inside)?;
    fs::write(&outside, "kept")?;
    let script = r#"
        cd /share
        cp "$(type -p busybox)" program; chmod 6755 program; stat --format=%a program
        mknod device c 1 3; mknod disk b 8 0
        ln -s ../outside link; echo gone > link
        python3 -c 'import os; os.setxattr("program", "security.capability", b"\1\0\0\2" + bytes(16))' 2>&1 | tail -1
        df --output=size,avail /share | tail -1 | { read size avail; [ $avail -lt $size ] && fallocate -l $((avail + 4))K big; }
        ls -A
    "#;
    let output = writing(shell("harmless", script), &inside).run()?;
    let text = output.stdout();

    assert!(text.starts_with("755\n"), "{output}");
    assert!(text.contains("Operation not supported"), "{output}");
    let errors = output.stderr();
    assert_eq!(errors.matches("mknod: ").count(), 2, "{output}");
    assert!(errors.contains("No space left on device"), "{output}");
    assert_eq!(fs::read(&outside)?, b"kept");
    let program = fs::metadata(inside.join("program"))?;
    assert_eq!(program.permissions().mode() & 0o7777, 0o755);
    assert!(!inside.join("device").exists());
    assert_eq!(program.uid(), rustix::process::geteuid().as_raw());
    Ok(())
}

#[test]
fn host_and_machine_write_in_turn() -> Result<()> {
    let folder = TempDir::new()?;
    let file = folder.path().join("file");
    let script = r"
        cd /share; echo guest > file; mkdir folder; echo ready
        read -r _; sleep 1; cat file; echo guest >> file; ls folder; cat folder/new
        mv folder renamed; echo moved
        read -r _; sleep 1; ls; cat renamed/new
    ";
    let machine = writing(shell("in-turn", script), folder.path());
    let mut running = machine.spawn()?;
    running.wait_for("ready\n")?;
    assert_eq!(fs::read_to_string(&file)?, "guest\n");
    fs::write(&file, "guest\nhost\n")?;
    fs::write(folder.path().join("folder/new"), "from the host\n")?;
    running.write("changed\n")?;
    running.wait_for("moved\n")?;
    assert_eq!(fs::read_to_string(&file)?, "guest\nhost\nguest\n");
    assert!(!folder.path().join("folder").exists());
    fs::write(folder.path().join("renamed/new"), "again\n")?;
    running.write("changed\n")?;
    let output = running.finish()?;

    assert_eq!(
        output.success(),
        "ready\nguest\nhost\nnew\nfrom the host\nmoved\nfile\nrenamed\nagain\n"
    );
    Ok(())
}

#[test]
fn a_program_that_is_not_root_writes_as_well() -> Result<()> {
    let folder = TempDir::new()?;
    let own = rustix::process::geteuid().as_raw();
    // Root's folders are root's in the machine too, and nobody may write to this one.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
    let script = "cd /share; mkdir made; echo text > made/file; stat --format=%u:%g made/file";
    let machine = writing(shell("not-root", script), folder.path());
    let output = machine.user("nobody").run()?;

    assert_eq!(output.success(), "65534:65534\n");
    let stat = fs::metadata(folder.path().join("made/file"))?;
    assert_eq!(stat.uid(), if own == 0 { 65_534 } else { own });
    Ok(())
}

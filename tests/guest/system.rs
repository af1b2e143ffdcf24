//! What a program finds in its machine besides its files.

use anyhow::Result;
use mvm_test::Running;

use crate::{shell, tool};

#[test]
fn environment_folder_and_arguments_are_the_files() -> Result<()> {
    let machine = shell(
        "environment",
        "pwd; printf '<%s>' \"$@\"; echo; env -0 | LC_ALL=C sort -z | tr '\\0' '\\n'",
    )
    .set(
        "/app/args",
        serde_json::json!(["zero", "two words", "", "$HOME", "ü"]),
    )
    .env("EMPTY", "")
    .env("LINES", "one\ntwo")
    .set("/app/env/HOME", serde_json::Value::Null)
    .set("/app/cwd", "/var/tmp");
    let text = machine.run()?.success();
    let text = text.replace(&mvm_test::fixture("tools"), "TOOLS");
    assert_eq!(
        text,
        "/var/tmp\n<two words><><$HOME><ü>\n\
         EMPTY=\nHOME=/root\nLINES=one\ntwo\nPATH=TOOLS/bin\nPWD=/var/tmp\nSHLVL=1\nUSER=root\n_=TOOLS/bin/env\n"
    );
    Ok(())
}

const LOOK: &str = r#"
    exec 2>&1
    hostname; cat /etc/hostname
    cat /etc/hosts
    busybox ping -c 1 127.0.0.1 | grep -o '1 packets received'
    ip link show lo | grep -o 'LOOPBACK,UP'
    while read -r _ point kind _; do echo "$kind $point"; done < /proc/mounts | LC_ALL=C sort
    stat --format='%a %n' /tmp /var/tmp /dev/shm /root
    echo $(readlink /dev/stdin /dev/stdout /dev/fd)
    echo shm > /dev/shm/file && cat /dev/shm/file
    : > /dev/null && head -c 3 /dev/zero | wc -c && head -c 16 /dev/urandom | wc -c
    cat /proc/1/comm
    (sleep 0.1 &); sleep 0.5; cat /proc/[0-9]*/status | grep 'State:.Z' | wc -l
"#;

#[test]
fn the_file_systems_the_names_and_the_network() -> Result<()> {
    let output = shell("system", LOOK)
        .set("/hostname", "box.example")
        .run()?;
    assert_eq!(
        output.success(),
        "box.example\nbox.example\n\
         127.0.0.1 localhost\n::1 localhost\n127.0.1.1 box.example\n\
         1 packets received\nLOOPBACK,UP\n\
         cgroup2 /sys/fs/cgroup\ndevpts /dev/pts\ndevtmpfs /dev\nmqueue /dev/mqueue\nproc /proc\n\
         sysfs /sys\ntmpfs /\ntmpfs /dev/shm\nvirtiofs /nix/store\n\
         1777 /tmp\n1777 /var/tmp\n1777 /dev/shm\n700 /root\n\
         fd/0 fd/1 /proc/self/fd\nshm\n3\n16\ninit\n0\n"
    );
    Ok(())
}

const PIVOT: &str = r"
    mkdir /new && mount -t tmpfs new /new && mkdir /new/old
    cp $(realpath $(type -p busybox)) /new/busybox
    pivot_root /new /new/old && cd / && exec /busybox sh -c '/busybox umount -l /old; /busybox ls -A /'
";

#[test]
fn the_root_can_be_changed() -> Result<()> {
    let output = shell("pivot", PIVOT).run()?;
    assert_eq!(output.success(), "busybox\nold\n");
    Ok(())
}

#[test]
fn four_machines_of_one_name_run_at_once() -> Result<()> {
    let start = |_| tool("many", ["cat"]).memory_mib(64).spawn();
    let mut machines = (0..4).map(start).collect::<Result<Vec<Running>>>()?;
    for machine in &mut machines {
        machine.write("here\n")?;
        machine.wait_for("here\n")?;
    }
    // All four run now.
    for machine in &mut machines {
        machine.write("still\n")?;
    }
    let outputs = machines
        .into_iter()
        .map(Running::finish)
        .collect::<Result<Vec<_>>>()?;
    let texts: Vec<_> = outputs.iter().map(mvm_test::Output::success).collect();
    assert_eq!(texts, ["here\nstill\n"; 4]);
    Ok(())
}

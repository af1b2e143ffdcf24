//! Containers of Debian's podman and containerd that are machines, in the emulated host: engines
//! need root, and a place of their own. `tests/engines.d/enter` makes one.
//!
//! The one thing to know: that takes seconds, and so does each machine, so a script looks at all
//! that belongs together.

use std::ffi::OsStr;
use std::process::Command;

use anyhow::{Result, ensure};

/// What a script prints where `podman run` makes machines: of `$M`, small ones.
fn engine(script: &str) -> Result<String> {
    engine_with(script, &[])
}

/// The same of a script with arguments, from `$0` on.
pub fn engine_with(script: &str, arguments: &[&OsStr]) -> Result<String> {
    let enter = mvm_test::repository().join("tests/engines.d/enter");
    let output = Command::new(mvm_test::mvm())
        .args(["emulator", "exec", "--"])
        .arg(enter)
        .args(["bash", "-c", &format!("{PRELUDE}{script}")])
        .args(arguments)
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}\n{errors}", output.status);
    eprint!("{errors}");
    Ok(String::from_utf8(output.stdout)?)
}

const PRELUDE: &str = r#"
    # For what a small host has not.
    export PATH=$PATH:/tmp/rootfs/bin
    M="--runtime mvm --annotation mvm.dev/memory=96M --annotation mvm.dev/vcpus=1"
    run() { podman run $M "$@"; echo "status $?"; }
    # Until a command succeeds; what it says then. One of an engine takes seconds.
    until_it() {
        local end=$((SECONDS + 120))
        while [ $SECONDS -lt $end ]; do
            "$@" 2>/dev/null && return
            sleep 0.2
        done
        "$@"
    }
"#;

#[test]
fn a_container_is_a_machine_with_its_own_streams_status_and_user() -> Result<()> {
    let seen = engine(
        r#"
        echo in | run --rm -i --network none busybox sh -c '
            cat; echo err >&2; cat /proc/sys/kernel/osrelease; exit 3' 2>/tmp/err
        cat /tmp/err
        run --rm --network none busybox /no/such 2>&1
        run --rm --network none -u 1000:100 --group-add 7 -w /srv -e A=b --hostname web \
            --ulimit nofile=100:200 --umask 0027 busybox sh -c '
            id; pwd; echo $A; hostname; ulimit -n; ulimit -Hn
            >/tmp/x; stat -c "%A %u:%g" /tmp/x; exit 42'
        # The machine's memory is the annotation's.
        run --rm --network none --memory 128m --cpus 1 --annotation mvm.dev/memory=100M busybox sh -c '
            grep -c ^processor /proc/cpuinfo
            [ $(sed -n "s/MemTotal: *\([0-9]*\) kB/\1/p" /proc/meminfo) -lt 102400 ]'
        "#,
    )?;
    let kernel = seen.lines().nth(1).unwrap_or_default();
    assert!(kernel.ends_with("-mvm"), "{seen}");
    let expected = format!(
        "in\n{kernel}\nstatus 3\nerr\n\
         mvm: cannot execute /no/such: there is no such file\nstatus 127\n\
         uid=1000(web) gid=100(users) groups=7(more),100(users)\n/srv\nb\nweb\n100\n200\n\
         -rw-r----- 1000:100\nstatus 42\n1\nstatus 0\n"
    );
    assert_eq!(seen, expected);
    Ok(())
}

#[test]
fn what_it_writes_is_the_containers() -> Result<()> {
    let seen = engine(
        r"
        mkdir /tmp/host; echo host >/tmp/host/file
        run --name one --network none -v /tmp/host:/host -v /tmp/host:/shown:ro -v volume:/volume busybox sh -c '
            echo made >/srv/new; rm /bin/yes; chown 1000:100 /srv/new
            cat /host/file; echo guest >/host/file; echo kept >/volume/file
            grep -c one /etc/hosts; ls /dev/mvm 2>/dev/null
            echo no >/shown/file' 2>/dev/null
        cat /tmp/host/file
        podman diff one
        podman commit --quiet one other >/dev/null
        podman rm one >/dev/null
        run --rm --network none -v volume:/volume --read-only --tmpfs /scratch other sh -c '
            cat /srv/new /volume/file; stat -c %u:%g /srv/new
            echo x >/scratch/x; cat /scratch/x; echo no >/srv/new' 2>/dev/null
        # Under what its mounts hide the container has processes and devices, and they stay closed.
        run --rm --network none busybox sh -c '
            umount -l /proc; umount -l /dev; ls -d /proc /dev; cat /proc/1/maps /dev/mvm/machine.json' 2>&1
        ",
    )?;
    let expected = "host\n1\nstatus 1\nguest\n\
        C /bin\nD /bin/yes\nC /etc\nA /host\nA /shown\nC /srv\nA /srv/new\nA /volume\n\
        made\nkept\n1000:100\nx\nstatus 1\n\
        /dev\n/proc\n\
        cat: can't open '/proc/1/maps': Permission denied\n\
        cat: can't open '/dev/mvm/machine.json': Permission denied\nstatus 1\n";
    assert_eq!(seen, expected);
    Ok(())
}

#[test]
fn it_has_the_containers_address_also_when_it_is_started_again() -> Result<()> {
    let seen = engine(
        r#"
        fact() { podman inspect -f "{{.NetworkSettings.$1}}" web; }
        run -d --name web -p 8080:80 busybox sh -c 'hostname >/srv/index.html; exec httpd -f -h /srv' | tail -n 1
        podman exec web sh -c '
            ip -4 -o address show eth0; ip route; cat /sys/class/net/eth0/address
            ping -c 1 10.88.0.1 | grep received; cat /etc/resolv.conf' >/tmp/seen
        grep -c "inet $(fact IPAddress)/16 " /tmp/seen
        grep -c "^$(fact MacAddress)$" /tmp/seen
        grep 'received\|default' /tmp/seen
        grep -q nameserver /tmp/seen && echo "the engine's servers of names"
        until_it wget -q -O /tmp/page http://127.0.0.1:8080/
        podman restart -t 1 web >/dev/null
        until_it wget -q -O /tmp/again http://127.0.0.1:8080/
        cmp /tmp/page /tmp/again && echo "the same page"
        podman run --rm $M busybox wget -q -O - "http://$(fact IPAddress)/" | cmp - /tmp/page && echo "also for others"
        run --rm --network container:web busybox true 2>&1 | grep '^mvm\|^status'
        podman rm -f -t 0 web >/dev/null
        "#,
    )?;
    let expected = "status 0\n1\n1\n\
        default via 10.88.0.1 dev eth0 onlink \n\
        1 packets transmitted, 1 packets received, 0% packet loss\n\
        the engine's servers of names\nthe same page\nalso for others\n\
        mvm: another machine has this network: a network namespace can be that of one machine\n\
        status 126\n";
    assert_eq!(seen, expected);
    Ok(())
}

#[test]
fn more_programs_run_in_a_containers_machine() -> Result<()> {
    let seen = engine(
        r#"
        run -d --name it --network none -e A=1 busybox sleep 1000 | tail -n 1
        echo in | podman exec -i it sh -c 'cat; echo err >&2; echo $A; exit 7' 2>/tmp/err
        echo "status $?"; cat /tmp/err
        podman exec -u 1000:100 -w /srv -e A=2 it sh -c 'id; pwd; echo $A'
        podman exec it /no/such 2>&1; echo "status $?"
        podman exec it sh -c 'ps | grep -c "[s]leep 1000"'
        podman exec -d it sh -c 'echo later >/srv/later' >/dev/null
        until_it podman exec it cat /srv/later
        # With its client it is gone.
        podman exec it sleep 2000 2>/tmp/err &
        until_it podman exec it sh -c 'ps | grep -q "[s]leep 2000"'
        # The program runs before its engine has been told so.
        sleep 2
        for process in /proc/[0-9]*; do
            tr '\0' ' ' <$process/cmdline 2>/dev/null | grep -q '^/dev/mvm/mvm oci enter .* sleep 2000' &&
                kill -9 ${process#/proc/}
        done
        wait $!; echo "status $?"; cat /tmp/err
        until_it podman exec it sh -c '! ps | grep -q "[s]leep 2000"'
        # By hand, with runc's flags.
        mvm-oci exec -e B=3 -u 1000 --cwd /srv "$(podman inspect -f '{{.Id}}' it)" sh -c '
            id -u; pwd; echo $A$B'; echo "status $?"
        podman rm -f -t 0 it >/dev/null
        "#,
    )?;
    let expected = "status 0\nin\n1\nstatus 7\nerr\nuid=1000(web) gid=100(users)\n/srv\n2\n\
        mvm: cannot execute /no/such: there is no such file\nstatus 127\n1\nlater\nstatus 137\n\
        1000\n/srv\n13\nstatus 0\n";
    assert_eq!(seen, expected);
    Ok(())
}

#[test]
fn each_signal_is_the_programs_until_it_is_killed() -> Result<()> {
    let seen = engine(
        r#"
        loop='while :; do sleep 0.1; done'
        run -d --name it --network none busybox sh -c "
            trap 'echo TERM' TERM; trap 'echo WINCH' WINCH; trap 'echo 40' 40; echo ready; $loop" | tail -n 1
        said() { [ "$(podman logs it | grep -c "$1")" -ge "$2" ]; }
        until_it said ready 1
        for nth in 1 2 3; do podman kill -s TERM it >/dev/null; until_it said TERM $nth; done
        podman kill -s WINCH it >/dev/null; until_it said WINCH 1
        podman kill -s 40 it >/dev/null; until_it said 40 1
        podman logs it
        state() { podman inspect -f "{{.State.$1}}" it; }
        podman pause it >/dev/null; state Status
        podman unpause it >/dev/null; state Status
        podman stop -t 1 it >/dev/null 2>&1; state ExitCode
        podman rm it >/dev/null
        run -d --name it --network none --stop-signal INT busybox sh -c "trap 'exit 9' INT; echo ready; $loop" | tail -n 1
        until_it said ready 1
        podman stop -t 30 it >/dev/null; state ExitCode
        podman start it >/dev/null
        podman kill it >/dev/null; podman wait it
        "#,
    )?;
    let expected =
        "status 0\nready\nTERM\nTERM\nTERM\nWINCH\n40\npaused\nrunning\n137\nstatus 0\n9\n137\n";
    assert_eq!(seen, expected);
    Ok(())
}

#[test]
fn on_a_containers_terminal_are_its_size_and_its_keys() -> Result<()> {
    let seen = engine(
        r#"
        shown=/tmp/shown; : >$shown
        typed() {
            until_it grep -q ready $shown; printf 'words\n'
            until_it grep -q got $shown; printf '\003'
            until_it grep -q INT $shown; printf '\003\003\003\n'
            until_it [ -e /tmp/done ]
        }
        typed | script --quiet --flush --return --log-out $shown --command "
            stty rows 33 cols 99; podman run --rm -it $M --network none busybox sh -c '
                stty -echo; tty; stty size; trap \"echo INT\" INT; echo ready; read -r line; echo got \$line
                until read -r line; do :; done; exit 5'; echo \$? >/tmp/done" >/dev/null
        echo "status $(cat /tmp/done)"
        grep -v '^Script\|^$' $shown | tr -d '\r'
        "#,
    )?;
    assert_eq!(
        seen,
        "status 5\n/dev/pts/0\n33 99\nready\ngot words\nINT\nINT\n"
    );
    Ok(())
}

#[test]
fn what_a_machine_cannot_be_is_one_sentence_of_the_engine() -> Result<()> {
    let seen = engine(
        r#"
        refused() { podman run --rm $M --network "$@" busybox true 2>&1 | sed 's/.*error: mvm: //'; }
        refused host
        refused none --device /dev/zero:/dev/disk
        refused none --annotation mvm.dev/vcpus=many
        mount --bind /dev/zero /dev/kvm
        refused none
        umount /dev/kvm
        runc=$(readlink -f "$(command -v runc)")
        mount -t tmpfs tmpfs "$(dirname "$runc")"
        /usr/local/bin/mvm-oci state x 2>&1; echo "status $?"
        umount "$(dirname "$runc")"
        "#,
    )?;
    let expected = "\
        mvm: a machine cannot have the host's network: give the container one of the engine's, or \
        the annotation mvm.dev/network=none for none\n\
        mvm: a machine cannot have the host's device /dev/disk; without --device and --privileged \
        the container has none\n\
        mvm: annotation mvm.dev/vcpus: must be a number from 1 to 64, is \"many\"\n\
        mvm: this host cannot run a container as a machine: /dev/kvm cannot be opened: \
        Inappropriate ioctl for device (os error 25), and no emulated host is started for an \
        engine; `mvm doctor` tells more\n\
        mvm: cannot find runc, which makes the container around a machine: `apt-get install runc`\n\
        status 1\n";
    assert_eq!(seen, expected);
    Ok(())
}

#[test]
fn a_shim_is_obeyed_as_by_runc() -> Result<()> {
    let seen = engine(
        r#"
        ip netns add shim
        ip link add shim0 type veth peer name eth0 netns shim
        ip -n shim address add 10.9.0.2/24 dev eth0
        ip -n shim link set eth0 up
        ip address add 10.9.0.1/24 dev shim0
        ip link set shim0 up
        mkdir /tmp/bundle; cd /tmp/bundle; mvm-oci spec
        sed -i 's|"terminal": true|"terminal": false|; s|"sh"|"sh", "-c", "echo says $A; exec httpd -f -h /bin"|
            s|"TERM=xterm"|"A=1"|; s|"rootfs"|"/tmp/rootfs"|
            s|"type": "network"|"type": "network", "path": "/run/netns/shim"|
            s|"hostname"|"annotations": { "mvm.dev/memory": "96M", "mvm.dev/vcpus": "1" }, "hostname"|' config.json
        cp config.json /tmp/before
        echo '{ "args": ["sh", "-c", "echo exec $B; exit 4"], "env": ["PATH=/bin", "B=2"], "cwd": "/",
            "user": { "uid": 0, "gid": 0 } }' >/tmp/process
        shim() { mvm-oci --root /run/shim --log /tmp/log --log-format json "$@"; echo "$1 $?"; }
        # The second time in the network that the first has used.
        for nth in 1 2; do
            shim create --bundle /tmp/bundle --pid-file /tmp/pid one </dev/null >/tmp/out 2>&1
            shim state one | grep '"status\|"bundle'
            shim start one
            until_it wget -q -O /dev/null http://10.9.0.2/busybox
            tr '\0' ' ' <"/proc/$(cat /tmp/pid)/cmdline"; echo
            until_it grep -q says /tmp/out; cat /tmp/out
            shim exec --process /tmp/process one
            shim exec --process /tmp/process --detach --pid-file /tmp/other one >/dev/null 2>&1
            shim kill one 15
            until_it sh -c 'mvm-oci --root /run/shim state one | grep stopped'
            shim kill --all one 9
            shim delete one
            shim delete --force one; shim delete --force one
        done
        cmp config.json /tmp/before && echo "the bundle is the engine's"
        sed -i 's|echo says.*bin"|ip -4 -o address show eth0 \| grep -c 10.9.0.2; exit 3"|' config.json
        shim run two
        shim start one 2>/dev/null
        tail -n 1 /tmp/log | sed 's/,"time.*//'
        shim features | head -n 2 | tail -n 1 | cut -d '"' -f 2
        "#,
    )?;
    let each = "  \"bundle\": \"/tmp/bundle\",\n  \"status\": \"created\"\nstart 0\n\
        /dev/mvm/mvm oci machine \ncreate 0\nsays 1\nexec 2\nexec 4\nkill 0\n  \"status\": \"stopped\"\n\
        kill 0\ndelete 0\ndelete 0\ndelete 0\n";
    let last = "the bundle is the engine's\n1\nrun 3\nstart 1\n\
        {\"level\":\"error\",\"msg\":\"runc: container does not exist\"\nociVersionMin\n";
    assert_eq!(seen, format!("{each}{each}{last}"));
    Ok(())
}

#[test]
fn containerd_runs_its_containers_as_machines() -> Result<()> {
    let config = mvm_test::repository().join("contrib/containerd/config.toml");
    let script = r#"
        containerd --config "$0" >/tmp/containerd.log 2>&1 &
        until_it ctr version >/dev/null
        ctr plugins ls | grep -c 'cri .* ok'
        machine() {
            ctr run --runc-binary /usr/local/bin/mvm-oci --annotation mvm.dev/memory=96M \
                --annotation mvm.dev/vcpus=1 --rootfs "$@"
        }
        machine --rm /tmp/rootfs one sh -c 'uname -r | grep -c mvm; exit 5'; echo "status $?"
        machine -d /tmp/rootfs two sleep 1000
        ctr task exec --exec-id more two sh -c 'echo more; exit 6'; echo "status $?"
        ctr task ls | grep -c 'two .* RUNNING'
        ctr task metrics two | grep -c pids.current
        ctr task kill -s SIGKILL two
        until_it sh -c 'ctr task ls | grep -q STOPPED'
        ctr task delete two 2>/dev/null; echo "status $?"
        ctr container delete two
        kill %1; wait
        "#;
    let seen = engine_with(script, &[config.as_os_str()])?;
    assert_eq!(seen, "1\n1\nstatus 5\nmore\nstatus 6\n1\n1\nstatus 0\n");
    Ok(())
}

//! Networks in a namespace of the kernel that runs the machines: taps, bridges, and what a machine
//! reaches beyond them. They take the rights of root there.

use std::process::Command;

use anyhow::Result;
use mvm_test::{Machine, fixture, mvm};
use serde_json::{Value, json};

use crate::shell;

/// A host with an address and a way out, as seen from `$WORLD`, which has a page to fetch.
const WORLD: &str = r#"
    set -e
    TOOLS=$0; ip link set lo up; sysctl -q -w net.ipv4.ip_forward=1
    unshare --net sleep 1000 & world=$!
    trap 'kill $world $servers 2>/dev/null' EXIT
    until [ "$(readlink /proc/$world/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do sleep 0.05; done
    ip link add up0 type veth peer name world0
    ip link set world0 netns $world
    ip address add 10.77.0.1/24 dev up0; ip link set up0 up
    in_world="nsenter --net --target $world"
    $in_world ip address add 10.77.0.2/24 dev world0; $in_world ip link set world0 up
    ip route add default via 10.77.0.2
    pages=$(mktemp -d); servers=
    serve() { # address, what the page says
      mkdir $pages/$1; echo "$2" > $pages/$1/page; head -c 3000000 /dev/urandom > $pages/$1/large
      $3 $TOOLS/busybox httpd -f -p $1:7000 -h $pages/$1 & servers="$servers $!"
    }
    set +e
"#;

/// Runs `machine` between two scripts in a network namespace of its own, with `world` set up.
fn inside(machine: Machine, before: &str, after: &str) -> Machine {
    let script =
        format!("{WORLD}\n{before}\n\"$@\"; status=$?\n{after}\nrm -r $pages; exit $status");
    let bin = format!("{}/bin", fixture("tools"));
    let namespace = ["unshare", "--net", "bash", "-c", &script, &bin];
    let mut argv: Vec<String> = Vec::new();
    if runs_emulated_host() {
        let mvm = mvm().to_string_lossy().into_owned();
        argv.extend([mvm, "emulator".into(), "exec".into(), "--".into()]);
    }
    argv.extend(namespace.map(String::from));
    machine.under(argv)
}

/// Whether machines run there; then their network is that kernel's.
fn runs_emulated_host() -> bool {
    let status = Command::new(mvm())
        .args(["emulator", "status", "--json"])
        .output();
    let status = status.expect("mvm runs").stdout;
    let status: Value = serde_json::from_slice(&status).expect("JSON");
    status["running"] == json!(true)
}

fn fetch(address: &str) -> String {
    format!("curl -sS --max-time 20 http://{address}:7000/page 2>&1 | head -n 1 | cut -c 1-10")
}

#[test]
fn the_hosts_loopback_is_out_of_reach_and_its_world_is_not() -> Result<()> {
    let script = ["10.77.0.1", "10.77.0.2", "10.0.2.2", "127.0.0.1"]
        .map(fetch)
        .join("\n");
    let before = "serve 127.0.0.1 'loopback!'; serve 10.77.0.1 'the host'; serve 10.77.0.2 'the world' \"$in_world\"";
    let machine = shell("reach", &script).set("/interfaces", json!([{}]));
    let text = inside(machine, before, "").run()?.success();
    assert_eq!(text, "the host\nthe world\ncurl: (7) \ncurl: (7) \n");
    Ok(())
}

#[test]
fn a_killed_machine_leaves_neither_passt_nor_tap_nor_table() -> Result<()> {
    let interfaces = json!([
        {},
        { "type": "tap", "hostName": "vm0", "hostAddress": "10.233.1.1", "localAddress": "10.233.1.2",
          "outbound": true },
    ]);
    let machine = shell("killed", "echo up; exec sleep 1000").set("/interfaces", interfaces);
    // In place of `"$@"`: the machine is killed once its program runs.
    let before = r#"
        passts() { # of this namespace
          for process in /proc/[0-9]*; do
            [ "$(readlink $process/ns/net)" = "$(readlink /proc/$$/ns/net)" ] || continue
            grep -qz '^passt' $process/cmdline && echo passt
          done 2>/dev/null
        }
        killed() {
          "$@" > $pages/out & local mvm=$!
          until grep -q up $pages/out; do sleep 0.1; done
          ip -brief link show vm0 | cut -d ' ' -f 1; nft list tables; passts
          kill -KILL $mvm; wait $mvm 2>/dev/null
          for n in {1..100}; do
            [ -e /sys/class/net/vm0 ] || [ -n "$(nft list tables; passts)" ] || break
            sleep 0.1
          done
          ls /sys/class/net; nft list tables; passts; echo done
        }
        set -- killed "$@"
    "#;
    let output = inside(machine, before, "status=0").run()?;
    let text = output.success();
    assert_eq!(text, "vm0\ntable inet mvm_vm0\npasst\nlo\nup0\ndone\n");
    Ok(())
}

const PAIR: &str = r"
    ip -4 addr show eth0 | grep -o 'inet [^ ]*'
";

#[test]
fn a_network_of_two_reaches_the_host_and_the_world_where_that_is_asked_for() -> Result<()> {
    let pair = |outbound| {
        let interface = json!([{ "type": "tap", "hostName": "vm0", "hostAddress": "10.233.1.1",
            "localAddress": "10.233.1.2", "outbound": outbound }]);
        let script = [PAIR.into(), fetch("10.233.1.1"), fetch("10.77.0.2")].join("\n");
        let machine = shell("pair", &script).set("/interfaces", interface);
        let before = "serve 0.0.0.0 'the host'; serve 10.77.0.2 'the world' \"$in_world\"";
        inside(machine, before, "ls /sys/class/net; nft list tables").run()
    };
    let (with, without) = (pair(true)?, pair(false)?);
    assert_eq!(
        with.success(),
        "inet 10.233.1.2/32\nthe host\nthe world\nlo\nup0\n"
    );
    // The world has no way back.
    assert_eq!(
        without.success(),
        "inet 10.233.1.2/32\nthe host\ncurl: (28)\nlo\nup0\n"
    );
    Ok(())
}

const BRIDGED: &str = r"
    curl -sS --max-time 60 http://10.78.0.1:7000/large -o /tmp/large && md5sum < /tmp/large
    busybox nc 10.78.0.1 7001 < /tmp/large
    ping -c 1 -W 20 10.78.0.1 | grep -o '1 packets received'
";

#[test]
fn a_bridge_carries_large_frames_both_ways() -> Result<()> {
    let before = r"
        ip link add br0 type bridge; ip address add 10.78.0.1/24 dev br0; ip link set br0 up
        serve 10.78.0.1 page
        $TOOLS/busybox nc -l -p 7001 > $pages/back & servers=$servers\ $!
    ";
    let after = r"
        cmp $pages/back $pages/10.78.0.1/large && echo same
        ls /sys/class/net
    ";
    let interface = json!([{ "type": "bridge", "bridge": "br0", "addresses": ["10.78.0.2/24"] }]);
    let machine = shell("bridged", BRIDGED).set("/interfaces", interface);
    let text = inside(machine, before, after).run()?.success();
    let (sum, rest) = text.split_once('\n').unwrap_or_default();
    assert!(sum.ends_with(" -"), "{text}");
    assert_eq!(rest, "1 packets received\nsame\nbr0\nlo\nup0\n");
    Ok(())
}

#[test]
fn a_tap_that_is_there_is_used_as_it_is() -> Result<()> {
    let before = "ip tuntap add dev own0 mode tap vnet_hdr; ip address add 10.79.0.1/24 dev own0; ip link set own0 up; serve 10.79.0.1 'own tap'";
    let interface = json!([{ "type": "tap", "hostName": "own0", "name": "lan0",
        "addresses": ["10.79.0.2/24"], "gateway": "10.79.0.1" }]);
    let machine = shell("own-tap", &fetch("10.79.0.1")).set("/interfaces", interface);
    let text = inside(machine, before, "ls /sys/class/net")
        .run()?
        .success();
    assert_eq!(text, "own tap\nlo\nown0\nup0\n");
    Ok(())
}

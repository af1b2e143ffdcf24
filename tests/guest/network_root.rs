//! Networks in a namespace of the kernel that runs the machines: taps, bridges, and what a machine
//! reaches beyond them. They take the rights of root there.

use anyhow::Result;
use mvm_test::{Machine, fixture, mvm};
use serde_json::json;

use crate::{runs_emulated_host, shell, tool};

/// A host with an address and a way out, as seen from `$WORLD`, which has a page to fetch.
const WORLD: &str = r#"
    set -e
    # The interfaces in /sys are those of the namespace that it was mounted in.
    mount --make-rprivate /; mount -t sysfs sysfs /sys
    TOOLS=$0; ip link set lo up; echo 1 > /proc/sys/net/ipv4/ip_forward
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
      mkdir $pages/$1; echo "$2" > $pages/$1/page
      $3 $TOOLS/busybox httpd -f -p $1:7000 -h $pages/$1 & servers="$servers $!"
    }
    set +e
"#;

/// Runs `machine` between two scripts in a network namespace of its own, with `world` set up.
fn inside(machine: Machine, before: &str, after: &str) -> Machine {
    let script =
        format!("{WORLD}\n{before}\n\"$@\"; status=$?\n{after}\nrm -r $pages; exit $status");
    let bin = format!("{}/bin", fixture("tools"));
    let namespace = ["unshare", "--net", "--mount", "bash", "-c", &script, &bin];
    let mut argv: Vec<String> = Vec::new();
    if runs_emulated_host() {
        let mvm = mvm().to_string_lossy().into_owned();
        argv.extend([mvm, "emulator".into(), "exec".into(), "--".into()]);
    }
    argv.extend(namespace.map(String::from));
    machine.under(argv)
}

fn fetch(address: &str) -> String {
    format!("curl -s --max-time 20 http://{address}:7000/page || echo nothing")
}

#[test]
fn the_hosts_loopback_is_out_of_reach_and_its_world_is_not() -> Result<()> {
    let script = ["10.77.0.1", "10.77.0.2", "10.0.2.2", "127.0.0.1"]
        .map(fetch)
        .join("\n");
    let before = "serve 127.0.0.1 'loopback!'; serve 10.77.0.1 'the host'; serve 10.77.0.2 'the world' \"$in_world\"";
    let machine = shell("reach", &script).set("/interfaces", json!([{}]));
    let text = inside(machine, before, "").run()?.success();
    assert_eq!(text, "the host\nthe world\nnothing\nnothing\n");
    Ok(())
}

/// Prints "passt" for each passt of this namespace, and "later" for each process that would start one.
const PASSTS: &str = r#"
    passts() {
      for process in /proc/[0-9]*; do
        read -r name < $process/comm && [[ $name = passt* || $name = mvm ]] || continue
        [ "$(readlink $process/ns/net)" = "$(readlink /proc/$$/ns/net)" ] || continue
        case $name/$(tr '\0' ' ' < $process/cmdline) in
          passt*) echo passt ;;
          mvm/*' network later -- '*) echo later ;;
        esac
      done 2>/dev/null
    }
"#;

#[test]
fn a_killed_machine_leaves_neither_passt_nor_tap_nor_table() -> Result<()> {
    let interfaces = json!([
        {},
        { "type": "tap", "hostName": "vm0", "hostAddress": "10.233.1.1", "localAddress": "10.233.1.2",
          "outbound": true },
    ]);
    let machine = shell("killed", "echo up; exec sleep 1000").set("/interfaces", interfaces);
    // In place of `"$@"`: the machine is killed once its program runs.
    let killed = r#"
        killed() {
          "$@" > $pages/out & local mvm=$!
          until grep -qs up $pages/out; do sleep 0.1; done
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
    let before = [PASSTS, killed].concat();
    let output = inside(machine, &before, "status=0").run()?;
    let text = output.success();
    assert_eq!(text, "vm0\ntable inet mvm_vm0\nlater\nlo\nup0\ndone\n");
    Ok(())
}

#[test]
fn passt_is_there_once_the_machine_speaks() -> Result<()> {
    let script = format!(
        "trap '{}' TERM; sleep 1000 & echo up; wait; exec sleep 1000",
        fetch("10.77.0.2")
    );
    let machine = shell("speaks", &script).set("/interfaces", json!([{}]));
    // In place of `"$@"`: looks before and after the machine is told to speak.
    let looks = r#"
        serve 10.77.0.2 'the world' "$in_world"
        looks() {
          "$@" > $pages/out & local mvm=$!
          until grep -qs up $pages/out; do sleep 0.1; done
          # By then Linux has asked for routers for the first time.
          sleep 2; passts; kill -TERM $mvm
          until grep -qs world $pages/out; do sleep 0.1; done
          passts; kill -KILL $mvm; wait $mvm 2>/dev/null
          for n in {1..100}; do [ -n "$(passts)" ] || break; sleep 0.1; done
          passts; cat $pages/out
        }
        set -- looks "$@"
    "#;
    let before = [PASSTS, looks].concat();
    let text = inside(machine, &before, "status=0").run()?.success();
    assert_eq!(text, "later\npasst\nup\nthe world\n");
    Ok(())
}

#[test]
fn ipv6_reaches_the_world_and_is_reached_by_the_host() -> Result<()> {
    // Client in place of `"$@"`: asks the machine when that is up, and ends it.
    let before = r#"
        ip address add fd77::1/64 dev up0 nodad; $in_world ip address add fd77::2/64 dev world0 nodad
        ip -6 route add default via fd77::2
        serve [fd77::2] 'the world by IPv6' "$in_world"
        client() {
          "$@" > $pages/out & local mvm=$!
          until grep -qs ready $pages/out; do sleep 0.1; done
          $TOOLS/curl -s --max-time 20 http://[::1]:8080/page
          kill -TERM $mvm; wait $mvm
          cat $pages/out
        }
        set -- client "$@"
    "#;
    let script = format!(
        "mkdir /tmp/www; echo the machine by IPv6 > /tmp/www/page; trap 'exit 0' TERM
        busybox httpd -f -p [::]:80 -h /tmp/www & {}; ip -6 address show eth0 | grep -c fd00:
        echo ready; wait",
        fetch("[fd77::2]")
    );
    let machine = shell("ipv6", &script).set("/ports", json!(["[::1]:8080:80"]));
    let text = inside(machine, before, "status=0").run()?.success();
    assert_eq!(text, "the machine by IPv6\nthe world by IPv6\n1\nready\n");
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
        "inet 10.233.1.2/32\nthe host\nnothing\nlo\nup0\n"
    );
    Ok(())
}

/// Sends back what it is sent, when that has ended.
const MIRROR: &str = r#"
import socket
peer, _ = socket.create_server(("10.78.0.1", 7001)).accept()
with peer, peer.makefile("rwb") as stream:
    stream.write(stream.read())
"#;

const BRIDGED: &str = r#"
import os, socket
data = os.urandom(3_000_000)
with socket.create_connection(("10.78.0.1", 7001), 100) as peer, peer.makefile("rwb") as stream:
    stream.write(data)
    stream.flush()
    peer.shutdown(socket.SHUT_WR)
    print("the same" if stream.read() == data else "something else")
"#;

#[test]
fn a_bridge_carries_large_frames_both_ways() -> Result<()> {
    let before = format!(
        "ip link add br0 type bridge; ip address add 10.78.0.1/24 dev br0; ip link set br0 up
        $TOOLS/python3 -c '{MIRROR}' & servers=$!"
    );
    let interface = json!([{ "type": "bridge", "bridge": "br0", "addresses": ["10.78.0.2/24"] }]);
    let machine = tool("bridged", ["python3", "-c", BRIDGED]).set("/interfaces", interface);
    let text = inside(machine, &before, "ls /sys/class/net")
        .run()?
        .success();
    assert_eq!(text, "the same\nbr0\nlo\nup0\n");
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

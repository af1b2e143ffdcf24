//! Networks between machines: names, addresses, walls, and what happens to them.

use std::ffi::OsStr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use mvm_test::{Machine, Machines};
use serde_json::{Value, json};

use crate::{kill_where_machines_run, runs_emulated_host, shell, tool, until, where_machines_run};

/// A page for all who come, once its machine says "ready".
const PAGE: &str = "mkdir /tmp/www; echo the store > /tmp/www/page; busybox httpd -p 80 -h /tmp/www; \
    echo ready; exec sleep 1000";

/// `machine` in a network.
fn joins(machine: Machine, network: &str, aliases: &[&str]) -> Machine {
    let interface = json!({ "type": "network", "network": network, "aliases": aliases });
    machine.set("/interfaces", json!([interface]))
}

/// Starts a machine in the background, and waits until it says "ready".
fn start(machines: &Machines, machine: Machine, name: &str) -> Result<()> {
    machines.start(machine)?;
    until(|| {
        let logs = machines.mvm(["logs", name]).map(|logs| logs.stdout());
        logs.is_ok_and(|logs| logs.contains("ready"))
    });
    Ok(())
}

fn address(machines: &Machines, name: &str) -> Result<String> {
    let output = machines.mvm(["ip", name])?.success();
    Ok(output.trim().to_owned())
}

/// What `mvm network ls` tells of the only network.
fn told(machines: &Machines) -> Result<Value> {
    let all = machines.mvm(["network", "ls", "--json"])?.success();
    let all: Vec<Value> = serde_json::from_str(&all)?;
    all.into_iter().next().context("there is no network")
}

/// A name server for all other names, which counts what it is asked, and questions to glibc.
const NAMES: &str = r#"
import socket, struct, sys, threading
own = open("/etc/resolv.conf").read()
open("/etc/resolv.conf", "w").write(own + "nameserver 127.0.0.1\n")
other, asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), []
other.bind(("127.0.0.1", 53))
def serve():
    while True:
        query, peer = other.recvfrom(512)
        end = query.index(b"\0", 12) + 5
        asked.append(query[13:end - 5].decode())
        wants_ipv4 = query[end - 3] == 1
        head = query[:2] + struct.pack("!HHHHH", 0x8180, 1, int(wants_ipv4), 0, 0)
        record = struct.pack("!HHHIH4B", 0xc00c, 1, 1, 9, 4, 192, 0, 2, 7)
        other.sendto(head + query[12:end] + record * wants_ipv4, peer)
threading.Thread(target=serve, daemon=True).start()
def ask(name):
    try:
        found = {info[4][0] for info in socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)}
        return sorted(name if address in db else address for address in found)
    except socket.gaierror as error:
        return error.args[0]
db = {socket.gethostbyname("db")}
for name in ["db", "store", "STORE.example", "web", "no-such-name", "example.org"]:
    print(name, "is", *ask(name) if name != "web" else (len(ask(name)),))
print(socket.gethostbyaddr(*db)[0])
print(sorted({name for name in asked if "db" in name or "tore" in name}), "example" in str(asked))
"#;

#[test]
fn machines_of_a_network_reach_each_other_by_name_and_others_do_not() -> Result<()> {
    let machines = Machines::new()?;
    let db = joins(shell("db", PAGE), "shop", &["store", "store.example"]);
    start(&machines, db, "db")?;
    let address = address(&machines, "db")?;
    assert!(address.starts_with("10."), "{address}");

    let script = format!(
        "curl -s http://db/page; curl -s http://store.example/page; curl -s http://{address}/page
        ip -4 route; ping -c 1 $(sed -n 's/nameserver //p' /etc/resolv.conf) | grep -c 'bytes from'
        python3 -c '{NAMES}'"
    );
    let web = joins(shell("web", &script), "shop", &[]);
    let text = machines.own(web).run()?.success();
    let (subnet, _) = address.rsplit_once('.').context("no address")?;
    let text = text.replace(subnet, "SUBNET");
    let route = text.lines().nth(3).context("no route")?;
    assert!(
        route.starts_with("SUBNET.0/24 dev eth0 scope link  src SUBNET."),
        "{text}"
    );
    assert_eq!(
        text.replace(&format!("{route}\n"), ""),
        "the store\nthe store\nthe store\n1\n\
        db is db\nstore is store\nSTORE.example is STORE.example\nweb is 1\n\
        no-such-name is 192.0.2.7\nexample.org is 192.0.2.7\ndb\n[] True\n"
    );

    // One of another network, which even calls itself one of this one.
    let script = format!(
        "python3 -c 'import socket; socket.getaddrinfo(\"db\", 80)' 2>&1 | grep -c gaierror
        curl -s --max-time 5 http://{address}/page; echo $?
        ip address add {subnet}.200/24 dev eth0; ip route | grep -c {subnet}.0/24
        curl -s --max-time 5 http://{address}/page || echo nothing"
    );
    let stranger = joins(shell("stranger", &script), "other", &["db-2"]);
    let text = machines.own(stranger).run()?.success();
    assert_eq!(text, "1\n7\n1\nnothing\n");
    Ok(())
}

#[test]
fn a_network_is_there_as_long_as_machines_are_and_addresses_stay() -> Result<()> {
    let machines = Machines::new()?;
    let one = shell("one", "echo ready; exec sleep 1000");
    let one = one
        .flag("--network")
        .flag("shop")
        .flag("--network-alias")
        .flag("first");
    start(&machines, one, "one")?;
    let two = shell(
        "two",
        "ping -c 3 first | grep -c 'bytes from'; ip -4 addr show eth0 | grep -o 'inet [^ ]*'",
    );
    machines.start(joins(two, "shop", &[]))?;
    machines.mvm(["wait", "two"])?.success();
    let before = machines.mvm(["logs", "two"])?.success();
    let own = before.lines().nth(1).context("no address")?.to_owned();
    assert_eq!(before, format!("3\n{own}\n"));

    let network = told(&machines)?;
    assert_eq!(network["name"], "shop");
    let first = &network["members"][0];
    let address = address(&machines, "one")?;
    assert_eq!(first["address"], json!(address));
    assert_eq!(first["aliases"], json!(["first", "one"]));
    let inspected: Value = serde_json::from_str(&machines.mvm(["inspect", "one"])?.success())?;
    assert_eq!(inspected[0]["addresses"], json!([address]));
    let list = machines.mvm(["network", "ls"])?.success();
    assert!(list.contains(&format!("one {address}")), "{list}");

    machines.mvm(["start", "two"])?.success();
    machines.mvm(["wait", "two"])?.success();
    assert_eq!(machines.mvm(["logs", "two"])?.success(), before.repeat(2));
    machines.mvm(["kill", "one"])?.success();
    machines.mvm(["start", "one"])?.success();
    assert_eq!(self::address(&machines, "one")?, address);

    // When it has gone, it is gone.
    machines.mvm(["rm", "--force", "one", "two"])?.success();
    until(|| {
        let list = machines.mvm(["network", "ls", "--json"]);
        list.is_ok_and(|list| list.stdout() == "[]\n")
    });
    until(|| files_of_networks(&machines).is_ok_and(|files| files.is_empty()));
    Ok(())
}

/// What is left of networks in the runtime folder, where machines run.
fn files_of_networks(machines: &Machines) -> Result<String> {
    let state = PathBuf::from(AsRef::<OsStr>::as_ref(&machines.state()));
    let inside = if runs_emulated_host() { "/dev/mvm" } else { "" };
    let folder = format!("{inside}{}", state.with_file_name("run").display());
    let list = where_machines_run(&["ls", "-A", &folder]).output()?;
    Ok(String::from_utf8(list.stdout)?)
}

/// Sends each line of its input by one connection, and prints what comes back.
const TALKS: &str = r#"
import socket, sys
with socket.create_connection(("mirror", 7000), 100) as peer, peer.makefile("rwb") as stream:
    print("connected", flush=True)
    for line in sys.stdin.buffer:
        stream.write(line)
        stream.flush()
        print(stream.readline().decode(), end="", flush=True)
"#;

/// Sends back what it is sent.
const MIRROR: &str = r#"
import socket
server = socket.create_server(("0.0.0.0", 7000))
print("ready", flush=True)
while True:
    peer, _ = server.accept()
    with peer:
        while data := peer.recv(1 << 16):
            peer.sendall(data)
"#;

#[test]
fn traffic_goes_on_when_the_network_is_killed() -> Result<()> {
    let machines = Machines::new()?;
    let mirror = joins(tool("mirror", ["python3", "-c", MIRROR]), "shop", &[]);
    start(&machines, mirror, "mirror")?;
    let talker = joins(tool("talker", ["python3", "-c", TALKS]), "shop", &[]);
    let mut talker = machines.own(talker).spawn()?;
    talker.wait_for("connected\n")?;
    for word in ["one\n", "two\n", "three\n"] {
        talker.write(word)?;
        talker.wait_for(word)?;
        let before = told(&machines)?["pid"].take();
        let pid = before.to_string();
        kill_where_machines_run(&pid)?;
        until(|| told(&machines).is_ok_and(|network| network["pid"] != before));
    }
    // The same connection, and newly found names.
    talker.write("four\n")?;
    talker.wait_for("four\n")?;
    let script = "python3 -c 'import socket; print(socket.gethostbyaddr(socket.gethostbyname(\"talker\"))[0])'";
    let third = joins(shell("third", script), "shop", &[]);
    assert_eq!(machines.own(third).run()?.success(), "talker\n");
    talker.close_stdin();
    let output = talker.finish()?;
    let lines = output.stderr().matches("joining again").count();
    assert_eq!((output.status, lines), (0, 3), "{output}");
    Ok(())
}

/// Prints who sends datagrams until one says "done", and what it believes where its neighbours are.
const HEARS: &str = r#"
import socket
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.bind(("0.0.0.0", 7000))
print("ready", flush=True)
heard = b""
while heard != b"done":
    heard, peer = receiver.recvfrom(100)
    print(heard.decode(), "of", peer[0], flush=True)
macs = [line.split()[3] for line in open("/proc/net/arp") if line.split()[0] != "IP"]
print(len(set(macs)) == len(macs), "02:bb:bb:bb:bb:bb" in macs, flush=True)
"#;

/// Sends frames under others' names by hand, and then one under its own.
const SPOOFS: &str = r#"
import socket, struct, time
db, victim = (socket.inet_aton(socket.gethostbyname(name)) for name in ("db", "victim"))
own_mac = bytes.fromhex(open("/sys/class/net/eth0/address").read().replace(":", ""))
done = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
done.connect((socket.inet_ntoa(victim), 7000))
own = socket.inet_aton(done.getsockname()[0])
done.send(b"hello")
to = bytes(6)
while to == bytes(6):
    time.sleep(0.1)
    macs = dict(line.split()[0:4:3] for line in open("/proc/net/arp"))
    to = bytes.fromhex(macs.get(socket.inet_ntoa(victim), "00" * 6).replace(":", ""))
false_mac, all_macs = bytes.fromhex("02bbbbbbbbbb"), b"\xff" * 6
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("eth0", 0))
def checksum(header):
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xffff) + (total >> 16)
    return ~((total & 0xffff) + (total >> 16)) & 0xffff
def packet(source, mac):
    def header(sum):
        return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 34, 1, 0, 64, 17, sum, source, victim)
    udp = struct.pack("!HHHH", 9, 7000, 14, 0) + b"forged"
    return to + mac + b"\x08\x00" + header(checksum(header(0))) + udp
def arp(operation, mac, sender_mac, sender, target):
    return all_macs + mac + struct.pack("!HHHBBH6s4s6s4s", 0x806, 1, 0x800, 6, 4, operation,
        sender_mac, sender, to, target)
honest = packet(own, own_mac)
assert raw.send(honest.replace(b"forged", b"honest")) == len(honest)
forged = [
    packet(own, false_mac), packet(db, own_mac), packet(b"\x08" * 4, own_mac), packet(b"\0" * 4, own_mac),
    arp(2, own_mac, own_mac, db, victim), arp(1, own_mac, own_mac, db, db), arp(2, own_mac, false_mac, db, victim),
    arp(2, false_mac, false_mac, db, victim), arp(2, own_mac, false_mac, own, victim),
]
for frame in forged:
    assert raw.send(frame) == len(frame)
done.send(b"done")
print(done.getsockname()[0], len(forged))
"#;

#[test]
fn frames_under_a_false_address_do_not_pass() -> Result<()> {
    let machines = Machines::new()?;
    start(&machines, joins(shell("db", PAGE), "shop", &[]), "db")?;
    let victim = joins(tool("victim", ["python3", "-c", HEARS]), "shop", &[]);
    start(&machines, victim, "victim")?;
    let spoofer = joins(tool("spoofer", ["python3", "-c", SPOOFS]), "shop", &[]);
    let said = machines.own(spoofer).run()?.success();
    let (own, forged) = said
        .trim()
        .split_once(' ')
        .context("it says something else")?;
    machines.mvm(["wait", "victim"])?.success();
    assert_eq!(
        machines.mvm(["logs", "victim"])?.success(),
        format!("ready\nhello of {own}\nhonest of {own}\ndone of {own}\nTrue False\n")
    );
    let counters = &told(&machines)?["counters"];
    assert_eq!(counters["spoofed"].to_string(), forged, "{counters}");
    Ok(())
}

/// Megabytes both ways at once, in large packets.
const BULK: &str = r#"
import os, socket, threading
data = os.urandom(20_000_000)
with socket.create_connection(("mirror", 7000), 100) as peer:
    threading.Thread(target=lambda: (peer.sendall(data), peer.shutdown(socket.SHUT_WR))).start()
    with peer.makefile("rb") as stream:
        print("the same" if stream.read() == data else "something else")
print(open("/sys/class/net/eth0/mtu").read(), end="")
"#;

#[test]
fn megabytes_go_through_whole() -> Result<()> {
    let machines = Machines::new()?;
    let mirror = joins(tool("mirror", ["python3", "-c", MIRROR]), "shop", &[]);
    start(&machines, mirror, "mirror")?;
    let bulk = joins(tool("bulk", ["python3", "-c", BULK]), "shop", &[]);
    let text = machines.own(bulk.memory_mib(256)).run()?.success();
    assert_eq!(text, "the same\n65520\n");
    Ok(())
}

#[test]
fn what_a_network_cannot_give_is_told() -> Result<()> {
    let machines = Machines::new()?;
    let one = joins(shell("one", "echo ready; exec sleep 1000"), "shop", &[]);
    start(&machines, one, "one")?;
    let taken = address(&machines, "one")?;
    let (subnet, _) = taken.rsplit_once('.').context("no address")?;
    for (wanted, error) in [
        (
            format!("{taken}/24"),
            format!("interfaces[0]: cannot join network shop: {taken} is the address of one"),
        ),
        (
            "192.168.0.2/24".into(),
            format!(
                "interfaces[0]: cannot join network shop: 192.168.0.2 is no address that it can give: it has {subnet}.2 to {subnet}.254"
            ),
        ),
        (
            format!("{subnet}.77/16"),
            format!("interfaces[0]: addresses: in network shop it must be {subnet}.77/24"),
        ),
    ] {
        let two = joins(shell("two", "true"), "shop", &[]).set("/interfaces/0/addresses/0", wanted);
        let output = machines.own(two).run()?;
        assert_eq!(output.status, 125);
        assert!(output.stderr().contains(&error), "{output}");
    }
    let two = joins(
        shell("two", "ip -4 addr show eth0 | grep -c /24"),
        "shop",
        &[],
    )
    .set("/interfaces/0/addresses/0", format!("{subnet}.77/24"));
    assert_eq!(machines.own(two).run()?.success(), "1\n");
    Ok(())
}

//! Networks without privilege: ports of the host that lead to the machine, and what it can reach.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::Result;
use mvm_test::{Machine, Machines};
use serde_json::json;
use tempfile::TempDir;

use crate::runs_emulated_host;
use crate::{shell, until};

/// For an answer to come through, on a host that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A port of the host that nobody has, nor gets: below those that the kernel gives to who asks for any
/// (`ip_local_port_range`), and those that lead to machines in the emulated host; and each one once,
/// beginning elsewhere in each process of tests.
pub fn free_port() -> u16 {
    const PORTS: Range<u16> = 10_000..20_000;
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let process = (std::process::id() % 10) as u16 * 1000;
    loop {
        let taken = TAKEN.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + (process + taken) % (PORTS.end - PORTS.start);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Two servers: TCP at a privileged port says who it is, UDP sends back what it gets.
const SERVERS: &str = r#"
import socket, threading
tcp = socket.create_server(("", 80))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("", 53))
def echo():
    while True:
        data, peer = udp.recvfrom(65536)
        udp.sendto(data, peer)
threading.Thread(target=echo, daemon=True).start()
print("ready", flush=True)
while True:
    peer, _ = tcp.accept()
    data = peer.recv(65536)
    if data == b"end":
        break
    peer.sendall(b"the machine heard " + data)
    peer.close()
"#;

fn servers(ports: serde_json::Value) -> Machine {
    shell("servers", &format!("exec python3 -c '{SERVERS}'")).set("/ports", ports)
}

fn ask(port: u16, question: &[u8]) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    converse(&mut stream, question)
}

fn converse(stream: &mut (impl Read + Write), question: &[u8]) -> Result<String> {
    stream.write_all(question)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn names_that_are_given_are_known_and_others_asked_for_as_is_said() -> Result<()> {
    let machine = shell("named", "cat /etc/hosts /etc/resolv.conf");
    let output = machine
        .set(
            "/hosts",
            json!({ "db": "10.0.0.7", "mail": ["10.0.0.25", "fd00::25"] }),
        )
        .set(
            "/dns",
            json!({ "servers": ["10.0.0.53"], "options": ["ndots:2"] }),
        )
        .flag("--add-host=db:10.0.0.8")
        .flag("--dns-search=example")
        .run()?;
    let expected = "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 named\n10.0.0.8 db\n10.0.0.25 mail\n\
        fd00::25 mail\nnameserver 10.0.0.53\nsearch example\noptions ndots:2\n";
    assert_eq!(output.success(), expected);
    Ok(())
}

#[test]
fn ports_of_the_host_lead_to_the_machine() -> Result<()> {
    let (tcp, udp) = (free_port(), free_port());
    let ports = json!([format!("{tcp}:80"), { "host": udp, "guest": 53, "protocol": "udp" }]);
    let mut running = servers(ports).spawn()?;
    running.wait_for("ready\n")?;

    assert_eq!(ask(tcp, b"one")?, "the machine heard one");
    assert_eq!(ask(tcp, b"two")?, "the machine heard two");
    assert_eq!(ask_by_datagram(&format!("127.0.0.1:{udp}"))?, b"datagram");

    ask(tcp, b"end")?;
    let output = running.finish()?;
    assert_eq!(
        (output.status, output.stdout()),
        (0, "ready\n".into()),
        "{output}"
    );
    // Nobody has the port any more.
    TcpListener::bind(("127.0.0.1", tcp))?;
    Ok(())
}

fn ask_by_datagram(at: &str) -> Result<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send_to(b"datagram", at)?;
    let mut answer = [0; 100];
    let length = socket.recv(&mut answer)?;
    Ok(answer[..length].to_vec())
}

/// Waits until the server at `port` answers.
fn await_answer(port: u16) {
    until(|| ask(port, b"up").is_ok_and(|answer| answer == "the machine heard up"));
}

#[test]
fn a_machine_in_the_background_has_its_ports_as_long_as_it_runs() -> Result<()> {
    let machines = Machines::new()?;
    let tcp = free_port();
    let machine = servers(json!([":53/udp"]));
    machines.start(machine.flag("--publish").flag(format!("{tcp}:80")))?;
    await_answer(tcp);
    let udp = machines.mvm(["port", "servers", "53/udp"])?.success();
    let listed = machines.mvm(["port", "servers"])?.success();
    assert_eq!(
        listed,
        format!("53/udp -> {udp}80/tcp -> 127.0.0.1:{tcp}\n")
    );
    let row = format!("{}->53/udp, 127.0.0.1:{tcp}->80/tcp\n", udp.trim());
    let table = machines.mvm(["ps"])?.success();
    assert!(table.ends_with(&row), "{table}");
    assert_eq!(machines.mvm(["ip", "servers"])?.success(), "10.0.2.15\n");
    assert_eq!(machines.mvm(["port", "servers", "81"])?.status, 125);
    assert_eq!(ask_by_datagram(udp.trim())?, b"datagram");

    machines.mvm(["kill", "servers"])?;
    // As soon as the process beside it has noticed.
    until(|| TcpListener::bind(("127.0.0.1", tcp)).is_ok());

    machines.mvm(["start", "servers"])?.success();
    await_answer(tcp);
    machines.mvm(["stop", "--time", "1", "servers"])?.success();
    TcpListener::bind(("127.0.0.1", tcp))?;
    Ok(())
}

#[test]
fn the_emulated_host_takes_connections_by_ipv6() -> Result<()> {
    if !runs_emulated_host() {
        // There passt does, given a route: see `network_root.rs`.
        return Ok(());
    }
    let port = free_port();
    let mut running = servers(json!([format!("[::1]:{port}:80")])).spawn()?;
    running.wait_for("ready\n")?;
    let mut stream = TcpStream::connect(("::1", port))?;
    assert_eq!(converse(&mut stream, b"six")?, "the machine heard six");
    let error = TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    converse(&mut TcpStream::connect(("::1", port))?, b"end")?;
    assert_eq!(running.finish()?.status, 0);
    Ok(())
}

/// Sends back what it is sent, when that has ended.
const MIRROR: &str = r#"
import socket
server = socket.create_server(("", 80))
print("ready", flush=True)
peer, _ = server.accept()
with peer, peer.makefile("rwb") as stream:
    stream.write(stream.read())
"#;

#[test]
fn a_client_that_has_said_all_hears_the_answer() -> Result<()> {
    let port = free_port();
    let mirror = shell("mirror", &format!("exec python3 -c '{MIRROR}'"));
    let ports = json!([format!("{port}:80")]);
    let mut running = mirror.set("/ports", ports).spawn()?;
    running.wait_for("ready\n")?;
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    stream.write_all(&bytes)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    assert!(answer == bytes, "{} bytes came back", answer.len());
    assert_eq!(running.finish()?.status, 0);
    Ok(())
}

fn ask_at(path: &Path, question: &[u8]) -> Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    converse(&mut stream, question)
}

#[test]
fn a_socket_of_the_host_leads_to_a_machine_without_a_card() -> Result<()> {
    let machines = Machines::new()?;
    let folder = TempDir::with_prefix("mvm-test.")?;
    let path = folder.path().join("web.sock");
    let socket = format!("unix:{}", path.display());
    let answers = || ask_at(&path, b"up").is_ok_and(|answer| answer == "the machine heard up");
    let machine = servers(json!([{ "host": socket, "guest": 80 }]));
    machines.start(machine.set("/interfaces", json!([])))?;
    until(answers);
    assert_eq!(fs::metadata(&path)?.mode() & 0o777, 0o600);
    let listed = machines.mvm(["port", "servers"])?.success();
    assert_eq!(listed, format!("80/tcp -> {socket}\n"));
    let table = machines.mvm(["ps"])?.success();
    assert!(table.ends_with(&format!("{socket}->80/tcp\n")), "{table}");

    let second = || {
        let second = shell("second", "exit 0").flag("--publish");
        machines.own(second.flag(format!("{socket}:80"))).run()
    };
    let output = second()?;
    let why = |what| format!("ports[0]: cannot listen on {}: {what}", path.display());
    assert_eq!(output.status, 125);
    assert!(
        output.stderr().contains(&why("somebody listens there")),
        "{output}"
    );

    machines.mvm(["kill", "servers"])?;
    // As soon as the process beside it has noticed, where there is one.
    until(|| UnixStream::connect(&path).is_err());
    machines.mvm(["start", "servers"])?.success();
    until(answers);
    machines.mvm(["stop", "--time", "1", "servers"])?.success();
    assert!(!path.exists());

    fs::write(&path, "words")?;
    let output = second()?;
    assert_eq!(output.status, 125);
    assert!(
        output
            .stderr()
            .contains(&why("there is a file that is no socket")),
        "{output}"
    );
    assert_eq!(fs::read(&path)?, b"words");
    Ok(())
}

#[test]
fn a_port_that_is_picked_is_told() -> Result<()> {
    let output = shell("picked", "exit 0")
        .flag("--publish")
        .flag("80")
        .run()?;
    let words = output.stderr();
    let line = words
        .lines()
        .find(|line| line.contains("leads to port 80/tcp"));
    assert!(
        line.is_some_and(|line| line.starts_with("mvm: 127.0.0.1:")),
        "{words}"
    );
    Ok(())
}

#[test]
fn a_port_in_use_is_a_clear_error() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let at = taken.local_addr()?;
    let ports = json!([":443", format!("{}:80", at.port())]);
    let output = shell("taken", "exit 0").set("/ports", ports).run()?;
    let words = output.stderr();
    let why = format!("ports[1]: cannot listen on {at}: Address already in use");
    assert_eq!(output.status, 125);
    assert!(words.contains(&why), "{words}");
    Ok(())
}

#[test]
fn a_machine_has_no_network_unless_it_is_asked_for() -> Result<()> {
    let script = "ls /sys/class/net; cat /etc/resolv.conf";
    let absent = shell("absent", script).run()?;
    let empty = shell("empty", script).set("/interfaces", json!([])).run()?;
    assert_eq!(
        (absent.success(), empty.success()),
        ("lo\n".into(), "lo\n".into())
    );
    Ok(())
}

const LOOK: &str = r"
    cat /sys/class/net/wan0/address /sys/class/net/wan0/mtu
    ip -4 addr show wan0 | grep -o 'inet [^ ]*'
    ip route | grep -o '^default via [^ ]*'
";

#[test]
fn the_card_is_as_the_file_says() -> Result<()> {
    let interface = json!([{ "name": "wan0", "mac": "02:00:5e:10:00:01", "mtu": 9000 }]);
    let output = shell("card", LOOK).set("/interfaces", interface).run()?;
    assert_eq!(
        output.success(),
        "02:00:5e:10:00:01\n9000\ninet 10.0.2.15/24\ndefault via 10.0.2.2\n"
    );
    Ok(())
}

//! What a service's manager is told, and what it hands over; `tests/systemd` has a real one.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use tempfile::TempDir;

use crate::network::free_port;
use crate::shell;

/// Above what the slowest host needs for a start.
const PATIENCE: Duration = Duration::from_secs(180);

#[test]
fn a_manager_is_told_when_the_program_runs_and_when_it_has_ended() -> Result<()> {
    let folder = TempDir::new()?;
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut heard = [0; 256];
    let mut hear = || -> Result<String> {
        let length = socket.recv(&mut heard)?;
        Ok(String::from_utf8_lossy(&heard[..length]).into_owned())
    };

    let machine = shell("service", "read -r _; exit 3").host_env("NOTIFY_SOCKET", &path);
    let mut running = machine.vcpus(2).spawn()?;
    assert_eq!(hear()?, "READY=1\nSTATUS=Guest up, 2 vCPU, 128 MiB");
    running.write("end\n")?;
    assert_eq!(hear()?, "STOPPING=1\nSTATUS=The program has ended");
    assert_eq!(running.finish()?.status, 3);
    Ok(())
}

/// Listens as systemd does, at a port and a path, and becomes the program behind them with both
/// sockets, and one more that is called "unused", from descriptor 3 on.
const MANAGER: &str = r#"
import fcntl, os, socket, sys
unix = socket.socket(socket.AF_UNIX)
unix.bind(sys.argv[2])
unix.listen()
sockets = [socket.create_server(("127.0.0.1", int(sys.argv[1]))), unix, socket.create_server(("127.0.0.1", 0))]
copies = [fcntl.fcntl(one, fcntl.F_DUPFD, 100) for one in sockets]
for number, copy in enumerate(copies, 3):
    os.dup2(copy, number)
    os.close(copy)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="3", LISTEN_FDNAMES="web:web:unused")
os.execvp(sys.argv[3], sys.argv[3:])
"#;

/// Answers a client who has said all, after a while in which nobody listens.
const SERVER: &str = r#"
import os, socket, time
time.sleep(1)
server = socket.create_server(("127.0.0.1", 80))
said = ""
while said != "end":
    peer, _ = server.accept()
    with peer, peer.makefile("rw") as stream:
        said = stream.read()
        stream.write("the machine heard " + said)
"#;

/// Says something as soon as somebody listens, and returns the answer.
fn ask<S: Read + Write>(
    connect: impl Fn() -> std::io::Result<S>,
    end: impl Fn(&S) -> std::io::Result<()>,
    words: &str,
) -> Result<String> {
    let deadline = Instant::now() + PATIENCE;
    let mut stream = loop {
        match connect() {
            Ok(stream) => break stream,
            Err(error) => ensure!(Instant::now() < deadline, error),
        }
        thread::sleep(Duration::from_millis(50));
    };
    stream.write_all(words.as_bytes())?;
    end(&stream)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn ask_port(port: u16, words: &str) -> Result<String> {
    let end = |stream: &TcpStream| stream.shutdown(Shutdown::Write);
    ask(|| TcpStream::connect(("127.0.0.1", port)), end, words)
}

fn ask_path(path: &Path, words: &str) -> Result<String> {
    let end = |stream: &UnixStream| stream.shutdown(Shutdown::Write);
    ask(|| UnixStream::connect(path), end, words)
}

#[test]
fn who_connects_to_a_handed_socket_is_answered_once_the_program_listens() -> Result<()> {
    let folder = TempDir::with_prefix("mvm-test.")?;
    let path = folder.path().join("web.sock");
    let port = free_port();
    let numbers = [port.to_string(), path.display().to_string()];
    let manager = ["python3", "-c", MANAGER].map(String::from);
    let variables = "env | grep ^LISTEN_ || echo none";
    let machine = shell(
        "handed",
        &format!("cat /run/secrets/variables; exec python3 -c '{SERVER}'"),
    )
    .set("/ports", json!(["systemd:web:80"]))
    .set(
        "/secrets",
        json!({ "variables": { "command": ["/bin/sh", "-c", variables] } }),
    )
    .under(manager.into_iter().chain(numbers));
    let running = machine.spawn()?;

    // All of these come before the machine has booted.
    let clients: Vec<_> = (0..10)
        .map(|nth| {
            let path = path.clone();
            thread::spawn(move || match nth % 2 {
                0 => ask_port(port, &nth.to_string()),
                _ => ask_path(&path, &nth.to_string()),
            })
        })
        .collect();
    for (nth, client) in clients.into_iter().enumerate() {
        let answer = client.join().expect("a client")?;
        assert_eq!(answer, format!("the machine heard {nth}"));
    }
    assert_eq!(ask_path(&path, "end")?, "the machine heard end");
    let output = running.finish()?;
    assert_eq!((output.status, output.stdout()), (0, "none\n".into()));
    let stderr = output.stderr();
    let warning = "nobody answers at the socket \"unused\" that systemd has handed over";
    assert!(stderr.contains(warning), "{output}");
    // It is the manager's.
    assert!(path.exists());
    Ok(())
}

#[test]
fn a_port_of_a_socket_that_was_not_handed_over_is_an_error() -> Result<()> {
    let machine = shell("unhanded", "exit 0").set("/ports", json!(["systemd:web:80"]));
    let output = machine.run()?;
    assert_eq!(output.status, 125, "{output}");
    let error = "ports[0]: systemd has handed over no socket \"web\": ";
    assert!(output.stderr().contains(error), "{output}");
    Ok(())
}

//! Services of the examples in the background, reached through their published ports.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};
use mvm_test::{Machine, Machines, fixtures_folder};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::network::free_port;
use crate::on_host;

/// For an answer to come through, on a host that is busy.
const PATIENCE: Duration = Duration::from_secs(180);

/// Open at once. All have to come up within nginx's patience for a request (60 s).
const CONNECTIONS: usize = 1000;

/// The example's machine, with `guest` published at `host` instead of the example's port.
fn example(name: &str, host: u16, guest: u16) -> Result<Machine> {
    let path = fixtures_folder().join(format!("../examples/{name}.json"));
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let app: serde_json::Map<String, Value> = serde_json::from_slice(&text)?;
    let machine = app
        .into_iter()
        .fold(Machine::new(name), |machine, (key, value)| {
            machine.set(&format!("/{key}"), value)
        });
    Ok(machine.set("/ports", vec![format!("{host}:{guest}")]))
}

fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// What the service answers to a request after which it closes the connection.
fn ask(port: u16, request: &str) -> Result<String> {
    let mut stream = connect(port)?;
    stream.write_all(request.as_bytes())?;
    read_all(&mut stream)
}

fn read_all(stream: &mut TcpStream) -> Result<String> {
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn nginx_answers_many_at_once() -> Result<()> {
    let machines = Machines::new()?;
    let port = free_port();
    machines.start(example("nginx", port, 80)?.flag("--wait"))?;
    let health = ask(port, "GET /healthz HTTP/1.0\r\n\r\n")?;
    assert!(health.ends_with("\r\n\r\nok\n"), "{health}");

    let page = on_host(&format!(
        "curl --silent --show-error --fail http://127.0.0.1:{port}/"
    ));
    let page = String::from_utf8(page)?;
    assert!(page.contains("by nginx in a machine of its own"), "{page}");

    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    )?;
    let mut open = (0..CONNECTIONS)
        .map(|_| connect(port))
        .collect::<Result<Vec<_>>>()?;
    for stream in &mut open {
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    }
    for stream in &mut open {
        let answer = read_all(stream)?;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with(&page), "{answer}");
    }

    machines.mvm(["stop", "nginx"])?.success();
    assert_eq!(machines.mvm(["wait", "nginx"])?.success(), "0\n");
    Ok(())
}

#[test]
fn redis_keeps_what_it_was_told() -> Result<()> {
    let machines = Machines::new()?;
    let port = free_port();
    machines.start(example("redis", port, 6379)?.flag("--wait"))?;
    let cli = |command: &[&str]| {
        let exec = [&["exec", "redis", "redis-cli"], command].concat();
        anyhow::Ok(machines.mvm(exec)?.success())
    };
    assert_eq!(cli(&["set", "answer", "42"])?, "OK\n");
    on_host(&format!(
        "redis-benchmark -p {port} -c 50 -n 1000 -q -t set,get,lpush,lrange_100 > /dev/null"
    ));

    machines.mvm(["kill", "redis"])?.success();
    machines.mvm(["start", "--wait", "redis"])?.success();
    assert_eq!(cli(&["get", "answer"])?, "42\n");
    let answer = ask(port, "GET answer\r\nQUIT\r\n")?;
    assert_eq!(answer, "$2\r\n42\r\n+OK\r\n");
    Ok(())
}

#[test]
fn postgresql_keeps_what_it_was_told() -> Result<()> {
    let machines = Machines::new()?;
    let port = free_port();
    let (password, mut file) = ("not to be seen", NamedTempFile::new()?);
    file.write_all(password.as_bytes())?;
    let machine = example("postgresql", port, 5432)?;
    let machine = machine.set("/secrets/password", file.path().to_string_lossy());
    machines.start(machine.flag("--wait"))?;
    let ask = |command| {
        let variable = format!("PGPASSWORD={password}");
        // By the published port's end in the machine: who comes from outside needs the password.
        let psql = [
            "psql",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-qAtc",
            command,
        ];
        let exec = [&["exec", "-e", &variable, "postgresql"][..], &psql].concat();
        anyhow::Ok(machines.mvm(exec)?.success())
    };
    ask("create table answers as select generate_series(1, 1000) as n")?;

    machines.mvm(["kill", "postgresql"])?.success();
    machines.mvm(["start", "--wait", "postgresql"])?.success();
    assert_eq!(ask("select sum(n) from answers")?, "500500\n");
    let mut client = connect(port)?;
    // A request for encryption, which has one letter as an answer: no.
    client.write_all(&[0, 0, 0, 8, 4, 210, 22, 47])?;
    let mut answer = [0];
    client.read_exact(&mut answer)?;
    assert_eq!(&answer, b"N");

    machines.mvm(["stop", "postgresql"])?.success();
    let log = machines.mvm(["logs", "postgresql"])?.stderr();
    assert!(log.contains("received fast shutdown request"), "{log}");
    assert!(log.contains("database system is shut down"), "{log}");
    Ok(())
}

//! Properties of reading app.json: no input makes it panic, and what is written reads back.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::{Index, select};
use vmm::app::{
    App, AppFile, Bytes, ConsoleMode, Duration, HealthCheck, KernelMessages, Memory, OnFailure,
    Problems, Rate, Secret, Share, StoreMode, Tcp, TmpfsSize, Tty, Ulimit, Volume,
    VolumeFileSystem, VolumeSize, WritableStore,
};

/// A file with every key, to be damaged.
const WHOLE: &str = r#"{
  "$schema": "app.schema.json", "version": 1, "name": "whole", "hostname": "whole.example",
  "labels": { "team": "a b", "x-of": "" },
  "vcpus": 2, "memory": "1.5G", "kernel": { "path": "vmlinux", "cmdline": "debug" },
  "app": { "entrypoint": ["/bin/sh", "-c"], "args": ["true", "\u00e9\n"],
    "env": { "A": "b", "C": null }, "cwd": "/srv", "user": "1000:1000", "groups": ["tty", "7"],
    "ulimits": { "nofile": "1024:2048", "core": 0, "memlock": "unlimited" }, "tty": "auto", "stdin": true,
    "x-note": [1.5e3, null] },
  "store": { "mode": "closure", "closure": "paths", "data": "image" },
  "shares": [{ "source": "./www", "mountPoint": "/srv", "readOnly": true, "tag": "www" }],
  "volumes": [{ "name": "data", "mountPoint": "/data", "size": "2G", "fsType": "ext4", "readOnly": false,
      "rateLimit": { "bytesPerSecond": "10M", "opsPerSecond": 100, "burst": "1M" } },
    { "name": "system" }, { "image": "disk", "mountPoint": "/disk", "readOnly": true, "create": false }],
  "interfaces": [{}, { "type": "tap", "name": "lan0", "hostName": "tap0", "mac": "02:00:00:00:00:01",
    "mtu": 9000, "addresses": ["fd00::2/64"], "gateway": "fd00::1", "rateLimit": { "bytesPerSecond": "1M" } }],
  "ports": ["8080:80", { "host": "5000-5009", "guest": "6000-6009", "address": "::1", "protocol": "udp" }],
  "tmpfs": ["/run", { "mountPoint": "/tmp", "size": "64M" }],
  "hosts": { "db": "10.0.0.7", "mail": ["10.0.0.25", "::1"] },
  "dns": { "servers": ["10.0.0.53"], "search": ["example"], "options": ["ndots:2"] },
  "root": { "type": "tmpfs", "size": "50%", "persist": "system" },
  "limits": { "cpu": "150%", "cpuWeight": 50, "cpus": "0-1", "memory": "3G", "memoryHigh": "2G", "swap": "0K",
    "pids": 64, "ioWeight": 100, "io": { "/var": { "readBps": "1M", "writeIops": 10 } } },
  "console": { "mode": "file", "path": "console.log", "kernel": "verbose" },
  "secrets": { "a": "token", "b": { "env": "B", "mode": "0440", "owner": "nobody" },
    "c": { "command": ["pass", "show"], "path": "/etc/c" } },
  "healthcheck": { "http": { "port": 80, "path": "/up", "status": 204, "contains": "ok" },
    "interval": "1.5s", "timeout": 2, "retries": 2, "startPeriod": "1m", "onFailure": "restart" },
  "ready": "started",
  "restart": { "policy": "on-failure", "maxRetries": 3, "delay": "1s", "maxDelay": "1h" }
}"#;

fn parse(bytes: &[u8]) -> Result<App, Problems> {
    AppFile::parse("app.json", Path::new("/folder"), bytes).map(|file| file.app)
}

/// Changes to a file: where, how many bytes go, and what comes instead.
type Damage = Vec<(Index, usize, &'static [u8])>;

fn damage() -> impl Strategy<Value = Damage> {
    let pieces: Vec<&'static [u8]> = vec![
        b"",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\"",
        b"null",
        b"true",
        b"-1",
        b"1e9",
        b"18446744073709551616",
        b"\"name\"",
        b"\"app\"",
        b"\\",
        b"\\u0000",
        b"\\ud800",
        b"\0",
        b"\xff",
        b"\xc3",
        "é".as_bytes(),
        b"\n",
    ];
    prop::collection::vec((any::<Index>(), 0..12usize, select(pieces)), 1..5)
}

fn damaged(damage: Damage) -> Vec<u8> {
    let mut bytes = WHOLE.as_bytes().to_vec();
    for (index, len, piece) in damage {
        let start = index.index(bytes.len() + 1);
        let end = bytes.len().min(start + len);
        bytes.splice(start..end, piece.iter().copied());
    }
    bytes
}

/// Whether each line of the errors, if any, names the file.
fn are_lines(outcome: Result<App, Problems>) -> bool {
    let lines = outcome
        .err()
        .map(|problems| problems.to_string())
        .unwrap_or_default();
    lines.lines().all(|line| line.starts_with("app.json:"))
}

fn text() -> impl Strategy<Value = String> {
    "[^\0]{0,20}"
}

fn host_path() -> impl Strategy<Value = PathBuf> {
    "(/[a-zA-Z0-9é \"\\\\]{1,8}){1,3}".prop_map(Into::into)
}

fn share(nth: usize) -> impl Strategy<Value = Share> {
    (host_path(), prop::option::of("[!-~]{1,30}")).prop_map(move |(source, tag)| Share {
        source,
        // Numbered, so that no two are the same.
        mount_point: format!("/mnt/{nth}").into(),
        read_only: true,
        tag: tag.map(|tag| format!("{tag}@{nth}")),
    })
}

fn volume(nth: usize) -> impl Strategy<Value = Volume> {
    let size = VolumeSize::MIN_MIB..=VolumeSize::MAX_MIB;
    (prop::option::of(host_path()), size, any::<[bool; 2]>()).prop_map(
        move |(image, size, [read_only, create])| Volume {
            name: image.is_none().then(|| format!("volume{nth}")),
            // Numbered, so that no two are the same.
            image: image.map(|path| path.join(nth.to_string())),
            mount_point: Some(format!("/volumes/{nth}").into()),
            size: VolumeSize::from_mib(size),
            fs_type: VolumeFileSystem::Ext4,
            read_only,
            create,
            rate_limit: create.then(|| Rate {
                bytes_per_second: Some(Bytes::at_least(size)),
                ..Rate::default()
            }),
        },
    )
}

fn app_with_program() -> impl Strategy<Value = App> {
    let name = "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?";
    let entrypoint = ("[^\0]{1,20}", prop::collection::vec(text(), 0..3));
    let env = prop::collection::btree_map("[^\0=]{1,8}", prop::option::of(text()), 0..4);
    let args = prop::collection::vec(text(), 0..4);
    let tty = select(vec![Tty::Auto, Tty::Always, Tty::Never]);
    let user = prop_oneof![
        "[a-z_][a-z0-9_-]{0,31}(:[0-9]{1,9})?",
        "[0-9]{1,9}(:[a-z_]{1,32})?"
    ];
    let limit = (0..1000u64, 0..1000u64).prop_map(|(soft, more)| Ulimit {
        soft,
        hard: soft + more,
    });
    let ulimits =
        prop::collection::btree_map(select(vec!["core".into(), "nofile".into()]), limit, 0..3);
    let rest = (args, env, "/[a-z/]{0,8}", (user, ulimits), tty);
    (name, entrypoint, rest).prop_map(|(name, (first, more), (args, env, cwd, user, tty))| {
        let (user, ulimits) = user;
        let mut app = App::new(name, [vec![first], more].concat());
        app.app.args = args;
        app.app.env = env;
        app.app.cwd = Some(cwd);
        app.app.user = Some(user);
        app.app.ulimits = ulimits;
        app.app.tty = tty;
        app
    })
}

fn good_app() -> impl Strategy<Value = App> {
    let memory = (Memory::MIN_MIB..=Memory::MAX_MIB).prop_map(Memory::from_mib);
    let root = prop_oneof![
        (1..=100u8).prop_map(TmpfsSize::Percent),
        (1..=u64::MAX >> 10).prop_map(TmpfsSize::Kib),
    ];
    let kernel = (prop::option::of(host_path()), "[ -~]{0,30}");
    let store = prop_oneof![
        prop::option::of(host_path()).prop_map(|closure| (StoreMode::Closure, closure)),
        Just((StoreMode::All, None)),
    ];
    let size = prop::option::of((1..=100u8).prop_map(TmpfsSize::Percent));
    let writable = size.prop_map(|size| WritableStore { size, volume: None });
    let store = (store, prop::option::of(writable));
    let console = prop_oneof![
        host_path().prop_map(|path| (ConsoleMode::File, Some(path))),
        Just((ConsoleMode::Stdio, None)),
        Just((ConsoleMode::None, None)),
    ];
    let messages = [
        KernelMessages::Quiet,
        KernelMessages::Errors,
        KernelMessages::Verbose,
    ];
    let shares = (0..4usize).prop_flat_map(|count| (0..count).map(share).collect::<Vec<_>>());
    let volumes = (0..4usize).prop_flat_map(|count| (0..count).map(volume).collect::<Vec<_>>());
    let hostname = prop::option::of("[A-Z][a-z0-9]{0,9}(\\.[a-z]{1,9}){0,2}");
    let machine = (1..=64u32, memory, root, kernel, hostname);
    let devices = (store, console, select(messages.to_vec()), (shares, volumes));
    (app_with_program(), machine, devices).prop_map(|(mut app, machine, devices)| {
        let (kernel, messages);
        (app.vcpus, app.memory, app.root.size, kernel, app.hostname) = machine;
        (app.kernel.path, app.kernel.cmdline) = kernel;
        let (store, console);
        (store, console, messages, (app.shares, app.volumes)) = devices;
        ((app.store.mode, app.store.closure), app.store.writable) = store;
        (app.console.mode, app.console.path) = console;
        app.console.kernel = messages;
        app
    })
}

fn serving_app() -> impl Strategy<Value = App> {
    let duration = || (10..86_400_000u64).prop_map(Duration::from_ms);
    let secret = (host_path(), prop::option::of("/x[a-z]{1,8}"), "0?[0-7]{3}");
    let secret = secret.prop_map(|(source, path, mode)| Secret {
        source: Some(source),
        path,
        mode,
        ..Secret::default()
    });
    let secrets = prop::collection::btree_map("[a-zA-Z0-9_][a-z.-]{0,8}", secret, 0..4);
    let check = (1..=u16::MAX, duration(), duration(), 1..9u32, duration());
    let delays = (duration(), duration());
    (good_app(), secrets, prop::option::of(check), delays).prop_map(
        |(mut app, secrets, check, (one, other))| {
            app.secrets = secrets;
            app.healthcheck =
                check.map(
                    |(port, interval, timeout, retries, start_period)| HealthCheck {
                        exec: None,
                        http: None,
                        tcp: Some(Tcp { port }),
                        unix: None,
                        disable: false,
                        interval,
                        timeout,
                        retries,
                        start_period,
                        on_failure: OnFailure::Stop,
                    },
                );
            app.restart.delay = one.min(other);
            app.restart.max_delay = one.max(other);
            app
        },
    )
}

#[test]
fn the_whole_file_is_good() {
    assert_eq!(
        parse(WHOLE.as_bytes()).map(|app| app.name),
        Ok("whole".into())
    );
}

proptest! {
    #[test]
    fn a_damaged_file_gives_lines_and_no_panic(damage in damage()) {
        prop_assert!(are_lines(parse(&damaged(damage))));
    }

    #[test]
    fn any_bytes_give_lines_and_no_panic(bytes: Vec<u8>) {
        prop_assert!(are_lines(parse(&bytes)));
    }

    #[test]
    fn what_reads_is_good_by_its_own_check(damage in damage()) {
        let complaints = parse(&damaged(damage)).map(|app| app.check()).unwrap_or_default();
        prop_assert_eq!(complaints, []);
    }

    #[test]
    fn a_written_app_reads_back_equal(app in serving_app()) {
        prop_assert_eq!(app.check(), []);
        let written = serde_json::to_string_pretty(&app).expect("JSON");
        prop_assert_eq!(parse(written.as_bytes()), Ok(app), "{}", written);
    }
}

//! What the flags make of a file, all together.

use clap::Parser;
use vmm::app::{Addresses, HealthCheck, InterfaceKind};

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    edits: Edits,
}

/// A machine with these flags.
fn edited(flags: &[&str]) -> Result<App, String> {
    let mut app = App::new("a", vec!["sh".into(), "-c".into()]);
    app.app.args = vec!["true".into()];
    let line = Line::try_parse_from([&["mvm"], flags].concat());
    let edits = line.map_err(|error| error.to_string())?.edits;
    edits
        .apply(&mut app)
        .map(|()| app)
        .map_err(|error| format!("{error:#}"))
}

fn command(flags: &[&str]) -> Vec<String> {
    let app = edited(flags).unwrap();
    app.app.argv().map(String::from).collect()
}

#[test]
fn arguments_go_with_the_program_that_they_were_for() {
    assert_eq!(command(&[]), ["sh", "-c", "true"]);
    assert_eq!(command(&["--", "-x", "y"]), ["sh", "-c", "-x", "y"]);
    assert_eq!(command(&["--entrypoint", "env"]), ["env"]);
    assert_eq!(command(&["--entrypoint", "env", "--", "-0"]), ["env", "-0"]);
}

#[test]
fn without_an_entrypoint_arguments_are_the_whole_command_line() {
    let command = |flags: &[&str]| {
        let mut app = App::new("a", Vec::new());
        app.app.args = vec!["echo".into(), "image".into()];
        let line = Line::try_parse_from([&["mvm"], flags].concat()).unwrap();
        line.edits.apply(&mut app).unwrap();
        app.app.argv().map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(command(&[]), ["echo", "image"]);
    assert_eq!(command(&["--", "ls", "-l"]), ["ls", "-l"]);
    assert_eq!(command(&["--entrypoint", "env", "--", "-0"]), ["env", "-0"]);
}

#[test]
fn flags_say_what_the_file_could() {
    let flags = "-u 7:8 -w /srv --hostname web.example -v /tmp:/t:ro -v data:/d -e A=1";
    let app = edited(&flags.split(' ').collect::<Vec<_>>()).unwrap();
    assert_eq!((app.app.user(), app.app.cwd()), ("7:8", "/srv"));
    assert_eq!(app.hostname(), "web.example");
    assert_eq!((app.shares.len(), app.volumes.len()), (1, 1));
    assert_eq!(app.app.env["A"].as_deref(), Some("1"));
    assert_eq!((app.app.stdin, app.app.tty), (false, Tty::Auto));
    let app = edited(&[
        "--read-only",
        "--tmpfs=/run",
        "--tmpfs=/tmp:rw,nosuid,size=65536k",
    ])
    .unwrap();
    let sizes = app.tmpfs.iter().map(|tmpfs| tmpfs.size.to_string());
    assert_eq!(sizes.collect::<Vec<_>>(), ["50%", "64M"]);
    assert!(app.root.read_only);
    let labels = edited(&["-l", "a=b=c", "-l", "d"]).unwrap().labels;
    assert_eq!((&*labels["a"], &*labels["d"]), ("b=c", ""));
    let app = edited(&["-it"]).unwrap();
    assert_eq!((app.app.stdin, app.app.tty), (true, Tty::Always));
}

#[test]
fn limits_and_groups_come_to_those_of_the_file() {
    let mut app = App::new("a", vec!["sh".into()]);
    app.app.groups.push("tty".into());
    for name in ["core", "nofile"] {
        app.app.ulimits.insert(name.into(), "7".parse().unwrap());
    }
    let flags = "mvm --group-add 44 --ulimit nofile=5:9 --ulimit memlock=-1:-1 --ulimit nproc=3";
    let line = Line::try_parse_from(flags.split(' ')).unwrap();
    line.edits.apply(&mut app).unwrap();
    assert_eq!(app.app.groups, ["tty", "44"]);
    let limits = app.app.ulimits.iter();
    let limits = limits.map(|(name, limit)| format!("{name}={limit}"));
    let expected = ["core=7", "memlock=unlimited", "nofile=5:9", "nproc=3"];
    assert_eq!(limits.collect::<Vec<_>>(), expected);
}

#[test]
fn names_and_who_is_asked_for_them_are_those_of_the_flags() {
    let mut app = App::new("a", vec!["sh".into()]);
    let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    for name in ["db", "web"] {
        let of_file = Addresses(addresses(&["10.0.0.1"]));
        app.hosts.insert(name.into(), of_file);
    }
    app.dns.servers = addresses(&["10.0.0.1"]);
    app.dns.search = vec!["of.file".into()];
    let flags = "mvm --add-host db:10.0.0.7 --add-host db=[fd00::7] --add-host v6:::1 \
        --dns 10.0.0.3 --dns ::3 --dns-option ndots:2";
    let line = Line::try_parse_from(flags.split_whitespace()).unwrap();
    line.edits.apply(&mut app).unwrap();
    let of = |name: &str| app.hosts[name].0.clone();
    assert_eq!(of("db"), addresses(&["10.0.0.7", "fd00::7"]) as Vec<_>);
    assert_eq!(of("v6"), addresses(&["::1"]) as Vec<_>);
    assert_eq!(of("web"), addresses(&["10.0.0.1"]) as Vec<_>);
    assert_eq!(app.dns.servers, addresses(&["10.0.0.3", "::3"]) as Vec<_>);
    assert_eq!(app.dns.search, ["of.file"]);
    assert_eq!(app.dns.options, ["ndots:2"]);
    let line = Line::try_parse_from(["mvm", "--dns-search", "."]).unwrap();
    line.edits.apply(&mut app).unwrap();
    assert!(app.dns.search.is_empty());
}

#[test]
fn checks_can_be_left_out() {
    let mut app = App::new("a", vec!["sh".into()]);
    app.healthcheck = Some(HealthCheck::of_command(vec!["true".into()]));
    let apply = |flags: &[&str]| {
        let mut app = app.clone();
        let line = Line::try_parse_from([&["mvm"], flags].concat()).unwrap();
        line.edits.apply(&mut app).map(|()| app.healthcheck)
    };
    assert!(apply(&[]).unwrap().is_some());
    assert_eq!(apply(&["--no-healthcheck"]).unwrap(), None);
}

#[test]
fn networks_come_to_the_cards_that_there_are() {
    let kinds = |flags: &str| {
        let app = edited(&flags.split(' ').collect::<Vec<_>>()).unwrap();
        let kinds = app.interfaces().into_iter().map(|interface| interface.kind);
        kinds.collect::<Vec<_>>()
    };
    let (user, network) = (InterfaceKind::User, InterfaceKind::Network);
    assert_eq!(kinds("--network shop"), [network]);
    assert_eq!(kinds("-p 80 --network shop"), [user, network]);
    assert_eq!(kinds("--network shop --network back"), [network, network]);
    let flags = ["--network", "shop", "--network-alias", "db"];
    let interface = edited(&flags).unwrap().interfaces().remove(0);
    assert_eq!(interface.network.as_deref(), Some("shop"));
    assert_eq!(interface.aliases, ["db"]);
}

#[test]
fn what_is_wrong_is_told_by_its_flag() {
    for (flags, error) in [
        ("--name A", "--name: must be 1 to 63 lower-case"),
        ("--hostname -", "--hostname: must be 1 to 64 letters"),
        ("-l =a", "--label: a label's name must be 1 to 255 bytes"),
        ("-u Root", "--user: must be a user name or a uid, or either"),
        (
            "--group-add A",
            "--group-add: must be the name of a group or",
        ),
        (
            "--ulimit nfile=1",
            "--ulimit: there is no limit \"nfile\"; did you mean \"nofile\"?",
        ),
        (
            "--ulimit nofile=1048577",
            "--ulimit: must be at most 1048576, is 1048577",
        ),
        (
            "--ulimit nofile",
            "error: invalid value 'nofile' for '--ulimit <NAME=SOFT[:HARD]>'",
        ),
        ("--ulimit nofile=2:1", "error: invalid value 'nofile=2:1'"),
        ("--add-host /:::1", "--add-host: must be 1 to 64 letters"),
        (
            "--add-host db",
            "error: invalid value 'db' for '--add-host <NAME:ADDRESS>'",
        ),
        ("--dns-search ..", "--dns-search: must be 1 to 253 letters"),
        (
            "--dns ::1 --dns ::2 --dns ::3 --dns ::4",
            "--dns: must be at most 3 servers",
        ),
        (
            "--tmpfs run",
            "--tmpfs: must be an absolute path, is \"run\"",
        ),
        (
            "--tmpfs /a --tmpfs /a",
            "--tmpfs: \"/a\" is the mountPoint of tmpfs[0] too",
        ),
        (
            "--tmpfs /a:mode=700",
            "error: invalid value '/a:mode=700' for '--tmpfs",
        ),
        (
            "--tmpfs /a:rw,noexec",
            "error: invalid value '/a:rw,noexec' for '--tmpfs <PATH[:size=SIZE]>': noexec: programs",
        ),
        ("-w srv", "--workdir: must be an absolute path, is \"srv\""),
        (
            "-e A= --entrypoint=",
            "--entrypoint: must be the program to run",
        ),
        (
            "-v data:srv",
            "--volume: must be an absolute path, is \"srv\"",
        ),
        ("-v Data:/srv", "--volume: must be 1 to 63 lower-case"),
        ("--network Shop", "--network: must be 1 to 63 lower-case"),
        (
            "--network a --network a",
            "--network: \"a\" is the network of interfaces[0] too",
        ),
        (
            "--network a --network-alias /",
            "--network-alias: must be 1 to 64 letters",
        ),
        ("--network-alias a", "error: the following required"),
        (
            "-v a:/d -v b:/d",
            "--volume: \"/d\" is the mountPoint of volumes[0]",
        ),
        ("-v /tmp:/proc", "--volume: must not be in \"/proc\""),
        ("-m 1M", "--memory: must be from "),
        (
            "-v a",
            "error: invalid value 'a' for '--volume <HOST:GUEST[:ro]>'",
        ),
        ("--env-file /no/file", "--env-file: cannot read /no/file: "),
    ] {
        let told = edited(&flags.split(' ').collect::<Vec<_>>()).unwrap_err();
        assert!(told.starts_with(error), "{flags}: {told}");
    }
}

#[test]
fn a_part_of_a_processor_is_a_whole_one_with_a_quota() {
    let mut app = App::new("a", vec!["sh".into()]);
    let mut set = |cpus| {
        set_cpus(&mut app, cpus).map(|()| (app.vcpus, app.limits.cpu.map(CpuQuota::percent)))
    };
    assert_eq!(set(1.5).unwrap(), (2, Some(150)));
    assert_eq!(set(3.0).unwrap(), (3, None));
    assert_eq!(set(0.25).unwrap(), (1, Some(25)));
    for bad in [0.0, -1.0, 0.001, 65.0, f64::NAN, f64::INFINITY] {
        assert!(set(bad).is_err(), "{bad}");
    }
}

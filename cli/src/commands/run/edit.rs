//! The flags that say what a machine is, as edits of what its file says.

mod mount;

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, bail};
use vmm::app::{
    Addresses, App, Complaint, CpuQuota, Duration, Interface, InterfaceKind, MAX_VCPUS, Policy,
    Port, Program, Restart, Signal, Step, Tmpfs, Tty, Ulimit,
};

use crate::environment;
use crate::image;
use crate::tmpfs;
use mount::Mount;

/// Flags of each command that makes a machine.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct Edits {
    /// Arguments for the program instead of `app.args`
    #[arg(last = true, value_name = "ARG")]
    arguments: Vec<String>,
    /// Keep the program's input open in the background, for `mvm attach`; the same as `app.stdin`. In the
    /// foreground it always has that of this command
    #[arg(long, short)]
    interactive: bool,
    /// Give the program a terminal, also in the background; the same as `app.tty`
    #[arg(long, short)]
    tty: bool,
    /// Program to run instead of `app.entrypoint`; `app.args` are left out, too
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Who the program runs as, instead of `app.user`: a name or a uid, or either with `:group`. A name
    /// is looked up in the image; in a machine without one it is a user of that name, made for it
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// A group that it has besides those of its user, and those of `app.groups`: a name or a gid
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// A limit of each of its processes, such as nofile=1024:2048, core=0 or memlock=unlimited, instead
    /// of that of `app.ulimits`; -1 is unlimited
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = ulimit)]
    ulimit: Vec<(String, Ulimit)>,
    /// Folder in the machine that the program starts in, instead of `app.cwd`
    #[arg(long, short, value_name = "FOLDER")]
    workdir: Option<String>,
    /// What the program is asked to end with, instead of `app.stopSignal`
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<Signal>,
    /// How long it may take to end then, instead of `stopTimeout`
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<u32>,
    /// Name of the machine, instead of `name`
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Name of the machine in itself, instead of `hostname`
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// A word about the machine that `mvm ps --filter` looks for, besides `labels`
    #[arg(long, short, value_name = "NAME[=TEXT]")]
    label: Vec<String>,
    /// Processors, instead of `vcpus`; 1.5 is two that get the time of one and a half, as
    /// `limits.cpu` says
    #[arg(long, value_name = "N")]
    cpus: Option<f64>,
    /// Memory of the guest such as 512M, instead of `memory`; `limits.memory` is for the monitor, too
    #[arg(long, short, value_name = "SIZE")]
    memory: Option<String>,
    /// Set a variable of the program's environment; NAME alone takes its value from here
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Set the variables that a file has, NAME=VALUE or NAME in each line; --env wins over it
    #[arg(long, value_name = "PATH")]
    env_file: Vec<PathBuf>,
    /// Have a folder of the host in the machine, besides `shares`, or the volume of that name, besides
    /// `volumes`: what has no "/" is a name. The machine may write to it unless ":ro" is behind it. With
    /// ":ro" it may be a single file
    #[arg(long, short, value_name = "HOST:GUEST[:ro]")]
    volume: Vec<Mount>,
    /// Have a folder of the machine in its memory, besides those of `tmpfs`, with a size such as 64M or
    /// 10% if that is to be another than half of it
    #[arg(long, value_name = "PATH[:size=SIZE]", value_parser = folder)]
    tmpfs: Vec<Tmpfs>,
    /// Have nothing be written to the machine's root, as `root.readOnly` has it
    #[arg(long)]
    read_only: bool,
    /// Have a port of the host lead to one of the machine, besides those of `ports`; without a number
    /// for the host one is picked. With "unix:" and a path for the host, a socket leads there that this
    /// user alone can connect to
    #[arg(long, short, value_name = "[[ADDRESS:][HOST]:]GUEST[/udp]", value_parser = published)]
    publish: Vec<Port>,
    /// Have a port of the host that is picked lead to each that the image says its program serves
    #[arg(long, short = 'P')]
    publish_all: bool,
    /// Have the machine in a network of this user's, besides `interfaces`
    #[arg(long, value_name = "NAME")]
    network: Vec<String>,
    /// What the machine is called in the networks of --network, besides its name
    #[arg(long, value_name = "NAME", requires = "network")]
    network_alias: Vec<String>,
    /// An address of a name that the machine knows without asking, instead of those that `hosts` has
    /// for it
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = host)]
    add_host: Vec<(String, IpAddr)>,
    /// A name server that the machine asks, instead of those of `dns`
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
    /// A domain in which it looks for short names, instead of those of `dns`; "." is none
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// A word for `options` of its /etc/resolv.conf, instead of those of `dns`
    #[arg(long, value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Whether the machine is started again when it has ended, instead of `restart`: no,
    /// on-failure[:N], always or unless-stopped. Only a machine in the background is
    #[arg(long, value_name = "POLICY")]
    restart: Option<Restart>,
    /// Do without the checks of `healthcheck`, or of the image
    #[arg(long)]
    no_healthcheck: bool,
    /// Kernel to boot, instead of `kernel.path`
    #[arg(long, value_name = "PATH")]
    kernel: Option<PathBuf>,
}

impl Edits {
    /// The name that was asked for.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether --restart asks for a machine that is started again.
    pub fn restarts(&self) -> bool {
        let policy = self.restart.as_ref().map(|restart| restart.policy);
        policy.is_some_and(|policy| policy != Policy::No)
    }

    /// Applies the flags and checks the result.
    pub fn apply(&self, app: &mut App) -> anyhow::Result<()> {
        if let Some(name) = &self.name {
            app.name.clone_from(name);
        }
        if let Some(hostname) = &self.hostname {
            app.hostname = Some(hostname.clone());
        }
        for label in &self.label {
            let (name, text) = label.split_once('=').unwrap_or((label, ""));
            app.labels.insert(name.into(), text.into());
        }
        self.set_program(&mut app.app)?;
        let stop_timeout = match &mut app.system {
            Some(system) => &mut system.stop_timeout,
            None => &mut app.app.stop_timeout,
        };
        *stop_timeout = self.stop_timeout.map(Duration::from_secs).or(*stop_timeout);
        if let Some(cpus) = self.cpus {
            set_cpus(app, cpus)?;
        }
        if let Some(restart) = &self.restart {
            app.restart.clone_from(restart);
        }
        if let Some(memory) = &self.memory {
            app.memory = memory
                .parse()
                .map_err(|error| anyhow::anyhow!("--memory: {error}"))?;
        }
        if let Some(kernel) = &self.kernel {
            app.kernel.path =
                Some(std::path::absolute(kernel).context("--kernel: cannot find it")?);
        }
        if self.no_healthcheck {
            app.healthcheck = None;
        }
        app.ports.extend(self.publish.iter().cloned());
        if self.publish_all {
            let ports = image::exposed_ports(app).context("--publish-all")?;
            app.ports.extend(ports);
        }
        self.add_networks(app);
        self.set_names(app);
        for mount in &self.volume {
            mount.add_to(app)?;
        }
        app.tmpfs.extend(self.tmpfs.iter().cloned());
        app.root.read_only |= self.read_only;
        // Now that it is known what else is mounted.
        image::settle(app)?;
        match app.check().first() {
            Some(complaint) => bail!("{}", words(complaint)),
            None => Ok(()),
        }
    }

    /// What the file has by default stays: a card that its ports need.
    fn add_networks(&self, app: &mut App) {
        if self.network.is_empty() {
            return;
        }
        let mut interfaces = app.interfaces();
        interfaces.extend(self.network.iter().map(|network| Interface {
            kind: InterfaceKind::Network,
            network: Some(network.clone()),
            aliases: self.network_alias.clone(),
            ..Interface::default()
        }));
        app.interfaces = Some(interfaces);
    }

    fn set_names(&self, app: &mut App) {
        for (name, _) in &self.add_host {
            app.hosts.remove(name);
        }
        for (name, address) in &self.add_host {
            let Addresses(addresses) = app.hosts.entry(name.clone()).or_default();
            addresses.push(*address);
        }
        replace(&mut app.dns.servers, &self.dns);
        replace(&mut app.dns.search, &self.dns_search);
        // As Docker has it that there is no domain.
        app.dns.search.retain(|domain| domain != ".");
        replace(&mut app.dns.options, &self.dns_option);
    }

    fn set_program(&self, program: &mut Program) -> anyhow::Result<()> {
        if let Some(entrypoint) = &self.entrypoint {
            program.entrypoint = vec![entrypoint.clone()];
            program.args.clear();
        }
        if !self.arguments.is_empty() {
            program.args.clone_from(&self.arguments);
        }
        if let Some(user) = &self.user {
            program.user = Some(user.clone());
        }
        program.groups.extend(self.group_add.iter().cloned());
        program.ulimits.extend(self.ulimit.iter().cloned());
        if let Some(folder) = &self.workdir {
            program.cwd = Some(folder.clone());
        }
        program.stop_signal = self.stop_signal.or(program.stop_signal);
        program.stdin |= self.interactive;
        if self.tty {
            program.tty = Tty::Always;
        }
        for file in &self.env_file {
            environment::set_from(&mut program.env, file)?;
        }
        environment::set(&mut program.env, &self.env)
    }
}

/// What a flag says, if it does, in the place of what the file says.
fn replace<T: Clone>(of_file: &mut Vec<T>, of_flag: &[T]) {
    if !of_flag.is_empty() {
        of_file.clear();
        of_file.extend_from_slice(of_flag);
    }
}

/// A folder in memory, and how much it may hold.
fn folder(text: &str) -> Result<Tmpfs, String> {
    let (place, options) = text.split_once(':').unwrap_or((text, ""));
    let mut refused = None;
    let size = tmpfs::size(options, |option, why| {
        refused.get_or_insert_with(|| format!("{option}: {why}"));
    });
    match refused {
        Some(words) => Err(words),
        None => Ok(Tmpfs {
            mount_point: place.into(),
            size: size.unwrap_or_default(),
        }),
    }
}

/// A name and its address, which may stand in brackets.
fn host(text: &str) -> Result<(String, IpAddr), String> {
    let wrong = || "must be a name, \":\" and an address, such as db:10.0.0.7".to_owned();
    let (name, address) = text.split_once([':', '=']).ok_or_else(wrong)?;
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = bare.unwrap_or(address).parse().map_err(|_| wrong())?;
    Ok((name.into(), address))
}

/// A limit as the file has it behind its name, or with -1 for none.
fn ulimit(text: &str) -> Result<(String, Ulimit), String> {
    let (name, limit) = text
        .split_once('=')
        .ok_or("must be a limit's name, \"=\" and a number, such as nofile=1024")?;
    let values = limit.split(':').map(|value| match value {
        "-1" => "unlimited",
        other => other,
    });
    let limit = values.collect::<Vec<_>>().join(":").parse()?;
    Ok((name.into(), limit))
}

/// A port as the file has it in short form, or the machine's alone.
fn published(text: &str) -> Result<Port, String> {
    let is_guests = text.starts_with(|first: char| first.is_ascii_digit()) && !text.contains(':');
    if is_guests {
        format!(":{text}").parse()
    } else {
        text.parse()
    }
}

/// What is wrong, by the flag. The file was good when it was read, so what is wrong with a value that
/// a flag sets is that flag's doing.
fn words(complaint: &Complaint) -> String {
    let keys = complaint
        .place
        .steps()
        .iter()
        .filter_map(|step| match step {
            Step::Key(key) => Some(key.as_ref()),
            Step::Index(_) => None,
        });
    let flag = match keys.collect::<Vec<_>>()[..] {
        ["name"] => "--name",
        ["hostname"] => "--hostname",
        ["labels", ..] => "--label",
        ["memory"] => "--memory",
        ["kernel", "path"] => "--kernel",
        ["ports", ..] => "--publish",
        ["interfaces", "network"] => "--network",
        ["interfaces", "aliases"] => "--network-alias",
        ["tmpfs", ..] => "--tmpfs",
        ["root", "readOnly"] => "--read-only",
        ["hosts", ..] => "--add-host",
        ["dns"] | ["dns", "servers"] => "--dns",
        ["dns", "search"] => "--dns-search",
        ["dns", "options"] => "--dns-option",
        ["shares" | "volumes", ..] => "--volume",
        ["app", "entrypoint"] => "--entrypoint",
        ["app", "args"] => "arguments behind \"--\"",
        ["app", "user"] => "--user",
        ["app", "groups"] => "--group-add",
        ["app", "ulimits", ..] => "--ulimit",
        ["app", "cwd"] => "--workdir",
        ["app", "env", ..] => "--env",
        _ => return complaint.to_string(),
    };
    format!("{flag}: {}", complaint.message)
}

/// As many processors as hold that much time, and the time where it is not all of theirs.
fn set_cpus(app: &mut App, cpus: f64) -> anyhow::Result<()> {
    let whole = (1..=MAX_VCPUS).find(|vcpus| f64::from(*vcpus) >= cpus);
    let (Some(vcpus), Some(quota)) = (whole, CpuQuota::from_processors(cpus)) else {
        bail!("--cpus: must be from 0.01 to {MAX_VCPUS} in whole hundredths, is {cpus}");
    };
    app.vcpus = vcpus;
    app.limits.cpu = (f64::from(vcpus) > cpus).then_some(quota);
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use vmm::app::HealthCheck;

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
    fn the_machines_port_alone_is_a_port() {
        let text = |text| published(text).map(|port| port.to_string());
        assert_eq!(text("80").unwrap(), "127.0.0.1:0:80/tcp");
        assert_eq!(text("53/udp").unwrap(), "127.0.0.1:0:53/udp");
        assert_eq!(text("8080:80").unwrap(), "127.0.0.1:8080:80/tcp");
        assert_eq!(text("unix:/a:80").unwrap(), "unix:/a:80/tcp");
        for wrong in ["", "/udp", "a", "unix:/a", "80/sctp"] {
            assert!(text(wrong).is_err(), "{wrong}");
        }
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
        let flags =
            "mvm --group-add 44 --ulimit nofile=5:9 --ulimit memlock=-1:-1 --ulimit nproc=3";
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
}

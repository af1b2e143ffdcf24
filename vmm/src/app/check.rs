//! What each value of an [`App`] must be, beyond its type.
//!
//! Each rule gives one complaint: what is allowed, and what was found.

mod service;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use super::interface::{MAX_ADDRESSES, MAX_ALIASES, MAX_INTERFACE_NAME_SIZE, MAX_MTU, MIN_MTU};
use super::label;
use super::limits::{MAX_LIMITED_DEVICES, MAX_NOFILE, MAX_PIDS, MAX_WEIGHT, MIN_NOFILE, is_slice};
use super::place::Place;
use super::problem::Complaint;
use super::quote::quoted;
use super::{
    App, Bytes, HostEnd, IMAGE_TAG, Interface, Limits, MAX_ARG_SIZE, MAX_ARGS, MAX_CMDLINE_SIZE,
    MAX_ENV, MAX_INTERFACES, MAX_LABELS, MAX_PORTS, MAX_PROBLEMS, MAX_SHARES, MAX_TAG_SIZE,
    MAX_VCPUS, MAX_VOLUMES, Memory, Port, PortRange, Program, Protocol, Rate, STORE_TAG, Share,
    User, VERSION, Volume, VolumeSize,
};
use crate::closure::{STORE_DIR, StorePath};

/// A name of a machine: it is a folder's name, a host's name and a word on command lines.
pub const NAME_PATTERN: &str = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";

/// A name of what machines share: as a machine's, or a project's and a "_" before that.
pub const SHARED_NAME_PATTERN: &str =
    "^(?=.{1,63}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(_[a-z0-9]([a-z0-9-]*[a-z0-9])?)?$";

/// Labels of letters, digits and "-", with dots between them.
pub const HOSTNAME_PATTERN: &str =
    r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$";

/// What a machine is called in a network: the same with "_".
pub const ALIAS_PATTERN: &str =
    r"^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*$";

/// Bytes of a host name (the kernel's `__NEW_UTS_LEN`).
pub const MAX_HOSTNAME_SIZE: usize = 64;

const MAX_NAME_SIZE: usize = 63;

/// Bytes of a path, with its NUL (the kernel's `PATH_MAX`).
const MAX_PATH_SIZE: usize = 4096;

/// Complaints about the values, each by itself.
pub fn values(app: &App) -> Vec<Complaint> {
    let mut check = Check(Vec::new());
    let root = Place::root;
    check.expect(
        app.version == VERSION,
        root().key("version"),
        VERSION,
        app.version,
    );
    check.name(&app.name, root().key("name"));
    if let Some(hostname) = &app.hostname {
        check.hostname(hostname);
    }
    check.labels(&app.labels);
    let vcpus = 1..=MAX_VCPUS;
    check.expect(
        vcpus.contains(&app.vcpus),
        root().key("vcpus"),
        format_args!("from 1 to {MAX_VCPUS}"),
        app.vcpus,
    );
    let (least, most) = (
        Memory::from_mib(Memory::MIN_MIB),
        Memory::from_mib(Memory::MAX_MIB),
    );
    check.expect(
        (least..=most).contains(&app.memory),
        root().key("memory"),
        format_args!("from {least} to {most}"),
        app.memory,
    );
    check.kernel(app);
    check.main(app);
    if let Some(image) = &app.image {
        check.host_path(Path::new(image), root().key("image"));
        if app.system.is_some() {
            check.complain(
                root().key("image"),
                "must not be given with a system, which is its own root".into(),
            );
        }
    }
    if let Some(bundle) = &app.bundle {
        check.host_path(bundle, root().key("bundle"));
    }
    if let Some(closure) = &app.store.closure {
        check.host_path(closure, root().key("store").key("closure"));
    }
    let writable = app.store.writable.as_ref();
    if let Some(volume) = writable.and_then(|store| store.volume.as_ref()) {
        let place = root().key("store").key("writable").key("volume");
        check.shared_name(volume, place);
    }
    check.shares(&app.shares);
    check.volumes(&app.volumes);
    if let Some(persist) = &app.root.persist {
        check.shared_name(persist, root().key("root").key("persist"));
    }
    check.interfaces(app.interfaces.as_deref().unwrap_or_default());
    check.ports(&app.ports);
    if let Some(path) = &app.console.path {
        check.host_path(path, root().key("console").key("path"));
    }
    check.limits(&app.limits);
    check.secrets(&app.secrets);
    if let Some(health) = &app.healthcheck {
        check.health(health);
    }
    if let Some(period) = app.watchdog {
        check.watchdog(period);
    }
    check.restart(&app.restart);
    check.0
}

struct Check(Vec<Complaint>);

impl Check {
    fn complain(&mut self, place: Place, message: String) {
        // A list can hold more bad values than anyone reads of.
        if self.0.len() <= MAX_PROBLEMS {
            self.0.push(Complaint { place, message });
        }
    }

    /// Complains unless `is_good`.
    fn expect(&mut self, is_good: bool, place: Place, allowed: impl Display, found: impl Display) {
        if !is_good {
            self.complain(place, format!("must be {allowed}, is {found}"));
        }
    }

    fn name(&mut self, name: &str, place: Place) {
        self.expect(is_name(name), place, name_rule(), quoted(name));
    }

    /// A name of what machines share: as a machine's, or a project's and a "_" before that.
    fn shared_name(&mut self, name: &str, place: Place) {
        let is_good = match name.split_once('_') {
            Some((project, own)) => name.len() <= MAX_NAME_SIZE && is_name(project) && is_name(own),
            None => is_name(name),
        };
        self.expect(is_good, place, name_rule(), quoted(name));
    }

    fn hostname(&mut self, hostname: &str) {
        let allowed = format!(
            "1 to {MAX_HOSTNAME_SIZE} letters, digits, \"-\" and \".\", with a letter or digit around each \".\""
        );
        let is_good = hostname.len() <= MAX_HOSTNAME_SIZE && hostname.split('.').all(is_label);
        self.expect(
            is_good,
            Place::root().key("hostname"),
            allowed,
            quoted(hostname),
        );
    }

    fn labels(&mut self, labels: &BTreeMap<String, String>) {
        let place = Place::root().key("labels");
        self.expect(
            labels.len() <= MAX_LABELS,
            place.clone(),
            format_args!("at most {MAX_LABELS} labels"),
            labels.len(),
        );
        for (name, text) in labels {
            let here = || place.clone().key(name.clone());
            if !label::is_name(name) {
                let message = format!(
                    "a label's name must be 1 to {} bytes without \"=\" and \
                     control characters, is {}",
                    label::MAX_NAME_SIZE,
                    quoted(name)
                );
                self.complain(here(), message);
            }
            self.expect(
                text.len() <= label::MAX_TEXT_SIZE,
                here(),
                format_args!("at most {} bytes", label::MAX_TEXT_SIZE),
                format_args!("{} bytes", text.len()),
            );
        }
    }

    fn kernel(&mut self, app: &App) {
        let place = || Place::root().key("kernel");
        if let Some(path) = &app.kernel.path {
            self.host_path(path, place().key("path"));
        }
        let cmdline = &app.kernel.cmdline;
        self.expect(
            cmdline.len() <= MAX_CMDLINE_SIZE,
            place().key("cmdline"),
            format_args!("at most {MAX_CMDLINE_SIZE} bytes"),
            format_args!("{} bytes", cmdline.len()),
        );
        if let Some(bad) = cmdline.chars().find(|c| !matches!(c, ' '..='~')) {
            let found = quoted(bad.encode_utf8(&mut [0; 4]));
            self.complain(
                place().key("cmdline"),
                format!("must be printable ASCII, has {found}"),
            );
        }
    }

    /// What the machine runs.
    fn main(&mut self, app: &App) {
        let root = Place::root;
        match &app.system {
            None => self.program(&app.app, app.image.is_some(), &root().key("app")),
            Some(system) => {
                let place = root().key("system");
                let is_stored = StorePath::containing(Path::new(&system.path)).is_some();
                let allowed = format_args!("a folder in {STORE_DIR}");
                self.expect(
                    is_stored,
                    place.clone().key("path"),
                    allowed,
                    quoted(&system.path),
                );
                self.guest_path(&system.path, place.key("path"));
                if !app.app.is_absent() {
                    let message = "must not be given with `system`, which has a program of its own";
                    self.complain(root().key("app"), message.into());
                }
            }
        }
    }

    /// `has_image`: what is missing here may be there.
    fn program(&mut self, program: &Program, has_image: bool, place: &Place) {
        let place = |key: &'static str| place.clone().key(key);
        let entrypoint = &program.entrypoint;
        match entrypoint.first().map(String::as_str) {
            None if !has_image => {
                let message =
                    "must be the program to run, where there is neither \"system\" nor \"image\"";
                self.complain(place("entrypoint"), message.into());
            }
            Some("") => {
                let message = "must be the program to run, is an empty string";
                self.complain(place("entrypoint"), message.into());
            }
            _ => {}
        }
        let count = entrypoint.len() + program.args.len();
        if count > MAX_ARGS {
            let message =
                format!("must be at most {MAX_ARGS} items with the entrypoint's, are {count}");
            self.complain(place("args"), message);
        }
        for (nth, arg) in entrypoint.iter().enumerate() {
            self.argument(arg, place("entrypoint").index(nth));
        }
        for (nth, arg) in program.args.iter().enumerate() {
            self.argument(arg, place("args").index(nth));
        }
        self.env(program, &place("env"));
        self.guest_path(program.cwd(), place("cwd"));
        self.expect(
            program.user().parse::<User>().is_ok(),
            place("user"),
            "a user name, a uid or uid:gid",
            quoted(program.user()),
        );
    }

    fn env(&mut self, program: &Program, place: &Place) {
        self.expect(
            program.env.len() <= MAX_ENV,
            place.clone(),
            format_args!("at most {MAX_ENV} variables"),
            program.env.len(),
        );
        for (name, value) in &program.env {
            let here = || place.clone().key(name.clone());
            if name.is_empty() || name.contains(['=', '\0']) {
                let found = quoted(name);
                let message = format!(
                    "a variable's name must not be empty nor contain \"=\" or NUL, is {found}"
                );
                self.complain(here(), message);
            }
            let value = value.as_deref().unwrap_or("");
            self.argument(value, here());
            let size = name.len() + value.len() + 2;
            if value.len() < MAX_ARG_SIZE && size > MAX_ARG_SIZE {
                self.complain(
                    here(),
                    format!("must be at most {MAX_ARG_SIZE} bytes with its name, is {size}"),
                );
            }
        }
    }

    /// A string that goes to `execve`.
    fn argument(&mut self, text: &str, place: Place) {
        let most = MAX_ARG_SIZE - 1;
        self.expect(
            text.len() <= most,
            place.clone(),
            format_args!("at most {most} bytes"),
            format_args!("{} bytes", text.len()),
        );
        self.no_nul(text, place);
    }

    fn no_nul(&mut self, text: &str, place: Place) {
        if let Some(at) = text.find('\0') {
            self.complain(
                place,
                format!(
                    "must not contain a NUL, has one after {}",
                    quoted(&text[..at])
                ),
            );
        }
    }

    fn shares(&mut self, shares: &[Share]) {
        let place = Place::root().key("shares");
        self.expect(
            shares.len() <= MAX_SHARES,
            place.clone(),
            format_args!("at most {MAX_SHARES} shares"),
            shares.len(),
        );
        for (nth, share) in shares.iter().take(MAX_SHARES).enumerate() {
            let here = |key: &'static str| place.clone().index(nth).key(key);
            self.host_path(&share.source, here("source"));
            self.guest_path(&share.mount_point.to_string_lossy(), here("mountPoint"));
            if let Some(tag) = &share.tag {
                self.tag(tag, &here("tag"));
            }
        }
    }

    fn volumes(&mut self, volumes: &[Volume]) {
        let place = Place::root().key("volumes");
        self.expect(
            volumes.len() <= MAX_VOLUMES,
            place.clone(),
            format_args!("at most {MAX_VOLUMES} volumes"),
            volumes.len(),
        );
        for (nth, volume) in volumes.iter().take(MAX_VOLUMES).enumerate() {
            self.volume(volume, &place.clone().index(nth));
        }
    }

    fn volume(&mut self, volume: &Volume, place: &Place) {
        let here = |key: &'static str| place.clone().key(key);
        match (&volume.name, &volume.image) {
            (Some(name), None) => self.shared_name(name, here("name")),
            (None, Some(image)) => self.host_path(image, here("image")),
            (None, None) => self.complain(
                place.clone(),
                "needs a \"name\", or an \"image\", its file".into(),
            ),
            (Some(_), Some(_)) => self.complain(
                here("image"),
                "is of no use beside name: a volume has one or the other".into(),
            ),
        }
        if let Some(point) = &volume.mount_point {
            self.guest_path(&point.to_string_lossy(), here("mountPoint"));
        }
        let (least, most) = (
            VolumeSize::from_mib(VolumeSize::MIN_MIB),
            VolumeSize::from_mib(VolumeSize::MAX_MIB),
        );
        self.expect(
            (least..=most).contains(&volume.size),
            here("size"),
            format_args!("from {least} to {most}"),
            volume.size,
        );
        if let Some(rate) = &volume.rate_limit {
            self.rate(rate, &here("rateLimit"));
        }
    }

    fn rate(&mut self, rate: &Rate, place: &Place) {
        let here = |key: &'static str| place.clone().key(key);
        let numbers = [
            ("bytesPerSecond", rate.bytes_per_second.map(Bytes::get)),
            ("opsPerSecond", rate.ops_per_second.map(u64::from)),
            ("burst", rate.burst.map(Bytes::get)),
        ];
        for (key, number) in numbers {
            self.expect(number != Some(0), here(key), "more than nothing", 0);
        }
    }

    fn interfaces(&mut self, interfaces: &[Interface]) {
        let place = Place::root().key("interfaces");
        self.expect(
            interfaces.len() <= MAX_INTERFACES,
            place.clone(),
            format_args!("at most {MAX_INTERFACES} interfaces"),
            interfaces.len(),
        );
        for (nth, interface) in interfaces.iter().take(MAX_INTERFACES).enumerate() {
            let here = |key: &'static str| place.clone().index(nth).key(key);
            for (key, name) in [
                ("name", &interface.name),
                ("hostName", &interface.host_name),
                ("bridge", &interface.bridge),
            ] {
                if let Some(name) = name {
                    self.interface_name(name, here(key));
                }
            }
            if let Some(mtu) = interface.mtu {
                self.expect(
                    (MIN_MTU..=MAX_MTU).contains(&mtu),
                    here("mtu"),
                    format_args!("from {MIN_MTU} to {MAX_MTU}"),
                    mtu,
                );
            }
            self.expect(
                interface.addresses.len() <= MAX_ADDRESSES,
                here("addresses"),
                format_args!("at most {MAX_ADDRESSES} addresses"),
                interface.addresses.len(),
            );
            if let Some(rate) = &interface.rate_limit {
                self.rate(rate, &here("rateLimit"));
            }
            if let Some(network) = &interface.network {
                self.shared_name(network, here("network"));
            }
            self.aliases(&interface.aliases, &here("aliases"));
        }
    }

    fn aliases(&mut self, aliases: &[String], place: &Place) {
        self.expect(
            aliases.len() <= MAX_ALIASES,
            place.clone(),
            format_args!("at most {MAX_ALIASES} names"),
            aliases.len(),
        );
        let allowed = format!(
            "1 to {MAX_HOSTNAME_SIZE} letters, digits, \"-\", \"_\" and \".\", with a letter, digit or \"_\" around each \".\""
        );
        for (nth, alias) in aliases.iter().take(MAX_ALIASES).enumerate() {
            // As a host name, but that the tables of a network do not mind "_".
            let is_good = alias.len() <= MAX_HOSTNAME_SIZE
                && alias.replace('_', "x").split('.').all(is_label);
            self.expect(is_good, place.clone().index(nth), &allowed, quoted(alias));
        }
    }

    fn interface_name(&mut self, name: &str, place: Place) {
        let is_good = (1..=MAX_INTERFACE_NAME_SIZE).contains(&name.len())
            && !matches!(name, "." | "..")
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
        let allowed =
            format!("1 to {MAX_INTERFACE_NAME_SIZE} letters, digits, \"_\", \".\" and \"-\"");
        self.expect(is_good, place, allowed, quoted(name));
    }

    fn ports(&mut self, ports: &[Port]) {
        let place = Place::root().key("ports");
        let count = ports
            .iter()
            .fold(0usize, |sum, port| sum.saturating_add(port.guest.count()));
        self.expect(
            count <= MAX_PORTS,
            place.clone(),
            format_args!("at most {MAX_PORTS} ports"),
            count,
        );
        for (nth, port) in ports.iter().enumerate() {
            let guest = port.guest;
            let mut complain = |key: &'static str, message: String| {
                self.complain(place.clone().index(nth).key(key), message);
            };
            if guest.first == 0 {
                complain("guest", format!("must be from 1 to 65535, is {guest}"));
            }
            let host = match &port.host {
                HostEnd::Ports(host) => *host,
                socket @ (HostEnd::Socket(_) | HostEnd::Handed(_)) => {
                    if let Some(message) = socket.fault() {
                        complain("host", message);
                    }
                    if guest.count() != 1 {
                        complain(
                            "guest",
                            format!("a socket leads to one port of the machine, not to {guest}"),
                        );
                    }
                    if port.protocol != Protocol::Tcp {
                        complain("protocol", "is \"tcp\" where the host has a socket".into());
                    }
                    continue;
                }
            };
            if host == PortRange::default() {
                if guest.count() != 1 {
                    complain(
                        "host",
                        format!("0 leads to one port of the machine, not to {guest}"),
                    );
                }
            } else if host.first == 0 {
                complain(
                    "host",
                    format!("0 is any port that is free and begins no row, is {host}"),
                );
            } else if host.count() != guest.count() {
                let (host, guest) = (host.count(), guest.count());
                complain(
                    "host",
                    format!("must be as many ports as the machine's, {guest}, are {host}"),
                );
            }
        }
    }

    fn limits(&mut self, limits: &Limits) {
        let here = |key: &'static str| Place::root().key("limits").key(key);
        let mut number = |key, found: Option<u32>, most| {
            let found = found.unwrap_or(1);
            let allowed = format_args!("from 1 to {most}");
            self.expect((1..=most).contains(&found), here(key), allowed, found);
        };
        number("cpuWeight", limits.cpu_weight, MAX_WEIGHT);
        number("pids", limits.pids, MAX_PIDS);
        number("ioWeight", limits.io_weight, MAX_WEIGHT);
        let nofile = limits.nofile.unwrap_or(MIN_NOFILE);
        self.expect(
            (MIN_NOFILE..=MAX_NOFILE).contains(&nofile),
            here("nofile"),
            format_args!("from {MIN_NOFILE} to {MAX_NOFILE}"),
            nofile,
        );
        if let Some(slice) = &limits.slice {
            let allowed = "the name of a slice such as \"machine.slice\"";
            self.expect(is_slice(slice), here("slice"), allowed, quoted(slice));
        }
        if let Some(cpus) = &limits.cpus {
            let allowed = "numbers and ranges of processors such as \"0-3,8\"";
            self.expect(is_cpu_list(cpus), here("cpus"), allowed, quoted(cpus));
        }
        self.expect(
            limits.io.len() <= MAX_LIMITED_DEVICES,
            here("io"),
            format_args!("at most {MAX_LIMITED_DEVICES} devices"),
            limits.io.len(),
        );
        for (path, limits) in limits.io.iter().take(MAX_LIMITED_DEVICES) {
            let place = here("io").key(path.clone());
            self.host_path(Path::new(path), place.clone());
            if !path.starts_with('/') {
                let message = format!("must be named by an absolute path, is {}", quoted(path));
                self.complain(place.clone(), message);
            }
            let numbers = [
                ("readBps", limits.read_bps.map(Bytes::get)),
                ("writeBps", limits.write_bps.map(Bytes::get)),
                ("readIops", limits.read_iops.map(u64::from)),
                ("writeIops", limits.write_iops.map(u64::from)),
            ];
            for (key, number) in numbers {
                let is_good = number != Some(0);
                self.expect(is_good, place.clone().key(key), "more than nothing", 0);
            }
        }
    }

    fn tag(&mut self, tag: &str, place: &Place) {
        let is_good = (1..=MAX_TAG_SIZE).contains(&tag.len())
            && tag.bytes().all(|byte| byte.is_ascii_graphic());
        let allowed = format!("1 to {MAX_TAG_SIZE} printable ASCII characters");
        self.expect(is_good, place.clone(), allowed, quoted(tag));
        for (own, what) in [(STORE_TAG, "the store"), (IMAGE_TAG, "the image")] {
            if tag == own {
                let message = format!("{} is the tag of {what} itself", quoted(tag));
                self.complain(place.clone(), message);
            }
        }
    }

    /// A path on the host; relative ones have been resolved by now.
    fn host_path(&mut self, path: &Path, place: Place) {
        let text = path.to_string_lossy();
        self.path_size(&text, place.clone());
        self.expect(!text.is_empty(), place.clone(), "a path", "empty");
        self.no_nul(&text, place);
    }

    /// An absolute path in the machine.
    fn guest_path(&mut self, path: &str, place: Place) {
        self.path_size(path, place.clone());
        self.no_nul(path, place.clone());
        self.expect(
            path.starts_with('/'),
            place.clone(),
            "an absolute path",
            quoted(path),
        );
        if path.split('/').any(|part| part == "..") {
            self.complain(
                place,
                format!("must not contain \"..\", is {}", quoted(path)),
            );
        }
    }

    fn path_size(&mut self, path: &str, place: Place) {
        let most = MAX_PATH_SIZE - 1;
        let found = format!("{} bytes", path.len());
        self.expect(
            path.len() <= most,
            place,
            format_args!("at most {most} bytes"),
            found,
        );
    }
}

/// Whether `text` is as the kernel's lists of processors are.
fn is_cpu_list(text: &str) -> bool {
    let is_number = |text: &str| text.parse::<u32>().is_ok() && !text.starts_with('+');
    text.split(',').all(|item| match item.split_once('-') {
        Some((first, last)) => is_number(first) && is_number(last),
        None => is_number(item),
    })
}

/// Whether a machine can be called so.
pub fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME_SIZE
        && is_label(name)
        && !name.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// What a machine's name must be.
pub fn name_rule() -> String {
    format!(
        "1 to {MAX_NAME_SIZE} lower-case letters, digits and \"-\", with no \"-\" at either end"
    )
}

/// One part of a host name.
fn is_label(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

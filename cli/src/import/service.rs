//! A service: what of it is neither its program nor its files nor what it may use.

use serde_json::{Map, Value, json};
use vmm::app::Place;

use super::known::Known;
use super::ordered::Ordered;
use super::section::{Section, boolean};
use super::yaml::{self, Yaml};
use super::{mounts, names, program, resources, tmpfs, words};

/// Why nobody says addresses.
pub const FOLLOWS: &str = "addresses follow from the names of networks and machines";

/// What a machine's walls make of what loosens or tightens a container's.
const OWN_KERNEL: &str =
    "a machine has a kernel of its own, in which its programs may do all that its user may";

/// Keys for which there is nothing to do, and why.
const LEFT: [(&str, &str); 17] = [
    (
        "expose",
        "machines of a network reach all ports of each other",
    ),
    ("init", "each machine has a process 1 that does that"),
    ("pull_policy", "mvm fetches no images"),
    ("shm_size", "/dev/shm may take half of the machine's memory"),
    (
        "logging",
        "what the program says is kept in files that do not grow for ever",
    ),
    ("mem_reservation", "memory is taken as it is used"),
    ("cap_add", OWN_KERNEL),
    ("cap_drop", OWN_KERNEL),
    ("privileged", OWN_KERNEL),
    ("security_opt", OWN_KERNEL),
    ("userns_mode", OWN_KERNEL),
    ("ipc", OWN_KERNEL),
    ("pid", OWN_KERNEL),
    ("uts", OWN_KERNEL),
    ("cgroup", OWN_KERNEL),
    ("isolation", OWN_KERNEL),
    ("runtime", OWN_KERNEL),
];

/// Converts a service, which is called `name` in its file.
pub fn convert(name: &str, service: &Section<'_>, yaml: &Yaml, known: &Known<'_>) -> Ordered {
    let mut converted = Ordered::default();
    if words::name(name) != name {
        let own = words::name(name);
        let place = service.place.clone();
        let message =
            format!("is called {own}, and {name} in its networks: mvm's names are hosts'");
        service.remarks.say(yaml, &place, message);
    }
    converted.put("image", image(name, service, yaml));
    converted.put_object("app", program::convert(service, known));
    if let Some(hostname) = service.text("hostname") {
        converted.put("hostname", words::text(hostname));
    }
    converted.put("labels", labels(service));
    converted.put("kernel", kernel(service));
    resources::convert(service, &mut converted);
    mounts::convert(service, known, &mut converted);
    converted.put("root", tmpfs::root(service));
    converted.put("ports", ports(service));
    names::convert(service, &mut converted);
    converted.put("healthcheck", healthcheck(service));
    converted.put("restart", restart(service));
    converted.put("dependsOn", depends_on(service));
    networks(name, service, known, &mut converted);
    converted.put("profiles", service.texts("profiles"));
    service.leave_if("platform", |text| ["linux/amd64", "linux"].contains(&text));
    for (key, why) in LEFT {
        service.leave(key, why);
    }
    converted
}

fn image(name: &str, service: &Section<'_>, yaml: &Yaml) -> String {
    let image = service.text("image").map(words::text);
    let file = words::image_file(image.as_deref().unwrap_or(name));
    let how = match &image {
        Some(image) => format!("`docker save {image} -o {file}` makes it"),
        None => format!("`docker build` and `docker save … -o {file}` make it"),
    };
    if let Some(build) = service.take("build") {
        let message = format!("is not converted: mvm builds no images; {how}");
        service.say("build", build, message);
    } else {
        let at = service.take("image").unwrap_or(yaml);
        service.say("image", at, format!("is read from {file}; {how}"));
    }
    file
}

/// Names and texts, of a mapping or of a list of `NAME=TEXT`.
pub fn pairs<'a>(service: &Section<'a>, key: &str) -> Vec<(&'a str, Option<&'a str>)> {
    let Some(yaml) = service.take(key) else {
        return Vec::new();
    };
    let mut pairs = Vec::new();
    let mut add = |yaml: &Yaml, name: &'a str, value: &'a yaml::Value| match value {
        yaml::Value::Text(text) => pairs.push((name, Some(text.as_str()))),
        yaml::Value::Null => pairs.push((name, None)),
        _ => service.say(key, yaml, "is not converted: it is no text"),
    };
    match &yaml.value {
        yaml::Value::Map(entries) => {
            for (name, value) in entries {
                add(value, name, &value.value);
            }
        }
        _ => {
            for item in service.texts(key) {
                pairs.push(match item.split_once('=') {
                    Some((name, text)) => (name, Some(text)),
                    None => (item, None),
                });
            }
        }
    }
    pairs
}

/// `sysctls`, which the kernel takes on its command line.
fn kernel(service: &Section<'_>) -> Value {
    let sysctls = pairs(service, "sysctls").into_iter();
    let parameters = sysctls.map(|(name, value)| {
        let value = words::text(value.unwrap_or_default());
        let quote = if value.contains(' ') { "\"" } else { "" };
        format!("sysctl.{name}={quote}{value}{quote}")
    });
    let cmdline: Vec<_> = parameters.collect();
    if cmdline.is_empty() {
        return Value::Null;
    }
    json!({ "cmdline": cmdline.join(" ") })
}

fn labels(service: &Section<'_>) -> Value {
    let labels = pairs(service, "labels").into_iter();
    let labels =
        labels.map(|(name, text)| (name.to_owned(), words::text(text.unwrap_or("")).into()));
    labels.collect::<Map<_, Value>>().into()
}

fn ports(service: &Section<'_>) -> Vec<String> {
    let Some(yaml) = service.take("ports") else {
        return Vec::new();
    };
    let place = service.at("ports");
    let mut ports = Vec::new();
    for (nth, item) in yaml.items().iter().enumerate() {
        let place = place.clone().index(nth);
        let port = match &item.value {
            yaml::Value::Text(text) => short_port(text),
            _ => long_port(item, place.clone(), service),
        };
        if port.is_none() {
            let message = "is not converted: it is no port that mvm has";
            service.remarks.say(item, &place, message);
        }
        ports.extend(port);
    }
    ports
}

/// `[[ADDRESS:]HOST:]GUEST[/PROTOCOL]`. Docker's are open to all unless an address says otherwise.
fn short_port(text: &str) -> Option<String> {
    let (rest, protocol) = match text.rsplit_once('/') {
        None | Some((_, "tcp")) => (text.strip_suffix("/tcp").unwrap_or(text), ""),
        Some((rest, "udp")) => (rest, "/udp"),
        Some(_) => return None,
    };
    let parts = words::split(rest);
    let (guest, rest) = parts.split_last()?;
    let (address, host) = match rest.split_last() {
        None => ("0.0.0.0".into(), ""),
        Some((host, [])) => ("0.0.0.0".into(), *host),
        // An address of IPv6 has colons itself.
        Some((host, address)) => (address.join(":"), *host),
    };
    Some(words::text(&format!("{address}:{host}:{guest}{protocol}")))
}

/// What a port is told from others by: the short form of one in either form.
pub fn port_of(item: &Yaml) -> Option<String> {
    let text = |key| item.get(key).and_then(Yaml::text);
    if let Some(short) = item.text() {
        return short_port(short);
    }
    let host = text("published").unwrap_or("");
    let address = text("host_ip").unwrap_or("0.0.0.0");
    let protocol = text("protocol").unwrap_or("tcp");
    short_port(&format!("{address}:{host}:{}/{protocol}", text("target")?))
}

fn long_port(item: &Yaml, place: Place, service: &Section<'_>) -> Option<String> {
    let port = Section::of(item, place, service.remarks);
    let guest = port.text("target")?;
    let host = port.text("published").unwrap_or("");
    let address = port.text("host_ip").unwrap_or("0.0.0.0");
    let protocol = match port.text("protocol") {
        None | Some("tcp") => "",
        Some("udp") => "/udp",
        Some(_) => return None,
    };
    let text = format!("{address}:{host}:{guest}{protocol}");
    // Of one host there is one mode.
    port.take("mode");
    port.take("name");
    port.take("app_protocol");
    port.finish();
    Some(words::text(&text))
}

fn healthcheck(service: &Section<'_>) -> Value {
    let Some(check) = service.section("healthcheck") else {
        return Value::Null;
    };
    let test = check.take("test");
    if check.flag("disable") || test.is_some_and(is_none) {
        // Docker minds nothing else of it.
        check.take_all();
        return json!({ "disable": true });
    }
    let texts: Vec<&str> = test
        .into_iter()
        .flat_map(Yaml::items)
        .filter_map(Yaml::text)
        .collect();
    let is_list = test.is_some_and(|test| test.text().is_none());
    let exec: Vec<String> = match (&texts[..], is_list) {
        (["CMD", command @ ..], true) => command.iter().map(|word| words::text(word)).collect(),
        (["CMD-SHELL", line], true) | ([line], false) => {
            vec!["/bin/sh".into(), "-c".into(), words::text(line)]
        }
        _ => Vec::new(),
    };
    let mut converted = Map::new();
    let keys = [
        ("interval", "interval"),
        ("timeout", "timeout"),
        ("start_period", "startPeriod"),
    ];
    for (key, own) in keys {
        if let Some(time) = check.read(key, "a duration such as 1m30s", words::duration) {
            converted.insert(own.into(), time.into());
        }
    }
    if let Some(retries) = check.read("retries", "a number", |text| text.parse::<u32>().ok()) {
        converted.insert("retries".into(), retries.max(1).into());
    }
    check.leave(
        "start_interval",
        "in the start period a check comes each second",
    );
    check.finish();
    if exec.is_empty() {
        if let Some(yaml) = service.take("healthcheck") {
            let message = "is not converted: a check of the image cannot be changed in part";
            service.say("healthcheck", yaml, message);
        }
        return Value::Null;
    }
    converted.insert("exec".into(), exec.into());
    converted.into()
}

/// Whether a test says that there is none.
fn is_none(test: &Yaml) -> bool {
    test.items().first().and_then(Yaml::text) == Some("NONE")
}

fn restart(service: &Section<'_>) -> Value {
    let own = service.read("restart", "a policy that mvm has", |text| {
        let (policy, count) = text.split_once(':').unwrap_or((text, ""));
        let retries = match count {
            "" => None,
            count => Some(count.parse::<u32>().ok()?),
        };
        ["no", "on-failure", "always", "unless-stopped"]
            .contains(&policy)
            .then(|| match retries {
                Some(retries) => json!({ "policy": policy, "maxRetries": retries }),
                None => policy.into(),
            })
    });
    let of_deploy = resources::restart_policy(service, own.is_some());
    own.or(of_deploy).unwrap_or_default()
}

fn depends_on(service: &Section<'_>) -> Value {
    let links = service.texts("links");
    let linked = links
        .iter()
        .map(|link| link.split_once(':').map_or(*link, |(name, _)| name));
    let linked: Vec<_> = linked.map(words::name).collect();
    let Some(yaml) = service.take("depends_on") else {
        return linked.into();
    };
    if !matches!(yaml.value, yaml::Value::Map(_)) {
        let needs = service.texts("depends_on").into_iter();
        let mut needs: Vec<_> = needs.map(words::name).collect();
        for name in linked {
            if !needs.contains(&name) {
                needs.push(name);
            }
        }
        return needs.into();
    }
    let section = Section::of(yaml, service.at("depends_on"), service.remarks);
    let mut needs = Map::new();
    for (name, yaml) in section.take_all() {
        let need = Section::of(yaml, section.at(name), section.remarks);
        let condition = need.read("condition", "one that mvm has", |text| match text {
            "service_started" => Some("started"),
            "service_healthy" => Some("healthy"),
            "service_completed_successfully" => Some("completed"),
            _ => None,
        });
        if let Some(yaml) = need.take("required")
            && yaml.text().and_then(boolean) == Some(false)
        {
            need.say(
                "required",
                yaml,
                "is not converted: what is needed must be there",
            );
        }
        need.finish();
        needs.insert(words::name(name), condition.unwrap_or("started").into());
    }
    for name in linked {
        needs.entry(name).or_insert_with(|| "started".into());
    }
    needs.into()
}

/// Its networks; and what else it is called there: by its own name where it has another one here, by its
/// container's, and by those that others link to it by.
fn networks(name: &str, service: &Section<'_>, known: &Known<'_>, converted: &mut Ordered) {
    let mut own_aliases: Vec<String> = Vec::new();
    if words::name(name) != name {
        own_aliases.push(name.to_owned());
    }
    if let Some(container) = service.text("container_name") {
        own_aliases.push(words::text(container));
    }
    let linked = known.linked.get(name).into_iter().flatten();
    own_aliases.extend(linked.map(|alias| (*alias).to_owned()));
    own_aliases.retain(|alias| *alias != words::name(name));
    own_aliases.sort();
    own_aliases.dedup();
    let with_aliases = |aliases: Vec<String>| {
        let new = own_aliases.iter().filter(|own| !aliases.contains(own));
        let new: Vec<_> = new.cloned().collect();
        let aliases = [aliases, new].concat();
        if aliases.is_empty() {
            json!({})
        } else {
            json!({ "aliases": aliases })
        }
    };
    if let Some(mode) = service.take("network_mode") {
        match mode.text() {
            Some("none") => {
                converted.put_always("networks", json!([]));
                converted.put_always("interfaces", json!([]));
                return;
            }
            Some("bridge" | "default") => {}
            _ => service.say(
                "network_mode",
                mode,
                "is not converted: the service is in \"default\"",
            ),
        }
    }
    let Some(yaml) = service.take("networks") else {
        if !own_aliases.is_empty() {
            converted.put("networks", json!({ "default": with_aliases(Vec::new()) }));
        }
        return;
    };
    let mut networks = Map::new();
    if matches!(yaml.value, yaml::Value::Map(_)) {
        let section = Section::of(yaml, service.at("networks"), service.remarks);
        for (network, yaml) in section.take_all() {
            let member = Section::of(yaml, section.at(network), section.remarks);
            let aliases = member
                .texts("aliases")
                .into_iter()
                .map(words::text)
                .collect();
            for key in ["ipv4_address", "ipv6_address", "link_local_ips"] {
                member.leave(key, FOLLOWS);
            }
            member.finish();
            networks.insert(known.name("networks", network), with_aliases(aliases));
        }
    } else {
        for network in service.texts("networks") {
            networks.insert(known.name("networks", network), with_aliases(Vec::new()));
        }
    }
    converted.put("networks", networks);
}

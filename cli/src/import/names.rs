//! Names that a service knows, and whom it asks for others.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::ordered::Ordered;
use super::section::Section;
use super::words;
use super::yaml::{self, Yaml};

/// The host, as a container has it; a machine does not reach that by an address of its own.
const HOST: &str = "host-gateway";

/// Converts `extra_hosts` and what begins with `dns`.
pub fn convert(service: &Section<'_>, converted: &mut Ordered) {
    converted.put("hosts", hosts(service));
    let mut dns = Map::new();
    for (key, own) in [
        ("dns", "servers"),
        ("dns_search", "search"),
        ("dns_opt", "options"),
    ] {
        let texts = service.texts(key).into_iter();
        // As Docker has it that there is no domain.
        let texts = texts.filter(|text| (key, *text) != ("dns_search", "."));
        let texts: Vec<_> = texts.map(words::text).collect();
        if !texts.is_empty() {
            dns.insert(own.into(), texts.into());
        }
    }
    converted.put("dns", dns);
}

/// Names and addresses, of a mapping or of a list of `NAME:ADDRESS` or `NAME=ADDRESS`.
fn hosts(service: &Section<'_>) -> Map<String, Value> {
    let mut hosts: Map<String, Value> = Map::new();
    let Some(yaml) = service.take("extra_hosts") else {
        return hosts;
    };
    let mut add = |yaml: &Yaml, name: &str, address: &str| {
        let bare = address
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let address = bare.unwrap_or(address);
        if words::has_variable(name) {
            let message = "is not converted: its name has a variable, which no key of the file has";
            return service.say("extra_hosts", yaml, message);
        }
        if address == HOST {
            let message = "is not converted: a machine does not reach the host by an address";
            return service.say("extra_hosts", yaml, message);
        }
        if !words::has_variable(address) && address.parse::<IpAddr>().is_err() {
            let message = "is not converted: it is no name and its address";
            return service.say("extra_hosts", yaml, message);
        }
        let addresses = hosts
            .entry(name)
            .or_insert_with(|| Vec::<Value>::new().into());
        if let Some(addresses) = addresses.as_array_mut() {
            addresses.push(words::text(address).into());
        }
    };
    match &yaml.value {
        yaml::Value::Map(entries) => {
            for (name, addresses) in entries {
                for item in addresses.items() {
                    add(item, name, item.text().unwrap_or_default());
                }
            }
        }
        _ => {
            for item in yaml.items() {
                let text = item.text().unwrap_or_default();
                let (name, address) = words::split_once(text, &[':', '=']).unwrap_or((text, ""));
                add(item, name, address);
            }
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::super::tests::{converted_text, remarks_of};

    #[test]
    fn variables_are_whole_words_of_names_addresses_and_folders() {
        let imported = converted_text(
            "services:\n  a:\n    image: a\n    extra_hosts:\n      - \"db:${DB:-10.0.0.1}\"\n      \
             - \"${WEB:-web}:10.0.0.2\"\n    tmpfs: ${TMP:-/tmp}:size=1m\n",
        );
        let file: serde_json::Value = serde_json::from_str(&imported.text).unwrap();
        let service = &file["services"]["a"];
        assert_eq!(
            service["hosts"],
            serde_json::json!({ "db": ["${DB:-10.0.0.1}"] })
        );
        let folder = serde_json::json!([{ "mountPoint": "${TMP:-/tmp}", "size": "1M" }]);
        assert_eq!(service["tmpfs"], folder);
        let remarks = remarks_of(&imported);
        let place = "a.yml:6:9: services.a.extra_hosts: is not converted: its name has a variable";
        assert!(
            remarks.lines().any(|line| line.starts_with(place)),
            "{remarks}"
        );
    }
}

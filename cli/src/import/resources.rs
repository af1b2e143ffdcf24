//! What a service may use of the host, and how often it is there.

use serde_json::{Map, Value, json};

use super::ordered::Ordered;
use super::section::Section;
use super::words;

/// Least memory of a machine, in MiB: below, its kernel has no room.
const LEAST_MEMORY_MIB: u64 = 64;

/// What `deploy` says of services that are on several hosts.
const SWARM: [&str; 6] = [
    "mode",
    "placement",
    "update_config",
    "rollback_config",
    "endpoint_mode",
    "labels",
];

/// Converts `cpus`, `mem_limit` and the like, and what `deploy` says of them.
pub fn convert(service: &Section<'_>, converted: &mut Ordered) {
    let deploy = service.section("deploy");
    let resources = deploy
        .as_ref()
        .and_then(|deploy| deploy.section("resources"));
    let limits = resources
        .as_ref()
        .and_then(|resources| resources.section("limits"));
    // What `deploy` says wins.
    let number = |key: &str, own: &str, read: fn(&str) -> Option<u64>| {
        let wanted = "a number that mvm has";
        let own = service.read(own, wanted, read);
        let limit = limits
            .as_ref()
            .and_then(|limits| limits.read(key, wanted, read));
        limit.or(own)
    };
    let percent = number("cpus", "cpus", words::cpu_percent);
    let memory = number("memory", "mem_limit", words::mebibytes);
    let pids = number("pids", "pids_limit", threads);
    let mut own = Map::new();
    if let Some(percent) = percent {
        converted.put("vcpus", percent.div_ceil(100));
        if !percent.is_multiple_of(100) {
            own.insert("cpu".into(), format!("{percent}%").into());
        }
    }
    if let Some(memory) = memory {
        converted.put("memory", format!("{}M", memory.max(LEAST_MEMORY_MIB)));
    }
    if let Some(pids) = pids.filter(|pids| *pids > 0) {
        own.insert("pids".into(), pids.into());
    }
    if let Some(cpus) = service.text("cpuset") {
        own.insert("cpus".into(), cpus.into());
    }
    converted.put("limits", own);
    let count = |text: &str| text.parse::<u32>().ok();
    let of_deploy = deploy.as_ref();
    let replicas = of_deploy.and_then(|deploy| deploy.read("replicas", "a number", count));
    converted.put(
        "scale",
        service.read("scale", "a number", count).or(replicas),
    );
    if let Some(deploy) = &deploy {
        // Taken by whoever reads the policy.
        deploy.take("restart_policy");
    }
    if let Some(deploy) = &deploy {
        for key in SWARM {
            deploy.leave(key, "it is for hosts of a swarm");
        }
    }
    for section in [limits, resources, deploy].into_iter().flatten() {
        section.finish();
    }
}

/// A number of threads; 0 is no limit, as everything below it.
fn threads(text: &str) -> Option<u64> {
    let number: i64 = text.parse().ok()?;
    u64::try_from(number.max(0)).ok()
}

/// What `deploy` says of starting it again, unless the service has said it.
pub fn restart_policy(service: &Section<'_>, is_said: bool) -> Option<Value> {
    let deploy = service.section("deploy")?;
    if let Some(yaml) = deploy.take("restart_policy").filter(|_| is_said) {
        deploy.say(
            "restart_policy",
            yaml,
            "is not converted: `restart` says something else",
        );
        return None;
    }
    let policy = deploy.section("restart_policy")?;
    let condition = policy.read("condition", "any, on-failure or none", |text| match text {
        "any" => Some("always"),
        "on-failure" => Some("on-failure"),
        "none" => Some("no"),
        _ => None,
    });
    let condition = condition.unwrap_or("always");
    let mut restart = json!({ "policy": condition });
    if let Some(most) = policy.read("max_attempts", "a number", |text| text.parse::<u32>().ok()) {
        if condition == "on-failure" {
            restart["maxRetries"] = most.into();
        } else if let Some(yaml) = policy.take("max_attempts") {
            policy.say(
                "max_attempts",
                yaml,
                "is not converted: only on-failure has a most",
            );
        }
    }
    if let Some(delay) = policy.read("delay", "a duration such as 5s", words::duration) {
        restart["delay"] = delay.into();
    }
    policy.finish();
    Some(restart)
}

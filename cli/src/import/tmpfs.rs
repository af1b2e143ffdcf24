//! Folders in memory.

use serde_json::{Value, json};

use super::section::{Section, boolean};
use super::words;
use super::yaml::Yaml;

/// What a machine's folders in memory are in any case, or need not be told.
const GIVEN: [&str; 5] = ["rw", "exec", "nosuid", "nodev", "mode=1777"];

/// Those of the key `tmpfs`, each a path and maybe options.
pub fn convert(service: &Section<'_>) -> Vec<Value> {
    let items = service.take("tmpfs").into_iter().flat_map(Yaml::items);
    let items = items.filter_map(|item| Some((item, item.text()?)));
    items
        .map(|(item, text)| {
            let (place, options) = text.split_once(':').unwrap_or((text, ""));
            let mut size = None;
            for option in options.split(',').filter(|option| !option.is_empty()) {
                let read = option.strip_prefix("size=").and_then(words::mebibytes);
                if read.is_none() && !GIVEN.contains(&option) {
                    let message = format!("its option {option} is not converted");
                    service.say("tmpfs", item, message);
                }
                size = read.or(size);
            }
            folder(place, size)
        })
        .collect()
}

/// One of the key `volumes`.
pub fn of_volume(target: &str, volume: &Section<'_>) -> Value {
    let size = volume.section("tmpfs").and_then(|tmpfs| {
        let size = tmpfs.read("size", "a size such as 64m", words::mebibytes);
        tmpfs.leave_if("mode", |mode| mode.trim_start_matches("0o") == "1777");
        tmpfs.finish();
        size
    });
    folder(target, size)
}

/// One that holds so many MiB, or half of memory.
pub fn folder(place: &str, mebibytes: Option<u64>) -> Value {
    let place = words::text(place);
    match mebibytes {
        Some(size) => json!({ "mountPoint": place, "size": format!("{}M", size.max(1)) }),
        None => place.into(),
    }
}

/// The root that nothing is written to, if the service has such a one.
pub fn root(service: &Section<'_>) -> Value {
    if service.flag("read_only") {
        json!({ "readOnly": true })
    } else {
        Value::Null
    }
}

/// Whether it has.
pub fn is_read_only(service: &Section<'_>) -> bool {
    let text = service.get("read_only").and_then(Yaml::text);
    text.and_then(boolean) == Some(true)
}

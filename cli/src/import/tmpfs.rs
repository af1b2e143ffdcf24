//! Folders in memory.

use serde_json::{Value, json};
use vmm::app::TmpfsSize;

use super::section::{Section, boolean};
use super::words;
use super::yaml::Yaml;
use crate::tmpfs;

/// Those of the key `tmpfs`, each a path and maybe options.
pub fn convert(service: &Section<'_>) -> Vec<Value> {
    let items = service.take("tmpfs").into_iter().flat_map(Yaml::items);
    let items = items.filter_map(|item| Some((item, item.text()?)));
    items
        .map(|(item, text)| {
            let (place, options) = words::split_once(text, &[':']).unwrap_or((text, ""));
            let size = tmpfs::size(options, |option, why| {
                let message = format!("its option {option} is not converted: {why}");
                service.say("tmpfs", item, message);
            });
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
        size.map(|mebibytes| TmpfsSize::Kib(mebibytes.max(1).saturating_mul(1024)))
    });
    folder(target, size)
}

/// One that holds so much, or half of memory.
pub fn folder(place: &str, size: Option<TmpfsSize>) -> Value {
    let place = words::text(place);
    match size {
        Some(size) => json!({ "mountPoint": place, "size": size }),
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

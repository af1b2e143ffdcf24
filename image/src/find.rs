//! Files of a tree, by their paths in it: the few that the host itself has to look at.

use anyhow::{Context, Result, ensure};
use devices::virtio::fs::catalog::{Body, Catalog};

use crate::tree::ROOT;

/// Links that are followed to one name (`MAXSYMLINKS`).
const LINKS_MAX: usize = 40;

/// Bytes of a file that is read whole: a table of users.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What is at `path`, seen from the tree's root: its place in the list of nodes. Links are followed
/// within the tree.
fn find(catalog: &Catalog, path: &str) -> Option<usize> {
    let mut left: Vec<Vec<u8>> = path.split('/').rev().map(Vec::from).collect();
    let mut way = Vec::new();
    let mut links = 0;
    while let Some(name) = left.pop() {
        match &*name {
            b"" | b"." => continue,
            b".." => {
                way.pop();
                continue;
            }
            _ => {}
        }
        let here = way.last().copied().unwrap_or(ROOT);
        let Body::Directory(entries) = &catalog.nodes().get(here)?.body else {
            return None;
        };
        let found = entries
            .binary_search_by(|(is, _)| (**is).cmp(&*name))
            .ok()?;
        let place = entries[found].1 as usize;
        let Body::Link(target) = &catalog.nodes().get(place)?.body else {
            way.push(place);
            continue;
        };
        links += 1;
        if links > LINKS_MAX {
            return None;
        }
        if target.starts_with(b"/") {
            way.clear();
        }
        left.extend(target.rsplit(|byte| *byte == b'/').map(Vec::from));
    }
    Some(way.last().copied().unwrap_or(ROOT))
}

/// What is in the file at `path`.
fn body<'a>(catalog: &'a Catalog, path: &str) -> Option<&'a Body> {
    Some(&catalog.nodes().get(find(catalog, path)?)?.body)
}

/// Takes the names out of the folder at `path` that `hides` says.
pub fn hide(catalog: &mut Catalog, path: &str, hides: impl Fn(&str) -> bool) {
    if let Some(place) = find(catalog, path) {
        catalog.retain(place, |name| !std::str::from_utf8(name).is_ok_and(&hides));
    }
}

/// The text of the file at `path`; none where there is no file.
pub fn text(catalog: &Catalog, path: &str) -> Result<String> {
    let Some(Body::File(extent)) = body(catalog, path) else {
        return Ok(String::new());
    };
    ensure!(
        extent.bytes <= FILE_BYTES_MAX,
        "{path} of the image has more than {FILE_BYTES_MAX} bytes"
    );
    let bytes = catalog.read(extent);
    let bytes = bytes.with_context(|| format!("cannot read {path} of the image"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The names in the folder at `path`, those that are text.
pub fn names<'a>(catalog: &'a Catalog, path: &str) -> impl Iterator<Item = &'a str> {
    let entries = match body(catalog, path) {
        Some(Body::Directory(entries)) => entries.as_slice(),
        _ => &[],
    };
    let names = entries.iter().map(|(name, _)| std::str::from_utf8(name));
    names.filter_map(Result::ok)
}

/// The numbers of `user`, which is `user` or `user:group`, each a name or a number, by the tree's
/// `/etc/passwd` and `/etc/group`: passwd(5), group(5).
pub fn ids(catalog: &Catalog, user: &str) -> Result<(u32, u32)> {
    let passwd = text(catalog, "/etc/passwd")?;
    let (user, group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let number = user.parse::<u32>().ok();
    let entry = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let uid: u32 = fields.get(2)?.parse().ok()?;
        let gid: u32 = fields.get(3)?.parse().ok()?;
        (fields.first() == Some(&user) || number == Some(uid)).then_some((uid, gid))
    });
    let (uid, gid) = match (entry, number) {
        (Some(found), _) => found,
        (None, Some(uid)) => (uid, 0),
        (None, None) => anyhow::bail!("the image has no user {user:?} in /etc/passwd"),
    };
    let Some(group) = group else {
        return Ok((uid, gid));
    };
    let groups = text(catalog, "/etc/group")?;
    let entry = groups.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let gid = fields.get(2)?.parse::<u32>().ok()?;
        (fields.first() == Some(&group)).then_some(gid)
    });
    let gid = entry.or_else(|| group.parse().ok());
    let gid = gid.with_context(|| format!("the image has no group {group:?} in /etc/group"))?;
    Ok((uid, gid))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Cache;
    use crate::testing::{Layer, docker_archive};

    fn catalog(layer: Layer) -> Catalog {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let bytes = docker_archive(&[layer], &json!({}));
        let image = cache
            .read_stream(std::io::Cursor::new(bytes), None)
            .unwrap();
        cache.catalog(&image).unwrap().0
    }

    fn sample() -> Catalog {
        catalog(
            Layer::new()
                .file(
                    "data/users",
                    "root:x:0:0::/:/bin/sh\nApp.1:x:7:8::/:/bin/sh\n",
                )
                .link("etc", "/data")
                .link("data/passwd", "../../data/users")
                .file("data/group", "web:x:9:\n")
                .link("round", "round"),
        )
    }

    #[test]
    fn links_are_followed_in_the_tree() {
        let catalog = sample();
        assert!(
            text(&catalog, "/etc/passwd")
                .unwrap()
                .starts_with("root:x:0")
        );
        assert_eq!(text(&catalog, "/etc/hostname").unwrap(), "");
        assert_eq!(text(&catalog, "/round").unwrap(), "");
        let seen = |catalog: &Catalog| names(catalog, "/etc").collect::<Vec<_>>().join(" ");
        assert_eq!(seen(&catalog), "group passwd users");
        let mut catalog = catalog;
        hide(&mut catalog, "/etc", |name| name == "group");
        assert_eq!(seen(&catalog), "passwd users");
    }

    #[test]
    fn users_and_groups_are_the_images() {
        let catalog = sample();
        let ids = |user| ids(&catalog, user).map_err(|error| error.to_string());
        assert_eq!(ids("App.1"), Ok((7, 8)));
        assert_eq!(ids("7"), Ok((7, 8)));
        assert_eq!(ids("App.1:web"), Ok((7, 9)));
        assert_eq!(ids("1000:web"), Ok((1000, 9)));
        assert_eq!(ids("1000"), Ok((1000, 0)));
        assert_eq!(ids("1000:5"), Ok((1000, 5)));
        let no_user = "the image has no user \"nemo\" in /etc/passwd";
        assert_eq!(ids("nemo"), Err(no_user.into()));
        let no_group = "the image has no group \"nemo\" in /etc/group";
        assert_eq!(ids("7:nemo"), Err(no_group.into()));
    }
}

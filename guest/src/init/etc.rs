//! The files of `/etc` that programs cannot do without.
//!
//! The one thing to know: they are made from the setup alone, for a root that was empty. passwd(5),
//! group(5), hosts(5), resolv.conf(5), nsswitch.conf(5).

use std::fmt::Write;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, chown};

use crate::protocol::{Resolver, Setup, User};
use anyhow::{Context, Result};

/// Files, then DNS; without this file glibc's defaults differ between versions.
const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\n\
    hosts: files dns\nnetworks: files\nservices: files\nprotocols: files\n";

/// Writes them into the file system at `root`, and makes the users' homes.
pub(super) fn write(root: &str, setup: &Setup) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .create(format!("{root}/etc"))
        .context("cannot make folder /etc")?;
    for (path, content) in of_users(&setup.users).into_iter().chain(of_machine(setup)) {
        fs::write(format!("{root}{path}"), content)
            .with_context(|| format!("cannot write {path}"))?;
    }
    make_homes(root, setup)
}

/// Writes into the `/etc` of an image, which is the root: the machine's own names and addresses, and
/// of its users what the image says nothing of.
pub(super) fn complete(setup: &Setup) -> Result<()> {
    complete_at("", setup)
}

fn complete_at(root: &str, setup: &Setup) -> Result<()> {
    fs::create_dir_all(format!("{root}/etc")).context("cannot make folder /etc")?;
    let knows_users = fs::exists(format!("{root}/etc/passwd"))?;
    for (path, content) in of_users(&setup.users) {
        let path = format!("{root}{path}");
        if !fs::exists(&path)? {
            replace(&path, &content)?;
        }
    }
    for (path, content) in of_machine(setup) {
        replace(&format!("{root}{path}"), &content)?;
    }
    if knows_users {
        return Ok(());
    }
    make_homes(root, setup)
}

/// Writes a file anew: one of the image's may be a link to what a distribution's daemon would write.
fn replace(path: &str, content: &str) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::write(path, content),
    }
    .with_context(|| format!("cannot write {path}"))
}

/// The files that say who is who where there are `users` besides root and nobody: paths and contents.
pub fn of_users(users: &[User]) -> [(&'static str, String); 3] {
    [
        ("/etc/passwd", passwd(users)),
        ("/etc/group", group(users)),
        ("/etc/nsswitch.conf", NSSWITCH.into()),
    ]
}

fn of_machine(setup: &Setup) -> [(&'static str, String); 3] {
    let hostname = setup.hostname.as_deref().unwrap_or("localhost");
    [
        ("/etc/hosts", hosts(hostname, &setup.hosts)),
        ("/etc/hostname", format!("{hostname}\n")),
        ("/etc/resolv.conf", resolv_conf(&setup.resolver)),
    ]
}

fn make_homes(root: &str, setup: &Setup) -> Result<()> {
    for user in &setup.users {
        make_home(user, &format!("{root}{}", user.home))
            .with_context(|| format!("cannot make {}'s home {}", user.name, user.home))?;
    }
    Ok(())
}

fn make_home(user: &User, home: &str) -> Result<()> {
    if fs::exists(home)? {
        return Ok(());
    }
    if let Some((parents, _)) = home.rsplit_once('/') {
        fs::create_dir_all(format!("{parents}/"))?;
    }
    fs::DirBuilder::new().mode(0o700).create(home)?;
    chown(home, Some(user.uid), Some(user.gid))?;
    Ok(())
}

fn passwd(users: &[User]) -> String {
    let mut text = String::from("root:x:0:0:root:/root:/bin/sh\n");
    for User {
        name,
        uid,
        gid,
        home,
    } in users
    {
        let _ = writeln!(text, "{name}:x:{uid}:{gid}::{home}:/bin/sh");
    }
    text.push_str("nobody:x:65534:65534:nobody:/:/sbin/nologin\n");
    text
}

fn group(users: &[User]) -> String {
    let mut text = String::from("root:x:0:\ntty:x:5:\n");
    for User { name, gid, .. } in users {
        let _ = writeln!(text, "{name}:x:{gid}:");
    }
    text.push_str("nogroup:x:65534:\n");
    text
}

fn hosts(hostname: &str, others: &[(IpAddr, String)]) -> String {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost\n");
    if hostname != "localhost" {
        // As Debian does: the name resolves even where there is no network.
        let _ = writeln!(text, "127.0.1.1 {hostname}");
    }
    for (address, name) in others {
        let _ = writeln!(text, "{address} {name}");
    }
    text
}

fn resolv_conf(resolver: &Resolver) -> String {
    let mut text = String::new();
    for address in &resolver.servers {
        let _ = writeln!(text, "nameserver {address}");
    }
    for (word, list) in [("search", &resolver.search), ("options", &resolver.options)] {
        if !list.is_empty() {
            let _ = writeln!(text, "{word} {}", list.join(" "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Vec<User> {
        vec![User {
            name: "web".into(),
            uid: 1000,
            gid: 100,
            home: "/srv/web".into(),
        }]
    }

    #[test]
    fn users_stand_between_root_and_nobody() {
        assert_eq!(
            passwd(&users()),
            "root:x:0:0:root:/root:/bin/sh\n\
             web:x:1000:100::/srv/web:/bin/sh\n\
             nobody:x:65534:65534:nobody:/:/sbin/nologin\n"
        );
        assert_eq!(
            group(&users()),
            "root:x:0:\ntty:x:5:\nweb:x:100:\nnogroup:x:65534:\n"
        );
    }

    #[test]
    fn the_host_name_resolves_and_those_that_are_given() {
        let db = ("10.0.0.7".parse().unwrap(), "db".into());
        assert_eq!(
            hosts("box", &[db]),
            "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 box\n10.0.0.7 db\n"
        );
        let localhost = hosts("localhost", &[]);
        assert_eq!(localhost, "127.0.0.1 localhost\n::1 localhost\n");
    }

    #[test]
    fn an_image_keeps_its_users_and_gets_the_machines_names() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        let etc = folder.path().join("etc");
        fs::create_dir(&etc).unwrap();
        fs::write(etc.join("passwd"), "app:x:7:7::/:/bin/sh\n").unwrap();
        fs::write(etc.join("hosts"), "of the image").unwrap();
        let outside = folder.path().join("outside");
        fs::write(&outside, "not to be written").unwrap();
        std::os::unix::fs::symlink("../outside", etc.join("resolv.conf")).unwrap();
        std::os::unix::fs::symlink("/no/where", etc.join("hostname")).unwrap();
        let setup = Setup {
            hostname: Some("box".into()),
            users: users(),
            resolver: Resolver {
                servers: vec!["::1".parse().unwrap()],
                ..Resolver::default()
            },
            ..Setup::default()
        };
        complete_at(root, &setup).unwrap();
        let read = |name| fs::read_to_string(etc.join(name)).unwrap();
        assert_eq!(read("passwd"), "app:x:7:7::/:/bin/sh\n");
        assert_eq!(read("group"), group(&users()));
        assert_eq!(read("hosts"), hosts("box", &[]));
        assert_eq!(read("hostname"), "box\n");
        assert_eq!(read("resolv.conf"), "nameserver ::1\n");
        assert_eq!(fs::read_to_string(outside).unwrap(), "not to be written");
        assert!(!folder.path().join("srv").exists());
    }

    #[test]
    fn each_name_server_has_a_line() {
        let mut resolver = Resolver {
            servers: ["10.0.2.3", "::1"].map(|one| one.parse().unwrap()).into(),
            ..Resolver::default()
        };
        let servers = "nameserver 10.0.2.3\nnameserver ::1\n";
        assert_eq!(resolv_conf(&resolver), servers);
        resolver.search = vec!["a.example".into(), "example".into()];
        resolver.options = vec!["ndots:2".into()];
        let expected = format!("{servers}search a.example example\noptions ndots:2\n");
        assert_eq!(resolv_conf(&resolver), expected);
    }

    #[test]
    fn a_home_is_made_with_its_parents_and_kept_if_it_exists() {
        let folder = tempfile::tempdir().unwrap();
        let ids = rustix::process::getuid().as_raw();
        let home = format!("{}/home/web", folder.path().display());
        let user = User {
            name: "web".into(),
            uid: ids,
            gid: rustix::process::getgid().as_raw(),
            home: home.clone(),
        };
        make_home(&user, &user.home).unwrap();
        fs::write(format!("{home}/file"), "kept").unwrap();
        make_home(&user, &user.home).unwrap();
        assert_eq!(fs::read_to_string(format!("{home}/file")).unwrap(), "kept");
    }
}

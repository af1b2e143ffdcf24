//! Who a program runs as, from `/etc/passwd` and `/etc/group`.
//!
//! The one thing to know: the files are read by hand, since a static program has no NSS (glibc's
//! `getpwnam` loads shared libraries). passwd(5), group(5). Leaves out shadow and LDAP.

use anyhow::{Context, Result, bail};

use crate::protocol::Bounds;

/// A user, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    /// Login name, if the user has an entry.
    pub(super) name: Option<String>,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Supplementary groups.
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

impl Account {
    /// The superuser, without a look into any file.
    pub(super) fn root() -> Self {
        Self {
            name: Some("root".into()),
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            home: "/root".into(),
        }
    }

    /// `name`, `uid`, `name:group` or `uid:gid`, looked up in this machine's files, as are the
    /// groups of `bounds` that it has besides; but what `bounds` has as numbers alone.
    pub(super) fn find(user: &str, bounds: &Bounds) -> Result<Self> {
        // Files that are missing or unreadable have no entries.
        let read = |path| std::fs::read(path).unwrap_or_default();
        let passwd = read("/etc/passwd");
        let group = read("/etc/group");
        let group = String::from_utf8_lossy(&group);
        let passwd = String::from_utf8_lossy(&passwd);
        let mut account = if bounds.is_numbered {
            Self::numbered(user, &passwd)?
        } else {
            Self::resolve(user, &passwd, &group)?
        };
        account.join(bounds, &group)?;
        Ok(account)
    }

    /// Adds groups by their names or numbers, each once.
    fn join(&mut self, bounds: &Bounds, group: &str) -> Result<()> {
        let named = bounds.groups.iter().map(|word| group_of(group, word));
        for gid in named.chain(bounds.gids.iter().copied().map(Ok)) {
            let gid = gid?;
            if !self.groups.contains(&gid) {
                self.groups.push(gid);
            }
        }
        Ok(())
    }

    /// `uid:gid`, of which only the home and the name are looked up.
    fn numbered(user: &str, passwd: &str) -> Result<Self> {
        let ids = user.split_once(':');
        let ids = ids.and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
        let (uid, gid) = ids.with_context(|| format!("{user:?} is no uid:gid"))?;
        Ok(Self {
            gid,
            ..Self::of_uid(passwd, uid)
        })
    }

    /// The user with that number.
    fn of_uid(passwd: &str, uid: u32) -> Self {
        let named = entries(passwd).find(|account| account.uid == uid);
        named.unwrap_or(Self {
            name: None,
            uid,
            // As container engines do: a number without an entry has root's group.
            gid: 0,
            groups: Vec::new(),
            home: "/".into(),
        })
    }

    fn resolve(user: &str, passwd: &str, group: &str) -> Result<Self> {
        let (user, group_word) = match user.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (user, None),
        };
        let mut account = match (entry(passwd, user), user.parse::<u32>()) {
            (Some(account), _) => account,
            (None, Ok(uid)) => Self::of_uid(passwd, uid),
            (None, Err(_)) if user == "root" => Self::root(),
            (None, Err(_)) => bail!("there is no user {user:?} in /etc/passwd"),
        };
        if let Some(word) = group_word {
            account.gid = group_of(group, word)?;
        } else if let Some(name) = &account.name {
            account.groups = memberships(group, name);
        }
        Ok(account)
    }
}

fn entry(passwd: &str, name: &str) -> Option<Account> {
    entries(passwd).find(|account| account.name.as_deref() == Some(name))
}

/// Lines `name:password:uid:gid:comment:home:shell`; others are passed over, as glibc does.
fn entries(passwd: &str) -> impl Iterator<Item = Account> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).filter(|home| !home.is_empty());
        Some(Account {
            name: Some(name.into()),
            uid,
            gid,
            groups: Vec::new(),
            home: home.unwrap_or("/").into(),
        })
    })
}

/// Lines `name:password:gid:member,member`, as (name, gid, members).
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

/// The number of a group by its name, or that number itself.
fn group_of(group: &str, word: &str) -> Result<u32> {
    let named = groups(group).find(|(name, ..)| *name == word);
    let gid = named.map(|(_, gid, _)| gid).or_else(|| word.parse().ok());
    gid.with_context(|| format!("there is no group {word:?} in /etc/group"))
}

fn memberships(group: &str, user: &str) -> Vec<u32> {
    groups(group)
        .filter(|(.., members)| members.split(',').any(|member| member == user))
        .map(|(_, gid, _)| gid)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        broken line\n\
        web:x:1000:100:Web,,,:/srv/web:/bin/sh\n\
        12:x:500:500::/twelve:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nvideo:x:44:root,web\naudio:x:29:webb\n";

    fn resolve(user: &str) -> Result<Account> {
        Account::resolve(user, PASSWD, GROUP)
    }

    fn web(gid: u32, groups: &[u32]) -> Account {
        Account {
            name: Some("web".into()),
            uid: 1000,
            gid,
            groups: groups.to_vec(),
            home: "/srv/web".into(),
        }
    }

    #[test]
    fn a_name_or_number_with_an_entry_gets_home_and_groups() {
        assert_eq!(resolve("web").unwrap(), web(100, &[44]));
        assert_eq!(resolve("1000").unwrap(), web(100, &[44]));
    }

    #[test]
    fn an_explicit_group_is_the_only_one() {
        assert_eq!(resolve("web:video").unwrap(), web(44, &[]));
        assert_eq!(resolve("1000:7").unwrap(), web(7, &[]));
    }

    #[test]
    fn groups_besides_are_names_or_numbers_each_once() {
        let join = |user, groups: &[&str]| {
            let mut account = resolve(user).unwrap();
            let bounds = Bounds {
                groups: groups.iter().map(|word| (*word).to_owned()).collect(),
                ..Bounds::default()
            };
            account.join(&bounds, GROUP).map(|()| account.groups)
        };
        assert_eq!(
            join("web", &["audio", "7", "44", "7"]).unwrap(),
            [44, 29, 7]
        );
        assert_eq!(join("web:users", &["video"]).unwrap(), [44]);
        let error = join("web", &["nemo"]).unwrap_err().to_string();
        assert_eq!(error, "there is no group \"nemo\" in /etc/group");
    }

    #[test]
    fn a_number_alone_is_no_name() {
        let group = format!("{GROUP}5:x:0:\n");
        let join = |bounds: &Bounds| {
            let mut account = resolve("web").unwrap();
            account.join(bounds, &group).map(|()| account.groups)
        };
        let gids = Bounds {
            gids: vec![5, 44],
            ..Bounds::default()
        };
        assert_eq!(join(&gids).unwrap(), [44, 5]);
        let names = Bounds {
            groups: vec!["5".into()],
            ..Bounds::default()
        };
        assert_eq!(join(&names).unwrap(), [44, 0]);
    }

    #[test]
    fn numbers_are_no_names_where_that_is_said() {
        let numbered = |user| Account::numbered(user, PASSWD);
        let account = numbered("12:12").unwrap();
        assert_eq!((account.uid, account.gid), (12, 12));
        assert_eq!((account.name, &*account.home), (None, "/"));
        assert_eq!(numbered("1000:7").unwrap(), web(7, &[]));
        for user in ["web:7", "12", "1000:users"] {
            assert!(numbered(user).is_err(), "{user}");
        }
    }

    #[test]
    fn a_name_wins_over_a_number() {
        assert_eq!(resolve("12").unwrap().uid, 500);
    }

    #[test]
    fn a_number_without_an_entry_is_taken_as_it_is() {
        let account = resolve("4000").unwrap();
        assert_eq!((account.uid, account.gid), (4000, 0));
        assert_eq!((account.name, account.home.as_str()), (None, "/"));
    }

    #[test]
    fn root_needs_no_files() {
        assert_eq!(Account::resolve("root", "", "").unwrap(), Account::root());
    }

    #[test]
    fn unknown_names_are_errors() {
        let user = resolve("nemo").unwrap_err().to_string();
        let group = resolve("web:nemo").unwrap_err().to_string();
        assert_eq!(user, "there is no user \"nemo\" in /etc/passwd");
        assert_eq!(group, "there is no group \"nemo\" in /etc/group");
    }
}

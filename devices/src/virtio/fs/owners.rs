//! Whose files the guest sees, and whose it makes.
//!
//! A user who is not root owns all that the guest makes, whoever makes it there. To the guest
//! these files belong to its program's user, so that a program finds its files its own (git,
//! `PostgreSQL` and ssh look), as in a container without root. The two numbers change places, so
//! that no two owners look like one: a file of the host's user with the program's number is shown
//! with the number of who runs mvm. Whether an owner may be set is then the host's decision, which
//! allows such a user only what changes nothing.
//!
//! Root can make files of any owner. Numbers mean the same on both sides then, as they do in a
//! container that root starts.

use rustix::fs::{Gid, Stat, Uid};
use rustix::io::Errno;

/// Owners of files in the guest and on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// The same numbers.
    Same,
    /// All that is made belongs to one user of the host.
    Own {
        /// That user and group.
        host: (u32, u32),
        /// What the guest calls them.
        guest: (u32, u32),
    },
}

impl Owners {
    /// The owners when the host's user `host` (user, group) runs the program of the guest's
    /// `guest`.
    #[must_use]
    pub fn new(host: (u32, u32), guest: (u32, u32)) -> Self {
        match host {
            (0, _) => Self::Same,
            _ => Self::Own { host, guest },
        }
    }

    /// Owner and group that the guest is shown.
    pub(super) fn shown(self, stat: &Stat) -> (u32, u32) {
        let shown = self.swap(stat.st_uid, stat.st_gid);
        (shown.0, shown.1)
    }

    /// Owner and group on the host for those that the guest sets, where it sets them.
    ///
    /// # Errors
    /// `EINVAL`: the number means nobody (`INVALID_UID`).
    pub(super) fn wanted(
        self,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Result<(Option<Uid>, Option<Gid>), Errno> {
        if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
            return Err(Errno::INVAL);
        }
        let host = self.swap(uid.unwrap_or(0), gid.unwrap_or(0));
        let uid = uid.map(|_| Uid::from_raw(host.0));
        let gid = gid.map(|_| Gid::from_raw(host.1));
        Ok((uid, gid))
    }

    fn swap(self, uid: u32, gid: u32) -> (u32, u32) {
        match self {
            Self::Same => (uid, gid),
            Self::Own { host, guest } => {
                (swapped(uid, host.0, guest.0), swapped(gid, host.1, guest.1))
            }
        }
    }
}

fn swapped(id: u32, one: u32, other: u32) -> u32 {
    match id {
        _ if id == one => other,
        _ if id == other => one,
        _ => id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_numbers_change_places_and_none_is_lost() {
        let owners = Owners::new((1000, 100), (0, 0));
        assert_eq!(owners.swap(1000, 100), (0, 0));
        assert_eq!(owners.swap(0, 0), (1000, 100));
        assert_eq!(owners.swap(33, 33), (33, 33));
        for id in [0, 1, 100, 1000, 65_534, u32::MAX] {
            let (uid, gid) = owners.swap(id, id);
            assert_eq!(owners.swap(uid, gid), (id, id));
        }
    }

    #[test]
    fn root_has_the_same_numbers() {
        assert_eq!(Owners::new((0, 0), (1000, 1000)), Owners::Same);
        assert_eq!(Owners::Same.swap(5, 6), (5, 6));
    }

    #[test]
    fn nobody_owns_nothing() {
        let owners = Owners::Same;
        assert_eq!(owners.wanted(Some(u32::MAX), None), Err(Errno::INVAL));
        assert_eq!(owners.wanted(None, Some(u32::MAX)), Err(Errno::INVAL));
        assert_eq!(owners.wanted(None, None), Ok((None, None)));
        let five = (Some(Uid::from_raw(5)), None);
        assert_eq!(owners.wanted(Some(5), None), Ok(five));
    }
}

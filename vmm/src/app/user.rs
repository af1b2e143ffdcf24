//! Who a program runs as: `app.user`.

/// Who a program runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The user itself.
    pub who: Id,
    /// Its group; without one, the user's own by the machine's `/etc/passwd`, else root's.
    pub group: Option<Id>,
}

/// A user or a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Id {
    /// A name that the machine's `/etc/passwd` or `/etc/group` has.
    Name(String),
    /// Its number.
    Number(u32),
}

impl User {
    /// All that can stand for a user; the names are those that `useradd` and `groupadd` take.
    pub const PATTERN: &str =
        "^([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10})(:([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10}))?$";

    /// The same in words.
    pub const ALLOWED: &str =
        "a user name or a uid, or either with a group such as name:group or uid:gid";

    /// User and group of a name that the machine knows from its app.json alone: where systems
    /// number their first user.
    const FIRST: u32 = 1000;

    /// User and group of `nobody`.
    const NOBODY: u32 = 65_534;

    /// The group of terminals, as the machine's `/etc/group` has it.
    const TTY: u32 = 5;

    /// User and group id that it has in the machine; a group that the machine does not know by its
    /// app.json is taken for the user's own.
    pub fn ids(&self) -> (u32, u32) {
        let (uid, own) = match &self.who {
            Id::Name(name) if name == "root" => (0, 0),
            Id::Name(name) if name == "nobody" => (Self::NOBODY, Self::NOBODY),
            Id::Name(_) => (Self::FIRST, Self::FIRST),
            // As the machine's `/etc/passwd` has it; who is not in there has root's group.
            Id::Number(Self::NOBODY) => (Self::NOBODY, Self::NOBODY),
            Id::Number(uid) => (*uid, 0),
        };
        let gid = match &self.group {
            None => own,
            Some(Id::Number(gid)) => *gid,
            Some(Id::Name(name)) => match name.as_str() {
                "root" => 0,
                "tty" => Self::TTY,
                "nogroup" => Self::NOBODY,
                _ => own,
            },
        };
        (uid, gid)
    }

    /// The name of the user that the machine has on account of this one, besides root and nobody.
    pub fn made(&self) -> Option<&str> {
        match &self.who {
            Id::Name(name) if name != "root" && name != "nobody" => Some(name),
            _ => None,
        }
    }
}

impl std::str::FromStr for User {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (who, group) = match text.split_once(':') {
            Some((who, group)) => (who, Some(group)),
            None => (text, None),
        };
        Ok(Self {
            who: who.parse()?,
            group: group.map(str::parse).transpose()?,
        })
    }
}

impl Id {
    /// All that can stand for one.
    pub(super) const PATTERN: &str = "^([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10})$";
}

impl std::str::FromStr for Id {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return number(text).map(Self::Number);
        }
        let is_name = text.len() <= 32
            && text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && text
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
        if is_name {
            Ok(Self::Name(text.into()))
        } else {
            Err(())
        }
    }
}

/// A user or group id. The largest number means "none" to the kernel (`INVALID_UID`).
fn number(text: &str) -> Result<u32, ()> {
    let is_plain = (1..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(id) if is_plain && id != u32::MAX => Ok(id),
        _ => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_group_are_names_or_numbers() {
        let name = |name: &str| Id::Name(name.into());
        for (text, who, group) in [
            ("www-data", name("www-data"), None),
            ("1000", Id::Number(1000), None),
            ("1000:0", Id::Number(1000), Some(Id::Number(0))),
            ("nobody:nogroup", name("nobody"), Some(name("nogroup"))),
            ("web:7", name("web"), Some(Id::Number(7))),
            ("7:users", Id::Number(7), Some(name("users"))),
        ] {
            assert_eq!(text.parse(), Ok(User { who, group }), "{text}");
        }
    }

    #[test]
    fn a_user_has_the_numbers_that_the_machine_knows_it_by() {
        let ids = |text: &str| text.parse::<User>().unwrap().ids();
        assert_eq!(ids("root"), (0, 0));
        assert_eq!(ids("nobody"), (65_534, 65_534));
        assert_eq!(ids("postgres"), (1000, 1000));
        assert_eq!(ids("33"), (33, 0));
        assert_eq!(ids("65534"), (65_534, 65_534));
        assert_eq!(ids("33:44"), (33, 44));
        assert_eq!(ids("nobody:nogroup"), (65_534, 65_534));
        assert_eq!(ids("33:tty"), (33, 5));
        assert_eq!(ids("web:root"), (1000, 0));
        assert_eq!(ids("web:web"), (1000, 1000));
    }

    #[test]
    fn what_is_no_user_is_refused() {
        for text in [
            "",
            "Root",
            "a b",
            "1000:",
            ":5",
            "4294967295",
            "1:4294967295",
            "1:A",
            "web:",
            "web: b",
            "web:a:b",
            "-1",
            "1:2:3",
        ] {
            assert_eq!(text.parse::<User>(), Err(()), "{text}");
        }
    }
}

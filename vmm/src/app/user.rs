//! Who a program runs as: `app.user`.

/// Who a program runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// A name that the machine's `/etc/passwd` has.
    Name(String),
    /// Numbers; without a group, the user's own by `/etc/passwd`, else root's.
    Id {
        /// User id.
        uid: u32,
        /// Group id.
        gid: Option<u32>,
    },
}

impl User {
    /// All that can stand for a user; the names are those that `useradd` takes.
    pub const PATTERN: &str = "^([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10}(:[0-9]{1,10})?)$";

    /// User and group of a name that the machine knows from its app.json alone: where systems
    /// number their first user.
    const FIRST: u32 = 1000;

    /// User and group of `nobody`.
    const NOBODY: u32 = 65_534;

    /// User and group id that it has in the machine.
    pub fn ids(&self) -> (u32, u32) {
        match self {
            Self::Name(name) if name == "root" => (0, 0),
            Self::Name(name) if name == "nobody" => (Self::NOBODY, Self::NOBODY),
            Self::Name(_) => (Self::FIRST, Self::FIRST),
            Self::Id { uid, gid } => {
                // As the machine's `/etc/passwd` has it; who is not in there has root's group.
                let known = if *uid == Self::NOBODY { *uid } else { 0 };
                (*uid, gid.unwrap_or(known))
            }
        }
    }
}

impl std::str::FromStr for User {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let (uid, gid) = match text.split_once(':') {
                Some((uid, gid)) => (uid, Some(gid)),
                None => (text, None),
            };
            return Ok(Self::Id {
                uid: id(uid)?,
                gid: gid.map(id).transpose()?,
            });
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
fn id(text: &str) -> Result<u32, ()> {
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
    fn a_user_is_a_name_or_numbers() {
        assert_eq!("www-data".parse(), Ok(User::Name("www-data".into())));
        assert_eq!(
            "1000".parse(),
            Ok(User::Id {
                uid: 1000,
                gid: None
            })
        );
        assert_eq!(
            "1000:0".parse(),
            Ok(User::Id {
                uid: 1000,
                gid: Some(0)
            })
        );
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
            "1:a",
            "-1",
            "1:2:3",
        ] {
            assert_eq!(text.parse::<User>(), Err(()), "{text}");
        }
    }
}

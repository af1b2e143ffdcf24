//! Signals by name, as in `app.stopSignal` and `mvm kill --signal`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};
use serde::{Serialize, Serializer};

use super::as_text;
use super::quote::quoted;

/// Signals that a program can be sent, by number from 1 (`signal(7)`, x86).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Other names of some.
const ALIASES: [(&str, u8); 3] = [("IOT", 6), ("CLD", 17), ("POLL", 29)];

/// The first of the real-time signals that the C library leaves to programs.
const RTMIN: u8 = 34;

/// The last of them.
const RTMAX: u8 = 64;

/// A signal of Linux, 1 to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(u8);

impl Signal {
    /// Which a program cannot take.
    pub const KILL: Self = Self(9);

    /// That asks a program to end.
    pub const TERM: Self = Self(15);

    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl std::str::FromStr for Signal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let number = |text: &str| -> Option<u8> {
            let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
            is_digits.then(|| text.parse().ok()).flatten()
        };
        let real_time = || match name.split_at_checked(5)? {
            ("RTMIN", "") => Some(RTMIN),
            ("RTMAX", "") => Some(RTMAX),
            ("RTMIN", more) => RTMIN.checked_add(number(more.strip_prefix('+')?)?),
            ("RTMAX", less) => RTMAX.checked_sub(number(less.strip_prefix('-')?)?),
            _ => None,
        };
        let named = || {
            let names = (1..).zip(NAMES).map(|(number, name)| (name, number));
            let mut names = names.chain(ALIASES);
            names
                .find(|(known, _)| *known == name)
                .map(|(_, signal)| signal)
        };
        let signal = number(text).or_else(real_time).or_else(named);
        signal
            .filter(|signal| (1..=RTMAX).contains(signal))
            .map(Self)
            .ok_or_else(|| {
                format!(
                    "must be a signal such as \"SIGTERM\", \"SIGRTMIN+3\" or \"15\", is {}",
                    quoted(text)
                )
            })
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nth = usize::from(self.0).wrapping_sub(1);
        match (NAMES.get(nth), self.0.checked_sub(RTMIN)) {
            (Some(name), _) => write!(f, "SIG{name}"),
            (None, Some(0)) => f.write_str("SIGRTMIN"),
            (None, Some(more)) => write!(f, "SIGRTMIN+{more}"),
            // Those that the C library keeps to itself have no name.
            (None, None) => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for Signal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Signal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        as_text::read(deserializer, "a signal such as \"SIGTERM\"")
    }
}

impl JsonSchema for Signal {
    fn schema_name() -> Cow<'static, str> {
        "Signal".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(SIG)?[A-Z0-9]+(\\+[0-9]+)?$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_a_number_and_names() {
        for (text, number, name) in [
            ("9", 9, "SIGKILL"),
            ("KILL", 9, "SIGKILL"),
            ("SIGTERM", 15, "SIGTERM"),
            ("usr1", 10, "SIGUSR1"),
            ("sys", 31, "SIGSYS"),
            ("33", 33, "33"),
            ("SIGRTMIN", 34, "SIGRTMIN"),
            ("SIGRTMIN+4", 38, "SIGRTMIN+4"),
            ("64", 64, "SIGRTMIN+30"),
            ("SIGRTMAX", 64, "SIGRTMIN+30"),
            ("RTMAX-14", 50, "SIGRTMIN+16"),
            ("SIGPOLL", 29, "SIGIO"),
        ] {
            let signal: Signal = text.parse().unwrap();
            assert_eq!((signal.number(), &*signal.to_string()), (number, name));
            assert_eq!(name.parse(), Ok(signal));
        }
        for text in [
            "",
            "0",
            "65",
            "SIG",
            "TERMS",
            "-1",
            "+1",
            "RTMIN+31",
            "RTMIN+255",
            "RTMIN+",
        ] {
            assert!(text.parse::<Signal>().is_err(), "{text}");
        }
    }
}

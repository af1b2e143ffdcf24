//! A unit of systemd's for one machine (`systemd.service(5)`).

use std::collections::BTreeSet;
use std::env;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use vmm::app::App;

use super::socket::sockets;

/// What the installed template and each generated unit have in common: how the service is started,
/// ended and confined.
const SERVICE: &str = include_str!("../../../systemd/service.conf");

/// Only the system's manager can keep programs from devices.
const DEVICES: &str = include_str!("../../../systemd/devices.conf");

/// Beyond the program's own time, until systemd ends all of it.
const SPARE_TIME: Duration = Duration::from_secs(20);

/// Variables that say where mvm finds what it needs; a service has none of the user's.
const VARIABLES: [&str; 7] = [
    "MVM_ACCEL",
    "MVM_KERNEL",
    "MVM_HOME",
    "MVM_RUNTIME_DIR",
    "MVM_STATE_DIR",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
];

/// Which systemd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    /// Process 1.
    System,
    /// The user's.
    User,
}

impl Manager {
    /// Where the administrator, or the user, puts units.
    pub fn folder(self) -> Result<PathBuf> {
        if self == Self::System {
            return Ok("/etc/systemd/system".into());
        }
        let folder = |name| env::var_os(name).map(PathBuf::from);
        let home = || folder("HOME").map(|home| home.join(".config"));
        let config = folder("XDG_CONFIG_HOME").or_else(home);
        let config = config.context("cannot tell where units are: $HOME is not set")?;
        Ok(config.join("systemd/user"))
    }

    /// What `systemctl` is told.
    pub fn flag(self) -> &'static str {
        match self {
            Self::System => "",
            Self::User => "--user ",
        }
    }
}

/// A unit; its text is what it prints as.
pub struct Unit<'a> {
    /// The machine.
    pub name: &'a str,
    /// What runs it in the foreground.
    pub command: &'a [String],
    /// Whose it is.
    pub manager: Manager,
    /// What the machine is made from.
    pub app: &'a App,
}

impl Unit<'_> {
    /// The file's name.
    pub fn file_name(&self) -> String {
        format!("mvm-{}.service", self.name)
    }
}

impl Unit<'_> {
    /// Those that the machine's secrets are.
    fn credentials(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secrets = self.app.secrets.values();
        let names: BTreeSet<_> = secrets
            .filter_map(|secret| secret.load_credential.as_deref())
            .collect();
        if !names.is_empty() {
            writeln!(
                f,
                "# From /etc/credstore; LoadCredential=NAME:PATH and SetCredential=NAME:VALUE say otherwise."
            )?;
        }
        names
            .into_iter()
            .try_for_each(|name| writeln!(f, "LoadCredential={name}"))
    }
}

impl fmt::Display for Unit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command: Vec<_> = self.command.iter().map(|text| word(text)).collect();
        writeln!(
            f,
            "# {}, made by `mvm generate systemd`\n",
            self.file_name()
        )?;
        writeln!(f, "[Unit]\nDescription=Machine {}", self.name)?;
        if self.manager == Manager::System {
            writeln!(
                f,
                "Wants=network-online.target\nAfter=network-online.target"
            )?;
        }
        writeln!(f, "\n[Service]\nExecStart={}", command.join(" "))?;
        for name in VARIABLES {
            if let Ok(value) = env::var(name) {
                writeln!(f, "Environment={}", word(&format!("{name}={value}")))?;
            }
        }
        for socket in sockets(self.name, self.app) {
            writeln!(f, "Sockets={}", socket.file_name())?;
        }
        self.credentials(f)?;
        if let Some(slice) = &self.app.limits.slice {
            writeln!(f, "Slice={slice}")?;
        }
        f.write_str(SERVICE)?;
        if let Some(timeout) = self.app.program().stop_timeout {
            let all = Duration::from(timeout) + SPARE_TIME;
            writeln!(f, "TimeoutStopSec={}", all.as_secs())?;
        }
        if let Some(signal) = self.app.program().stop_signal {
            writeln!(f, "SuccessExitStatus={}", 128 + u32::from(signal.number()))?;
        }
        let target = match self.manager {
            Manager::System => {
                f.write_str(DEVICES)?;
                "multi-user.target"
            }
            Manager::User => "default.target",
        };
        writeln!(f, "\n[Install]\nWantedBy={target}")
    }
}

/// One word of a command line or an environment (`systemd.service(5)`, "Command lines").
fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-=,:+@".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    let mut word = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => word.extend(['\\', c]),
            '\n' => word.push_str("\\n"),
            // Specifiers and variables of systemd's own.
            '%' | '$' => word.extend([c, c]),
            _ => word.push(c),
        }
    }
    word + "\""
}

#[cfg(test)]
mod tests {
    use vmm::app::Secret;

    use super::*;

    #[test]
    fn a_word_is_one_whatever_is_in_it() {
        for (text, expected) in [
            ("/etc/mvm/web.json", "/etc/mvm/web.json"),
            ("", r#""""#),
            ("/a b", r#""/a b""#),
            (r#"50%"$HOME\"#, r#""50%%\"$$HOME\\""#),
        ] {
            assert_eq!(word(text), expected);
        }
    }

    #[test]
    fn each_manager_gets_what_it_can_keep() {
        let command = ["/usr/bin/mvm", "run", "/srv/my app.json"].map(String::from);
        let mut app = App::new("web", vec!["sh".into()]);
        app.ports = vec!["systemd:http:80".parse().unwrap()];
        app.limits.slice = Some("web.slice".into());
        app.app.stop_timeout = Some(vmm::app::Duration::from_secs(60));
        app.app.stop_signal = "INT".parse().ok();
        for (name, credential) in [("one", "key"), ("two", "key"), ("three", "token")] {
            let secret = Secret {
                load_credential: Some(credential.into()),
                ..Secret::default()
            };
            app.secrets.insert(name.into(), secret);
        }
        let unit = |manager| {
            let command = &command;
            let unit = Unit {
                name: "web",
                command,
                manager,
                app: &app,
            };
            unit.to_string()
        };
        let (system, user) = (unit(Manager::System), unit(Manager::User));
        for unit in [&system, &user] {
            assert!(
                unit.contains("\nExecStart=/usr/bin/mvm run \"/srv/my app.json\"\n"),
                "{unit}"
            );
            assert!(
                unit.contains("\nType=notify\n") && unit.contains("\nDelegate=yes\n"),
                "{unit}"
            );
        }
        assert!(system.contains("\nSockets=mvm-web-http.socket\n"));
        assert!(system.contains("\nLoadCredential=key\nLoadCredential=token\n"));
        assert!(system.contains("\nSlice=web.slice\n"));
        assert!(system.contains("\nTimeoutStopSec=80\nSuccessExitStatus=130\n"));
        assert!(system.contains("\nDeviceAllow=/dev/kvm rw\n"));
        assert!(!user.contains("Device"));
        assert!(user.ends_with("\n[Install]\nWantedBy=default.target\n"));
    }

    #[test]
    fn the_installed_template_says_the_same() {
        let template = include_str!("../../../systemd/mvm@.service");
        assert!(
            template.contains(&format!("{SERVICE}{DEVICES}")),
            "{template}"
        );
    }
}

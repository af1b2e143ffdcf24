//! One more process of a container: what `exec` is told of it, and what is done instead.
//!
//! The one thing to know: the process in the container is a client of the monitor. It is the monitor's
//! user, which alone may connect to that, and has the environment that the program in the machine is to
//! have; so that is on nobody's command line.

use anyhow::{Context, Result};
use guest::protocol::Bounds;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::INSIDE;
use super::container::{Container, Process};

/// What the client is told of the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Who it runs as: user and group.
    pub user: String,
    /// The folder that it starts in.
    pub cwd: String,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// What it may do.
    pub bounds: Bounds,
}

/// What runc is to run instead of `process` in that container.
///
/// # Errors
/// It is no process.
pub fn rewrite(mut process: Value, container: &Container) -> Result<Value> {
    let wanted = Process::deserialize(&process).context("the process to execute")?;
    let entry = Entry {
        user: wanted.user(),
        cwd: wanted.cwd.clone(),
        terminal: wanted.terminal,
        bounds: wanted.bounds()?,
    };
    let entry = serde_json::to_string(&entry)?;
    let client = [&format!("{INSIDE}/mvm"), "oci", "enter", &entry, "--"];
    let args = client.into_iter().map(Into::into).chain(wanted.args);
    process["args"] = args.collect::<Vec<String>>().into();
    process["cwd"] = "/".into();
    let (uid, gid) = container.app.user().map_or((0, 0), |user| user.ids());
    process["user"] = json!({ "uid": uid, "gid": gid });
    if let Some(process) = process.as_object_mut() {
        // The container's own, which the monitor has.
        process.remove("capabilities");
        process.remove("rlimits");
    }
    Ok(process)
}

/// A process of which only the command line is told, and what differs from the container's own.
#[derive(Debug, Default)]
pub struct Words {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `NAME=VALUE` each.
    pub env: Vec<String>,
    /// `uid`, or `uid:gid`.
    pub user: Option<String>,
    /// Its folder.
    pub cwd: Option<String>,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Whether it has a terminal.
    pub terminal: bool,
}

impl Words {
    /// The process.
    ///
    /// # Errors
    /// The user is not of numbers.
    pub fn process(self, container: &Container) -> Result<Value> {
        let app = &container.app.app;
        let user = self.user.as_deref().unwrap_or(app.user());
        let (uid, gid) = user.split_once(':').unwrap_or((user, "0"));
        let number = |word: &str| {
            word.parse::<u32>()
                .with_context(|| format!("--user: must be uid or uid:gid, is {user:?}"))
        };
        let own = app.env.iter().filter_map(|(name, value)| {
            let value = value.as_ref()?;
            Some(format!("{name}={value}"))
        });
        Ok(json!({
            "terminal": self.terminal,
            "user": { "uid": number(uid)?, "gid": number(gid)?, "additionalGids": self.groups },
            "args": self.args,
            "env": own.chain(self.env).collect::<Vec<_>>(),
            "cwd": self.cwd.as_deref().unwrap_or(app.cwd()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use guest::protocol::Limit;

    use super::*;
    use crate::oci::config::tests::{config, host};

    fn container() -> Container {
        let (_, container) = super::super::config::rewrite(config(), &host()).unwrap();
        container
    }

    #[test]
    fn the_program_of_exec_is_told_to_a_client_of_the_monitor() {
        let process = json!({
            "terminal": true,
            "consoleSize": { "height": 24, "width": 80 },
            "user": { "uid": 33, "gid": 44, "additionalGids": [7] },
            "args": ["sh", "-c", "exit 3"],
            "env": ["SECRET=x"],
            "cwd": "/srv",
            "capabilities": { "bounding": ["CAP_CHOWN"] },
            "rlimits": [{ "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }],
            "noNewPrivileges": true,
        });
        let rewritten = rewrite(process, &container()).unwrap();
        let args: Vec<_> = rewritten["args"].as_array().unwrap().iter().collect();
        let entry: Entry = serde_json::from_str(args[3].as_str().unwrap()).unwrap();
        let expected = Entry {
            user: "33:44".into(),
            cwd: "/srv".into(),
            terminal: true,
            bounds: Bounds {
                groups: Vec::new(),
                gids: vec![7],
                is_numbered: true,
                limits: vec![Limit {
                    resource: 4,
                    soft: 0,
                    hard: 0,
                }],
                umask: None,
            },
        };
        assert_eq!(entry, expected);
        let words = ["/dev/mvm/mvm", "oci", "enter"].map(Value::from);
        assert_eq!(args[..3], words.each_ref());
        let words = ["--", "sh", "-c", "exit 3"].map(Value::from);
        assert_eq!(args[4..], words.each_ref());
        // The rest is the container's, or as it was.
        let expected = json!({
            "terminal": true,
            "consoleSize": { "height": 24, "width": 80 },
            "user": { "uid": 1000, "gid": 100 },
            "args": rewritten["args"],
            "env": ["SECRET=x"],
            "cwd": "/",
            "noNewPrivileges": true,
        });
        assert_eq!(rewritten, expected);
    }

    #[test]
    fn a_command_line_alone_is_a_process_like_the_containers() {
        let words = Words {
            args: vec!["id".into()],
            env: vec!["B=2".into()],
            ..Words::default()
        };
        let process = words.process(&container()).unwrap();
        let expected = json!({
            "terminal": false,
            "user": { "uid": 1000, "gid": 100, "additionalGids": [] },
            "args": ["id"],
            "env": ["A=1", "B=2"],
            "cwd": "/srv",
        });
        assert_eq!(process, expected);
        let named = Words {
            user: Some("web".into()),
            ..Words::default()
        };
        let error = named.process(&container()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--user: must be uid or uid:gid, is \"web\""
        );
    }
}

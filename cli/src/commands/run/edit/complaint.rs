//! What is wrong with what the flags make of a file.

use anyhow::bail;
use vmm::app::{App, Complaint, Step};

/// # Errors
/// The machine cannot be so: the first reason, with its flag.
pub fn ensure_none(app: &App) -> anyhow::Result<()> {
    match app.check().first() {
        Some(complaint) => bail!("{}", words(complaint)),
        None => Ok(()),
    }
}

/// What is wrong, by the flag. The file was good when it was read, so what is wrong with a value that
/// a flag sets is that flag's doing.
fn words(complaint: &Complaint) -> String {
    let keys = complaint
        .place
        .steps()
        .iter()
        .filter_map(|step| match step {
            Step::Key(key) => Some(key.as_ref()),
            Step::Index(_) => None,
        });
    let flag = match keys.collect::<Vec<_>>()[..] {
        ["name"] => "--name",
        ["hostname"] => "--hostname",
        ["labels", ..] => "--label",
        ["memory"] => "--memory",
        ["kernel", "path"] => "--kernel",
        ["ports", ..] => "--publish",
        ["interfaces", "network"] => "--network",
        ["interfaces", "aliases"] => "--network-alias",
        ["tmpfs", ..] => "--tmpfs",
        ["root", "readOnly"] => "--read-only",
        ["hosts", ..] => "--add-host",
        ["dns"] | ["dns", "servers"] => "--dns",
        ["dns", "search"] => "--dns-search",
        ["dns", "options"] => "--dns-option",
        ["shares" | "volumes", ..] => "--volume",
        ["app", "entrypoint"] => "--entrypoint",
        ["app", "args"] => "arguments behind \"--\"",
        ["app", "user"] => "--user",
        ["app", "groups"] => "--group-add",
        ["app", "ulimits", ..] => "--ulimit",
        ["app", "cwd"] => "--workdir",
        ["app", "env", ..] => "--env",
        _ => return complaint.to_string(),
    };
    format!("{flag}: {}", complaint.message)
}

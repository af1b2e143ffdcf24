//! The program: what it is, who it runs as, where, with what around it.

use std::path::PathBuf;

use vmm::app::{Program, Ulimit};

use crate::environment;

/// Flags about the program.
#[derive(Clone, Debug, clap::Args)]
// A group is named by its type, which other commands have as well.
#[group(skip)]
pub struct ProgramFlags {
    /// Program to run instead of `app.entrypoint`; `app.args` are left out, too
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Who the program runs as, instead of `app.user`: a name or a uid, or either with `:group`. A name
    /// is looked up in the image; in a machine without one it is a user of that name, made for it
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// A group that it has besides those of its user, and those of `app.groups`: a name or a gid
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// A limit of each of its processes, such as nofile=1024:2048, core=0 or memlock=unlimited, instead
    /// of that of `app.ulimits`; -1 is unlimited
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = ulimit)]
    ulimit: Vec<(String, Ulimit)>,
    /// Folder in the machine that the program starts in, instead of `app.cwd`
    #[arg(long, short, value_name = "FOLDER")]
    workdir: Option<String>,
    /// Set a variable of the program's environment; NAME alone takes its value from here
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Set the variables that a file has, NAME=VALUE or NAME in each line; --env wins over it
    #[arg(long, value_name = "PATH")]
    env_file: Vec<PathBuf>,
}

impl ProgramFlags {
    /// Applies them, and `arguments` in the place of the program's own if there are any.
    ///
    /// # Errors
    /// One sets no variable, or names a file that cannot be read.
    pub fn apply(&self, arguments: &[String], program: &mut Program) -> anyhow::Result<()> {
        if let Some(entrypoint) = &self.entrypoint {
            program.entrypoint = vec![entrypoint.clone()];
            program.args.clear();
        }
        if !arguments.is_empty() {
            program.args = arguments.to_vec();
        }
        if let Some(user) = &self.user {
            program.user = Some(user.clone());
        }
        program.groups.extend(self.group_add.iter().cloned());
        program.ulimits.extend(self.ulimit.iter().cloned());
        if let Some(folder) = &self.workdir {
            program.cwd = Some(folder.clone());
        }
        for file in &self.env_file {
            environment::set_from(&mut program.env, file)?;
        }
        environment::set(&mut program.env, &self.env)
    }
}

/// A limit as the file has it behind its name, or with -1 for none.
fn ulimit(text: &str) -> Result<(String, Ulimit), String> {
    let (name, limit) = text
        .split_once('=')
        .ok_or("must be a limit's name, \"=\" and a number, such as nofile=1024")?;
    let values = limit.split(':').map(|value| match value {
        "-1" => "unlimited",
        other => other,
    });
    let limit = values.collect::<Vec<_>>().join(":").parse()?;
    Ok((name.into(), limit))
}

//! What is set once for all machines: by variables, or in files of the user's and the system's.
//!
//! The one thing to know: each setting is a variable and a key of `mvm.conf`, a JSON object, and is read
//! from the first that has it: `$MVM_KERNEL` and the like, `$XDG_CONFIG_HOME/mvm/mvm.conf` (by default
//! `~/.config/mvm/mvm.conf`), `/etc/mvm/mvm.conf`. What a command line says wins over all.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use crate::app::quote::quoted;

/// The file's name in each of the folders; what ends in `.json` in the system's is a machine's.
const FILE: &str = "mvm.conf";

/// The system's folder.
const SYSTEM_FOLDER: &str = "/etc/mvm";

/// Bytes of a file; far more than all settings take.
const MAX_FILE_SIZE: u64 = 64 << 10;

/// Something to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// What machines run on: auto, kvm or emulated.
    Accel,
    /// The kernel of machines whose file names none; in a file relative to its folder.
    Kernel,
    /// Most memory of the emulated host, in MiB.
    EmulatorMemoryMib,
    /// After how many seconds without work the emulated host ends.
    EmulatorIdleSeconds,
    /// Most that the images of stores take that are kept, in MiB.
    StoreImagesMib,
}

impl Setting {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Accel,
        Self::Kernel,
        Self::EmulatorMemoryMib,
        Self::EmulatorIdleSeconds,
        Self::StoreImagesMib,
    ];

    /// Its key in a file.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Accel => "accel",
            Self::Kernel => "kernel",
            Self::EmulatorMemoryMib => "emulatorMemoryMib",
            Self::EmulatorIdleSeconds => "emulatorIdleSeconds",
            Self::StoreImagesMib => "storeImagesMib",
        }
    }

    /// Its variable.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Accel => "MVM_ACCEL",
            Self::Kernel => "MVM_KERNEL",
            Self::EmulatorMemoryMib => "MVM_EMULATOR_MEMORY_MIB",
            Self::EmulatorIdleSeconds => "MVM_EMULATOR_IDLE_SECONDS",
            Self::StoreImagesMib => "MVM_STORE_IMAGES_MIB",
        }
    }

    /// What it is set to, and where; none if it is nowhere.
    ///
    /// # Errors
    /// A file cannot be read, or has something else than settings in it.
    pub fn get(self) -> anyhow::Result<Option<Value>> {
        self.get_from(env::var_os(self.variable()), &files())
    }

    fn get_from(
        self,
        variable: Option<OsString>,
        files: &[PathBuf],
    ) -> anyhow::Result<Option<Value>> {
        if let Some(text) = variable.filter(|text| !text.is_empty()) {
            let origin = Origin::Variable(self.variable());
            return Ok(Some(Value { text, origin }));
        }
        for path in files {
            let values = read(path).with_context(|| format!("cannot use {}", path.display()))?;
            if let Some(text) = values.get(self.key()).filter(|text| !text.is_empty()) {
                return Ok(Some(self.of_file(text, path)));
            }
        }
        Ok(None)
    }

    fn of_file(self, text: &str, path: &Path) -> Value {
        let text = match (self, path.parent()) {
            (Self::Kernel, Some(folder)) => folder.join(text).into(),
            _ => text.into(),
        };
        Value {
            text,
            origin: Origin::File(path.into(), self.key()),
        }
    }
}

/// What something is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// As it is written.
    pub text: OsString,
    /// Where.
    pub origin: Origin,
}

impl Value {
    /// The same as a number.
    ///
    /// # Errors
    /// It is none.
    pub fn number(&self) -> anyhow::Result<u64> {
        let number = self.text.to_str().and_then(|text| text.parse().ok());
        let Self { text, origin } = self;
        number.with_context(|| {
            format!(
                "{origin}: must be a whole number, is {}",
                quoted(&text.to_string_lossy())
            )
        })
    }
}

/// Where something is set; printed as the beginning of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// By a variable.
    Variable(&'static str),
    /// In a file, by a key.
    File(PathBuf, &'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "${name}"),
            Self::File(path, key) => write!(f, "{}: {key}", path.display()),
        }
    }
}

/// The files that may have settings, what wins first.
fn files() -> Vec<PathBuf> {
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let home = || Some(absolute("HOME")?.join(".config"));
    let user = absolute("XDG_CONFIG_HOME").or_else(home);
    let folders = user.map(|folder| folder.join("mvm")).into_iter();
    let folders = folders.chain([SYSTEM_FOLDER.into()]);
    folders.map(|folder| folder.join(FILE)).collect()
}

/// The settings of a file, each as text; none of one that is not there.
fn read(path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    // Who may not look into a folder has no settings there. A FIFO would be waited for.
    if !path.is_file() {
        return Ok(BTreeMap::new());
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_FILE_SIZE + 1)
        .read_to_end(&mut bytes)?;
    ensure!(
        bytes.len() as u64 <= MAX_FILE_SIZE,
        "it has more than {MAX_FILE_SIZE} bytes"
    );
    let values: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&bytes)?;
    let known = Setting::ALL.map(Setting::key);
    let text = |(key, value)| {
        let text = match value {
            serde_json::Value::String(text) => text,
            serde_json::Value::Number(number) => number.to_string(),
            _ => bail!("{key}: must be a string or a number, is {value}"),
        };
        Ok((key, text))
    };
    // As in app.json: keys of the user's own, and that of a schema for editors.
    let is_ours = |key: &str| !key.starts_with("x-") && key != "$schema";
    let values = values.into_iter().filter(|(key, _)| is_ours(key));
    values
        .map(|(key, value)| {
            ensure!(
                known.contains(&&*key),
                "unknown key {key:?}; allowed: {}",
                known.join(", ")
            );
            text((key, value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_variable_wins_over_the_users_file_and_that_over_the_systems() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["user.json", "system.json"].map(|name| folder.path().join(name));
        let get = |setting: Setting, variable: Option<&str>| {
            let value = setting.get_from(variable.map(Into::into), &files);
            value.unwrap().map(|value| {
                let origin = value.origin.to_string();
                (value.text.into_string().unwrap(), origin)
            })
        };
        assert_eq!(get(Setting::Accel, None), None);
        fs::write(&files[1], r#"{ "accel": "kvm", "kernel": "k", "x-a": {} }"#).unwrap();
        fs::write(
            &files[0],
            r#"{ "accel": "auto", "emulatorMemoryMib": 4096 }"#,
        )
        .unwrap();
        let at = |nth: usize, key| format!("{}: {key}", files[nth].display());
        let variable = get(Setting::Accel, Some("emulated"));
        assert_eq!(variable, Some(("emulated".into(), "$MVM_ACCEL".into())));
        for variable in [None, Some("")] {
            let found = get(Setting::Accel, variable);
            assert_eq!(found, Some(("auto".into(), at(0, "accel"))));
        }
        let kernel = folder.path().join("k").display().to_string();
        assert_eq!(get(Setting::Kernel, None), Some((kernel, at(1, "kernel"))));
        let memory = Setting::EmulatorMemoryMib.get_from(None, &files);
        assert_eq!(memory.unwrap().unwrap().number().unwrap(), 4096);
    }

    #[test]
    fn a_file_that_is_wrong_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mvm.conf");
        for (text, why) in [
            ("{", "EOF while parsing an object at line 1 column 1"),
            (
                r#"{ "acel": "kvm" }"#,
                "unknown key \"acel\"; allowed: accel, kernel, emul",
            ),
            (
                r#"{ "accel": true }"#,
                "accel: must be a string or a number, is true",
            ),
        ] {
            fs::write(&path, text).unwrap();
            let error = Setting::Accel.get_from(None, std::slice::from_ref(&path));
            let expected = format!("cannot use {}: {why}", path.display());
            let error = format!("{:#}", error.unwrap_err());
            assert!(error.starts_with(&expected), "{error}");
        }
        let value = Value {
            text: "many".into(),
            origin: Origin::Variable("MVM_X"),
        };
        let error = value.number().unwrap_err().to_string();
        assert_eq!(error, "$MVM_X: must be a whole number, is \"many\"");
    }
}

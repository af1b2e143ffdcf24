//! The values of a machine's secrets, from where its app.json says that they are.
//!
//! The one thing to know: whoever starts a machine looks them up, as the user and in the environment
//! that he is in, and hands them on over a socket. They are in no file, argument or environment of
//! mvm's.

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use guest::protocol::{SecretFile, SecretValue};
use serde::{Deserialize, Serialize};
use vmm::app::{App, MAX_SECRET_SIZE, MAX_SECRETS_SIZE, SECRETS_DIR, Secret};
use vmm::boot::smbios::Credential;

/// The folder of a service's credentials.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// By name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secrets(BTreeMap<String, SecretValue>);

impl Secrets {
    /// Looks all of them up.
    ///
    /// # Errors
    /// One is not there, or too long.
    pub fn of(app: &App) -> Result<Self> {
        let value = |(name, secret): (&String, &Secret)| {
            let value = value(secret).with_context(|| format!("cannot read the secret {name}"))?;
            anyhow::Ok((name.clone(), SecretValue::from(value)))
        };
        let secrets = app.secrets.iter().map(value);
        let secrets: BTreeMap<_, _> = secrets.collect::<Result<_>>()?;
        let size: usize = secrets.values().map(|value| value.bytes().len()).sum();
        ensure!(
            size <= MAX_SECRETS_SIZE,
            "the secrets have {size} bytes together, at most {MAX_SECRETS_SIZE} are passed on"
        );
        Ok(Self(secrets))
    }

    /// What the services of a system with its own kernel find them as; of other machines none.
    pub fn credentials(&self, app: &App) -> Vec<Credential<'_>> {
        let own = app.own_kernel().map(|_| &self.0);
        let secrets = own.into_iter().flatten();
        let credentials = secrets.map(|(name, value)| Credential {
            name,
            value: value.bytes(),
        });
        credentials.collect()
    }

    /// What the guest is told of them.
    ///
    /// # Errors
    /// The value of one is missing.
    pub fn files(&self, app: &App) -> Result<Vec<SecretFile>> {
        let file = |(name, secret): (&String, &Secret)| {
            let value = self.0.get(name);
            let value = value.with_context(|| format!("the secret {name} has no value"))?;
            let is_elsewhere = |path: &&String| **path != format!("{SECRETS_DIR}/{name}");
            Ok(SecretFile {
                name: name.clone(),
                link: secret.path.as_ref().filter(is_elsewhere).cloned(),
                owner: secret
                    .owner
                    .as_deref()
                    .unwrap_or(app.program().user())
                    .into(),
                mode: secret.mode_bits().context("its mode is not valid")?,
                value: value.clone(),
            })
        };
        app.secrets.iter().map(file).collect()
    }
}

/// The variables of the environment that hold secrets, to be kept from processes.
pub fn variables(app: &App) -> impl Iterator<Item = &str> {
    app.secrets
        .values()
        .filter_map(|secret| secret.env.as_deref())
}

fn value(secret: &Secret) -> Result<Vec<u8>> {
    if let Some(path) = &secret.source {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        return limited(file).with_context(|| format!("cannot read {}", path.display()));
    }
    if let Some(name) = &secret.env {
        let value = env::var_os(name).with_context(|| format!("${name} is not set"))?;
        return limited(&*value.into_vec());
    }
    if let Some(name) = &secret.load_credential {
        return credential(name);
    }
    match secret.command.as_deref() {
        Some([program, arguments @ ..]) => output(program, arguments),
        _ => bail!("nothing says where it is"),
    }
}

/// What systemd gives to a service (`systemd.exec(5)`, "Credentials").
fn credential(name: &str) -> Result<Vec<u8>> {
    let folder = env::var_os(CREDENTIALS).with_context(|| {
        format!("${CREDENTIALS} is not set: only a service has credentials, by LoadCredential=")
    })?;
    let path = Path::new(&folder).join(name);
    let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    limited(file).with_context(|| format!("cannot read {}", path.display()))
}

/// What a program of the host prints. It may ask the user at the terminal, so it has all the time.
fn output(program: &str, arguments: &[String]) -> Result<Vec<u8>> {
    let mut process = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let value = match process.stdout.take() {
        // Dropped when enough has been read, so that a program that prints for ever ends.
        Some(stdout) => limited(stdout),
        None => bail!("{program} has no output"),
    };
    let status = process
        .wait()
        .with_context(|| format!("cannot wait for {program}"))?;
    let value = value?;
    ensure!(status.success(), "{program} failed ({status})");
    Ok(value)
}

fn limited(source: impl Read) -> Result<Vec<u8>> {
    let mut value = Vec::new();
    let most = MAX_SECRET_SIZE as u64 + 1;
    source.take(most).read_to_end(&mut value)?;
    ensure!(
        value.len() <= MAX_SECRET_SIZE,
        "it is longer than {MAX_SECRET_SIZE} bytes"
    );
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(secrets: &[(&str, Secret)]) -> App {
        let mut app = App::new("web", vec!["sh".into()]);
        app.app.user = Some("nobody".into());
        let secrets = secrets.iter();
        app.secrets = secrets
            .map(|(name, secret)| ((*name).to_owned(), secret.clone()))
            .collect();
        app
    }

    fn command(words: &[&str]) -> Secret {
        Secret {
            command: Some(words.iter().map(ToString::to_string).collect()),
            mode: "0400".into(),
            ..Secret::default()
        }
    }

    #[test]
    fn a_value_comes_from_a_file_a_variable_or_a_program() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, b"\xff\n").unwrap();
        let app = app(&[
            (
                "file",
                Secret {
                    source: Some(path),
                    mode: "0444".into(),
                    path: Some("/etc/key".into()),
                    ..Secret::default()
                },
            ),
            (
                "env",
                Secret {
                    env: Some("CARGO_PKG_NAME".into()),
                    mode: "0400".into(),
                    owner: Some("1:2".into()),
                    ..Secret::default()
                },
            ),
            ("command", command(&["echo", "said"])),
        ]);
        let files = Secrets::of(&app).unwrap().files(&app).unwrap();
        let facts: Vec<_> = files
            .iter()
            .map(|file| (&*file.name, file.value.bytes(), &*file.owner, file.mode))
            .collect();
        assert_eq!(
            facts,
            [
                ("command", &b"said\n"[..], "nobody", 0o400),
                ("env", b"mvm", "1:2", 0o400),
                ("file", b"\xff\n", "nobody", 0o444),
            ]
        );
        assert_eq!(files[2].link.as_deref(), Some("/etc/key"));
    }

    #[test]
    fn what_is_missing_or_too_long_is_told_without_the_value() {
        let error = |secret| {
            let error = Secrets::of(&app(&[("key", secret)])).unwrap_err();
            format!("{error:#}")
        };
        let unset = Secret {
            env: Some("MVM_NO_SUCH_VARIABLE".into()),
            ..Secret::default()
        };
        assert_eq!(
            error(unset),
            "cannot read the secret key: $MVM_NO_SUCH_VARIABLE is not set"
        );
        let credential = Secret {
            load_credential: Some("key".into()),
            ..Secret::default()
        };
        assert_eq!(
            error(credential),
            "cannot read the secret key: $CREDENTIALS_DIRECTORY is not set: only a service has \
             credentials, by LoadCredential="
        );
        assert_eq!(
            error(command(&["yes"])),
            "cannot read the secret key: it is longer than 512000 bytes"
        );
        let failed = error(command(&["false"]));
        assert!(failed.contains("false failed (exit status: 1)"), "{failed}");
    }

    #[test]
    fn values_are_handed_on_and_not_shown() {
        let app = app(&[("key", command(&["printf", "hunter2"]))]);
        let secrets = Secrets::of(&app).unwrap();
        assert!(!format!("{secrets:?}").contains("hunter2"));
        let there: Secrets =
            serde_json::from_str(&serde_json::to_string(&secrets).unwrap()).unwrap();
        assert_eq!(there.files(&app).unwrap()[0].value.bytes(), b"hunter2");
    }
}

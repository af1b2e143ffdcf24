//! An image's configuration: what its program is and how it is run.
//!
//! OCI image specification 1.1, "Image Configuration"; Docker has the same, and health checks.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::digest::Digest;

/// Layers of one image: Docker's limit is 127, and dockerTools makes at most as many.
const LAYERS_MAX: usize = 1024;

/// The file that a configuration is.
#[derive(Debug, Deserialize)]
struct File {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    config: Option<Config>,
    rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

/// How an image's program is run. Docker writes null for what is not there. Others write keys in other
/// cases, of which docker makes no difference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// `user`, `uid`, `user:group` or `uid:gid`, names or numbers.
    #[serde(alias = "user")]
    pub user: Option<String>,
    /// `NAME=VALUE` each.
    #[serde(alias = "env")]
    pub env: Option<Vec<String>>,
    /// The program and its first arguments.
    #[serde(alias = "entrypoint")]
    pub entrypoint: Option<Vec<String>>,
    /// The arguments behind those, or the program and its arguments.
    #[serde(alias = "cmd")]
    pub cmd: Option<Vec<String>>,
    /// Folder that it starts in.
    #[serde(alias = "workingDir", alias = "workingdir")]
    pub working_dir: Option<String>,
    /// Folders whose content is not the image's.
    #[serde(alias = "volumes")]
    pub volumes: Option<BTreeMap<String, serde_json::Value>>,
    /// How it is asked whether it does well.
    #[serde(alias = "healthcheck")]
    pub healthcheck: Option<HealthCheck>,
    /// What it is asked to end with: a name, or a number.
    #[serde(alias = "stopSignal", alias = "stopsignal")]
    pub stop_signal: Option<String>,
    /// Words about it, by name.
    #[serde(alias = "labels")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Ports that it serves, such as `80/tcp`.
    #[serde(alias = "exposedPorts", alias = "exposedports")]
    pub exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
}

/// How a program is asked whether it does well. Times are nanoseconds; 0 is the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthCheck {
    /// `NONE`, or `CMD` and a command line, or `CMD-SHELL` and a line for the shell.
    pub test: Option<Vec<String>>,
    /// Between the end of a check and the next.
    pub interval: u64,
    /// That a check may take.
    pub timeout: u64,
    /// In which failures do not count.
    pub start_period: u64,
    /// Failures one after another that make it unhealthy.
    pub retries: u32,
}

impl Config {
    /// The folders whose content is not the image's.
    pub fn volumes(&self) -> impl Iterator<Item = &str> {
        keys(self.volumes.as_ref())
    }

    /// The ports that it serves.
    pub fn exposed_ports(&self) -> impl Iterator<Item = &str> {
        keys(self.exposed_ports.as_ref())
    }
}

/// Those of a set as Go writes it: each with an empty object.
fn keys(set: Option<&BTreeMap<String, serde_json::Value>>) -> impl Iterator<Item = &str> {
    set.into_iter().flat_map(BTreeMap::keys).map(String::as_str)
}

/// Reads a configuration: how the program is run, and the digests of its layers, the lowest first.
pub fn read(bytes: &[u8]) -> Result<(Config, Vec<Digest>)> {
    let file: File = serde_json::from_slice(bytes).context("cannot read its configuration")?;
    let is_or_none = |is: &str, wanted| is.is_empty() || is == wanted;
    ensure!(
        is_or_none(&file.architecture, "amd64") && is_or_none(&file.os, "linux"),
        "it is for {}/{}, and machines are linux/amd64",
        file.os,
        file.architecture
    );
    let layers = file.rootfs.diff_ids;
    ensure!(
        layers.len() <= LAYERS_MAX,
        "it has more than {LAYERS_MAX} layers"
    );
    Ok((file.config.unwrap_or_default(), layers))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_null_is_not_there() {
        let file = json!({
            "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] },
            "config": {
                "Env": null, "Cmd": ["a"], "Volumes": { "/v": {} }, "ExposedPorts": { "80/tcp": {} },
                "Labels": { "x": "y" }, "Healthcheck": { "Test": ["CMD", "true"], "Interval": 5 },
            },
        });
        let (config, layers) = read(file.to_string().as_bytes()).unwrap();
        assert_eq!((config.env, config.cmd), (None, Some(vec!["a".into()])));
        assert!(layers.is_empty());
        let (config, _) = read(br#"{ "rootfs": { "diff_ids": [] } }"#).unwrap();
        assert_eq!(config, Config::default());
        let (config, _) = read(file.to_string().as_bytes()).unwrap();
        assert_eq!(config.volumes().collect::<Vec<_>>(), ["/v"]);
        assert_eq!(config.exposed_ports().collect::<Vec<_>>(), ["80/tcp"]);
        assert_eq!(config.healthcheck.unwrap().interval, 5);
    }

    #[test]
    fn keys_may_be_in_other_cases() {
        let file = json!({
            "rootfs": { "diff_ids": [] },
            "config": { "cmd": ["a"], "workingDir": "/b", "exposedports": { "80/tcp": {} } },
        });
        let (config, _) = read(file.to_string().as_bytes()).unwrap();
        assert_eq!(config.cmd, Some(vec!["a".into()]));
        assert_eq!(config.working_dir.as_deref(), Some("/b"));
        assert_eq!(config.exposed_ports().collect::<Vec<_>>(), ["80/tcp"]);
    }

    #[test]
    fn an_image_of_another_architecture_is_refused() {
        let file = br#"{ "architecture": "arm64", "os": "linux", "rootfs": { "diff_ids": [] } }"#;
        let error = read(file).unwrap_err().to_string();
        assert_eq!(error, "it is for linux/arm64, and machines are linux/amd64");
    }
}

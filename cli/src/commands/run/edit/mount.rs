//! `--volume`: a folder or a file of the host, or a volume by its name, and where the machine has it.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, ensure};
use vmm::app::{App, Share, Volume, VolumeSize};

/// What the flag says. What is no path is a volume's name: container engines read it so, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    source: Source,
    target: PathBuf,
    read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Path(PathBuf),
    Volume(String),
}

impl FromStr for Mount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split(':').collect();
        let (source, target, mode) = match words[..] {
            [source, target] => (source, target, "rw"),
            [source, target, mode] => (source, target, mode),
            _ => ("", "", ""),
        };
        if source.is_empty() || target.is_empty() || !matches!(mode, "ro" | "rw") {
            return Err(
                "must be a path or a volume's name, \":\", and a path of the machine, \
                 perhaps with \":ro\" behind it"
                    .into(),
            );
        }
        let is_path = source.contains('/') || matches!(source, "." | "..");
        Ok(Self {
            source: if is_path {
                Source::Path(source.into())
            } else {
                Source::Volume(source.into())
            },
            target: target.into(),
            read_only: mode == "ro",
        })
    }
}

impl Mount {
    /// Adds it to the shares or the volumes.
    ///
    /// # Errors
    /// There is nothing there, or a file that is to be written to.
    pub fn add_to(&self, app: &mut App) -> anyhow::Result<()> {
        let mount_point = self.target.clone();
        match &self.source {
            Source::Path(path) => {
                let share = Share {
                    source: existing(path).context("--volume")?,
                    mount_point,
                    read_only: self.read_only,
                    tag: None,
                };
                let shown = path.display();
                ensure!(
                    share.read_only || share.file_name().is_none(),
                    "--volume: {shown} is a file, which can only be read: put \":ro\" behind it"
                );
                app.shares.push(share);
            }
            Source::Volume(name) => app.volumes.push(Volume {
                mount_point: Some(mount_point),
                read_only: self.read_only,
                ..Volume::named(name, VolumeSize::default())
            }),
        }
        Ok(())
    }
}

/// A folder or a file, by a path that holds wherever the machine is started from.
fn existing(path: &Path) -> anyhow::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let is_there = path.is_dir() || path.is_file();
    ensure!(is_there, "there is no folder or file {}", path.display());
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(text: &str) -> App {
        let mut app = App::new("a", vec!["sh".into()]);
        let mount: Mount = text.parse().unwrap();
        mount.add_to(&mut app).unwrap();
        app
    }

    #[test]
    fn a_path_is_a_share_that_can_be_written_to() {
        for (text, read_only) in [
            ("/tmp:/data", false),
            ("/tmp/.:/data:ro", true),
            ("/tmp:/data:rw", false),
        ] {
            let app = added(text);
            assert!(app.volumes.is_empty(), "{text}");
            let share = &app.shares[0];
            assert_eq!(share.source, Path::new("/tmp"), "{text}");
            assert_eq!(share.mount_point, Path::new("/data"), "{text}");
            assert_eq!(share.read_only, read_only, "{text}");
        }
        let here = &added(".:/data").shares[0].source;
        assert_eq!(*here, std::env::current_dir().unwrap());
    }

    #[test]
    fn all_else_is_a_volume() {
        let app = added("data:/srv:ro");
        assert!(app.shares.is_empty());
        let volume = &app.volumes[0];
        assert_eq!(volume.name.as_deref(), Some("data"));
        assert_eq!(volume.mount_point.as_deref(), Some(Path::new("/srv")));
        assert!(volume.read_only && volume.create);
    }

    #[test]
    fn what_says_no_place_is_refused() {
        for text in [
            "",
            "/data",
            ":",
            "data:",
            ":/data",
            "a:/b:",
            "a:/b:z",
            "a:/b:ro:x",
        ] {
            assert!(text.parse::<Mount>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_file_can_only_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let shown = file.display();
        let add = |text: String| {
            let mount: Mount = text.parse().unwrap();
            let mut app = App::new("a", vec!["sh".into()]);
            let added = mount.add_to(&mut app);
            added.map(|()| app).map_err(|error| error.to_string())
        };
        let app = add(format!("{shown}:/etc/file:ro")).unwrap();
        assert_eq!(app.shares[0].file_name(), file.file_name());
        let expected =
            format!("--volume: {shown} is a file, which can only be read: put \":ro\" behind it");
        assert_eq!(add(format!("{shown}:/etc/file")).unwrap_err(), expected);
    }

    #[test]
    fn a_folder_that_is_missing_is_told_with_its_flag() {
        let mount: Mount = "/no/such/folder:/data".parse().unwrap();
        let error = mount
            .add_to(&mut App::new("a", vec!["sh".into()]))
            .unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "--volume: there is no folder or file /no/such/folder"
        );
    }
}

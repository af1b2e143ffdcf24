//! `image.json` of nix2container: an image without a file for its layers, which are store paths.
//!
//! Those that are as they are in the store become empty folders of a layer: the machine has the
//! host's own there. What is renamed on the way (`copyToRoot`) or gets other permissions is copied
//! into a layer, and a layer that is an archive (`layer-path`) is unpacked.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use regex::bytes::Regex;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::choice::Choice;
use crate::digest::Digest;
use crate::entries::{ENTRIES_MAX, Entry, Kind, components};
use crate::layer;
use crate::packing::unpacked;
use crate::source::SMALL_BYTES_MAX;

/// The version of the file that this reads.
const VERSION: u32 = 1;

/// What no other file has a key of.
const KEY: &[u8] = b"\"image-config\"";

const STORE: &str = "/nix/store";

/// Nix gives all of a store the same time, and nix2container the same to what it packs.
const MODIFIED: (i64, u32) = (1, 0);

/// The file.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct List {
    version: u32,
    image_config: serde_json::Value,
    #[serde(default)]
    arch: String,
    layers: Vec<Layer>,
}

/// A layer of it.
#[derive(Deserialize)]
pub struct Layer {
    diff_ids: Digest,
    #[serde(default)]
    paths: Option<Vec<Listed>>,
    #[serde(rename = "layer-path")]
    archive: Option<PathBuf>,
}

/// A store path of a layer.
#[derive(Serialize, Deserialize)]
struct Listed {
    path: PathBuf,
    options: Option<Options>,
}

/// How files of a path differ from the store's.
#[derive(Serialize, Deserialize)]
struct Options {
    rewrite: Option<Rewrite>,
    perms: Option<Vec<Permissions>>,
}

#[derive(Serialize, Deserialize)]
struct Rewrite {
    regex: String,
    repl: String,
}

#[derive(Serialize, Deserialize)]
struct Permissions {
    regex: String,
    mode: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
}

impl List {
    /// # Errors
    /// Something is chosen of what is one image.
    pub fn ensure_not_chosen(choice: Option<&Choice>) -> Result<()> {
        ensure!(choice.is_none(), "it is one image, of which none is chosen");
        Ok(())
    }

    /// Reads `path`; none if it is something else.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        if path.is_dir() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let file = File::open(path)?;
        file.take(SMALL_BYTES_MAX).read_to_end(&mut bytes)?;
        // Most files that are looked at are an app.json, which is not to be read twice.
        if !bytes.windows(KEY.len()).any(|bytes| bytes == KEY) {
            return Ok(None);
        }
        let Ok(serde_json::Value::Object(object)) = serde_json::from_slice(&bytes) else {
            return Ok(None);
        };
        if !object.contains_key("image-config") || !object.contains_key("layers") {
            return Ok(None);
        }
        let list: Self = serde_json::from_value(object.into()).context("it is no image.json")?;
        ensure!(
            list.version == VERSION,
            "its version is {} and not {VERSION}",
            list.version
        );
        Ok(Some(list))
    }

    /// Its layers, the lowest first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The configuration that the image has with these layers.
    pub fn config(&self, layers: &[Digest]) -> Result<Vec<u8>> {
        let config = json!({
            "architecture": self.arch, "os": "linux", "config": self.image_config,
            "rootfs": { "type": "layers", "diff_ids": layers },
        });
        Ok(serde_json::to_vec(&config)?)
    }
}

impl Layer {
    /// What the layer is called: an archive by its digest, store paths by what is said of them, for
    /// they never change.
    pub fn id(&self) -> Result<Digest> {
        if self.archive.is_some() {
            return Ok(self.diff_ids.clone());
        }
        Ok(Digest::of(&serde_json::to_vec(&self.paths)?))
    }

    /// Makes the layer in the folder `to`.
    pub fn make(&self, to: &Path) -> Result<()> {
        if let Some(path) = &self.archive {
            let file = File::open(path);
            let file = file.with_context(|| format!("cannot open {}", path.display()))?;
            return layer::unpack(unpacked(file)?, &self.diff_ids, to);
        }
        layer::make(to, |content| {
            let mut copy = Copy {
                entries: Vec::new(),
                offset: 0,
                content,
            };
            for listed in self.paths.iter().flatten() {
                copy.add(listed)
                    .with_context(|| format!("{}", listed.path.display()))?;
            }
            Ok(copy.entries)
        })
    }
}

/// A layer in the making.
struct Copy<'a, W> {
    entries: Vec<Entry>,
    offset: u64,
    content: &'a mut W,
}

impl<W: Write> Copy<'_, W> {
    fn add(&mut self, listed: &Listed) -> Result<()> {
        let Listed { path, options } = listed;
        // What is not in the store could change, or be anything of the host.
        ensure!(
            path.parent() == Some(Path::new(STORE)) && path.file_name().is_some(),
            "it is no store path"
        );
        let there = fs::symlink_metadata(path).context("this host does not have it")?;
        match options {
            None if there.is_dir() => {
                let path = components(path.as_os_str().as_bytes())?;
                self.put(path, 0o555, (0, 0), Kind::Folder)
            }
            options => self.copy(path, options.as_ref()),
        }
    }

    /// Copies all at `path`, renamed. Links of the store are copied and not followed.
    fn copy(&mut self, path: &Path, options: Option<&Options>) -> Result<()> {
        let rules = Rules::new(options)?;
        let mut left = vec![path.to_path_buf()];
        while let Some(path) = left.pop() {
            let stat = fs::symlink_metadata(&path)?;
            let name = path.as_os_str().as_bytes();
            let (mode, owner) = rules.permissions(name, stat.mode() & 0o7777);
            let kind = if stat.is_dir() {
                let mut entries: Vec<_> = fs::read_dir(&path)?
                    .map(|entry| entry.map(|entry| entry.path()))
                    .collect::<io::Result<_>>()?;
                // Folders come before what is in them, and all in one order.
                entries.sort_unstable();
                left.extend(entries.into_iter().rev());
                Kind::Folder
            } else if stat.is_symlink() {
                Kind::Link(fs::read_link(&path)?.as_os_str().as_bytes().into())
            } else {
                let offset = self.offset;
                let bytes = io::copy(&mut File::open(&path)?, self.content)?;
                self.offset += bytes;
                Kind::File { offset, bytes }
            };
            let renamed = components(&rules.renamed(name))?;
            if renamed.is_empty() && kind != Kind::Folder {
                bail!("it would be the root, and is no folder");
            }
            self.put(renamed, mode, owner, kind)?;
        }
        Ok(())
    }

    fn put(
        &mut self,
        path: Vec<Vec<u8>>,
        mode: u32,
        (uid, gid): (u32, u32),
        kind: Kind,
    ) -> Result<()> {
        ensure!(
            self.entries.len() < ENTRIES_MAX,
            "it has more than {ENTRIES_MAX} files"
        );
        self.entries.push(Entry {
            path,
            mode,
            uid,
            gid,
            modified: MODIFIED,
            attributes: Vec::new(),
            kind,
        });
        Ok(())
    }
}

/// Options that can be applied.
struct Rules<'a> {
    rewrite: Option<(Regex, &'a str)>,
    permissions: Vec<(Regex, Option<u32>, &'a Permissions)>,
}

impl<'a> Rules<'a> {
    fn new(options: Option<&'a Options>) -> Result<Self> {
        let regex = |text: &str| {
            Regex::new(text).with_context(|| format!("{text:?} is no regular expression"))
        };
        let rewrite = options.and_then(|options| options.rewrite.as_ref());
        let permissions = options.and_then(|options| options.perms.as_deref());
        Ok(Self {
            rewrite: rewrite
                .map(|rewrite| Ok::<_, anyhow::Error>((regex(&rewrite.regex)?, &*rewrite.repl)))
                .transpose()?,
            permissions: permissions
                .unwrap_or_default()
                .iter()
                .map(|rule| Ok((regex(&rule.regex)?, rule.mode()?, rule)))
                .collect::<Result<_>>()?,
        })
    }

    fn renamed(&self, path: &[u8]) -> Vec<u8> {
        match &self.rewrite {
            Some((regex, replacement)) => {
                regex.replace_all(path, replacement.as_bytes()).into_owned()
            }
            None => path.into(),
        }
    }

    /// Mode and owner: the last rule that says one wins.
    fn permissions(&self, path: &[u8], mode: u32) -> (u32, (u32, u32)) {
        let rules = self.permissions.iter();
        let rules = rules.filter(|(regex, ..)| regex.is_match(path));
        rules.fold((mode, (0, 0)), |(mode, (uid, gid)), (_, is, rule)| {
            let owner = (rule.uid.unwrap_or(uid), rule.gid.unwrap_or(gid));
            (is.unwrap_or(mode), owner)
        })
    }
}

impl Permissions {
    /// The twelve bits, which the file has in octal.
    fn mode(&self) -> Result<Option<u32>> {
        let Some(mode) = self.mode.as_deref().filter(|mode| !mode.is_empty()) else {
            return Ok(None);
        };
        let bits = u32::from_str_radix(mode, 8).ok();
        let bits = bits.filter(|bits| *bits <= 0o7777);
        bits.map(Some)
            .with_context(|| format!("{mode:?} is no mode"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied(path: &Path, options: &serde_json::Value) -> Result<Vec<Entry>> {
        let options: Options = serde_json::from_value(options.clone())?;
        let mut content = Vec::new();
        let mut copy = Copy {
            entries: Vec::new(),
            offset: 0,
            content: &mut content,
        };
        copy.copy(path, Some(&options))?;
        Ok(copy.entries)
    }

    #[test]
    fn what_is_copied_gets_its_names_and_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("x-root");
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::write(root.join("bin/app"), "program").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("link")).unwrap();
        let options = json!({
            "rewrite": { "regex": format!("^{}", root.display()), "repl": "" },
            "perms": [
                { "regex": ".*", "mode": "0750", "uid": 1, "gid": 2, "uname": "x" },
                { "regex": "bin/app$", "mode": "4755" },
            ],
        });
        let entries = copied(&root, &options).unwrap();
        let facts: Vec<_> = entries
            .iter()
            .map(|entry| (entry.path.join(&b'/'), entry.mode, entry.uid, entry.gid))
            .collect();
        let expected = [
            ("", 0o750, 1, 2),
            ("bin", 0o750, 1, 2),
            ("bin/app", 0o4755, 1, 2),
            ("link", 0o750, 1, 2),
        ];
        let expected = expected.map(|(path, mode, uid, gid)| (path.into(), mode, uid, gid));
        assert_eq!(facts, expected);
        assert_eq!(entries[3].kind, Kind::Link(b"/etc/passwd".into()));
        let climbs = json!({ "rewrite": { "regex": "^.*/x-root", "repl": "../.." } });
        assert!(copied(&root, &climbs).is_err());
        let wrong = json!({ "perms": [{ "regex": "(", "mode": "1" }] });
        assert!(copied(&root, &wrong).is_err());
    }

    #[test]
    fn only_store_paths_of_this_host_are_taken() {
        let add = |path: &str| {
            let mut content = Vec::new();
            let mut copy = Copy {
                entries: Vec::new(),
                offset: 0,
                content: &mut content,
            };
            let (path, options) = (path.into(), None);
            copy.add(&Listed { path, options }).unwrap_err().to_string()
        };
        for path in [
            "/etc",
            "/nix/store",
            "/nix/store/../../etc",
            "/nix/store/a/b",
            "a",
        ] {
            assert_eq!(add(path), "it is no store path", "{path}");
        }
        let missing = add("/nix/store/0000000000000000000000000000000a-missing");
        assert_eq!(missing, "this host does not have it");
    }

    #[test]
    fn an_app_json_is_no_list() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.json");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            List::read(&path)
        };
        assert!(read(r#"{ "name": "a", "app": {} }"#).unwrap().is_none());
        assert!(read("not json").unwrap().is_none());
        let list = r#"{ "version": 1, "image-config": {}, "layers": [] }"#;
        assert!(read(list).unwrap().is_some());
        assert!(read(&list.replace("1,", "2,")).is_err());
    }
}

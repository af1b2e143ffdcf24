//! Layers and images that tests make, byte by byte: the library would refuse what hostile ones say.

use std::path::Path;

use serde_json::{Value, json};
use tar::{EntryType, Header};

use crate::Digest;

/// An archive, in the making.
#[derive(Clone, Default)]
pub struct Layer {
    bytes: Vec<u8>,
    attributes: Vec<(String, Vec<u8>)>,
    owner: (u64, u64),
    mode: Option<u32>,
}

impl Layer {
    pub fn new() -> Self {
        Self::default()
    }

    /// Of the next entry.
    pub fn attribute(mut self, name: &str, value: &[u8]) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// Of the next entry: mode and owner.
    pub fn owned(mut self, mode: u32, uid: u64, gid: u64) -> Self {
        (self.mode, self.owner) = (Some(mode), (uid, gid));
        self
    }

    pub fn folder(self, name: &str) -> Self {
        self.entry(name, b'5', "", &[], (0, 0))
    }

    pub fn file(self, name: &str, content: &str) -> Self {
        self.entry(name, b'0', "", content.as_bytes(), (0, 0))
    }

    pub fn link(self, name: &str, target: &str) -> Self {
        self.entry(name, b'2', target, &[], (0, 0))
    }

    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(name, b'1', target, &[], (0, 0))
    }

    pub fn special(self, name: &str, kind: u8, device: (u32, u32)) -> Self {
        self.entry(name, kind, "", &[], device)
    }

    /// The whole archive.
    pub fn bytes(&self) -> Vec<u8> {
        [&*self.bytes, &[0; 1024]].concat()
    }

    fn entry(
        mut self,
        name: &str,
        kind: u8,
        link: &str,
        content: &[u8],
        device: (u32, u32),
    ) -> Self {
        let mut pax = Vec::new();
        for (key, value) in std::mem::take(&mut self.attributes) {
            put_record(&mut pax, &format!("SCHILY.xattr.{key}"), &value);
        }
        if name.len() > 100 {
            put_record(&mut pax, "path", name.as_bytes());
        }
        if !pax.is_empty() {
            self.put("pax", b'x', "", &pax, (0, 0));
        }
        let short: String = name.chars().take(100).collect();
        self.put(&short, kind, link, content, device);
        (self.mode, self.owner) = (None, (0, 0));
        self
    }

    fn put(&mut self, name: &str, kind: u8, link: &str, content: &[u8], device: (u32, u32)) {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(EntryType::new(kind));
        header.set_size(content.len() as u64);
        let default = if kind == b'5' { 0o755 } else { 0o644 };
        header.set_mode(self.mode.unwrap_or(default));
        header.set_mtime(1);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_device_major(device.0).unwrap();
        header.set_device_minor(device.1).unwrap();
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(content);
        let whole = self.bytes.len().next_multiple_of(512);
        self.bytes.resize(whole, 0);
    }
}

/// `length key=value\n`, whose length counts itself.
fn put_record(to: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    to.extend_from_slice(format!("{length} {key}=").as_bytes());
    to.extend_from_slice(value);
    to.push(b'\n');
}

/// The configuration of an image of `layers`.
pub fn config(layers: &[Layer], config: &Value) -> Vec<u8> {
    let digests: Vec<_> = layers.iter().map(|one| Digest::of(&one.bytes())).collect();
    serde_json::to_vec(&json!({
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": digests },
    }))
    .unwrap()
}

/// What `docker save` writes, its manifest last, as dockerTools.streamLayeredImage has it.
pub fn docker_archive(layers: &[Layer], configuration: &Value) -> Vec<u8> {
    let config = config(layers, configuration);
    let mut archive = Layer::new();
    let mut names = Vec::new();
    for (nth, layer) in layers.iter().enumerate() {
        let (name, link) = (format!("{nth}.tar"), format!("{nth}/layer.tar"));
        archive.put(&name, b'0', "", &layer.bytes(), (0, 0));
        // As skopeo has it.
        archive.put(&link, b'2', &format!("../{name}"), &[], (0, 0));
        names.push(link);
    }
    archive.put("config.json", b'0', "", &config, (0, 0));
    let manifest = json!([{ "Config": "config.json", "RepoTags": ["test:1"], "Layers": names }]);
    let manifest = manifest.to_string();
    archive.put("manifest.json", b'0', "", manifest.as_bytes(), (0, 0));
    archive.bytes()
}

/// The files of an OCI layout: names and contents. Each layer is packed by `pack`, which tells the
/// end of its media type, too.
pub fn oci_files(
    layers: &[Layer],
    configuration: &Value,
    pack: impl Fn(&[u8]) -> (Vec<u8>, &'static str),
) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut blob = |bytes: Vec<u8>, media_type: String| {
        let digest = Digest::of(&bytes);
        let descriptor = json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
        files.push((format!("blobs/sha256/{}", digest.hex()), bytes));
        descriptor
    };
    let kind = |name: &str| format!("application/vnd.oci.image.{name}");
    let config = blob(config(layers, configuration), kind("config.v1+json"));
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| {
            let (bytes, end) = pack(&layer.bytes());
            blob(bytes, kind(&format!("layer.v1.tar{end}")))
        })
        .collect();
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
    let mut manifest = blob(manifest.to_string().into(), kind("manifest.v1+json"));
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": "test" });
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    files.push(("index.json".into(), index.to_string().into()));
    files.push((
        "oci-layout".into(),
        b"{\"imageLayoutVersion\":\"1.0.0\"}".into(),
    ));
    files
}

/// Files in an archive.
pub fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Layer::new();
    for (name, bytes) in files {
        archive.put(name, b'0', "", bytes, (0, 0));
    }
    archive.bytes()
}

/// Files in a folder.
pub fn write(folder: &Path, files: &[(String, Vec<u8>)]) {
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

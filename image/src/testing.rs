//! Layers and images that tests make, byte by byte: the library would refuse what hostile ones say.

use std::io::Write;
use std::path::Path;

use lzma_rust2::{XzOptions, XzWriter};
use serde_json::{Value, json};
use tar::{EntryType, Header};

use crate::Digest;

/// An archive, in the making.
#[derive(Clone, Default)]
pub struct Layer {
    bytes: Vec<u8>,
    records: Vec<(String, Vec<u8>)>,
    owner: (u64, u64),
    mode: Option<u32>,
}

impl Layer {
    pub fn new() -> Self {
        Self::default()
    }

    /// Of the next entry.
    pub fn attribute(self, name: &str, value: &[u8]) -> Self {
        self.record(&format!("SCHILY.xattr.{name}"), value)
    }

    /// Of the extended header of the next entry.
    pub fn record(mut self, key: &str, value: &[u8]) -> Self {
        self.records.push((key.into(), value.into()));
        self
    }

    /// Another one behind this.
    pub fn join(mut self, other: &Self) -> Self {
        self.bytes.extend_from_slice(&other.bytes);
        self
    }

    pub fn bytes_file(self, name: &str, content: &[u8]) -> Self {
        self.entry(name, b'0', "", content, (0, 0))
    }

    /// A file whose header says another length than it has.
    pub fn raw_file(self, name: &str, told: u64, content: &[u8]) -> Self {
        let mut layer = self.entry(name, b'0', "", content, (0, 0));
        let at = layer.bytes.len() - content.len().next_multiple_of(512) - 512;
        let mut header = Header::new_ustar();
        let place = &mut layer.bytes[at..at + 512];
        header.as_mut_bytes().copy_from_slice(place);
        header.set_size(told);
        header.set_cksum();
        place.copy_from_slice(header.as_bytes());
        layer
    }

    /// A sparse file of the old format: its length, and its pieces.
    pub fn sparse(mut self, name: &str, bytes: u64, pieces: &[(u64, &[u8])]) -> Self {
        let content: Vec<u8> = pieces
            .iter()
            .flat_map(|(_, bytes)| *bytes)
            .copied()
            .collect();
        let mut header = Header::new_gnu();
        header.set_path(name).unwrap();
        header.set_entry_type(EntryType::GNUSparse);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1);
        header.set_uid(0);
        header.set_gid(0);
        let (first, rest) = pieces.split_at(pieces.len().min(4));
        let gnu = header.as_gnu_mut().unwrap();
        gnu.set_real_size(bytes);
        gnu.set_is_extended(!rest.is_empty());
        for (to, piece) in gnu.sparse.iter_mut().zip(first) {
            put_piece(to, piece);
        }
        header.set_cksum();
        self.bytes.extend(header.as_bytes());
        let mut left = rest.chunks(21).peekable();
        while let Some(pieces) = left.next() {
            let mut more = tar::GnuExtSparseHeader::new();
            more.isextended[0] = left.peek().is_some().into();
            for (to, piece) in more.sparse.iter_mut().zip(pieces) {
                put_piece(to, piece);
            }
            self.bytes.extend(more.as_bytes());
        }
        self.bytes.extend(content);
        let whole = self.bytes.len().next_multiple_of(512);
        self.bytes.resize(whole, 0);
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
        for (key, value) in std::mem::take(&mut self.records) {
            put_record(&mut pax, &key, &value);
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

fn put_piece(to: &mut tar::GnuSparseHeader, (offset, bytes): &(u64, &[u8])) {
    for (field, number) in [
        (&mut to.offset, *offset),
        (&mut to.numbytes, bytes.len() as u64),
    ] {
        let digits = format!("{number:011o}\0");
        if let Ok(digits) = digits.as_bytes().try_into() {
            *field = digits;
        } else {
            // As GNU tar has what is too large for digits.
            field[0] = 0x80;
            field[4..].copy_from_slice(&number.to_be_bytes());
        }
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

/// A sparse file in each form of GNU tar: its length, and its pieces.
pub fn sparse_forms(name: &str, bytes: u64, pieces: &[(u64, &[u8])]) -> Vec<(&'static str, Layer)> {
    let content: Vec<u8> = pieces
        .iter()
        .flat_map(|(_, piece)| *piece)
        .copied()
        .collect();
    let numbers = pieces
        .iter()
        .flat_map(|(offset, piece)| [offset.to_string(), piece.len().to_string()]);
    let numbers: Vec<_> = numbers.collect();
    let (length, count) = (bytes.to_string(), pieces.len().to_string());
    let record = |layer: Layer, key: &str, value: &str| {
        layer.record(&format!("GNU.sparse.{key}"), value.as_bytes())
    };
    let sized = record(Layer::new(), "size", &length);
    let sized = record(sized, "numblocks", &count);
    let oldest = numbers.chunks(2).fold(sized.clone(), |layer, piece| {
        record(record(layer, "offset", &piece[0]), "numbytes", &piece[1])
    });
    // Without pieces it says nothing of a map.
    let oldest = if pieces.is_empty() {
        record(oldest, "map", "")
    } else {
        oldest
    };
    let named = record(sized, "name", name);
    let second = record(named, "map", &numbers.join(","));
    let third = [
        ("major", "1"),
        ("minor", "0"),
        ("name", name),
        ("realsize", &length),
    ];
    let third = third.into_iter().fold(Layer::new(), |layer, (key, value)| {
        record(layer, key, value)
    });
    let lines = [[count].as_slice(), &numbers, &[String::new()]].concat();
    let mut map = lines.join("\n").into_bytes();
    map.resize(map.len().next_multiple_of(512), 0);
    vec![
        ("old", Layer::new().sparse(name, bytes, pieces)),
        ("0.0", oldest.bytes_file(name, &content)),
        ("0.1", second.bytes_file("GNUSparseFile.1/x", &content)),
        (
            "1.0",
            third.bytes_file("GNUSparseFile.1/x", &[map, content].concat()),
        ),
    ]
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

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = XzWriter::new(Vec::new(), XzOptions::with_preset(0)).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

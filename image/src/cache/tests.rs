//! Images of every format, read into a cache.

mod several;

use devices::virtio::fs::catalog::Body;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::testing::{Layer, archive, bzip2, docker_archive, gzip, oci_files, write, xz};

fn layers() -> Vec<Layer> {
    vec![
        Layer::new()
            .folder("d")
            .file("d/a", "one")
            .file("d/b", "two"),
        Layer::new().file("d/.wh.a", "").link("l", "d"),
    ]
}

fn configuration() -> Value {
    json!({ "Cmd": ["/d/b"], "WorkingDir": "/srv/www", "Volumes": { "/scratch": {} } })
}

fn cache() -> (TempDir, Cache) {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&folder.path().join("images")).unwrap();
    (folder, cache)
}

/// Reads an image's bytes as a file.
fn read(bytes: &[u8]) -> Result<(Image, Vec<String>)> {
    let (folder, cache) = cache();
    let path = folder.path().join("image.tar");
    fs::write(&path, bytes).unwrap();
    let image = cache.read(&path, None)?;
    let names = names(&cache.catalog(&image)?.0);
    Ok((image, names))
}

/// The names at the top.
fn names(catalog: &Catalog) -> Vec<String> {
    match &catalog.nodes()[0].body {
        Body::Directory(entries) => {
            let names = entries.iter();
            names
                .map(|(name, _)| String::from_utf8_lossy(name).into_owned())
                .collect()
        }
        _ => panic!("the root is no directory"),
    }
}

fn error(bytes: &[u8]) -> String {
    format!("{:#}", read(bytes).unwrap_err())
}

type Pack = fn(&[u8]) -> Vec<u8>;

#[test]
fn every_format_is_the_same_image() {
    let plain = |bytes: &[u8]| bytes.to_vec();
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 0).unwrap();
    let forms: [(Pack, &str); 5] = [
        (plain, ""),
        (gzip, "+gzip"),
        (zstd, "+zstd"),
        (xz, "+xz"),
        (bzip2, "+bzip2"),
    ];
    let saved = docker_archive(&layers(), &configuration());
    let (folder, cache) = cache();
    let mut ids = Vec::new();
    for (pack, end) in forms {
        let files = oci_files(&layers(), &configuration(), |bytes| (pack(bytes), end));
        let path = folder.path().join(format!("layout{end}"));
        write(&path, &files);
        ids.push(cache.read(&path, None).unwrap().id);
        for bytes in [archive(&files), pack(&saved)] {
            let (image, names) = read(&bytes).unwrap();
            assert_eq!(names, ["d", "l", "scratch", "srv"]);
            assert_eq!(image.config.cmd, Some(vec!["/d/b".into()]));
            ids.push(image.id);
        }
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

#[test]
fn a_stream_is_an_image_too() {
    let (_folder, cache) = cache();
    let bytes = docker_archive(&layers(), &configuration());
    let image = cache
        .read_stream(std::io::Cursor::new(bytes), None)
        .unwrap();
    assert_eq!(image.layers.len(), 2);
}

#[test]
fn what_is_not_what_its_digest_says_is_refused() {
    let mut files = oci_files(&layers(), &json!({}), |bytes| (bytes.into(), ""));
    // The first layer is the second of the blobs; behind two headers is a file's content.
    files[1].1[1025] ^= 1;
    let words = error(&archive(&files));
    assert!(words.contains("image.tar: layer 1: "), "{words}");
    assert!(words.contains("its digest is sha256:"), "{words}");
    let mut files = oci_files(&layers(), &json!({}), |bytes| (bytes.into(), ""));
    files[0].1.push(b' ');
    let words = error(&archive(&files));
    assert!(words.contains("the digest of blob sha256:"), "{words}");
}

#[test]
fn a_layer_that_is_refused_leaves_nothing() {
    let (folder, cache) = cache();
    let path = folder.path().join("image.tar");
    let hostile = Layer::new().file("ok", "x").file("../../escape", "x");
    fs::write(&path, docker_archive(&[hostile], &json!({}))).unwrap();
    let words = format!("{:#}", cache.read(&path, None).unwrap_err());
    assert!(
        words.ends_with(
            "layer 1: entry \"../../escape\": its name has \"..\" in it, which could lead out of \
             the image"
        ),
        "{words}"
    );
    for kind in [IMAGES, LAYERS] {
        let left = fs::read_dir(folder.path().join("images").join(kind)).unwrap();
        assert_eq!(left.count(), 0);
    }
    assert!(!folder.path().join("escape").exists());
}

#[test]
fn a_layer_is_unpacked_once() {
    let (folder, cache) = cache();
    let path = folder.path().join("image.tar");
    fs::write(&path, docker_archive(&layers(), &json!({}))).unwrap();
    let image = cache.read(&path, None).unwrap();
    let index = cache.path(LAYERS, &image.layers[0]).join("index");
    let before = fs::metadata(&index).unwrap().modified().unwrap();
    cache.read(&path, None).unwrap();
    assert_eq!(fs::metadata(&index).unwrap().modified().unwrap(), before);
}

#[test]
fn two_may_read_one_image_at_once() {
    let (folder, cache) = cache();
    let path = folder.path().join("image.tar");
    fs::write(&path, docker_archive(&layers(), &json!({}))).unwrap();
    let ids: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| cache.read(&path, None)))
            .collect();
        let ids = threads
            .into_iter()
            .map(|one| one.join().unwrap().unwrap().id);
        ids.collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(
        fs::read_dir(folder.path().join("images/layers"))
            .unwrap()
            .count(),
        2
    );
}

#[test]
fn what_nobody_needs_goes() {
    let (folder, cache) = cache();
    let path = folder.path().join("image.tar");
    let read = |layers: &[Layer]| {
        fs::write(&path, docker_archive(layers, &json!({}))).unwrap();
        cache.read(&path, None).unwrap()
    };
    let (both, first) = (read(&layers()), read(&layers()[..1]));
    fs::create_dir(folder.path().join("images/layers/.new-1-0")).unwrap();
    assert_eq!(
        cache.prune(&BTreeSet::from([first.id.clone()])).unwrap(),
        std::slice::from_ref(&both.id)
    );
    assert_eq!(
        fs::read_dir(folder.path().join("images/layers"))
            .unwrap()
            .count(),
        1
    );
    assert!(cache.catalog(&first).is_ok());
    let gone = cache.image(&both.id).unwrap_err().to_string();
    assert!(gone.ends_with("any more: run its file again"), "{gone}");
}

#[test]
fn what_is_no_image_is_told() {
    let neither = archive(&[("a".into(), b"b".to_vec())]);
    assert!(error(&neither).ends_with("nor oci-layout, as OCI archives have it"));
    let missing = json!([{ "Config": "../../etc/passwd", "RepoTags": null, "Layers": [] }]);
    let missing = archive(&[("manifest.json".into(), missing.to_string().into())]);
    assert!(error(&missing).ends_with("the archive has no \"../../etc/passwd\""));
}

#[test]
fn a_layout_of_something_else_is_told() {
    let refusal = |change: &dyn Fn(&mut Value, &mut Value)| {
        let mut files = oci_files(&layers(), &json!({}), |bytes| (bytes.into(), ""));
        let manifest = files
            .iter()
            .rposition(|(_, bytes)| bytes.starts_with(b"{\"config\""));
        let manifest = manifest.unwrap();
        let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let mut inner = parse(&files[manifest].1);
        let index = files
            .iter()
            .position(|(name, _)| name == "index.json")
            .unwrap();
        let mut outer = parse(&files[index].1);
        change(&mut inner, &mut outer);
        let bytes = inner.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        outer["manifests"][0]["digest"] = json!(digest);
        files[manifest] = (format!("blobs/sha256/{}", digest.hex()), bytes);
        files[index].1 = outer.to_string().into();
        error(&archive(&files))
    };
    let layer = "application/vnd.oci.image.layer.v1";
    let chart = "application/vnd.cncf.helm.config.v1+json";
    let words = refusal(&|inner, _| inner["config"]["mediaType"] = json!(chart));
    let expected = format!("it is no container image: its configuration is \"{chart}\"");
    assert!(words.ends_with(&expected), "{words}");
    let words = refusal(&|inner, _| {
        inner["layers"][1]["mediaType"] = json!(format!("{layer}.tar+gzip+encrypted"));
    });
    assert!(words.ends_with("layer 2: it is encrypted"), "{words}");
    let words = refusal(&|inner, _| inner["layers"][0]["mediaType"] = json!("text/plain"));
    assert!(
        words.ends_with("layer 1: it is no archive, but \"text/plain\""),
        "{words}"
    );

    let platform = |os: &str, machine: &str| json!({ "os": os, "architecture": machine });
    let words = refusal(&|_, outer| {
        let one = outer["manifests"][0].clone();
        outer["manifests"] = json!([one, one, one]);
        outer["manifests"][0]["platform"] = platform("linux", "arm64");
        outer["manifests"][1]["platform"] = platform("unknown", "unknown");
        outer["manifests"][2]["platform"] = platform("linux", "riscv64");
    });
    let expected = "it holds no image for linux/amd64 (but for: linux/arm64, linux/riscv64)";
    assert!(words.ends_with(expected), "{words}");
}

#[test]
fn an_archive_that_is_cut_off_is_told() {
    let saved = docker_archive(&layers(), &configuration());
    for bytes in [700, 1600, saved.len() - 2000] {
        let words = error(&saved[..bytes]);
        assert!(
            words.ends_with("the archive is cut off"),
            "{bytes}: {words}"
        );
    }
    for pack in [gzip, xz, bzip2] {
        let packed = pack(&saved);
        let words = error(&packed[..packed.len() - 20]);
        let end = "image.tar: the archive is cut off";
        assert!(words.ends_with(end), "{words}");
    }
}

#[test]
fn what_is_in_the_place_of_the_machines_own_folders_is_refused() {
    let (_folder, cache) = cache();
    let layer = Layer::new().link("proc", "/tmp");
    let bytes = docker_archive(&[layer], &json!({}));
    let image = cache
        .read_stream(std::io::Cursor::new(bytes), None)
        .unwrap();
    let words = cache.catalog(&image).map(drop).unwrap_err().to_string();
    assert_eq!(
        words,
        "the image's /proc is no folder, and a machine has its own there"
    );
}

//! What `umoci unpack` makes of the same images, file by file: owners, modes, device numbers, times,
//! links, extended attributes, content. Needs root, for that is who umoci unpacks owners as.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use devices::virtio::fs::catalog::Body;
use serde_json::json;

use super::*;
use crate::testing::{Layer, oci_files, sparse_forms, write};

/// One file, as both sides tell it.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    mode: u32,
    owner: (u32, u32),
    rdev: u64,
    modified: Option<(i64, u32)>,
    links: Option<u64>,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    content: Vec<u8>,
}

type Tree = BTreeMap<Vec<u8>, Facts>;

/// The files of a catalog by their paths.
fn ours(catalog: &Catalog) -> Tree {
    let mut names = vec![0; catalog.nodes().len()];
    for node in catalog.nodes() {
        if let Body::Directory(entries) = &node.body {
            for (_, child) in entries {
                names[*child as usize] += 1;
            }
        }
    }
    let mut tree = Tree::new();
    let mut left = vec![(Vec::new(), 0)];
    while let Some((path, number)) = left.pop() {
        let node = &catalog.nodes()[number];
        let mut links = Some(names[number]);
        let content = match &node.body {
            Body::File(extent) => catalog.read(extent).unwrap(),
            Body::Link(target) => target.to_vec(),
            Body::Special => Vec::new(),
            Body::Directory(entries) => {
                for (name, child) in entries {
                    left.push(([&path[..], b"/", name].concat(), *child as usize));
                }
                links = None;
                Vec::new()
            }
        };
        let rdev = u64::from(node.rdev);
        let facts = Facts {
            mode: node.mode,
            owner: (node.uid, node.gid),
            rdev,
            // Of a folder it is the moment in which umoci last took something out of it.
            modified: links.map(|_| node.modified),
            links,
            attributes: node
                .attributes
                .iter()
                .map(|(name, value)| (name.to_vec(), value.to_vec()))
                .collect(),
            content,
        };
        tree.insert(path, facts);
    }
    tree
}

/// The files below a folder of the host by their paths in it.
fn theirs(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(path) = left.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes();
        let name = match name {
            b"" => Vec::new(),
            name => [b"/", name].concat(),
        };
        let content = match stat.mode() & 0o170_000 {
            0o100_000 => fs::read(&path).unwrap(),
            0o120_000 => fs::read_link(&path).unwrap().as_os_str().as_bytes().into(),
            0o040_000 => {
                let entries = fs::read_dir(&path).unwrap();
                left.extend(entries.map(|entry| entry.unwrap().path()));
                Vec::new()
            }
            _ => Vec::new(),
        };
        let modified = (stat.mtime(), u32::try_from(stat.mtime_nsec()).unwrap());
        let facts = Facts {
            mode: stat.mode(),
            owner: (stat.uid(), stat.gid()),
            rdev: stat.rdev(),
            modified: (!stat.is_dir()).then_some(modified),
            links: (!stat.is_dir()).then_some(stat.nlink()),
            attributes: attributes(&path),
            content,
        };
        tree.insert(name, facts);
    }
    tree
}

fn attributes(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let bytes = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..bytes].split(|byte| *byte == 0);
    let names = names.filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let bytes = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            value.truncate(bytes);
            (name.to_vec(), value)
        })
        .collect()
}

/// Reads an image here and has umoci unpack it.
fn compare(what: &str, layers: &[Layer]) {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    write(
        &layout,
        &oci_files(layers, &json!({}), |bytes| (bytes.into(), "")),
    );
    let cache = Cache::open(&folder.path().join("images")).unwrap();
    let image = cache.read(&layout, None).unwrap();
    let ours = ours(&cache.catalog(&image).unwrap().0);
    let program = std::env::var_os("MVM_UMOCI").expect("tests/oracle says where umoci is");
    let bundle = folder.path().join("bundle");
    let output = Command::new(program)
        .arg("unpack")
        .arg("--image")
        .arg(format!("{}:test", layout.display()))
        .arg(&bundle)
        .output()
        .unwrap();
    assert!(output.status.success(), "{what}: {output:?}");
    let theirs = theirs(&bundle.join("rootfs"));
    let names = |tree: &Tree| {
        let names = tree
            .keys()
            .map(|name| String::from_utf8_lossy(name).into_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(&ours), names(&theirs), "{what}");
    for ((name, ours), theirs) in ours.iter().zip(theirs.values()) {
        assert_eq!(ours, theirs, "{what}: {}", String::from_utf8_lossy(name));
    }
}

/// All that is known to go wrong in one image.
fn torture() -> Vec<Layer> {
    let capability =
        b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let lower = Layer::new()
        .owned(0o711, 0, 0)
        .folder("./")
        .folder("bin")
        .owned(0o755, 0, 0)
        .file("bin/busybox", "program")
        .link("bin/sh", "busybox")
        .folder("etc")
        .file("etc/passwd", "root:x:0:0::/:/bin/sh\n")
        .file("etc/gone", "x")
        .file("etc/changed", "old")
        .folder("opaque")
        .file("opaque/lower", "x")
        .folder("swap")
        .file("swap/in", "x")
        .link("swap2", "etc")
        .owned(0o1777, 0, 0)
        .folder("tmp")
        .owned(0o700, 1000, 1000)
        .folder("data")
        .owned(0o600, 1000, 1000)
        .file("data/file", &"d".repeat(5000))
        .hard_link("data/hard", "data/file")
        .owned(0o4755, 0, 0)
        .file("bin/suid", "x")
        .owned(0o2755, 0, 5)
        .folder("sgid")
        .special("fifo", b'6', (0, 0))
        .special("null", b'3', (1, 3))
        .special("large", b'4', (259, 0x20_0003 & 0xf_ffff))
        .file(&format!("{}/{}", "x".repeat(90), "y".repeat(120)), "long")
        .attribute("user.test", b"1")
        .attribute("security.capability", capability)
        .file("etc/x", "v")
        .attribute("user.folder", b"\x00binary")
        .folder("attributed");
    let upper = Layer::new()
        .file("etc/.wh.gone", "")
        .file("etc/changed", "new")
        .folder("opaque")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/upper", "x")
        .link("swap", "etc")
        .folder("swap2")
        .file("swap2/now-folder", "x")
        .file("./srv/index.html", "<h1>image</h1>\n")
        .file("/abs/path", "abs")
        .owned(0o755, 3, 4)
        .folder("attributed")
        .hard_link("data/third", "data/hard");
    vec![lower, upper]
}

#[test]
fn the_torture_image_is_as_the_oracle_has_it() {
    compare("torture", &torture());
}

#[test]
fn sparse_files_are_as_the_oracle_has_them() {
    let many: Vec<_> = (0..40).map(|nth| (nth * 1000, &b"piece"[..])).collect();
    for (form, layer) in sparse_forms("sparse", 50_000, &many) {
        // Of the old format it says that it does not know it.
        if form != "old" {
            compare(form, &[layer.file("behind", "x")]);
        }
    }
}

#[test]
fn sparse_files_of_gnu_tar_are_what_they_were() {
    use std::io::{Seek, SeekFrom, Write};
    use std::os::unix::fs::FileExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse");
    let mut file = File::create(&path).unwrap();
    for nth in 0..60 {
        file.seek(SeekFrom::Start(nth * 100_000)).unwrap();
        file.write_all(format!("piece {nth}").as_bytes()).unwrap();
    }
    file.set_len(10_000_000).unwrap();
    let expected = fs::read(&path).unwrap();
    for form in [
        &["--format=gnu"][..],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        let mut tar = Command::new("tar");
        tar.args(["--create", "--sparse"])
            .args(form)
            .arg("--directory");
        let output = tar.arg(folder.path()).arg("sparse").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(output.stdout.len() < 1_000_000, "tar saw no holes");
        let to = tempfile::tempdir().unwrap();
        layer::unpack(&*output.stdout, &Digest::of(&output.stdout), to.path()).unwrap();
        let entries = layer::entries(to.path()).unwrap();
        let crate::entries::Kind::File { offset, bytes } = entries[0].kind else {
            panic!("{entries:?}");
        };
        let mut content = vec![0; usize::try_from(bytes).unwrap()];
        let of_layer = layer::content(to.path()).unwrap();
        of_layer.read_exact_at(&mut content, offset).unwrap();
        assert!(content == expected, "{form:?}");
    }
}

#[test]
fn every_case_of_the_table_is_as_the_oracle_has_it() {
    let new = Layer::new;
    let base = || {
        new()
            .folder("d")
            .file("d/a", "1")
            .file("d/b", "2")
            .file("f", "3")
    };
    for (what, layers) in [
        ("a file over a folder", vec![base(), new().file("d", "x")]),
        (
            "a folder over a file",
            vec![base(), new().folder("f").file("f/in", "x")],
        ),
        (
            "a folder over a link",
            vec![base(), new().link("d", "f"), new().folder("d")],
        ),
        ("a link over a file", vec![base(), new().link("f", "d")]),
        (
            "a whiteout of a folder",
            vec![base(), new().file(".wh.d", "")],
        ),
        (
            "a whiteout of nothing",
            vec![base(), new().file("d/.wh.x", "")],
        ),
        (
            "a whiteout behind",
            vec![base(), new().file("d/a", "new").file("d/.wh.a", "")],
        ),
        (
            "a whiteout before",
            vec![base(), new().file("d/.wh.a", "").file("d/a", "new")],
        ),
        (
            "a whiteout of a folder with news",
            vec![base(), new().file("d/c", "4").file(".wh.d", "")],
        ),
        (
            "opaque behind",
            vec![base(), new().file("d/c", "4").file("d/.wh..wh..opq", "")],
        ),
        (
            "opaque above news",
            vec![
                base().folder("d/e").file("d/e/old", "5"),
                new().file("d/e/new", "6").file("d/.wh..wh..opq", ""),
            ],
        ),
        (
            "again",
            vec![base(), new().file(".wh.f", ""), new().file("f", "again")],
        ),
        (
            "through a link",
            vec![base().link("l", "d"), new().file("l/c", "4")],
        ),
        (
            "through a link that climbs",
            vec![base().link("l", "../../../d"), new().file("l/c", "4")],
        ),
        (
            "through an absolute link",
            vec![base().link("etc", "/d"), new().file("etc/x", "4")],
        ),
        (
            "through a link to nowhere",
            vec![new().link("l", "/far/away").file("l/x", "1")],
        ),
        (
            "whiteout through a link",
            vec![base().link("l", "d"), new().file("l/.wh.a", "")],
        ),
        (
            "hard links and replacement",
            vec![
                new()
                    .file("a", "1")
                    .hard_link("b", "a")
                    .link("l", "a")
                    .hard_link("m", "l"),
                new().file("a", "new").hard_link("c", "b"),
            ],
        ),
        (
            "facts without content",
            vec![
                base(),
                new()
                    .owned(0o700, 5, 6)
                    .folder("d")
                    .owned(0o711, 7, 8)
                    .folder("./"),
            ],
        ),
    ] {
        compare(what, &layers);
    }
}

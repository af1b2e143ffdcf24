//! Images as nixpkgs' dockerTools write them: the layouts of `buildImage` and of `streamLayeredImage`,
//! which `buildLayeredImage` packs.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Result;
use flate2::{Compression, write::GzEncoder};
use mvm_test::{Machine, Machines, fixture};
use serde_json::{Value, json};
use tar::EntryType;
use tempfile::tempdir;

use crate::images::{Archive, machine, sha256};

/// What no host has.
const ELSEWHERE: &str = "/nix/store/0000000000000000000000000000000a-elsewhere";

/// A store path as both write it, with `root` before its names: all root's, and of the first second.
fn add_path(layer: Archive, root: &str, path: &Path) -> Archive {
    let name = format!("{root}{}", path.display());
    let facts = fs::symlink_metadata(path).unwrap();
    if facts.is_symlink() {
        let target = fs::read_link(path).unwrap();
        let target = String::from_utf8_lossy(target.as_os_str().as_bytes()).into_owned();
        return layer.link(&name, &target);
    }
    if facts.is_file() {
        let content = fs::read(path).unwrap();
        return layer.entry(&name, EntryType::Regular, 0o555, &content);
    }
    let layer = layer.entry(&name, EntryType::Directory, 0o555, &[]);
    let entries = fs::read_dir(path).unwrap();
    let mut entries: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
        .iter()
        .fold(layer, |layer, path| add_path(layer, root, path))
}

/// The folders that each layer with store paths begins with.
fn of_store(root: &str) -> Archive {
    Archive::default()
        .folder(&format!("{root}/nix"))
        .folder(&format!("{root}/nix/store"))
}

/// A path that only the image has.
fn add_elsewhere(layer: Archive, root: &str) -> Archive {
    let folder = EntryType::Directory;
    layer
        .entry(&format!("{root}{ELSEWHERE}"), folder, 0o555, &[])
        .entry(
            &format!("{root}{ELSEWHERE}/passwd"),
            EntryType::Regular,
            0o444,
            b"root:x:0:0::/:/bin/sh\nweb:x:1000:1000::/data:/bin/sh\n",
        )
}

/// What `contents` and `fakeRootCommands` come to: links to the store, and files of anybody.
fn customisation(layer: Archive, bin: &str) -> Archive {
    let (folder, file, hard) = (EntryType::Directory, EntryType::Regular, EntryType::Link);
    let owner = (1000, 1000);
    layer
        .entry("./", folder, 0o755, &[])
        .link("./bin", bin)
        .folder("./etc")
        .link("./etc/passwd", &format!("{ELSEWHERE}/passwd"))
        .entry("./tmp", folder, 0o1777, &[])
        .full("./data", folder, 0o750, owner, "", &[])
        .full("./data/one", file, 0o640, owner, "", b"content\n")
        .full("./data/two", hard, 0o640, owner, "./data/one", &[])
}

fn config(digests: &[String]) -> Vec<u8> {
    let script = "id -un; pwd; stat -c '%a %u:%g %h %Y' . one two; cat two; stat -c %a /tmp
        readlink /bin; readlink /etc/passwd; echo $GREETING; ls /nix/store | wc -l; touch /nix/store/x 2>&1";
    let config = json!({
        "created": "1970-01-01T00:00:01+00:00", "architecture": "amd64", "os": "linux",
        "config": {
            "Cmd": ["/bin/sh", "-c", script], "User": "web", "WorkingDir": "/data",
            "Env": ["PATH=/bin", "GREETING=hello"],
        },
        "rootfs": { "type": "layers", "diff_ids": digests },
        "history": digests.iter().map(|_| json!({ "created": "1970-01-01T00:00:01+00:00" })).collect::<Vec<_>>(),
    });
    serde_json::to_vec_pretty(&config).unwrap()
}

fn manifest(config: &str, layers: &[String]) -> Vec<u8> {
    let manifest = json!([{ "Config": config, "RepoTags": ["web:tag"], "Layers": layers }]);
    manifest.to_string().into_bytes()
}

fn add(archive: Archive, name: &str, content: &[u8]) -> Archive {
    archive.entry(name, EntryType::Regular, 0o444, content)
}

/// `streamLayeredImage`: absolute names, a layer for each store path, the customisation as the last;
/// its manifest comes when all layers have gone.
fn streamed(busybox: &str) -> Vec<u8> {
    let layers = [
        add_path(of_store(""), "", Path::new(busybox)),
        add_elsewhere(of_store(""), ""),
        customisation(Archive::default(), &format!("{busybox}/bin")),
    ];
    let layers = layers.map(|layer| padded(layer.finish()));
    let digests: Vec<_> = layers.iter().map(|layer| sha256(layer)).collect();
    let hex = |digest: &String| digest.trim_start_matches("sha256:").to_owned();
    let names: Vec<_> = digests
        .iter()
        .map(|id| format!("{}/layer.tar", hex(id)))
        .collect();
    let archive = names.iter().zip(&layers);
    let archive = archive.fold(Archive::default(), |archive, (name, layer)| {
        add(archive, name, layer)
    });
    let config = config(&digests);
    let name = format!("{}.json", hex(&sha256(&config)));
    let archive = add(archive, &name, &config);
    padded(add(archive, "manifest.json", &manifest(&name, &names)).finish())
}

/// Python's tarfile fills a record.
fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(10_240), 0);
    bytes
}

/// `buildImage`: all in one layer, in a folder with what Docker 1.0 wanted beside it, packed by gzip.
fn built(busybox: &str) -> Vec<u8> {
    let layer = add_path(of_store("."), ".", Path::new(busybox));
    let layer = customisation(add_elsewhere(layer, "."), &format!("{busybox}/bin")).finish();
    let digest = sha256(&layer);
    let hex = digest.trim_start_matches("sha256:");
    let config = config(std::slice::from_ref(&digest));
    let name = format!("{}.json", sha256(&config).trim_start_matches("sha256:"));
    let repositories: Value = json!({ "web": { "tag": hex } });
    let archive = Archive::default().entry("./", EntryType::Directory, 0o755, &[]);
    let archive = add(archive, &format!("./{name}"), &config).folder(&format!("./{hex}"));
    let archive = add(archive, &format!("./{hex}/VERSION"), b"1.0");
    let archive = add(archive, &format!("./{hex}/json"), b"{}");
    let archive = add(archive, &format!("./{hex}/layer.tar"), &layer);
    let manifest = manifest(&name, &[format!("{hex}/layer.tar")]);
    let archive = add(archive, "./manifest.json", &manifest);
    let archive = add(
        archive,
        "./repositories",
        repositories.to_string().as_bytes(),
    );
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&archive.finish()).unwrap();
    packed.finish().unwrap()
}

#[test]
fn what_docker_tools_write_runs_with_the_hosts_store_paths() -> Result<()> {
    let (machines, folder) = (Machines::new()?, tempdir()?);
    let busybox = fixture("busybox");
    let expected = format!(
        "web\n/data\n750 1000:1000 2 1\n640 1000:1000 2 1\n640 1000:1000 2 1\ncontent\n1777\n\
         {busybox}/bin\n{ELSEWHERE}/passwd\nhello\n2\n\
         touch: /nix/store/x: Read-only file system\n"
    );
    let image = built(&busybox);
    let path = folder.path().join("web.tar.gz");
    let output = machine(&machines, &path, &image)?.run()?;
    assert_eq!(output.stdout(), expected, "{output}");
    let on_stdin = Machine::of_file("-").flag("--memory=128M");
    let output = machines.own(on_stdin.input(streamed(&busybox))).run()?;
    assert_eq!(output.stdout(), expected, "{output}");
    Ok(())
}

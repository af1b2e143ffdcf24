//! Container images as roots: what `docker run` would make of them, and what hostile ones try.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Result;
use mvm_test::{Machine, Machines, fixture};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};
use tempfile::tempdir;

use crate::store::openings;
use crate::until;

/// An archive in the making, whose names may be what the library would refuse.
#[derive(Default)]
pub struct Archive(Vec<u8>);

impl Archive {
    pub fn entry(self, name: &str, kind: EntryType, mode: u32, content: &[u8]) -> Self {
        self.full(name, kind, mode, (0, 0), "", content)
    }

    pub fn folder(self, name: &str) -> Self {
        self.entry(name, EntryType::Directory, 0o755, &[])
    }

    pub fn file(self, name: &str, content: &str) -> Self {
        self.entry(name, EntryType::Regular, 0o644, content.as_bytes())
    }

    pub fn link(self, name: &str, target: &str) -> Self {
        self.full(name, EntryType::Symlink, 0o777, (0, 0), target, &[])
    }

    pub fn full(
        mut self,
        name: &str,
        kind: EntryType,
        mode: u32,
        (uid, gid): (u64, u64),
        link: &str,
        content: &[u8],
    ) -> Self {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_gid(gid);
        header.set_mtime(1);
        header.set_size(content.len() as u64);
        if kind.is_character_special() {
            // /dev/kmsg, which a guest's root may write to.
            header.set_device_major(1).unwrap();
            header.set_device_minor(11).unwrap();
        }
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn finish(self) -> Vec<u8> {
        [self.0, vec![0; 1024]].concat()
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    let digits = Sha256::digest(bytes);
    let digits = digits.iter().map(|byte| format!("{byte:02x}"));
    format!("sha256:{}", digits.collect::<String>())
}

/// What `docker save` writes of one image.
pub fn saved(layers: Vec<Archive>, config: &Value) -> Vec<u8> {
    saved_as(vec![("test:1", layers, config.clone())])
}

/// What `docker save` writes of images, each called so.
pub fn saved_as(images: Vec<(&str, Vec<Archive>, Value)>) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    let mut put = |name: &str, bytes: &[u8]| {
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes).unwrap();
    };
    let mut manifest = Vec::new();
    for (nth, (tag, layers, config)) in images.into_iter().enumerate() {
        let (mut names, mut digests) = (Vec::new(), Vec::new());
        for layer in layers.into_iter().map(Archive::finish) {
            let name = format!("{nth}-{}/layer.tar", names.len());
            put(&name, &layer);
            digests.push(sha256(&layer));
            names.push(name);
        }
        let file = json!({
            "architecture": "amd64", "os": "linux", "config": config,
            "rootfs": { "type": "layers", "diff_ids": digests },
        });
        let name = format!("{nth}.json");
        put(&name, file.to_string().as_bytes());
        manifest.push(json!({ "Config": name, "RepoTags": [tag], "Layers": names }));
    }
    put(
        "manifest.json",
        Value::from(manifest).to_string().as_bytes(),
    );
    archive.into_inner().unwrap()
}

/// A layer with busybox, which is all of a distribution that the tests need.
pub fn busybox() -> Archive {
    let program = fs::read(format!("{}/bin/busybox", fixture("busybox"))).unwrap();
    let mut layer =
        Archive::default()
            .folder("bin")
            .entry("bin/busybox", EntryType::Regular, 0o755, &program);
    for name in [
        "sh", "cat", "stat", "id", "ls", "echo", "readlink", "pwd", "grep", "cut",
    ] {
        layer = layer.link(&format!("bin/{name}"), "busybox");
    }
    layer
}

/// A machine of an image.
pub fn machine(machines: &Machines, path: &Path, bytes: &[u8]) -> Result<Machine> {
    fs::write(path, bytes)?;
    Ok(machines.own(Machine::of_file(path).flag("--memory=128M")))
}

#[test]
fn an_image_is_run_as_its_configuration_says() -> Result<()> {
    let (machines, folder) = (Machines::new()?, tempdir()?);
    let regular = EntryType::Regular;
    let lower = busybox()
        .folder("etc")
        .file(
            "etc/passwd",
            "root:x:0:0::/:/bin/sh\napp:x:1000:100::/home:/bin/sh\n",
        )
        .file("etc/group", "users:x:100:\nvideo:x:44:app\n")
        .file("etc/gone", "x")
        .file("etc/changed", "old")
        .folder("opaque")
        .file("opaque/lower", "x")
        .folder("swap")
        .file("swap/in", "x")
        .link("swap2", "etc")
        .full("data", EntryType::Directory, 0o700, (1000, 100), "", &[])
        .full("data/file", regular, 0o600, (1000, 100), "", b"owned")
        .full("data/hard", EntryType::Link, 0, (0, 0), "data/file", &[])
        .full("bin/suid", regular, 0o4755, (0, 0), "", b"x")
        .full("fifo", EntryType::Fifo, 0o600, (7, 8), "", &[])
        .full("kmsg", EntryType::Char, 0o666, (0, 0), "", &[]);
    let upper = Archive::default()
        .file("etc/.wh.gone", "")
        .file("etc/changed", "new")
        .folder("opaque")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/upper", "x")
        .link("swap", "etc")
        .folder("swap2")
        .file("swap2/now", "x")
        .file("/abs/path", "abs");
    let script = "id; pwd; echo $FOO; echo $0 $*; ls /etc/gone 2>&1; cat /etc/changed; echo
        ls /opaque /swap2; readlink /swap; cat /abs/path; echo
        cat /data/file; echo; stat -c '%a %u:%g %h' /data /data/file /bin/suid
        stat -c '%a %u:%g %F' /fifo; stat -c '%F %t:%T' /kmsg
        echo x 2>&1 > /kmsg; ls -d /scratch; stat -c %a /scratch; cat /etc/hostname
        echo mine > /data/new && cat /data/new; grep -c video /etc/group";
    let config = json!({
        "Entrypoint": ["/bin/sh", "-c", script], "Cmd": ["one", "two"], "User": "app",
        "Env": ["PATH=/bin", "FOO=bar"], "WorkingDir": "/srv/www", "Volumes": { "/scratch": {} },
    });
    let image = saved(vec![lower, upper], &config);
    let output = machine(&machines, &folder.path().join("web.tar"), &image)?.run()?;

    let expected = "uid=1000(app) gid=100(users) groups=44(video)\n/srv/www\nbar\n\
        one two\nls: /etc/gone: No such file or directory\nnew\n\
        /opaque:\nupper\n\n/swap2:\nnow\netc\nabs\nowned\n\
        700 1000:100 2\n600 1000:100 2\n4755 0:0 1\n600 7:8 fifo\n\
        character special file 1:b\none: line 4: can't create /kmsg: Permission denied\n\
        /scratch\n755\nweb\nmine\n1\n";
    assert_eq!(
        (output.status, &*output.stdout()),
        (0, expected),
        "{output}"
    );
    let told = [
        "mvm: the image has device nodes (1, the first is \"kmsg\"): nobody can open them\n",
        "mvm: the image has names behind links to the root or above it (",
    ];
    assert!(output.stderr().starts_with(told[0]), "{output}");
    assert!(!output.stderr().contains(told[1]), "{output}");
    Ok(())
}

#[test]
fn what_cannot_be_read_is_told_in_a_sentence() -> Result<()> {
    let (machines, folder) = (Machines::new()?, tempdir()?);
    let path = folder.path().join("web.tar");
    let image = saved(vec![busybox()], &json!({ "Cmd": ["echo", "said"] }));
    let refusal = |bytes: &[u8]| -> Result<String> {
        let output = machine(&machines, &path, bytes)?.run()?;
        assert_eq!((output.status, &*output.stdout()), (125, ""), "{output}");
        let words = output.stderr();
        assert_eq!(words.lines().count(), 1, "{words}");
        Ok(words.replace(&*path.to_string_lossy(), "FILE"))
    };
    let cannot = "mvm: cannot read image FILE: ";
    for (bytes, words) in [
        (&image[..image.len() / 2], "the archive is cut off"),
        (b"BZh91AY&SY", "the archive is cut off"),
        (
            b"LZIP\x01",
            "it is packed by lzip, which is not among gzip, zstd, xz and bzip2: unpack it by `lzip -d` first",
        ),
        (b"\x1f\x8b\x08\0", "the archive is cut off"),
    ] {
        assert_eq!(refusal(bytes)?, format!("{cannot}{words}\n"));
    }
    let empty =
        "mvm: FILE is no image: it does not begin as an archive does, nor as a packed one\n";
    for bytes in [&b""[..], &[0xaa; 4000]] {
        assert_eq!(refusal(bytes)?, empty);
    }
    Ok(())
}

#[test]
fn the_folder_of_the_program_is_made_in_an_image() -> Result<()> {
    let (machines, folder) = (Machines::new()?, tempdir()?);
    let script = "pwd; stat -c '%a %u' .; cat /old/file";
    let config = json!({ "Cmd": ["sh", "-c", script], "Env": ["PATH=/bin"], "WorkingDir": "/old" });
    let layer = busybox().folder("old").file("old/file", "there\n");
    let path = folder.path().join("image.tar");
    let image = saved(vec![layer], &config);
    let of_image = machine(&machines, &path, &image)?;
    let output = of_image.flag("--workdir=/new/folder").run()?;
    assert_eq!(output.success(), "/new/folder\n755 0\nthere\n");

    let file = machine(&machines, &path, &image)?.flag("--workdir=/old/file/x");
    let refused = file.run()?;
    assert_eq!(refused.status, 126, "{refused}");
    let words = "cannot change to folder /old/file/x: Not a directory";
    assert!(refused.stderr().contains(words), "{refused}");
    let program = Machine::new("program").program(["/bin/sh"]);
    let refused = program.set("/app/cwd", "/missing").run()?;
    assert_eq!(refused.status, 126, "{refused}");
    let words = "cannot change to folder /missing: No such file";
    assert!(refused.stderr().contains(words), "{refused}");
    Ok(())
}

#[test]
fn store_paths_that_the_host_has_are_the_hosts() -> Result<()> {
    let (machines, folder) = (Machines::new()?, tempdir()?);
    let here = fixture("busybox");
    let path = |below: &str| format!("{}/{below}", &here[1..]);
    let elsewhere = "nix/store/0000000000000000000000000000000a-elsewhere";
    // Of what the host has, the image has something else: that the host's is seen shows whose it is.
    let layer = Archive::default()
        .folder("nix")
        .folder("nix/store")
        .folder(&here[1..])
        .file(&path("marker"), "the image's")
        .folder(elsewhere)
        .file(&format!("{elsewhere}/file"), "the image's own");
    let ls = format!("{here}/bin/ls");
    let cat = format!("{here}/bin/cat");
    let script = format!("{ls} /nix/store {here}; {cat} /{elsewhere}/file; echo up; read -r _");
    let config = json!({ "Cmd": [format!("{here}/bin/sh"), "-c", script] });
    let image = saved(vec![layer], &config);
    let mut running = machine(&machines, &folder.path().join("nix.tar"), &image)?.spawn()?;
    running.wait_for("up\n")?;
    // So that Nix keeps it.
    let during = openings(&here)?;
    running.write("end\n")?;
    let output = running.finish()?;
    assert!(during.lines().count() > 0, "{during}");

    let name = here.rsplit('/').next().unwrap_or_default();
    let expected = format!(
        "/nix/store:\n0000000000000000000000000000000a-elsewhere\n{name}\n\n{here}:\nbin\n\
         the image's ownup\n"
    );
    assert_eq!(output.success(), expected);
    Ok(())
}

#[test]
fn a_stream_is_run_with_other_arguments_and_kept_without_its_file() -> Result<()> {
    let machines = Machines::new()?;
    let image = saved(
        vec![busybox()],
        &json!({ "Cmd": ["cat"], "Env": ["PATH=/bin"] }),
    );
    let on_stdin = || {
        Machine::of_file("-")
            .flag("--memory=128M")
            .input(image.clone())
    };
    let kept = machines.own(on_stdin().flag("--detach").flag("--name=kept"));
    assert_eq!(kept.run()?.success(), "kept\n");
    assert_eq!(machines.mvm(["wait", "kept"])?.stdout(), "0\n");
    let state = machines.state();
    let images = AsRef::<Path>::as_ref(&state).join("images/images");
    let images = || fs::read_dir(&images).map(Iterator::count);
    assert_eq!(images()?, 1);

    let other = saved(vec![busybox()], &json!({ "Entrypoint": ["/bin/echo"] }));
    let other = Machine::of_file("-").flag("--memory=128M").input(other);
    let echo = machines.own(other.argument("one").argument("two"));
    assert_eq!(echo.run()?.success(), "one two\n");
    assert_eq!(images()?, 2);
    // The image of a machine that is kept stays until that goes.
    assert_eq!(machines.mvm(["prune"])?.success(), "kept\n");
    assert_eq!(images()?, 0);
    Ok(())
}

#[test]
fn what_an_image_tries_stays_in_the_machine() -> Result<()> {
    let (machines, folder) = (Machines::new()?, tempdir()?);
    let outside = folder.path().join("outside");
    fs::write(&outside, "the host's")?;
    let path = folder.path().join("image.tar");
    let config = json!({ "Cmd": ["cat", "/etc/hostname", "/outside", "/real/x"] });
    for (layer, words) in [
        (
            Archive::default().file("../outside", "changed"),
            "layer 1: entry \"../outside\": its name has \"..\" in it, which could lead out of the image",
        ),
        (
            Archive::default()
                .link("etc", "/etc")
                .file("etc/passwd", "x"),
            "cannot apply \"etc/passwd\" of layer 1: links lead round in a circle",
        ),
        (
            Archive::default().link("dev", "/tmp"),
            "the image's /dev is no folder, and a machine has its own there",
        ),
    ] {
        let output = machine(&machines, &path, &saved(vec![layer], &config))?.run()?;
        assert_eq!(output.status, 125, "{output}");
        assert!(output.stderr().contains(words), "{output}");
    }
    // A linked /etc, and names through links that lead to where the host has files.
    let climb = format!("../../../..{}", folder.path().display());
    let layer = busybox()
        .link("etc", "/real")
        .link("up", &climb)
        .file("up/outside", "the image's\n")
        .link("outside", &format!("/up/{}", "outside"))
        .file("etc/x", "written through a link\n");
    let output = machine(&machines, &path, &saved(vec![layer], &config))?.run()?;
    let said = "image\nthe image's\nwritten through a link\n";
    assert_eq!((output.status, &*output.stdout()), (0, said), "{output}");
    let told =
        "the image has names behind links to the root or above it (2, the first is \"up/outside\")";
    assert!(output.stderr().contains(told), "{output}");
    assert_eq!(fs::read_to_string(outside)?, "the host's");
    Ok(())
}

#[test]
fn a_folder_and_a_list_of_store_paths_are_images() -> Result<()> {
    let (machines, folder) = (Machines::new()?, tempdir()?);
    let here = fixture("busybox");
    let root = folder.path().join("rootfs");
    fs::create_dir_all(root.join("bin"))?;
    fs::copy(format!("{here}/bin/busybox"), root.join("bin/busybox"))?;
    for name in ["sh", "ls", "cat"] {
        symlink("busybox", root.join("bin").join(name))?;
    }
    fs::write(root.join("file"), "the folder's\n")?;
    let script = "cat /file; echo mine > /file; cat /file; ls / /nix";
    let of_folder = Machine::of_file(&root).flag("--memory=128M");
    let of_folder = of_folder.argument("sh").argument("-c").argument(script);
    let output = machines.own(of_folder).run()?;
    let words = "the folder's\nmine\n/:\nbin\ndev\netc\nfile\nproc\nsys\n";
    assert!(output.stdout().starts_with(words), "{output}");
    assert!(output.stderr().contains("/nix: No such file"), "{output}");
    assert_eq!(fs::read_to_string(root.join("file"))?, "the folder's\n");

    let itself = Machine::new("itself")
        .program(["/bin/sh", "-c", "echo mine > /file; ls /; cat /etc/hosts"])
        .set("/image", root.to_string_lossy())
        .set("/root/type", "folder");
    let output = machines.own(itself.memory_mib(128)).run()?;
    assert_eq!(output.stdout(), "bin\ndev\nfile\nproc\nsys\n", "{output}");
    assert!(
        output.stderr().contains("'/etc/hosts': No such file"),
        "{output}"
    );
    assert_eq!(fs::read_to_string(root.join("file"))?, "mine\n");

    let nothing = machines.own(Machine::of_file(&root)).run()?;
    let why = "mvm: the image says no program to run; name one behind \"--\"";
    assert_eq!(nothing.status, 125, "{nothing}");
    assert!(nothing.stderr().starts_with(why), "{nothing}");

    let script = "ls -d /bin/sh /nix/store/*; stat -c %a /bin/busybox";
    let other = folder.path().join("image.json");
    let rewrite = json!({ "regex": format!("^{here}"), "repl": "/" });
    let perms = json!([{ "regex": "bin/busybox$", "mode": "0700" }]);
    let digest = sha256(b"");
    let layer = |paths: Value| json!({ "digest": digest, "diff_ids": digest, "paths": paths });
    let list = json!({
        "version": 1, "arch": "amd64",
        "image-config": { "Entrypoint": [format!("{here}/bin/sh")], "Env": ["PATH=/bin"] },
        "layers": [
            layer(json!([{ "path": here }])),
            layer(json!([{ "path": here, "options": { "rewrite": rewrite, "perms": perms } }])),
        ],
    });
    fs::write(&other, list.to_string())?;
    let of_list = Machine::of_file(&other).flag("--memory=128M");
    let of_list = of_list.argument("-c").argument(script);
    let output = machines.own(of_list).run()?;
    assert_eq!(output.success(), format!("/bin/sh\n{here}\n700\n"));

    let missing = "/nix/store/0000000000000000000000000000000a-missing";
    fs::write(&other, list.to_string().replace(&here, missing))?;
    let output = machines.own(Machine::of_file(&other)).run()?;
    let words = format!("layer 1: {missing}: this host does not have it");
    assert_eq!(output.status, 125, "{output}");
    assert!(output.stderr().contains(&words), "{output}");
    Ok(())
}

#[test]
fn a_file_says_what_an_image_does_not() -> Result<()> {
    let (machines, folder) = (Machines::new()?, tempdir()?);
    let path = folder.path().join("web.tar");
    let config = json!({
        "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["exit 1"], "WorkingDir": "/srv",
        "Env": ["PATH=/bin", "A=image", "B=image"], "StopSignal": "SIGQUIT",
        "Labels": { "tier": "web" }, "ExposedPorts": { "80/tcp": {}, "53/udp": {} },
    });
    let script = "echo $A $B; pwd; trap 'exit 5' QUIT; while :; do sleep 1; done";
    fs::write(
        &path,
        saved(vec![busybox().link("bin/sleep", "busybox")], &config),
    )?;
    let file = json!({
        "name": "web", "image": "web.tar", "memory": "128M", "labels": { "team": "a" },
        "app": { "args": [script], "env": { "B": "file" } },
    });
    let app = folder.path().join("app.json");
    fs::write(&app, file.to_string())?;
    machines.start(Machine::of_file(&app).flag("--publish-all"))?;
    let seen = machines.inspect("web")?;
    assert_eq!(seen["app"]["labels"], json!({ "team": "a", "tier": "web" }));
    let ports = machines.mvm(["port", "web"])?.success();
    assert!(
        ports.contains("80/tcp -> 127.0.0.1:") && ports.contains("53/udp -> 127.0.0.1:"),
        "{ports}"
    );
    until(|| {
        let logs = machines.mvm(["logs", "web"]);
        logs.is_ok_and(|logs| logs.stdout() == "image file\n/srv\n")
    });
    machines.mvm(["stop", "web"])?.success();
    assert_eq!(machines.mvm(["wait", "web"])?.success(), "5\n");
    let file = app.to_string_lossy();
    machines.mvm(["create", "--name=kept", &file])?.success();
    let updated = machines.mvm(["update", "kept", &file])?.success();
    assert!(updated.contains("unchanged"), "{updated}");
    Ok(())
}

use super::*;
use crate::app::Share;

fn system(folder: &Path) -> System {
    System {
        path: folder.to_str().unwrap().into(),
        kernel: SystemKernel::Own,
        stop_timeout: None,
    }
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["bzImage", "archive"] {
        fs::write(folder.path().join(name), name).unwrap();
    }
    for (link, file) in [("kernel", "bzImage"), ("initrd", "archive")] {
        std::os::unix::fs::symlink(file, folder.path().join(link)).unwrap();
    }
    folder
}

#[test]
fn a_system_is_booted_with_what_its_folder_has() {
    let folder = folder();
    let path = folder.path();
    fs::write(path.join("kernel-params"), "loglevel=4 root=fstab\n").unwrap();
    let toplevel = Toplevel::read(&system(path)).unwrap();
    assert_eq!(
        toplevel.kernel,
        path.canonicalize().unwrap().join("bzImage")
    );
    let init = format!("loglevel=4 root=fstab init={}/init", path.display());
    assert_eq!(toplevel.cmdline, init);
    assert_eq!(toplevel.store_tag(), "store");
}

#[test]
fn a_system_that_does_not_say_what_its_initrd_prepares_needs_its_own_kernel() {
    let folder = folder();
    let path = folder.path();
    let of = |kernel| System {
        kernel,
        ..system(path)
    };
    let write = |name: &str, text: &str| fs::write(path.join(name), text).unwrap();
    write("init", "#!/bin/sh\n");
    ensure_bootable(&of(SystemKernel::Mvm)).unwrap();
    write("init", "\x7fELF and more");
    let refusal = || ensure_bootable(&of(SystemKernel::Mvm)).unwrap_err();
    let error = refusal().to_string();
    assert!(error.starts_with("must be \"own\""), "{error}");
    ensure_bootable(&of(SystemKernel::Own)).unwrap();
    write(
        "boot.json",
        r#"{ "org.nixos.nixos-init.v1": { "firmware": "" } }"#,
    );
    let error = refusal().to_string();
    assert!(error.starts_with("must be \"own\""), "{error}");
    write("boot.json", "{");
    let words = format!("cannot use {}/boot.json", path.display());
    assert_eq!(refusal().to_string(), words);
    let etc = r#""etc_basedir": "/nix/store/b", "etc_metadata_image": "/nix/store/m""#;
    let text = format!(r#"{{ "org.nixos.nixos-init.v1": {{ {etc} }} }}"#);
    write("boot.json", &text);
    ensure_bootable(&of(SystemKernel::Mvm)).unwrap();
    write("boot.json", "{}");
    write("prepare-root", "#!/bin/sh\n");
    ensure_bootable(&of(SystemKernel::Mvm)).unwrap();
}

#[test]
fn a_boot_is_needed_for_another_kernel_or_another_kind_of_init() {
    let (old, new) = (folder(), folder());
    let change = |kernel| {
        let of = |folder: &tempfile::TempDir| System {
            kernel,
            ..system(folder.path())
        };
        change_for_a_boot(&of(&old), &of(&new))
    };
    let write = |name: &str, text: &str| fs::write(new.path().join(name), text).unwrap();
    let without = "the new system has no bin/switch-to-configuration";
    assert_eq!(change(SystemKernel::Mvm).as_deref(), Some(without));
    fs::create_dir(new.path().join("bin")).unwrap();
    write(SWITCH, "");
    write("kernel-params", "quiet");
    assert_eq!(change(SystemKernel::Mvm), None);
    let kernel = "its kernel is another";
    assert_eq!(change(SystemKernel::Own).as_deref(), Some(kernel));
    for link in ["kernel", "initrd"] {
        let new = new.path().join(link);
        fs::remove_file(&new).unwrap();
        std::os::unix::fs::symlink(old.path().join(link), new).unwrap();
    }
    let params = "its kernel-params is another";
    assert_eq!(change(SystemKernel::Own).as_deref(), Some(params));
    write("init-interface-version", "systemd 3");
    let init = "its init-interface-version is another";
    assert_eq!(change(SystemKernel::Mvm).as_deref(), Some(init));
}

#[test]
fn a_folder_elsewhere_is_no_system() {
    let folder = folder();
    fs::write(folder.path().join("nixos-version"), "25.11").unwrap();
    assert_eq!(app_of(folder.path()), None);
    assert_eq!(app_of(Path::new("/nix/store")), None);
}

#[test]
fn what_is_missing_is_named() {
    let folder = folder();
    fs::remove_file(folder.path().join("initrd")).unwrap();
    let error = format!("{:#}", Toplevel::read(&system(folder.path())).unwrap_err());
    let path = folder.path().display();
    assert_eq!(
        error,
        format!(
            "cannot find {path}/initrd, which a system with a kernel of its own has: \
             No such file or directory (os error 2)"
        )
    );
}

#[test]
fn words_that_no_kernel_takes_are_refused() {
    let folder = folder();
    let words = folder.path().join("kernel-params");
    let refusal = |bytes: &[u8]| {
        fs::write(&words, bytes).unwrap();
        let error = Toplevel::read(&system(folder.path())).unwrap_err();
        error.root_cause().to_string()
    };
    let other = "it has other characters than a kernel's command line may have";
    assert_eq!(refusal(b"quiet\nsplash"), other);
    assert_eq!(refusal(b"a\0b"), other);
    assert_eq!(
        refusal(b"\xff"),
        "invalid utf-8 sequence of 1 bytes from index 0"
    );
    assert_eq!(refusal(&[b'x'; 3000]), "it has more than 2047 bytes");
}

#[test]
fn tags_are_those_that_the_system_mounts() {
    let folder = folder();
    fs::create_dir(folder.path().join("etc")).unwrap();
    let lines = "# a comment\nrootfs / tmpfs mode=755\nro-store /nix/.ro-store virtiofs defaults 0 2\n\
        /nix/.ro-store /nix/store virtiofs ro,bind\nwww /srv virtiofs\nshort\n";
    fs::write(folder.path().join("etc/fstab"), lines).unwrap();
    let toplevel = Toplevel::read(&system(folder.path())).unwrap();
    assert_eq!(toplevel.store_tag(), "ro-store");
    let mut app = App::new("box", vec!["sh".into()]);
    let share = |point: &str, tag: Option<&str>| Share {
        source: "/tmp".into(),
        mount_point: point.into(),
        read_only: true,
        tag: tag.map(Into::into),
    };
    app.shares = vec![
        share("/srv/", None),
        share("/srv", Some("mine")),
        share("/other", None),
    ];
    assert_eq!(toplevel.share_tags(&app), ["www", "mine", "share2"]);
}

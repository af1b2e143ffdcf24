//! Modules of a kernel that lies beside them.

use std::fs;
use std::path::PathBuf;

use super::bzimage::of_version;
use crate::boot::modules::{Module, missing, of_kernel};

const RELEASE: &str = "6.1.0-9-test";

/// A kernel with modules beside it.
fn installed(dependencies: &str, builtin: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let modules = folder.path().join("lib/modules").join(RELEASE);
    fs::create_dir_all(modules.join("kernel")).unwrap();
    fs::write(modules.join("modules.dep"), dependencies).unwrap();
    fs::write(modules.join("modules.builtin"), builtin).unwrap();
    for path in dependencies.lines().filter_map(|l| l.split(':').next()) {
        fs::write(modules.join(path), path).unwrap();
    }
    let kernel = folder.path().join("bzImage");
    fs::write(&kernel, of_version(&format!("{RELEASE} (who@where) #1"))).unwrap();
    (folder, kernel)
}

const DEPENDENCIES_OF_DEBIAN: &str = "\
kernel/virtiofs.ko: kernel/virtio.ko kernel/virtio_ring.ko kernel/fuse.ko
kernel/fuse.ko:
kernel/virtio.ko: kernel/virtio_ring.ko
kernel/virtio_ring.ko:
kernel/virtio_mmio.ko: kernel/virtio.ko kernel/virtio_ring.ko
kernel/virtio_console.ko: kernel/virtio.ko kernel/virtio_ring.ko
kernel/virtio-rng.ko: kernel/virtio.ko kernel/virtio_ring.ko
kernel/other.ko:
";

fn names(modules: &[Module]) -> Vec<&str> {
    modules.iter().map(|m| m.file_name.as_str()).collect()
}

#[test]
fn each_comes_behind_what_it_depends_on_and_once() {
    let (_folder, kernel) = installed(DEPENDENCIES_OF_DEBIAN, "");
    assert_eq!(missing(&kernel, None), None);
    let modules = of_kernel(&kernel, None, &[]).unwrap();
    let expected = [
        "virtio_ring.ko",
        "virtio.ko",
        "virtio_mmio.ko",
        "virtio_console.ko",
        "fuse.ko",
        "virtiofs.ko",
        "virtio-rng.ko",
    ];
    assert_eq!(names(&modules), expected);
    assert_eq!(modules[0].content, b"kernel/virtio_ring.ko");
    let more = of_kernel(&kernel, None, &["other", "unknown"]).unwrap();
    assert_eq!(names(&more), [&expected[..], &["other.ko"]].concat());
}

#[test]
fn what_is_built_in_is_not_loaded() {
    let (_folder, kernel) = installed(
        "kernel/virtio_console.ko:\n",
        "kernel/drivers/virtio/virtio_mmio.ko\n",
    );
    assert_eq!(
        names(&of_kernel(&kernel, None, &[]).unwrap()),
        ["virtio_console.ko"]
    );
}

#[test]
fn a_kernel_without_a_way_to_the_host_is_refused() {
    let (folder, kernel) = installed("kernel/virtio_mmio.ko:\n", "");
    let error = format!("{:#}", of_kernel(&kernel, None, &[]).unwrap_err());
    let folder = folder.path().display();
    assert_eq!(
        error,
        format!(
            "cannot boot the kernel {folder}/bzImage: it has no driver virtio_console, neither \
                 built in nor in {folder}/lib/modules/{RELEASE}"
        )
    );
}

#[test]
fn a_module_that_is_gone_is_named() {
    let (folder, kernel) = installed(DEPENDENCIES_OF_DEBIAN, "");
    let path = folder
        .path()
        .join("lib/modules")
        .join(RELEASE)
        .join("kernel/fuse.ko");
    fs::remove_file(&path).unwrap();
    let error = format!("{:#}", of_kernel(&kernel, None, &[]).unwrap_err());
    let start = format!("cannot read the module {}: ", path.display());
    assert!(error.starts_with(&start), "{error}");
}

#[test]
fn other_kernels_have_all_built_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kernel");
    let contents = [
        b"\x7fELF".to_vec(),
        Vec::new(),
        of_version("../../etc"),
        of_version(""),
        of_version("9.9.9-nobody-has-this"),
    ];
    for content in contents {
        fs::write(&path, content).unwrap();
        assert_eq!(of_kernel(&path, None, &[]).unwrap(), []);
    }
    assert_eq!(
        missing(&path, None).unwrap(),
        "there are no modules of Linux 9.9.9-nobody-has-this here, which may be why"
    );
    assert_eq!(
        of_kernel(&folder.path().join("none"), None, &[]).unwrap(),
        []
    );
}

#[test]
fn a_package_that_was_unpacked_has_them_beside_the_kernels_folder() {
    let (folder, kernel) = installed(DEPENDENCIES_OF_DEBIAN, "");
    let boot = folder.path().join("boot");
    fs::create_dir(&boot).unwrap();
    fs::rename(&kernel, boot.join("vmlinuz")).unwrap();
    assert_eq!(
        of_kernel(&boot.join("vmlinuz"), None, &[]).unwrap().len(),
        7
    );
}

//! That no requested line of the guest kernel's configuration is lost in silence: the functions of
//! `guest-kernel/build`, on fragments and a configuration made here.

use std::fs;
use std::process::{Command, Output};

use mvm_test::repository;

/// The last lines of the build, in which it begins to do something.
const BEGINNING: &str = "main \"$@\"";

/// Compares a configuration with a fragment of the folder that the functions lie in.
const COMPARE: &str = "source ./functions; work=$PWD/made source_version=6.12 check_config";

fn compare(fragment: &str, configuration: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let original = repository().join("guest-kernel");
    let build = fs::read_to_string(original.join("build")).unwrap();
    let (functions, _) = build.split_once(BEGINNING).unwrap();
    fs::write(folder.path().join("functions"), functions).unwrap();
    let version = "source-version";
    fs::copy(original.join(version), folder.path().join(version)).unwrap();
    for (place, content) in [
        ("config/theme.config", fragment),
        ("made/config", configuration),
    ] {
        let path = folder.path().join(place);
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let mut bash = Command::new("bash");
    bash.args(["-c", COMPARE]).current_dir(folder.path());
    bash.output().unwrap()
}

fn assert_lost(fragment: &str, configuration: &str, line: &str) {
    let output = compare(fragment, configuration);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let first = errors.lines().next().unwrap();
    assert_eq!(first, format!("guest-kernel: theme.config asks for {line}"));
}

#[test]
fn what_was_asked_for_is_there() {
    let fragment = "# why\nCONFIG_A=y\nCONFIG_N=64\nCONFIG_S=\"a b\"\n\n# CONFIG_B is not set\n";
    let output = compare(
        fragment,
        "CONFIG_A=y\nCONFIG_N=64\nCONFIG_S=\"a b\"\nCONFIG_MORE=y\n",
    );
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn what_kconfig_drops_or_changes_is_named() {
    let fuse_dax = "CONFIG_FUSE_DAX=y\n";
    assert_lost(
        fuse_dax,
        "CONFIG_FUSE_FS=y\n",
        "CONFIG_FUSE_DAX=y, the configuration has CONFIG_FUSE_DAX=n",
    );
    assert_lost(
        "CONFIG_HZ=100\n",
        "CONFIG_HZ=250\n",
        "CONFIG_HZ=100, the configuration has CONFIG_HZ=250",
    );
    assert_lost(
        "# CONFIG_MODULES is not set\n",
        "CONFIG_MODULES=y\n",
        "CONFIG_MODULES=n, the configuration has CONFIG_MODULES=y",
    );
}

#[test]
fn of_two_requests_the_last_counts() {
    let fragment = "# CONFIG_MODULES is not set\nCONFIG_HZ=100\nCONFIG_MODULES=y\nCONFIG_HZ=250\n";
    let output = compare(fragment, "CONFIG_MODULES=y\nCONFIG_HZ=250\n");
    assert!(output.status.success(), "{output:?}");
    assert_lost(
        fragment,
        "CONFIG_MODULES=y\nCONFIG_HZ=100\n",
        "CONFIG_HZ=250, the configuration has CONFIG_HZ=100",
    );
}

//! A user who is not root. Root's tests become one, with a home and an emulated host of its own.

use std::env;
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use mvm_test::fixture;
use serde_json::json;
use tempfile::TempDir;

/// User, and group where /dev/kvm has none: no system gives anyone such a number.
const NOBODYS: u32 = 54_321;

/// An ordinary user, who is gone at the end with all that was theirs.
struct User {
    home: TempDir,
    ids: (u32, u32),
}

impl User {
    fn new() -> Result<Self> {
        let own = rustix::process::geteuid().as_raw();
        let ids = match own {
            0 => (NOBODYS, kvm_group().unwrap_or(NOBODYS)),
            _ => (own, rustix::process::getegid().as_raw()),
        };
        let home = TempDir::with_prefix("mvm-test.")?;
        chown(home.path(), Some(ids.0), Some(ids.1))?;
        let user = Self { home, ids };
        for folder in ["run", "data"] {
            let path = user.path(folder);
            DirBuilder::new().mode(0o700).create(&path)?;
            user.give(&path)?;
        }
        // Where these are may be root's alone.
        let mvm = mvm_test::mvm();
        let kernel = env::var_os("MVM_KERNEL").context("tests/run names it")?;
        let (init, kernel) = (mvm.with_file_name("mvm-init"), PathBuf::from(kernel));
        for (file, copy) in [(mvm, "mvm"), (init, "mvm-init"), (kernel, "vmlinux")] {
            fs::copy(&file, user.path(copy)).with_context(|| format!("{}", file.display()))?;
            fs::set_permissions(user.path(copy), Permissions::from_mode(0o755))?;
        }
        Ok(user)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn give(&self, path: &Path) -> Result<()> {
        Ok(chown(path, Some(self.ids.0), Some(self.ids.1))?)
    }

    fn mvm(&self) -> Command {
        let mut command = Command::new(self.path("mvm"));
        command
            .uid(self.ids.0)
            .gid(self.ids.1)
            .current_dir(self.home.path())
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("MVM_KERNEL", self.path("vmlinux"));
        command
    }

    /// What a script prints in a machine of this user's, where it runs as `user` in the folder
    /// `data`.
    fn run(&self, user: &str, script: &str) -> Result<String> {
        let app = json!({
            "version": 1,
            "name": "ordinary",
            "app": {
                "entrypoint": ["bash", "-c", format!("cd /data; {script}")],
                "env": { "PATH": format!("{}/bin", fixture("tools")) },
                "user": user,
            },
            "memory": "128M",
            "shares": [{ "source": "data", "mountPoint": "/data", "readOnly": false }],
        });
        fs::write(self.path("app.json"), app.to_string())?;
        let output = self.mvm().args(["run", "app.json"]).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}\n{errors}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // There is none where KVM works.
        let _ = self.mvm().args(["emulator", "stop"]).output();
    }
}

/// The group that may use KVM.
fn kvm_group() -> Option<u32> {
    let group = fs::metadata("/dev/kvm").ok()?.gid();
    (group != 0).then_some(group)
}

#[test]
fn files_of_a_writable_share_are_the_users_and_the_programs() -> Result<()> {
    let user = User::new()?;
    let data = user.path("data");
    fs::write(data.join("there"), "host\n")?;
    user.give(&data.join("there"))?;
    let script = r#"
        umask 022
        echo guest >> there; echo text > made; mkdir folder; ln -s made link; ln made second
        chown "$(id -u):$(id -g)" made && echo kept
        chown 33 made 2> errors || echo refused
        chgrp 33 made 2>> errors || echo refused
        chmod 6711 made; mknod null c 1 3 2>> errors || echo refused
        mkdir tree; echo x > tree/file; tar -cf archive tree; rm -r tree; tar -xf archive; rm archive
        stat -c '%n %u:%g %a' . there made folder link tree/file
    "#;
    for (name, shown) in [("root", "0:0"), ("web", "1000:1000")] {
        let seen = user.run(name, script)?;
        let answers = "kept\nrefused\nrefused\nrefused\n";
        let files = [". 700", "there 644", "made 711", "folder 755", "link 777"];
        let files = files.map(|file| file.replace(' ', &format!(" {shown} ")) + "\n");
        let expected = format!("{answers}{}tree/file {shown} 644\n", files.concat());
        assert_eq!(seen, expected);
        for name in ["there", "made", "folder", "link", "tree/file"] {
            let stat = fs::symlink_metadata(data.join(name))?;
            assert_eq!((stat.uid(), stat.gid()), user.ids, "{name}");
        }
        let errors = fs::read_to_string(data.join("errors"))?;
        let refused = errors.matches("Operation not permitted").count();
        assert_eq!(refused, 3, "{errors}");
        assert_eq!(fs::metadata(data.join("made"))?.mode() & 0o7777, 0o711);
        assert!(!data.join("null").exists());
        assert!(fs::read_to_string(data.join("there"))?.ends_with("guest\n"));
        for name in ["made", "second", "link", "errors"] {
            fs::remove_file(data.join(name))?;
        }
        for name in ["folder", "tree"] {
            fs::remove_dir_all(data.join(name))?;
        }
    }
    Ok(())
}

//! A store that the machine adds to: what it writes is its own, and its Nix knows the closure.

use anyhow::Result;
use mvm_test::{Machine, closure, fixture, registration};
use serde_json::json;
use tempfile::TempDir;

use crate::shell;

/// As [`shell`], with Nix in the closure and a store that can be written to.
fn with_nix(name: &str, script: &str) -> Machine {
    let (nix, tools) = (fixture("nix"), fixture("tools"));
    shell(name, script)
        .env("PATH", &format!("{nix}/bin:{tools}/bin"))
        .env("NIX_CONF_DIR", &format!("{nix}/etc/nix"))
        .env("EXPRESSION", &expression())
        .memory_mib(256)
        .set(
            "/store",
            json!({ "writable": true, "registerClosure": true }),
        )
}

/// One that refers to what came from the host, which only a valid path can be.
fn expression() -> String {
    let busybox = fixture("busybox");
    format!(
        r#"derivation {{
            name = "built"; system = "x86_64-linux"; builder = "${{builtins.storePath "{busybox}"}}/bin/busybox";
            args = [ "sh" "-c" "echo built in the machine > $out" ];
        }}"#
    )
}

const BUILD: &str =
    r#"out=$(nix-build --no-out-link --expr "$EXPRESSION" 2>/dev/null) && cat $out"#;

#[test]
fn what_is_written_to_the_store_stays_in_the_machine() -> Result<()> {
    let hello = fixture("hello");
    let script = format!(
        "grep -e ' /nix' /proc/mounts | cut -d' ' -f 2-4 | cut -d, -f 1-3
        echo new > /nix/store/new && cat /nix/store/new
        rm -r {hello} && ! ls -d {hello} 2>/dev/null && echo gone
        head -c 20M /dev/zero > /nix/store/large || stat -c %s /nix/store/large"
    );
    let output = shell("writable", &script)
        .set("/store", json!({ "writable": { "size": "16M" } }))
        .run()?;
    let text = output.stdout();
    let expected = "/nix/store virtiofs ro,nosuid,nodev\n/nix/.rw-store tmpfs rw,nosuid,nodev\n\
        /nix/store overlay rw,nosuid,nodev\n/nix/var tmpfs rw,nosuid,nodev\nnew\ngone\n";
    let kept = text.strip_prefix(expected).unwrap_or_default().trim();
    assert!(
        kept.parse::<u64>().is_ok_and(|kept| kept < 16 << 20),
        "{output}"
    );
    let full = "No space left on device";
    assert!(output.stderr().contains(full), "{output}");
    assert!(std::fs::exists(format!("{hello}/bin/hello"))?);
    assert!(!std::fs::exists("/nix/store/new")?);
    Ok(())
}

#[test]
fn its_nix_knows_the_closure_and_builds() -> Result<()> {
    let nix = fixture("nix");
    let script = format!(
        "nix-store -qR {nix} | LC_ALL=C sort; nix-store --verify 2>/dev/null && echo verified
        ls /nix/var/nix/gcroots/mvm | grep -c -- -nix-
        {BUILD} && nix-store -q --references $out; nix-store -q --deriver $out | grep -o built"
    );
    let output = with_nix("registered", &script).run()?;
    let known = closure(&nix)?.join("\n");
    let expected = format!("{known}\nverified\n1\nbuilt in the machine\nbuilt\n");
    assert_eq!(output.success(), expected);
    Ok(())
}

#[test]
fn on_a_host_without_nix_what_stands_beside_the_list_is_registered() -> Result<()> {
    let (nix, folder) = (fixture("nix"), TempDir::new()?);
    let mut paths = closure(&nix)?;
    paths.extend(closure(&fixture("tools"))?);
    let list = folder.path().join("store-paths");
    std::fs::write(&list, paths.join("\n"))?;
    let script = format!("nix-store -qR {nix} | LC_ALL=C sort; {BUILD}");
    let machine = with_nix("listed", &script)
        .host_env("NIX_STATE_DIR", folder.path())
        .set("/store/closure", folder.path().to_string_lossy());
    let refused = machine.clone().run()?;
    assert_eq!(refused.status, 125);
    let words = format!(
        "; there is no {}/registration, as closureInfo makes",
        folder.path().display()
    );
    assert!(refused.stderr().contains(&words), "{refused}");

    let known = registration(&[paths, vec![fixture("outside")]].concat())?;
    std::fs::write(folder.path().join("registration"), known)?;
    let known = closure(&nix)?.join("\n");
    let expected = format!("{known}\nbuilt in the machine\n");
    assert_eq!(machine.run()?.success(), expected);
    Ok(())
}

#[test]
fn on_a_volume_it_is_kept_with_what_nix_knows_of_it() -> Result<()> {
    let state = TempDir::new()?;
    let on_volume = |script: &str| {
        with_nix("kept", script)
            .host_env("MVM_STATE_DIR", state.path())
            .set("/volumes/0", json!({ "name": "store", "size": "64M" }))
            .set("/store/writable", json!({ "volume": "store" }))
            .run()
    };
    on_volume(BUILD)?.success();
    let output = on_volume(
        "cat /nix/store/*-built && nix-store --check-validity /nix/store/*-built && nix-store --gc 2>&1 | tail -n 1; \
        ls /nix/store | grep -c -- -built; bash -c 'echo alive'",
    )?;
    let text = output.stdout();
    assert!(text.starts_with("built in the machine\n"), "{output}");
    assert!(text.ends_with("\n0\nalive\n"), "{output}");
    assert!(
        !std::fs::read_dir("/nix/store")?
            .any(|it| it.is_ok_and(|it| { it.file_name().to_string_lossy().ends_with("-built") }))
    );
    Ok(())
}

#[test]
fn a_closure_without_nix_cannot_be_registered() -> Result<()> {
    let output = shell("no-nix", "true")
        .set(
            "/store",
            json!({ "writable": true, "registerClosure": true }),
        )
        .run()?;
    assert_eq!(output.status, 125);
    let words = "store paths has a bin/nix-store";
    assert!(output.stderr().contains(words), "{output}");
    Ok(())
}

//! Archives with several images.

use std::fs;

use anyhow::Result;
use mvm_test::{Machine, Machines};
use serde_json::json;
use tempfile::tempdir;

use crate::images::{busybox, saved_as};

#[test]
fn of_several_images_one_is_run() -> Result<()> {
    let (machines, folder) = (Machines::new()?, tempdir()?);
    let image = |tag, word| {
        let config = json!({ "Cmd": ["/bin/echo", word] });
        (tag, vec![busybox()], config)
    };
    let both = saved_as(vec![image("shop/web:1", "web"), image("db:2", "db")]);
    fs::write(folder.path().join("both.tar"), both)?;
    let app = json!({ "name": "a", "image": "both.tar:db:2" });
    fs::write(folder.path().join("app.json"), app.to_string())?;
    let run = |name: &str| {
        let machine = Machine::of_file(folder.path().join(name));
        machines.own(machine.flag("--memory=128M")).run()
    };
    assert_eq!(run("both.tar:shop/web:1")?.success(), "web\n");
    assert_eq!(run("both.tar@1")?.success(), "db\n");
    assert_eq!(run("app.json")?.success(), "db\n");
    let none = run("both.tar")?;
    let words = "it holds 2 images (@0 \"shop/web:1\", @1 \"db:2\"); choose one";
    assert!(
        none.status == 125 && none.stderr().contains(words),
        "{none}"
    );
    Ok(())
}

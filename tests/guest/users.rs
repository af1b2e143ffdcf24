//! The program runs as the user that the file names.

use anyhow::Result;
use mvm_test::Machines;
use serde_json::{Value, json};

use crate::shell;

const WHO: &str = "
    echo $(id -u):$(id -g) groups $(id -G), $USER at $HOME
    touch /tmp/own && stat --format='%u:%g' /tmp/own
    touch /root/new /etc/new /new 2>&1 | grep -c 'Permission denied'
    kill -0 1 2>&1 | grep -c 'not permitted'";

#[test]
fn nobody_can_do_nothing_to_the_machine() -> Result<()> {
    let output = shell("users", WHO).user("nobody").run()?;
    let text = output.success();
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        [
            "65534:65534 groups 65534, nobody at /",
            "65534:65534",
            "3",
            "1"
        ]
    );
    Ok(())
}

#[test]
fn numbers_are_taken_as_they_are() -> Result<()> {
    let output = shell("users", WHO).user("1000:1001").run()?;
    let text = output.success();
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        ["1000:1001 groups 1001, at /", "1000:1001", "3", "1"]
    );
    Ok(())
}

#[test]
fn a_group_may_have_a_name_too() -> Result<()> {
    for (user, ids) in [
        ("nobody:nogroup", "65534:65534"),
        ("7:tty", "7:5"),
        ("web:8", "1000:8"),
    ] {
        let output = shell("users", "echo $(id -u):$(id -g)").user(user).run()?;
        assert_eq!(output.success(), format!("{ids}\n"), "{user}");
    }
    let output = shell("users", "exit 0").user("nobody:nemo").run()?;
    let words = output.stderr();
    assert_ne!(output.status, 0, "{words}");
    assert!(
        words.contains("there is no group \"nemo\" in /etc/group"),
        "{words}"
    );
    Ok(())
}

#[test]
fn a_name_is_a_user_with_a_home_of_its_own() -> Result<()> {
    let script = "id; cd && pwd && touch file && stat --format='%U %a' .";
    let output = shell("users", script).user("web").run()?;
    assert_eq!(
        output.success(),
        "uid=1000(web) gid=1000(web) groups=1000(web)\n/home/web\nweb 700\n"
    );
    Ok(())
}

#[test]
fn groups_besides_are_those_of_the_machine() -> Result<()> {
    let groups = |user: &str, groups: Value| {
        let machine = shell("users", "id -G").user(user);
        machine.set("/app/groups", groups).run()
    };
    assert_eq!(
        groups("nobody", json!(["tty", "44", "7"]))?.success(),
        "65534 5 7 44\n"
    );
    assert_eq!(groups("7:8", json!(["8", "tty"]))?.success(), "8 5\n");
    let output = groups("nobody", json!(["nemo"]))?;
    let words = output.stderr();
    assert_eq!(output.status, 126, "{words}");
    assert!(
        words.contains("there is no group \"nemo\" in /etc/group"),
        "{words}"
    );

    let machines = Machines::new()?;
    machines.start(
        shell("joined", "sleep 1000")
            .user("nobody")
            .set("/app/groups", json!(["44"])),
    )?;
    let exec = |flags: &[&str]| machines.mvm([&["exec"], flags, &["joined", "id", "-G"]].concat());
    assert_eq!(exec(&[])?.success(), "65534 44\n");
    assert_eq!(exec(&["-u", "7:8"])?.success(), "8 44\n");
    Ok(())
}

#[test]
fn what_cannot_be_a_user_is_an_error_in_the_file() -> Result<()> {
    let output = shell("users", "exit 0").user("No One").run()?;
    let words = output.stderr();
    assert_eq!((output.status, words.lines().count()), (125, 1), "{words}");
    assert!(words.contains("app.user: "), "{words}");
    Ok(())
}

//! What a kept machine has said: its program, its kernel, and when.

use anyhow::{Context, Result};
use mvm_test::Machines;
use serde_json::Value;

use crate::shell;

/// Says something everywhere. The kernel shows what is this urgent at any level.
const SCRIPT: &str = "echo '<0>words of the kernel' >/dev/kmsg; echo out; echo err >&2; echo end";

#[test]
fn each_stream_is_kept_apart_with_its_times() -> Result<()> {
    let machines = Machines::new()?;
    machines.start(shell("says", SCRIPT))?;
    machines.mvm(["wait", "says"])?;
    let logs = |arguments: &[&str]| {
        let output = machines.mvm([&["logs"], arguments, &["says"]].concat())?;
        assert_eq!(output.status, 0, "{output}");
        anyhow::Ok((output.stdout(), output.stderr()))
    };
    let all = ("out\nend\n".to_owned(), "err\n".to_owned());
    assert_eq!(logs(&[])?, all);
    assert_eq!(logs(&["--follow"])?, all);
    assert_eq!(logs(&["--since", "10h"])?, all);
    let nothing = (String::new(), String::new());
    assert_eq!(logs(&["--until", "1970-01-01T00:00:01Z"])?, nothing);
    // The streams are two pipes, so either's last line may be the last.
    let (out, err) = logs(&["-n", "1"])?;
    assert!(["end\n", "err\n"].contains(&(out + &err).as_str()));

    let (out, err) = logs(&["--timestamps"])?;
    let (time, word) = err.split_once(' ').context("a time")?;
    assert_eq!(
        (word, time.len()),
        ("err\n", "2026-01-31T12:00:00.123456Z".len())
    );
    assert_eq!(out.lines().count(), 2, "{out}");

    let (entries, _) = logs(&["--json"])?;
    let entries: Vec<Value> = entries
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let told: Vec<_> = entries
        .iter()
        .map(|entry| (entry["stream"].as_str(), entry["text"].as_str()))
        .collect();
    let pair = |stream, text| (Some(stream), Some(text));
    for expected in [
        pair("stdout", "out\n"),
        pair("stderr", "err\n"),
        pair("stdout", "end\n"),
    ] {
        assert!(told.contains(&expected), "{told:?}");
    }
    assert_eq!(told.len(), 3);

    let (console, _) = logs(&["--console"])?;
    assert!(console.contains("words of the kernel"), "{console}");
    // Nothing of the program, and no errors of a kernel that has none.
    assert_eq!(console.lines().count(), 1, "{console}");
    assert_eq!(logs(&["--mvm"])?, nothing);
    Ok(())
}

#[test]
fn who_follows_sees_what_is_said_and_the_end() -> Result<()> {
    let machines = Machines::new()?;
    let script = "exec 3<> <(:); n=0; while true; do echo $((n++)); read -u 3 -t 0.2; done";
    machines.start(shell("counts", script))?;
    let mut follow = machines.spawn(["logs", "--follow", "counts"])?;
    follow.wait_for("\n5\n")?;
    machines.mvm(["stop", "-t", "1", "counts"])?;
    let output = follow.finish()?;
    let whole = machines.mvm(["logs", "counts"])?;
    assert_eq!((output.status, output.stdout()), (0, whole.stdout()));
    Ok(())
}

#[test]
fn the_lines_of_several_come_by_their_times_each_with_its_name() -> Result<()> {
    let machines = Machines::new()?;
    // Each says a line when it is told to, so their order is known.
    let script = "while read -r line; do echo \"$line\"; done";
    let mut attached = Vec::new();
    for name in ["a", "long"] {
        let started = machines.own(shell(name, script)).flag("-di").run()?;
        assert_eq!(started.status, 0, "{started}");
        attached.push(machines.spawn(["attach", name])?);
    }
    let mut follow = machines.spawn(["logs", "-f", "long", "a", "lon"])?;
    for (nth, words) in [(0, "one"), (1, "two"), (0, "three"), (1, "four")] {
        attached[nth].write(format!("{words}\n"))?;
        attached[nth].wait_for(&format!("{words}\n"))?;
    }
    let expected = "a    | one\nlong | two\na    | three\nlong | four\n";
    follow.wait_for("four\n")?;
    machines.mvm(["stop", "-t", "1", "a", "long"])?;
    assert_eq!(follow.finish()?.stdout(), expected);
    let logs = |arguments: &[&str]| {
        let output = machines.mvm([&["logs"], arguments, &["long", "a"]].concat())?;
        assert_eq!((output.status, output.stderr().as_str()), (0, ""));
        anyhow::Ok(output.stdout())
    };
    assert_eq!(logs(&[])?, expected);
    assert_eq!(logs(&["--tail", "1"])?, "a    | three\nlong | four\n");
    let entries = logs(&["--json", "-n", "1"])?;
    let first: Value = serde_json::from_str(entries.lines().next().context("a line")?)?;
    assert_eq!(
        (&first["name"], &first["text"]),
        (&"a".into(), &"three\n".into())
    );
    let unknown = machines.mvm(["logs", "a", "none"])?;
    assert_eq!((unknown.status, &*unknown.stdout()), (1, "one\nthree\n"));
    Ok(())
}

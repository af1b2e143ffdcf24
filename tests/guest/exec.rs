//! More programs in a running machine.

use anyhow::Result;
use mvm_test::{Machines, Output, Signal};

use crate::shell;

/// Commands at a time, as a script starts them.
const PARALLEL: usize = 200;

fn machines(name: &str) -> Result<Machines> {
    let machines = Machines::new()?;
    let machine = shell(name, "echo up; exec sleep 1000").env("WORDS", "of the machine");
    machines.start(machine)?;
    Ok(machines)
}

/// The status and both streams.
fn all(output: &Output) -> (i32, String, String) {
    (output.status, output.stdout(), output.stderr())
}

#[test]
fn it_has_the_machines_environment_and_its_own_status_and_streams() -> Result<()> {
    let machines = machines("exec")?;
    let script = r#"echo "$WORDS $MORE $PWD"; id -u >&2; exit 42"#;
    let output = machines.mvm([
        "exec",
        "-e",
        "MORE=and more",
        "-w",
        "/tmp",
        "-u",
        "1234",
        "exec",
        "bash",
        "-c",
        script,
    ])?;
    let expected = (42, "of the machine and more /tmp\n".into(), "1234\n".into());
    assert_eq!(all(&output), expected);
    let killed = machines.mvm(["exec", "exec", "bash", "-c", "kill -TERM $$"])?;
    assert_eq!(killed.status, 128 + 15);
    let missing = machines.mvm(["exec", "exec", "/no-such-program"])?;
    assert_eq!(missing.status, 127);
    // Flags behind the name are the command's.
    let flags = machines.mvm(["exec", "exec", "echo", "-n", "-u"])?;
    assert_eq!(all(&flags), (0, "-u".into(), String::new()));
    Ok(())
}

#[test]
fn bytes_pass_both_ways_and_the_end_of_input_is_seen() -> Result<()> {
    let machines = machines("bytes")?;
    let mut sum = machines.spawn(["exec", "-i", "bytes", "md5sum"])?;
    sum.write_in_background(vec![7; 16 << 20]);
    assert_eq!(
        sum.finish()?.stdout(),
        "9e88dfea6f1a4e035a540063cd7b0965  -\n"
    );
    let script = "head -c 16777216 /dev/zero; printf end >&2";
    let zeros = machines.mvm(["exec", "bytes", "bash", "-c", script])?;
    assert_eq!(
        (zeros.stdout.len(), zeros.stderr()),
        (16 << 20, "end".into())
    );
    assert!(zeros.stdout.iter().all(|byte| *byte == 0));
    Ok(())
}

#[test]
fn on_a_terminal_ctrl_c_reaches_it() -> Result<()> {
    let machines = machines("tty")?;
    let script =
        "trap 'echo interrupted; exit 3' INT; tty; stty size; while true; do sleep 0.1; done";
    let mut running =
        machines.spawn_on_terminal(33, 77, ["exec", "-it", "tty", "bash", "-c", script])?;
    running.wait_for("33 77\r\n")?;
    running.write("\x03")?;
    let output = running.finish()?;
    assert_eq!(output.status, 3);
    assert!(output.stdout().contains("interrupted"), "{output}");
    Ok(())
}

#[test]
fn when_the_command_goes_so_does_its_program() -> Result<()> {
    let machines = machines("gone")?;
    let count = "n=0; for c in /proc/[0-9]*/cmdline; do \
                 [[ $(tr '\\0' ' ' <$c) == 'sleep 4321 ' ]] && n=$((n+1)); done; echo $n";
    let count = || {
        anyhow::Ok(
            machines
                .mvm(["exec", "gone", "bash", "-c", count])?
                .stdout(),
        )
    };
    let mut running =
        machines.spawn(["exec", "-i", "gone", "bash", "-c", "echo up; sleep 4321"])?;
    running.wait_for("up\n")?;
    while count()? != "1\n" {}
    running.signal(Signal::KILL)?;
    running.finish()?;
    while count()? != "0\n" {}
    Ok(())
}

#[test]
fn a_detached_one_goes_on_without_its_command() -> Result<()> {
    let machines = machines("left")?;
    // Only one that has no input, and that nobody's silence stops, gets on to the end.
    let script = "read -r line; head -c 4194304 /dev/zero; head -c 4194304 /dev/zero >&2; \
                  [ -t 1 ] && echo tty >/tmp/done || echo done >/tmp/done";
    let detached = |flags: &str, program: &[&str]| {
        let arguments = [&["exec", flags, "left"], program].concat();
        anyhow::Ok(all(&machines.mvm(arguments)?))
    };
    let word = || anyhow::Ok(machines.mvm(["exec", "left", "cat", "/tmp/done"])?.stdout());
    let nothing = (0, String::new(), String::new());
    assert_eq!(detached("-d", &["bash", "-c", script])?, nothing);
    while word()? != "done\n" {}
    // On a terminal nobody types, and its input does not end.
    let script = script
        .replace("read -r line;", "")
        .replace("4194304", "262144");
    assert_eq!(detached("-dit", &["bash", "-c", &script])?, nothing);
    while word()? != "tty\n" {}
    // One that has ended leaves no process of ours behind.
    let init = "n=0; for c in /proc/[0-9]*/cmdline; do \
                [[ $(tr '\\0' ' ' <$c) == *' serve ' ]] && n=$((n+1)); done; echo $n";
    let serving = || anyhow::Ok(machines.mvm(["exec", "left", "bash", "-c", init])?.stdout());
    while serving()? != "1\n" {}
    let (status, _, error) = detached("-d", &["/no-such-program"])?;
    let why = "mvm: cannot execute /no-such-program: there is no such file\n";
    assert_eq!((status, error.as_str()), (127, why));
    assert_eq!(detached("-d", &["/tmp"])?.0, 126);
    Ok(())
}

#[test]
fn many_run_at_a_time() -> Result<()> {
    let machines = Machines::new()?;
    machines.start(shell("many", "exec sleep 1000").memory_mib(512))?;
    let commands = (0..PARALLEL).map(|number| {
        let script = format!("sleep 0.5; echo {number}");
        machines.spawn(["exec", "many", "bash", "-c", &script])
    });
    let commands = commands.collect::<Result<Vec<_>>>()?;
    for (number, command) in commands.into_iter().enumerate() {
        let output = command.finish()?;
        assert_eq!(all(&output), (0, format!("{number}\n"), String::new()));
    }
    Ok(())
}

#[test]
fn a_shell_finds_the_programs_of_the_closure() -> Result<()> {
    let machines = Machines::new()?;
    let bash = format!("{}/bin/bash", mvm_test::fixture("bash"));
    let machine = mvm_test::Machine::new("bare")
        .program([bash.as_str(), "-c", "exec 3<> <(:); read -u 3"])
        .memory_mib(128);
    machines.start(machine)?;
    let mut shell = machines.spawn(["shell", "bare"])?;
    shell.write("type -P bash; exit 5\n")?;
    shell.close_stdin();
    let output = shell.finish()?;
    assert_eq!(all(&output), (5, format!("{bash}\n"), String::new()));
    Ok(())
}

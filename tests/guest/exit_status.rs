//! `mvm run` exits as its program does, and says why if there was none.

use anyhow::Result;
use mvm_test::{Machine, fixture};

use crate::shell;

/// The status and the words of a run that printed nothing else.
fn end(machine: Machine) -> Result<(i32, String)> {
    let output = machine.run()?;
    assert_eq!(output.stdout(), "");
    Ok((output.status, output.stderr()))
}

#[test]
fn the_programs_own() -> Result<()> {
    assert_eq!(end(shell("status", "exit 0"))?, (0, String::new()));
    assert_eq!(end(shell("status", "exit 1"))?, (1, String::new()));
    assert_eq!(end(shell("status", "exit 42"))?, (42, String::new()));
    Ok(())
}

#[test]
fn the_programs_own_whatever_it_leaves_behind() -> Result<()> {
    let output = shell("status", "yes & exit 3").run()?;
    assert_eq!((output.status, output.stderr()), (3, String::new()));
    Ok(())
}

#[test]
fn killed_by_a_signal_is_128_and_its_number() -> Result<()> {
    assert_eq!(
        end(shell("status", "kill -TERM $$"))?,
        (128 + 15, String::new())
    );
    assert_eq!(
        end(shell("status", "kill -KILL $$"))?,
        (128 + 9, String::new())
    );
    Ok(())
}

#[test]
fn what_cannot_be_executed_is_126() -> Result<()> {
    let odd = fixture("odd-files");
    let text = format!("{odd}/links/file");
    let folder = format!("{odd}/links");
    let no_program = format!("{odd}/not-a-program");
    let refused = |path: &str, why: &str| (126, format!("mvm: cannot execute {path}: {why}\n"));

    assert_eq!(
        end(Machine::new("status").program([&text]))?,
        refused(&text, "Permission denied")
    );
    assert_eq!(
        end(Machine::new("status").program([&folder]))?,
        refused(&folder, "it is a folder")
    );
    assert_eq!(
        end(Machine::new("status").program([&no_program]))?,
        refused(
            &no_program,
            "it is neither a script with a #! line nor a program for this machine"
        )
    );
    Ok(())
}

#[test]
fn what_is_not_there_is_127() -> Result<()> {
    let odd = fixture("odd-files");
    let missing = format!("{odd}/no-such-program");
    let script = format!("{odd}/bad-interpreter");
    let refused = |what: &str| (127, format!("mvm: cannot execute {what}\n"));

    assert_eq!(
        end(Machine::new("status").program([&missing]))?,
        refused(&format!("{missing}: there is no such file"))
    );
    assert_eq!(
        end(Machine::new("status").program([&script]))?,
        refused(&format!(
            "{script}: its interpreter /nowhere/sh does not exist"
        ))
    );
    assert_eq!(
        end(Machine::new("status")
            .program(["no-such-program"])
            .env("PATH", &odd))?,
        refused(&format!(
            "no-such-program: no folder of PATH has it (PATH={odd})"
        ))
    );
    Ok(())
}

#[test]
fn a_program_that_cannot_start_where_or_as_whom_it_should_is_126() -> Result<()> {
    let nowhere = shell("status", "exit 0").set("/app/cwd", "/no/such/folder");
    let (status, words) = end(nowhere)?;
    assert_eq!(status, 126);
    assert_eq!(
        words,
        "mvm: cannot change to folder /no/such/folder: No such file or directory\n"
    );
    Ok(())
}

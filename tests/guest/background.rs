//! Machines in the background: their life, and what is kept of it.

use std::fs;
use std::mem;

use anyhow::Result;
use mvm_test::{Machine, Machines, Output};

use crate::{kill_where_machines_run, shell, until};

/// Counts on both streams until it is told to end.
const SERVICE: &str = r"
    trap 'echo bye; exit 7' TERM
    echo up
    echo warning >&2
    exec 3<> <(:)
    while true; do read -u 3 -t 0.1; done
";

/// The status and standard output of a command that said nothing else.
fn answer(output: &Output) -> (i32, String) {
    assert_eq!(output.stderr(), "");
    (output.status, output.stdout())
}

/// A good answer.
fn ok(words: &str) -> (i32, String) {
    (0, words.into())
}

/// Waits until a program has set its traps and said that it is up, as often as it was started.
fn await_up(machines: &Machines, name: &str, starts: usize) {
    until(|| {
        let logs = machines.mvm(["logs", name]);
        logs.is_ok_and(|logs| logs.stdout().matches("up\n").count() == starts)
    });
}

#[test]
fn its_life_is_told_from_the_start_to_the_removal() -> Result<()> {
    let machines = Machines::new()?;
    let mvm = |arguments: &[&str]| anyhow::Ok(answer(&machines.mvm(arguments)?));
    let started = machines.own(shell("service", SERVICE)).flag("-d").run()?;
    assert_eq!(answer(&started), ok("service\n"));
    assert_eq!(mvm(&["ps", "-q"])?, ok("service\n"));
    // Any beginning of its name that is nobody else's will do.
    let status = machines.mvm(["status", "serv"])?.stdout();
    assert!(status.starts_with("service: running, since "), "{status}");

    await_up(&machines, "service", 1);
    assert_eq!(mvm(&["stop", "service"])?, ok("service\n"));
    assert_eq!(mvm(&["stop", "service"])?, ok("service\n"));
    assert_eq!(mvm(&["ps", "-q"])?, ok(""));
    assert_eq!(mvm(&["ps", "-aq"])?, ok("service\n"));
    assert_eq!(mvm(&["wait", "service"])?, ok("7\n"));
    let logs = machines.mvm(["logs", "service"])?;
    assert_eq!(logs.stdout(), "up\nbye\n");
    assert_eq!(logs.stderr(), "warning\n");
    assert_eq!(machines.mvm(["status", "service"])?.status, 3);

    assert_eq!(mvm(&["start", "service"])?, ok("service\n"));
    let refused = machines.mvm(["rm", "service"])?;
    assert_eq!(refused.status, 125);
    await_up(&machines, "service", 2);
    assert_eq!(mvm(&["kill", "-s", "TERM", "service"])?, ok("service\n"));
    assert_eq!(mvm(&["wait", "service"])?, ok("7\n"));
    assert_eq!(mvm(&["logs", "--tail", "1", "service"])?, ok("bye\n"));
    assert_eq!(mvm(&["rm", "service"])?, ok("service\n"));
    assert_eq!(mvm(&["ps", "-aq"])?, ok(""));
    let kept = AsRef::<std::path::Path>::as_ref(&machines.state()).join("machines");
    assert_eq!(fs::read_dir(kept)?.count(), 0);
    Ok(())
}

#[test]
fn one_that_cannot_run_its_program_is_not_kept() -> Result<()> {
    let machines = Machines::new()?;
    let missing = Machine::new("missing").program(["/nix/no-such-program"]);
    let output = machines.own(missing).flag("--detach").run()?;
    assert_eq!((output.status, output.stdout()), (127, String::new()));
    let why = "mvm: cannot execute /nix/no-such-program: there is no such file\n";
    assert_eq!(output.stderr(), why);
    assert_eq!(answer(&machines.mvm(["ps", "-aq"])?), ok(""));
    Ok(())
}

/// What `mvm ps -a` says of the first machine.
fn status(machines: &Machines) -> Result<String> {
    let all = machines.mvm(["ps", "--all", "--json"])?.stdout();
    let all: serde_json::Value = serde_json::from_str(&all)?;
    Ok(all[0]["status"].as_str().unwrap_or_default().into())
}

#[test]
fn whose_monitor_is_killed_leaves_no_lie_behind() -> Result<()> {
    let machines = Machines::new()?;
    machines.start(shell("victim", SERVICE))?;
    kill_where_machines_run(&machines.inspect("victim")?["pid"].to_string())?;
    until(|| status(&machines).is_ok_and(|status| status == "killed"));
    assert_eq!(machines.mvm(["wait", "victim"])?.status, 125);
    assert_eq!(answer(&machines.mvm(["prune"])?), ok("victim\n"));
    assert_eq!(answer(&machines.mvm(["ps", "-aq"])?), ok(""));
    Ok(())
}

#[test]
fn what_is_killed_has_the_status_of_that() -> Result<()> {
    let machines = Machines::new()?;
    let mvm = |arguments: &[&str]| anyhow::Ok(answer(&machines.mvm(arguments)?));
    machines.start(shell("victim", SERVICE))?;
    assert_eq!(mvm(&["kill", "victim"])?, ok("victim\n"));
    assert_eq!(status(&machines)?, "exited");
    assert_eq!(mvm(&["wait", "victim"])?, ok("137\n"));
    assert_eq!(mvm(&["rm", "victim"])?, ok("victim\n"));

    let deaf = "trap '' TERM; echo up; exec 3<> <(:); while true; do read -u 3 -t 0.1; done";
    machines.start(shell("deaf", deaf))?;
    await_up(&machines, "deaf", 1);
    assert_eq!(mvm(&["stop", "-t", "1", "deaf"])?, ok("deaf\n"));
    assert_eq!(mvm(&["wait", "deaf"])?, ok("137\n"));

    let passing = machines
        .own(shell("passing", SERVICE))
        .flag("-d")
        .flag("--rm");
    assert_eq!(answer(&passing.run()?), ok("passing\n"));
    assert_eq!(mvm(&["kill", "passing"])?, ok("passing\n"));
    assert_eq!(mvm(&["ps", "-aq"])?, ok("deaf\n"));
    Ok(())
}

#[test]
fn to_be_ended_it_is_called_by_its_whole_name() -> Result<()> {
    let machines = Machines::new()?;
    machines.start(shell("service-2", SERVICE))?;
    for command in ["stop", "kill", "rm", "destroy", "restart"] {
        let refused = machines.mvm([command, "service"])?;
        let why =
            "mvm: there is no machine service; service-2 is ended or removed by its whole name\n";
        assert_eq!((refused.status, refused.stderr()), (125, why.into()));
    }
    assert_eq!(machines.mvm(["status", "service"])?.status, 0);
    Ok(())
}

#[test]
fn paused_it_does_nothing_until_it_goes_on() -> Result<()> {
    let machines = Machines::new()?;
    machines.start(shell("clock", "while true; do echo tick; sleep 0.05; done"))?;
    assert_eq!(answer(&machines.mvm(["pause", "clock"])?), ok("clock\n"));
    let ticks = || anyhow::Ok(machines.mvm(["logs", "clock"])?.stdout().len());
    // What was under way when it was paused arrives.
    let mut before = ticks()?;
    until(|| {
        let earlier = mem::replace(&mut before, ticks().expect("a log"));
        before == earlier
    });
    let refused = machines.mvm(["exec", "clock", "true"])?;
    assert_eq!(
        (refused.status, refused.stderr()),
        (
            125,
            "mvm: clock is paused; `mvm unpause clock` lets it go on\n".into()
        )
    );
    assert_eq!(ticks()?, before);
    assert_eq!(answer(&machines.mvm(["unpause", "clock"])?), ok("clock\n"));
    until(|| ticks().expect("a log") > before);
    Ok(())
}

#[test]
fn one_in_the_foreground_is_seen_and_stopped_as_well() -> Result<()> {
    let machines = Machines::new()?;
    let mut running = machines.own(shell("front", SERVICE)).spawn()?;
    running.wait_for("up\n")?;
    assert_eq!(answer(&machines.mvm(["ps", "-q"])?), ok("front\n"));
    assert_eq!(answer(&machines.mvm(["stop", "front"])?), ok("front\n"));
    assert_eq!(running.finish()?.status, 7);
    assert_eq!(answer(&machines.mvm(["ps", "-aq"])?), ok(""));
    Ok(())
}

#[test]
fn one_takes_the_place_of_another_of_its_name() -> Result<()> {
    let machines = Machines::new()?;
    let run = |word: &str, flags: &[&str]| {
        let script = format!("echo {word}; {SERVICE}");
        let machine = machines.own(shell("place", &script));
        let machine = flags.iter().fold(machine, Machine::flag);
        machine.run()
    };
    assert_eq!(answer(&run("first", &["-d", "--replace"])?), ok("place\n"));
    // Without it, another is made beside the first.
    assert_eq!(answer(&run("beside", &["-d"])?), ok("place-2\n"));
    assert_eq!(answer(&run("second", &["-d", "--replace"])?), ok("place\n"));
    // It runs when it is told, and speaks a moment later.
    let said = machines.logs_until("place", |said| !said.is_empty())?;
    assert!(said.starts_with("second\n"), "{said}");
    // One that has ended goes, too, and for one in the foreground.
    machines.mvm(["stop", "place-2"])?;
    let missing = ["--replace", "--name=place-2", "--entrypoint=/no-such"];
    assert_eq!(run("third", &missing)?.status, 127);
    assert_eq!(answer(&machines.mvm(["ps", "-aq"])?), ok("place\n"));
    Ok(())
}

#[test]
fn the_list_has_those_that_are_asked_for() -> Result<()> {
    let machines = Machines::new()?;
    let start = |name, labels: &[&str]| {
        let machine = machines.own(shell(name, SERVICE)).flag("-d");
        let machine = labels.iter().fold(machine, Machine::flag);
        assert_eq!(answer(&machine.run()?), ok(&format!("{name}\n")));
        anyhow::Ok(())
    };
    start("web-1", &["--label=tier=web", "-lteam"])?;
    start("db", &["--label=tier=db"])?;
    start("web-2", &["--label=tier=web"])?;
    machines.mvm(["stop", "db"])?;
    let ps = |arguments: &str| {
        let arguments = ["ps", "-q"].into_iter().chain(arguments.split_whitespace());
        anyhow::Ok(answer(&machines.mvm(arguments)?))
    };
    assert_eq!(ps("--filter label=tier")?, ok("web-1\nweb-2\n"));
    assert_eq!(ps("-a -f label=tier=db")?, ok("db\n"));
    assert_eq!(ps("-f label=tier=web -f label=team")?, ok("web-1\n"));
    assert_eq!(ps("-f name=web -f status=exited")?, ok(""));
    assert_eq!(ps("-f status=exited")?, ok("db\n"));
    assert_eq!(
        ps("-f status=exited -f status=running -f health=none -f name=2")?,
        ok("web-2\n")
    );
    assert_eq!(ps("--last 2")?, ok("web-2\ndb\n"));
    assert_eq!(ps("-l")?, ok("web-2\n"));
    let refused = machines.mvm(["ps", "--filter", "state=up"])?;
    assert_eq!(refused.status, 125);
    Ok(())
}

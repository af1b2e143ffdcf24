//! What a machine asks of its host: of its file server, counted by FUSE's names, and by leaving the guest.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value;

use crate::shell;

/// All requests but READ of a machine that runs `bash -c ls` so often.
fn requests_but_reads(times: u32) -> Result<BTreeMap<String, u64>> {
    let script = format!("for _ in $(seq {times}); do bash -c ls > /dev/null || exit; done");
    let output = shell("requests", &script).count_requests().run()?;
    output.success();
    let mut requests = output.requests("store").clone();
    assert!(requests.remove("READ") > Some(0));
    Ok(requests)
}

#[test]
fn a_program_that_ran_before_starts_without_a_request() -> Result<()> {
    let twice = requests_but_reads(2)?;
    let twelve_times = requests_but_reads(12)?;
    assert!(twice["LOOKUP"] > 0, "{twice:?}");
    assert_eq!(twice, twelve_times);
    Ok(())
}

/// Exits of a start to mvm, at most: by the kernel that finds its devices, by init, and by a program that
/// says one word. Three starts in turn differ by less than ten in the first and in the second.
const EXITS_MAX: [u64; 4] = [0, 1100, 60, 200];

#[test]
fn a_start_leaves_the_guest_no_more_often_than_it_has_to() -> Result<()> {
    let machine = shell("timing", "echo word");
    let output = machine.flag("--timing=json").run()?;
    assert_eq!((output.status, &*output.stdout()), (0, "word\n"));
    let told = output.stderr();
    let told: Value = serde_json::from_str(told.lines().last().unwrap_or_default())?;
    for (number, phase) in ["mvm", "kernel", "init", "app"].into_iter().enumerate() {
        let share = &told["phases"][number];
        assert_eq!(share["phase"], phase);
        assert!(share["ms"].as_f64().is_some_and(|ms| ms >= 0.0), "{told}");
        let exits = share["exits"].as_u64();
        assert!(
            exits.is_some_and(|exits| exits <= EXITS_MAX[number]),
            "{told}"
        );
    }
    Ok(())
}

//! What a machine asks its file server: counted there, by FUSE's names.

use std::collections::BTreeMap;

use anyhow::Result;

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

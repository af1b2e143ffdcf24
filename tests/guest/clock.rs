//! What time it is in a machine.

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use mvm_test::Machines;

use crate::{shell, until};

/// What two clocks may have gone apart since one was set by the other.
const DRIFT: Duration = Duration::from_millis(500);

fn now() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}

/// What `echo $EPOCHREALTIME` has said.
fn time(text: &str) -> Result<Duration> {
    let (seconds, micros) = text.trim_end().split_once('.').context("a point")?;
    Ok(Duration::from_secs(seconds.parse()?) + Duration::from_micros(micros.parse()?))
}

#[test]
fn the_time_is_the_hosts() -> Result<()> {
    let before = now();
    let output = shell("clock", "echo $EPOCHREALTIME").run()?;
    let after = now();
    let inside = time(&output.success())?;
    assert!(
        before <= inside + DRIFT && inside <= after + DRIFT,
        "{inside:?} inside, {before:?} to {after:?} outside"
    );
    Ok(())
}

/// What both the look itself and [`DRIFT`] let the clock be off after it.
const CORRECTED: Duration = Duration::from_secs(2);

#[test]
fn after_a_pause_the_time_is_the_hosts_again() -> Result<()> {
    let machines = Machines::new()?;
    machines.start(shell("clock", "sleep 1000"))?;
    let mvm = |words: &[&str]| machines.mvm(words);
    // As wrong as after a sleep of the host's, in which processors stand still.
    mvm(&["exec", "clock", "date", "-s", "@1000000000"])?.success();
    mvm(&["pause", "clock"])?.success();
    thread::sleep(Duration::from_secs(2));
    mvm(&["unpause", "clock"])?.success();
    let is_right = || {
        let before = now();
        let output = mvm(&["exec", "clock", "bash", "-c", "echo $EPOCHREALTIME"])?;
        let inside = time(&output.success())?;
        anyhow::Ok(before <= inside + CORRECTED && inside <= now() + CORRECTED)
    };
    until(|| is_right().expect("a time"));
    Ok(())
}

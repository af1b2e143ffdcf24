//! What time it is in a machine.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::shell;

/// What two clocks may have gone apart since one was set by the other.
const DRIFT: Duration = Duration::from_millis(500);

#[test]
fn the_time_is_the_hosts() -> Result<()> {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH);
    let before = now()?;
    let output = shell("clock", "echo $EPOCHREALTIME").run()?;
    let after = now()?;
    let text = output.success();
    let (seconds, micros) = text.trim_end().split_once('.').context("a point")?;
    let inside = Duration::from_secs(seconds.parse()?) + Duration::from_micros(micros.parse()?);
    assert!(
        before <= inside + DRIFT && inside <= after + DRIFT,
        "{inside:?} inside, {before:?} to {after:?} outside"
    );
    Ok(())
}

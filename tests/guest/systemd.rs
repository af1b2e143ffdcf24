//! What a service's manager is told; `tests/systemd` has a real one.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

use crate::shell;

/// Above what the slowest host needs for a start.
const PATIENCE: Duration = Duration::from_secs(180);

#[test]
fn a_manager_is_told_when_the_program_runs_and_when_it_has_ended() -> Result<()> {
    let folder = TempDir::new()?;
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut heard = [0; 256];
    let mut hear = || -> Result<String> {
        let length = socket.recv(&mut heard)?;
        Ok(String::from_utf8_lossy(&heard[..length]).into_owned())
    };

    let machine = shell("service", "read -r _; exit 3").host_env("NOTIFY_SOCKET", &path);
    let mut running = machine.vcpus(2).spawn()?;
    assert_eq!(hear()?, "READY=1\nSTATUS=Guest up, 2 vCPU, 128 MiB");
    running.write("end\n")?;
    assert_eq!(hear()?, "STOPPING=1\nSTATUS=The program has ended");
    assert_eq!(running.finish()?.status, 3);
    Ok(())
}

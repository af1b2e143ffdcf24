//! `--accel kvm`, whatever KVM there is.

use std::fs::File;
use std::time::Duration;

use anyhow::Result;

use crate::shell;

/// A KVM without hardware takes seconds to find an instruction that it cannot emulate; mvm itself
/// gives up after 60.
const SOON: Duration = Duration::from_secs(90);

#[test]
fn kvm_runs_the_program_or_says_why_it_cannot() -> Result<()> {
    let machine = shell("kvm", "echo it runs").flag("--accel=kvm");
    let output = machine.timeout(SOON).run()?;
    let errors = output.stderr();
    assert!(!errors.contains("using an emulated host"), "{output}");
    if output.status == 0 {
        assert_eq!(output.stdout(), "it runs\n");
        return Ok(());
    }
    assert_eq!(output.status, 125, "{output}");
    assert_eq!(output.stdout(), "");
    let first = errors.lines().next().unwrap_or_default();
    let is_open = File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok();
    if is_open {
        let start = first.starts_with("mvm: the machine stopped: KVM ");
        let hint = first.contains(" at rip 0x") && first.ends_with("try --accel emulated");
        assert!(start && hint, "{output}");
    } else {
        let start = "mvm: cannot start kvm: cannot open /dev/kvm: ";
        assert!(first.starts_with(start), "{output}");
    }
    Ok(())
}

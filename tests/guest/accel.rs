//! `--accel kvm`, whatever KVM there is.

use std::time::Duration;

use anyhow::Result;

use crate::shell;

/// An emulated processor's KVM takes seconds to find an instruction that it cannot emulate.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn kvm_runs_the_program_or_says_why_it_cannot() -> Result<()> {
    let machine = shell("kvm", "echo it runs").flag("--accel=kvm");
    let output = machine.timeout(SOON).run()?;
    if output.status == 0 {
        assert_eq!(output.stdout(), "it runs\n");
        return Ok(());
    }
    assert_eq!(output.status, 125, "{output}");
    assert_eq!(output.stdout(), "");
    let errors = output.stderr();
    let first = errors.lines().next().unwrap_or_default();
    let no_device = first.starts_with("mvm: cannot start kvm: cannot open /dev/kvm: ");
    let no_instruction = first.starts_with("mvm: the machine stopped: KVM ")
        && first.contains(" at rip 0x")
        && first.ends_with("try --accel emulated");
    assert!(no_device || no_instruction, "{output}");
    Ok(())
}

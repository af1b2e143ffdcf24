//! A guest that ends its machine itself.

use anyhow::Result;

use crate::shell;

#[test]
fn power_off_is_a_good_end() -> Result<()> {
    let output = shell("power", "echo last words; busybox poweroff -f; sleep 1000").run()?;
    assert_eq!(output.success(), "last words\n");
    Ok(())
}

#[test]
fn a_reset_is_an_end_with_a_reason() -> Result<()> {
    let output = shell("power", "busybox reboot -f; sleep 1000").run()?;
    assert_eq!(output.status, 125);
    let words = output.stderr();
    let (error, rest) = words.split_once('\n').unwrap_or_default();
    assert_eq!(error, "mvm: the guest reset its machine, which ends it");
    assert!(
        rest.starts_with("the guest's kernel said last:\n"),
        "{words}"
    );
    Ok(())
}

#[test]
fn a_panic_is_an_error_that_shows_the_kernels_words() -> Result<()> {
    let output = shell("power", "echo c > /proc/sysrq-trigger; sleep 1000").run()?;
    assert_eq!(output.status, 125);
    let words = output.stderr();
    let (error, rest) = words.split_once('\n').unwrap_or_default();
    assert!(
        error.starts_with("mvm: the guest's kernel panicked: "),
        "{words}"
    );
    assert!(
        error.ends_with("Kernel panic - not syncing: sysrq triggered crash"),
        "{words}"
    );
    assert!(
        rest.starts_with("the guest's kernel said last:\n"),
        "{words}"
    );
    Ok(())
}

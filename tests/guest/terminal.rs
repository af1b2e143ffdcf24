//! On a terminal the program has one too.

use anyhow::Result;

use crate::shell;

/// Tells of its terminal, and again each time that the window changes.
const PROGRAM: &str = r#"
    trap 'stty size; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo changed' WINCH
    tty; stty size; echo "$TERM"; read -r line; echo "read: $line"
    while :; do sleep 0.1; done
"#;

#[test]
fn it_has_the_size_the_keys_and_the_interrupts_of_the_callers() -> Result<()> {
    let machine = shell("terminal", PROGRAM).host_env("TERM", "xterm-test");
    let mut running = machine.spawn_on_terminal(33, 101)?;
    let modes = running.terminal_modes()?;
    let start = running.wait_for("xterm-test\r\n")?;
    running.write("typed\r")?;
    let echo = running.wait_for("read: typed\r\n")?;
    let raw_modes = running.terminal_modes()?;
    running.resize(40, 120)?;
    let resized = running.wait_for("changed\r\n")?;
    running.write(b"\x03")?;
    let output = running.finish()?;

    assert_eq!(start, "/dev/pts/0\r\n33 101\r\nxterm-test\r\n");
    assert_eq!(echo, "typed\r\nread: typed\r\n");
    assert_eq!(resized, "40 120\r\nchanged\r\n");
    assert_eq!(output.status, 128 + 2, "{output}");
    assert_ne!(raw_modes, modes);
    Ok(())
}

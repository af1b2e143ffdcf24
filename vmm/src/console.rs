//! Where the kernel's own messages go: to the user if they are wanted, and always to a short
//! memory, so that an error can show what the kernel said last.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes remembered: more than a panic with its back trace prints.
const REMEMBERED_BYTES: usize = 16 << 10;

/// A console's output, remembered and passed on.
#[derive(Clone)]
pub struct Console {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    remembered: VecDeque<u8>,
    sink: Option<Box<dyn Write + Send>>,
}

impl Console {
    /// A console whose output goes to `sink` as well.
    pub fn new(sink: Option<Box<dyn Write + Send>>) -> Self {
        let shared = Shared {
            remembered: VecDeque::with_capacity(REMEMBERED_BYTES),
            sink,
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    /// The last `count` lines, without what could move a terminal's cursor.
    pub fn last_lines(&self, count: usize) -> Vec<String> {
        let text = self.text();
        let lines: Vec<_> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let first = lines.len().saturating_sub(count);
        lines[first..].iter().map(|line| printable(line)).collect()
    }

    /// The line with which Linux gives up, if it did.
    pub fn panic(&self) -> Option<String> {
        let text = self.text();
        let line = text
            .lines()
            .find(|line| line.contains("Kernel panic - not syncing"))?;
        Some(printable(line))
    }

    fn text(&self) -> String {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(shared.remembered.make_contiguous()).into_owned()
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &bytes[bytes.len().saturating_sub(REMEMBERED_BYTES)..];
        let excess = (shared.remembered.len() + kept.len()).saturating_sub(REMEMBERED_BYTES);
        shared.remembered.drain(..excess);
        shared.remembered.extend(kept);
        if let Some(sink) = &mut shared.sink {
            sink.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the guest says, without control characters: it is hostile, and this is for a terminal.
fn printable(line: &str) -> String {
    line.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_is_remembered() {
        let mut console = Console::new(None);
        for n in 0..10_000 {
            writeln!(console, "line {n}").unwrap();
        }
        assert_eq!(console.last_lines(2), ["line 9998", "line 9999"]);
        assert!(console.text().len() <= REMEMBERED_BYTES);
    }

    #[test]
    fn terminal_escapes_do_not_survive() {
        let mut console = Console::new(None);
        console.write_all(b"a\x1b[2Jb\x07\r\n").unwrap();
        assert_eq!(console.last_lines(1), ["a[2Jb"]);
    }

    #[test]
    fn a_panic_is_found() {
        let mut console = Console::new(None);
        console
            .write_all(b"[0.1] Kernel panic - not syncing: no init\n[0.2] rebooting\n")
            .unwrap();
        assert_eq!(
            console.panic().unwrap(),
            "[0.1] Kernel panic - not syncing: no init"
        );
    }
}

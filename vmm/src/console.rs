//! Where the kernel's own messages go: to the user if they are wanted, and always to a short
//! memory, so that an error can show what the kernel said last.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, ensure};

/// Bytes remembered: more than a panic with its back trace prints.
const REMEMBERED_BYTES: usize = 16 << 10;

/// Bytes that one start adds to a log file. All of Linux' messages of a start are below 1 MiB;
/// a guest that writes for ever must not fill the host's disk.
const LOG_BYTES_MAX: usize = 16 << 20;

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

/// Opens a file that the console's output is added to.
///
/// # Errors
/// It cannot be written, or is none: a pipe or a terminal could stop the vCPU that writes to it.
pub fn log_file(path: &Path) -> anyhow::Result<impl Write + Send + use<>> {
    open_regular(path)
        .with_context(|| format!("cannot open the console's log {}", path.display()))
        .map(|file| Limited::new(file, LOG_BYTES_MAX))
}

fn open_regular(path: &Path) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    // A FIFO would be waited for, until someone reads it.
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = options.create(true).append(true).open(path)?;
    ensure!(file.metadata()?.is_file(), "it is not a regular file");
    Ok(file)
}

/// Passes on so many bytes, then one line that says so, then nothing.
struct Limited<W> {
    to: W,
    /// None once something was lost.
    left: Option<usize>,
}

impl<W> Limited<W> {
    fn new(to: W, limit: usize) -> Self {
        let left = Some(limit);
        Self { to, left }
    }
}

impl<W: Write> Write for Limited<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(left) = self.left else {
            return Ok(bytes.len());
        };
        let (kept, lost) = bytes.split_at(bytes.len().min(left));
        self.to.write_all(kept)?;
        self.left = lost.is_empty().then_some(left - kept.len());
        if !lost.is_empty() {
            self.to.write_all(b"\nmvm: truncated\n")?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
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
    fn a_log_ends_with_a_line_that_says_so() {
        let mut log = Limited::new(Vec::new(), 4);
        for bytes in [&b"ab"[..], b"cd"] {
            log.write_all(bytes).unwrap();
        }
        assert_eq!(log.to, b"abcd", "all that was written is there");
        log.write_all(b"e").unwrap();
        log.write_all(b"fgh").unwrap();
        assert_eq!(log.to, b"abcd\nmvm: truncated\n");
        let mut at_once = Limited::new(Vec::new(), 4);
        at_once.write_all(b"abcdefgh").unwrap();
        assert_eq!(at_once.to, log.to);
    }

    #[test]
    fn a_guest_that_writes_for_ever_fills_no_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = log_file(&path).unwrap();
        for _ in 0..40 {
            log.write_all(&vec![b'x'; 1 << 20]).unwrap();
        }
        let bytes = std::fs::metadata(&path).unwrap().len();
        assert_eq!(bytes, LOG_BYTES_MAX as u64 + 16);
        // The next start adds to it.
        log_file(&path).unwrap().write_all(b"again").unwrap();
        assert!(std::fs::read(&path).unwrap().ends_with(b"truncated\nagain"));
    }

    #[test]
    fn only_a_regular_file_is_a_log() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, 0o600.into()).unwrap();
        // Nobody reads it, and the call returns.
        assert!(log_file(&fifo).is_err());
        let _reader = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&fifo)
            .unwrap();
        for path in [&fifo, Path::new("/dev/null")] {
            let error = log_file(path).err().unwrap();
            let text = format!("{error:#}");
            assert!(text.ends_with("it is not a regular file"), "{text}");
        }
        assert!(log_file(folder.path()).is_err());
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

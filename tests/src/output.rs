//! What is left of a run: the status, the streams, the counts.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use anyhow::Context;

/// Requests by share and by FUSE's name of the request.
type Requests = BTreeMap<String, BTreeMap<String, u64>>;

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// As a shell has it: the exit status, or 128+n if signal n ended `mvm` itself.
    pub status: i32,
    /// Standard output, and all of a terminal's.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    requests: Requests,
}

impl Output {
    pub(crate) fn new(status: ExitStatus, stdout: Vec<u8>, stderr: Vec<u8>) -> Self {
        let signal = || 128 + status.signal().unwrap_or_default();
        let status = status.code().unwrap_or_else(signal);
        Self {
            status,
            stdout,
            stderr,
            requests: Requests::new(),
        }
    }

    /// Adds what `mvm` wrote to the file of its `--statistics`.
    pub(crate) fn with_requests(self, path: &Path) -> anyhow::Result<Self> {
        let text =
            fs::read(path).with_context(|| format!("mvm left no statistics; it said:\n{self}"))?;
        let mut shares: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(&text).context("cannot read the statistics")?;
        let requests = shares.iter_mut().map(|(tag, share)| {
            let requests = serde_json::from_value(share["requests"].take());
            Ok((tag.clone(), requests.context("cannot read the requests")?))
        });
        let requests = requests.collect::<anyhow::Result<_>>()?;
        Ok(Self { requests, ..self })
    }

    /// Standard output as text; bytes that are none become U+FFFD.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Standard output of a program that ended well.
    ///
    /// # Panics
    /// It did not, or it wrote to standard error; the message shows all.
    #[track_caller]
    pub fn success(&self) -> String {
        assert!(self.status == 0 && self.stderr.is_empty(), "{self}");
        self.stdout()
    }

    /// Tags of the shares whose requests were counted.
    pub fn shares(&self) -> Vec<&str> {
        self.requests.keys().map(String::as_str).collect()
    }

    /// What the guest asked of a share, by FUSE's names of the requests.
    ///
    /// # Panics
    /// The machine has no such share, or its requests were not counted.
    #[track_caller]
    pub fn requests(&self, tag: &str) -> &BTreeMap<String, u64> {
        let requests = self.requests.get(tag);
        requests.unwrap_or_else(|| panic!("no counts of {tag:?}; see Machine::count_requests"))
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "exit status {}", self.status)?;
        writeln!(f, "--- standard output\n{}", shortened(&self.stdout))?;
        write!(f, "--- standard error\n{}", shortened(&self.stderr))
    }
}

/// Text for a person: of what is long, the start and the end.
fn shortened(bytes: &[u8]) -> String {
    /// Bytes of each.
    const SHOWN: usize = 4096;
    let text = String::from_utf8_lossy;
    if bytes.len() <= 2 * SHOWN {
        return text(bytes).into_owned();
    }
    let (start, end) = (&bytes[..SHOWN], &bytes[bytes.len() - SHOWN..]);
    let left_out = bytes.len() - 2 * SHOWN;
    format!("{}\n[... {left_out} bytes ...]\n{}", text(start), text(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_is_shown_in_part() {
        let long = shortened(&b"x".repeat(1 << 20));
        assert!(
            long.contains("\n[... 1040384 bytes ...]\n"),
            "{}",
            long.len()
        );
        assert_eq!(shortened(b"short\xff"), "short\u{fffd}");
    }

    #[test]
    fn a_signal_counts_from_128() {
        let killed = Output::new(ExitStatus::from_raw(9), Vec::new(), Vec::new());
        let ended = Output::new(ExitStatus::from_raw(42 << 8), Vec::new(), Vec::new());
        assert_eq!((killed.status, ended.status), (137, 42));
    }
}

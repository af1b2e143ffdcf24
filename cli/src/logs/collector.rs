//! Takes a program's output from pipes and keeps it, line by line.
//!
//! The one thing to know: a log that cannot be written, on a full disk for instance, loses lines and
//! says how many once it can; the program goes on.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::Context;
use jiff::Timestamp;
use rustix::pipe::{PipeFlags, pipe_with};

use super::entry::{Entry, Stream};
use super::rotating::Rotating;

/// Bytes of a line that are kept in one piece.
const PIECE: usize = 16 << 10;

/// Where lines are kept.
pub trait Keep {
    /// Keeps one, with its line feed, or a piece of one.
    ///
    /// # Errors
    /// It is lost.
    fn keep(&mut self, stream: Stream, text: &[u8]) -> io::Result<()>;
}

/// A line of JSON for each.
impl Keep for Rotating {
    fn keep(&mut self, stream: Stream, text: &[u8]) -> io::Result<()> {
        let entry = Entry {
            time: Timestamp::now(),
            stream,
            text: String::from_utf8_lossy(text).into_owned(),
        };
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        self.write_all(&line)
    }
}

/// What is written by both threads.
struct Log {
    keeper: Box<dyn Keep + Send>,
    lost: u64,
}

/// Hears of what is written, as it comes.
pub type Observer = Arc<dyn Fn(Stream, &[u8]) + Send + Sync>;

/// Keeps what is written to two pipes.
pub struct Collector {
    threads: Vec<JoinHandle<()>>,
}

impl Collector {
    /// Starts to keep lines, and to tell `observer` of all that comes. Returns where to write standard
    /// output and error.
    ///
    /// # Errors
    /// The host is out of something.
    pub fn start(
        keeper: Box<dyn Keep + Send>,
        observer: &Observer,
    ) -> anyhow::Result<(Self, [OwnedFd; 2])> {
        let log = Arc::new(Mutex::new(Log { keeper, lost: 0 }));
        let (stdout, out) = collect(&log, observer, Stream::Stdout, "log-stdout")?;
        let (stderr, err) = collect(&log, observer, Stream::Stderr, "log-stderr")?;
        let threads = vec![stdout, stderr];
        Ok((Self { threads }, [out, err]))
    }

    /// Waits until all that was written is kept. The pipes must have been closed.
    pub fn finish(self) {
        for thread in self.threads {
            // One that panicked has nothing more to keep.
            let _ = thread.join();
        }
    }
}

fn collect(
    log: &Arc<Mutex<Log>>,
    observer: &Observer,
    stream: Stream,
    name: &str,
) -> anyhow::Result<(JoinHandle<()>, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).context("cannot make a pipe")?;
    let (log, observer) = (Arc::clone(log), Arc::clone(observer));
    let thread = thread::Builder::new()
        .name(name.into())
        .spawn(move || keep(read, stream, &log, &observer))
        .context("cannot start a thread")?;
    Ok((thread, write))
}

fn keep(pipe: OwnedFd, stream: Stream, log: &Mutex<Log>, observer: &Observer) {
    let mut pipe = std::fs::File::from(pipe);
    let mut waiting = Vec::with_capacity(PIECE);
    let mut bytes = [0; PIECE];
    loop {
        let count = match pipe.read(&mut bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => 0,
        };
        waiting.extend_from_slice(&bytes[..count]);
        let is_end = count == 0;
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(length) = piece(&waiting, is_end) {
            log.write(stream, &waiting[..length]);
            waiting.drain(..length);
        }
        drop(log);
        if is_end {
            return;
        }
        observer(stream, &bytes[..count]);
    }
}

/// Bytes of the first line, or piece of one, that can be kept now.
fn piece(waiting: &[u8], is_end: bool) -> Option<usize> {
    let line = waiting.iter().take(PIECE).position(|byte| *byte == b'\n');
    match line {
        Some(at) => Some(at + 1),
        None if waiting.len() >= PIECE => Some(PIECE),
        None if is_end && !waiting.is_empty() => Some(waiting.len()),
        None => None,
    }
}

impl Log {
    fn write(&mut self, stream: Stream, text: &[u8]) {
        if self.lost > 0 {
            let lost = format!("mvm: {} pieces of output were lost here\n", self.lost);
            if self.keeper.keep(Stream::Stderr, lost.as_bytes()).is_err() {
                self.lost += 1;
                return;
            }
            self.lost = 0;
        }
        if self.keeper.keep(stream, text).is_err() {
            self.lost = 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;

    use super::*;

    fn log(path: &Path) -> Box<dyn Keep + Send> {
        Box::new(Rotating::open(path).unwrap())
    }

    fn nobody() -> Observer {
        Arc::new(|_, _| ())
    }

    fn kept(path: &Path) -> Vec<(Stream, String)> {
        let text = std::fs::read_to_string(path).unwrap();
        let entries = text
            .lines()
            .map(|line| serde_json::from_str::<Entry>(line).unwrap());
        entries.map(|entry| (entry.stream, entry.text)).collect()
    }

    #[test]
    fn lines_are_kept_with_their_stream_and_the_rest_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (collector, [out, err]) = Collector::start(log(&path), &nobody()).unwrap();
        let (mut out, err) = (File::from(out), File::from(err));
        drop(err);
        out.write_all(b"one\ntw").unwrap();
        out.write_all(b"o\n\nrest \xff").unwrap();
        drop(out);
        collector.finish();
        let lines = ["one\n", "two\n", "\n", "rest \u{fffd}"];
        assert_eq!(
            kept(&path),
            lines.map(|line| (Stream::Stdout, line.to_owned()))
        );
    }

    #[test]
    fn who_listens_hears_all_bytes_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (sender, heard) = std::sync::mpsc::channel();
        let sender = Mutex::new(sender);
        let observer: Observer = Arc::new(move |stream, bytes| {
            let told = (stream, bytes.to_vec());
            sender.lock().unwrap().send(told).unwrap();
        });
        let path = folder.path().join("log");
        let (collector, [out, err]) = Collector::start(log(&path), &observer).unwrap();
        let mut err = File::from(err);
        err.write_all(b"> \xff").unwrap();
        // The log has nothing of it, since the line has no end.
        assert_eq!(heard.recv().unwrap(), (Stream::Stderr, b"> \xff".to_vec()));
        assert_eq!(kept(&path), []);
        drop((out, err));
        collector.finish();
    }

    #[test]
    fn a_long_line_comes_in_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (collector, [out, err]) = Collector::start(log(&path), &nobody()).unwrap();
        drop(out);
        let mut err = File::from(err);
        err.write_all(&vec![b'x'; 2 * PIECE]).unwrap();
        err.write_all(b"\n").unwrap();
        drop(err);
        collector.finish();
        let lengths: Vec<_> = kept(&path).iter().map(|(_, text)| text.len()).collect();
        assert_eq!(lengths, [PIECE, PIECE, 1]);
    }
}

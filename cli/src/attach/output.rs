//! One output of the program, written by a thread of its own.
//!
//! The one thing to know: what waits is one run of bytes, at most a window long, not a list of
//! frames: a guest that sends single bytes takes no more memory than another.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use guest::protocol::{Stream, WINDOW};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Written bytes are reported when they are this many: often enough that the guest never stands
/// still, seldom enough that a program which writes single bytes causes no flood of messages.
const REPORT_STEP: u32 = WINDOW / 4;

/// The loop's half.
pub(super) struct Output {
    stream: Stream,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Something waits, or nothing comes any more.
    wake: Condvar,
    /// Tells the loop that the thread has got on.
    progress: OwnedFd,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// Written and not yet reported.
    written: u32,
    /// No more is pushed.
    is_finished: bool,
    /// The thread has ended.
    is_done: bool,
    failure: Option<Errno>,
}

impl Output {
    /// Starts the thread that writes to `fd`. It adds to the counter `progress` when it gets on.
    pub(super) fn start(stream: Stream, fd: OwnedFd, progress: OwnedFd) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wake: Condvar::new(),
            progress,
        });
        let threads = Arc::clone(&shared);
        thread::Builder::new()
            .name(format!("{stream:?}").to_lowercase())
            .spawn(move || threads.write_all(&fd))
            .context("cannot start a thread")?;
        Ok(Self { stream, shared })
    }

    /// Takes bytes to write; the stream's window bounds them.
    pub(super) fn push(&self, bytes: &[u8]) {
        let mut state = self.shared.lock();
        if state.failure.is_none() {
            state.waiting.extend_from_slice(bytes);
            self.shared.wake.notify_one();
        }
    }

    /// Says that no more comes.
    pub(super) fn finish(&self) {
        self.shared.lock().is_finished = true;
        self.shared.wake.notify_one();
    }

    /// Bytes written since the last report, if they are enough for another.
    pub(super) fn take_written(&self) -> Option<u32> {
        let mut state = self.shared.lock();
        (state.written >= REPORT_STEP).then(|| std::mem::take(&mut state.written))
    }

    /// Whether writing has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.shared.lock().failure.is_some()
    }

    /// Whether all is written, or cannot be.
    pub(super) fn is_done(&self) -> bool {
        self.shared.lock().is_done
    }

    /// Fails if something could not be written for another reason than that its reader has gone.
    pub(super) fn result(&self) -> Result<()> {
        match self.shared.lock().failure {
            None | Some(Errno::PIPE) => Ok(()),
            Some(errno) => Err(errno).with_context(|| match self.stream {
                Stream::Stderr => "cannot write standard error",
                _ => "cannot write standard output",
            }),
        }
    }
}

/// The thread ends as soon as it is not within a write; what waits is thrown away.
impl Drop for Output {
    fn drop(&mut self) {
        self.shared.lock().waiting.clear();
        self.finish();
    }
}

impl Shared {
    /// The state is whole even if a holder of the lock has panicked.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread.
    fn write_all(&self, fd: &OwnedFd) {
        let mut bytes = Vec::new();
        let result = loop {
            if !self.next(&mut bytes) {
                break Ok(());
            }
            if let Err(errno) = self.write(fd, &bytes) {
                break Err(errno);
            }
        };
        let mut state = self.lock();
        state.is_done = true;
        state.failure = result.err();
        state.waiting = Vec::new();
        drop(state);
        self.report();
    }

    /// Takes all that waits; false at the end.
    fn next(&self, bytes: &mut Vec<u8>) -> bool {
        bytes.clear();
        let state = self.lock();
        let is_idle = |state: &mut State| state.waiting.is_empty() && !state.is_finished;
        let waited = self.wake.wait_while(state, is_idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(bytes, &mut state.waiting);
        !bytes.is_empty()
    }

    fn write(&self, fd: &OwnedFd, bytes: &[u8]) -> Result<(), Errno> {
        let mut left = bytes;
        while !left.is_empty() {
            let piece = &left[..left.len().min(REPORT_STEP as usize)];
            match rustix::io::write(fd, piece) {
                Ok(count) => {
                    left = &left[count..];
                    let mut state = self.lock();
                    // At most a window is under way, so this is far from its limit.
                    state.written += u32::try_from(count).unwrap_or(REPORT_STEP);
                    let is_enough = state.written >= REPORT_STEP;
                    drop(state);
                    if is_enough {
                        self.report();
                    }
                }
                Err(Errno::INTR) => {}
                // Someone else who shares the descriptor made it non-blocking.
                Err(Errno::AGAIN) => {
                    poll(&mut [PollFd::new(fd, PollFlags::OUT)], None)?;
                }
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn report(&self) {
        // A counter that is full has not been read, so the loop will wake all the same.
        let _: Result<usize, Errno> = rustix::io::write(&self.progress, &1u64.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use rustix::event::{EventfdFlags, eventfd};
    use rustix::pipe::pipe;

    use super::*;

    fn output(fd: OwnedFd) -> (Output, OwnedFd) {
        let progress = eventfd(0, EventfdFlags::empty()).unwrap();
        let output = Output::start(Stream::Stdout, fd, progress.try_clone().unwrap()).unwrap();
        (output, progress)
    }

    fn wait_until_done(output: &Output, progress: &OwnedFd) {
        while !output.is_done() {
            rustix::io::read(progress, &mut [0; 8]).unwrap();
        }
    }

    #[test]
    fn all_is_written_before_the_end() {
        let (read, write) = pipe().unwrap();
        let (output, progress) = output(write);
        output.push(b"one ");
        output.push(b"two");
        output.finish();
        wait_until_done(&output, &progress);
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).unwrap();
        assert_eq!(text, "one two");
        assert!(!output.has_failed());
        output.result().unwrap();
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error() {
        let (read, write) = pipe().unwrap();
        drop(read);
        let (output, progress) = output(write);
        output.push(b"text");
        wait_until_done(&output, &progress);
        assert!(output.has_failed());
        output.result().unwrap();
    }

    #[test]
    fn what_is_written_is_reported_in_large_steps() {
        let null = File::options().write(true).open("/dev/null").unwrap();
        let (output, progress) = output(null.into());
        output.push(b"a");
        assert_eq!(output.take_written(), None);
        output.push(&vec![0; REPORT_STEP as usize - 1]);
        rustix::io::read(&progress, &mut [0; 8]).unwrap();
        assert_eq!(output.take_written(), Some(REPORT_STEP));
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (output, progress) = output(full.into());
        output.push(b"text");
        wait_until_done(&output, &progress);
        let error = format!("{:#}", output.result().unwrap_err());
        assert!(
            error.starts_with("cannot write standard output: "),
            "{error}"
        );
    }

    #[test]
    fn a_descriptor_that_does_not_block_loses_nothing() {
        let (read, write) = pipe().unwrap();
        rustix::io::ioctl_fionbio(&write, true).unwrap();
        let (output, progress) = output(write);
        let bytes = vec![7; 200_000];
        output.push(&bytes);
        output.finish();
        let mut received = vec![0; bytes.len()];
        File::from(read).read_exact(&mut received).unwrap();
        wait_until_done(&output, &progress);
        assert_eq!(received, bytes);
    }
}

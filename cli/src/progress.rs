//! A line on the terminal for what takes long; it is wiped at the end.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Of what takes less, nothing is said.
const SILENCE: Duration = Duration::from_secs(2);

/// From one line to the next.
const STEP: Duration = Duration::from_secs(1);

/// What is being done, told by a thread of its own.
pub struct Progress {
    words: Option<Sender<&'static str>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Tells nothing yet, and nothing ever where standard error is no terminal.
    pub fn start() -> Self {
        let (words, told) = mpsc::channel();
        let tell = move || {
            let started = Instant::now();
            let mut due = started + SILENCE;
            let mut word = "";
            let mut is_shown = false;
            loop {
                match told.recv_timeout(due.saturating_duration_since(Instant::now())) {
                    Ok(next) => word = next,
                    Err(RecvTimeoutError::Timeout) => {
                        due += STEP;
                        is_shown = true;
                        let seconds = started.elapsed().as_secs();
                        // A terminal that has gone needs no progress.
                        let _ = write!(io::stderr(), "\r\x1b[Kmvm: {word} ({seconds} s)");
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            if is_shown {
                let _ = write!(io::stderr(), "\r\x1b[K");
            }
        };
        let thread = io::stderr()
            .is_terminal()
            .then(|| {
                thread::Builder::new()
                    .name("progress".into())
                    .spawn(tell)
                    .ok()
            })
            .flatten();
        Self {
            words: Some(words),
            thread,
        }
    }

    /// This is being done now.
    pub fn tell(&self, word: &'static str) {
        if let Some(words) = &self.words {
            let _ = words.send(word);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.words = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

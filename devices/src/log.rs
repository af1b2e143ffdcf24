//! Lines for whoever runs mvm, on its standard error.
//!
//! Most of them are brought about by the guest, some on a vCPU's thread. So each device has a
//! few at once and then one a minute; and a line that cannot be written now is lost, where
//! `eprintln!` would panic or wait for a reader.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Lines of one device at once: a fault, its cause, and what came of the driver's next attempt.
const LINES_AT_ONCE: u32 = 4;

/// From then on, one in this time: a guest that tries for a year writes some
/// ten megabytes.
const REFILL: Duration = Duration::from_secs(60);

/// Bytes of a line: as many as a pipe takes whole, without waiting, once it is writable
/// (`PIPE_BUF`).
const LINE_BYTES_MAX: usize = 4096;

/// What one device has to say.
#[derive(Debug)]
pub struct Log(Mutex<Bucket>);

impl Log {
    /// A device that has said nothing yet.
    pub fn new() -> Self {
        Self(Mutex::new(Bucket::new(Instant::now())))
    }

    /// Tells `line`, unless there were too many.
    pub fn tell(&self, line: fmt::Arguments<'_>) {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match bucket.take(Instant::now()) {
            Some(0) => tell(line),
            Some(left_out) => tell(format_args!("{line} (and {left_out} more lines before)")),
            None => {}
        }
    }
}

/// Tells `line`, however many there were: for what happens once.
pub fn tell(line: fmt::Arguments<'_>) {
    // Not through Rust's stream, whose lock may be held by a thread that waits for a reader.
    put(io::stderr(), line);
}

fn put(stream: impl AsFd, line: fmt::Arguments<'_>) {
    let mut text = format!("mvm: {line}").into_bytes();
    text.truncate(LINE_BYTES_MAX.saturating_sub(1));
    text.push(b'\n');
    let mut ready = [PollFd::new(&stream, PollFlags::OUT)];
    if poll(&mut ready, Some(&Timespec::default())) == Ok(1) {
        // There is no one to tell that this failed.
        let _ = rustix::io::write(&stream, &text);
    }
}

/// How many lines may be told, and how many were not.
#[derive(Debug)]
struct Bucket {
    /// When [`LINES_AT_ONCE`] may be told again.
    full_at: Instant,
    left_out: u64,
}

impl Bucket {
    fn new(now: Instant) -> Self {
        Self {
            full_at: now,
            left_out: 0,
        }
    }

    /// Whether a line may be told at `now`, and if so, how many were left out before it.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let full_at = self.full_at.max(now);
        let missing = full_at.saturating_duration_since(now);
        if missing > REFILL.saturating_mul(LINES_AT_ONCE.saturating_sub(1)) {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.full_at = full_at.checked_add(REFILL)?;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_line_has_an_end_however_long_it_is() {
        let (mut reader, writer) = io::pipe().unwrap();
        put(&writer, format_args!("short"));
        put(&writer, format_args!("{:0>9999}", 1));
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let lines: Vec<_> = text.split_inclusive('\n').collect();
        assert_eq!(lines[0], "mvm: short\n");
        assert_eq!(lines[1].len(), LINE_BYTES_MAX);
        assert!(lines[1].ends_with("0\n"));
    }

    #[test]
    fn nobody_waits_for_a_reader_that_does_not_read() {
        let (_reader, writer) = io::pipe().unwrap();
        // Far more than a pipe takes.
        for _ in 0..1000 {
            put(&writer, format_args!("{:0>4000}", 1));
        }
    }

    #[test]
    fn what_cannot_be_written_is_lost() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        put(&writer, format_args!("a reader that has gone"));
        let full = std::fs::File::create("/dev/full").unwrap();
        put(&full, format_args!("a full disk"));
    }

    #[test]
    fn a_few_lines_at_once_then_one_a_minute() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        for _ in 0..LINES_AT_ONCE {
            assert_eq!(bucket.take(start), Some(0));
        }
        assert_eq!(bucket.take(start), None);
        assert_eq!(
            bucket.take(start + REFILL.saturating_sub(Duration::from_nanos(1))),
            None
        );
        assert_eq!(bucket.take(start + REFILL), Some(2));
        assert_eq!(bucket.take(start + REFILL), None);
        assert_eq!(bucket.take(start + 2 * REFILL), Some(1));
    }

    #[test]
    fn a_guest_that_tries_all_the_time_is_told_of_once_a_minute() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        let told = (0..600).filter(|second| {
            let now = start + Duration::from_secs(*second);
            // All of a bucket's lines within the first seconds, one each.
            (0..1000).any(|_| bucket.take(now).is_some())
        });
        assert_eq!(told.count(), LINES_AT_ONCE as usize + 9);
    }

    #[test]
    fn a_quiet_time_fills_the_bucket_and_no_more() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        let later = start + 1000 * REFILL;
        let told = (0..100).filter(|_| bucket.take(later).is_some()).count();
        assert_eq!(told, LINES_AT_ONCE as usize);
    }
}

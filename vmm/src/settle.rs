//! A machine's memory once its guest has booted.
//!
//! Booting touches memory that nothing touches afterwards. Most of the kernel's text, to adapt it to
//! the processor, and of this program's, to put the machine together: what was only read goes back
//! to the page cache, from which it returns when it is used. And pages that the guest has freed: it
//! reports them, but where they are parts of a huge page the host must be told to let it be split.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use devices::Memory;

use crate::memory::{give_back, give_back_own, keep_sparse_small};
use crate::pause::Pause;

/// For those to boot who have nobody to say that they did; one that takes longer gets back at once
/// what it still needs.
const BOOT: Duration = Duration::from_secs(2);

/// From the end of the boot until pages are taken away: what starts then is not slowed down, and
/// the guest has reported what it freed (after two seconds), which takes text of its own.
const QUIET: Duration = Duration::from_secs(3);

/// Says that the guest has booted.
pub struct Booted(Sender<()>);

impl Booted {
    /// It has.
    pub fn tell(&self) {
        // Whoever waited may have waited long enough.
        let _ = self.0.send(());
    }
}

/// Waits in a thread for the end of the boot, and takes back what it alone needed.
///
/// # Errors
/// The host has no thread left.
pub fn follow(
    memory: Memory,
    mapped: Vec<Range<u64>>,
    pause: Arc<Pause>,
) -> anyhow::Result<Booted> {
    let (sender, booted) = channel();
    thread::Builder::new()
        .name("settle".into())
        .spawn(move || settle(&memory, &mapped, &pause, &booted))
        .context("cannot start a thread")?;
    Ok(Booted(sender))
}

fn settle(memory: &Memory, mapped: &[Range<u64>], pause: &Pause, booted: &Receiver<()>) {
    let _ = booted.recv_timeout(BOOT);
    thread::sleep(QUIET);
    // Where it cannot be had, the machine keeps the memory that it has.
    let _ = pause.during(|| give_back(memory, mapped));
    let _ = give_back_own();
    let _ = keep_sparse_small(memory);
}

//! A machine's memory once its guest has booted.
//!
//! Booting touches memory in a way that nothing afterwards does. A little of it everywhere: with
//! huge pages, each of these becomes 2 MiB, so there are none until the guest has booted. And most
//! of the kernel's text, to adapt it to the processor, and of this program's, to put the machine
//! together: what was only read goes back to the page cache, from which it returns when it is used.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use devices::Memory;
use rustix::thread::disable_transparent_huge_pages;

use crate::memory::{give_back, give_back_own};
use crate::pause::Pause;

/// Long enough for any guest to boot, of those who have nobody to say that it did.
const BOOT: Duration = Duration::from_secs(5);

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

/// Has this process get small pages alone, until [`follow`] sees the end of the boot.
pub fn begin() {
    // Where it cannot be had, the machine takes more memory.
    let _ = disable_transparent_huge_pages(true);
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
    let _ = disable_transparent_huge_pages(false);
    thread::sleep(QUIET);
    // Where it cannot be had, the machine keeps the memory that it has.
    let _ = pause.during(|| give_back(memory, mapped));
    let _ = give_back_own();
}

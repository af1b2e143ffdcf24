//! A machine's memory once its guest has booted.
//!
//! Booting touches memory that nothing touches afterwards. Most of the kernel's text, to adapt it to
//! the processor, and of this program's, to put the machine together: what was only read goes back
//! to the page cache, from which it returns when it is used. Pages that Linux clears and does not
//! come to use, as most of a huge page of which it needs little, and those that it poisons. And pages
//! that the guest has freed: it reports them, but where they are parts of a huge page the host must be
//! told to let it be split.
//!
//! That happens twice: when all devices have drivers and the kernel has opened its console, which is
//! before the guest's first process; and when what it runs has started. What takes long, to split huge
//! pages above all, happens the second time only.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use devices::Memory;
use devices::virtio::roster::Roster;

use crate::memory::{Touched, give_back, give_back_own, split_sparse};
use crate::pause::Pause;

/// For those to boot who have nobody to say that they did; one that takes longer gets back at once
/// what it still needs.
const BOOT: Duration = Duration::from_secs(2);

/// From the end of the boot until pages are taken away: what starts then is not slowed down, and
/// the guest has reported what it freed (after two seconds), which takes text of its own.
const QUIET: Duration = Duration::from_secs(3);

/// For devices to come to rest while the guest stands still.
const REST: Duration = Duration::from_millis(10);

/// Cleared pages for which a huge page is split: while the guest boots, which would find each of the
/// others anew; and once it has, when little of what is not used yet ever will be.
const CLEARED_AT_BOOT: usize = 256;
const CLEARED: usize = 64;

/// A machine that boots.
pub struct Boot {
    /// The guest's memory.
    pub memory: Memory,
    /// What of it is the kernel's file.
    pub mapped: Vec<Range<u64>>,
    /// Its devices.
    pub roster: Arc<Roster>,
    /// Stops its vCPUs.
    pub pause: Arc<Pause>,
}

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
pub fn follow(boot: Boot) -> anyhow::Result<Booted> {
    let (sender, booted) = channel();
    thread::Builder::new()
        .name("settle".into())
        .spawn(move || boot.settle(&booted))
        .context("cannot start a thread")?;
    Ok(Booted(sender))
}

impl Boot {
    /// Where something cannot be had, the machine keeps the memory that it has.
    fn settle(&self, booted: &Receiver<()>) {
        if self.roster.wait_for_drivers(BOOT) {
            let _ = self.take_before_use();
            let _ = give_back_own();
        }
        let _ = booted.recv_timeout(BOOT);
        thread::sleep(QUIET);
        let _ = self.take_in_use();
        let _ = split_sparse(&self.memory);
        // The guest finds pages again, and reports what it has freed, now and then for some seconds more.
        for pause in [Duration::ZERO, QUIET, QUIET * 4] {
            thread::sleep(pause);
            let _ = give_back_own();
        }
    }

    fn take_before_use(&self) -> anyhow::Result<()> {
        let touched = Touched::of(&self.memory, &self.mapped)?;
        self.take(|| touched.give_back_cleared(CLEARED_AT_BOOT))?;
        touched.keep_sparse_small()
    }

    fn take_in_use(&self) -> anyhow::Result<()> {
        let touched = Touched::of(&self.memory, &self.mapped)?;
        self.take(|| touched.give_back_filled(CLEARED))
    }

    /// Takes what was only read, and what `written` does of the rest, while the guest stands still: pages
    /// taken from under a running vCPU cost it an exit each time. The second only if the devices rest too.
    fn take(&self, written: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.pause.during(|| {
            give_back(&self.memory, &self.mapped)?;
            self.roster.during_rest(REST, written).unwrap_or(Ok(()))
        })
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes as _, GuestAddress};

    use super::*;
    use crate::memory::allocate_small;
    use crate::pause::Gate;

    fn boot() -> Boot {
        let memory = allocate_small(2 << 20).unwrap();
        for (gpa, byte) in [(0, 0u8), (0x1000, 1)] {
            memory.write_obj(byte, GuestAddress(gpa)).unwrap();
        }
        Boot {
            memory,
            mapped: Vec::new(),
            roster: Arc::default(),
            pause: Arc::new(Pause::new(Arc::new(Gate::default()), Vec::new())),
        }
    }

    fn touched(boot: &Boot) -> usize {
        Touched::of(&boot.memory, &boot.mapped).unwrap().count()
    }

    #[test]
    fn what_was_cleared_goes_before_the_machine_is_used() {
        let boot = boot();
        assert_eq!(touched(&boot), 2);
        boot.take_before_use().unwrap();
        assert_eq!(touched(&boot), 1);
    }

    #[test]
    fn what_is_poisoned_is_shared_once_it_is_used() {
        let boot = boot();
        let poison = [0xcc; 16 << 10];
        boot.memory
            .write_slice(&poison, GuestAddress(0x10_0000))
            .unwrap();
        boot.take_before_use().unwrap();
        assert_eq!(touched(&boot), 1 + 4);
        boot.take_in_use().unwrap();
        assert_eq!(touched(&boot), 1);
    }

    #[test]
    fn nothing_goes_while_a_device_is_at_work() {
        let boot = boot();
        let (begun, wait) = channel();
        let (done, end) = channel::<()>();
        let roster = Arc::clone(&boot.roster);
        let device = thread::spawn(move || {
            roster.during_rest(REST, || {
                begun.send(()).unwrap();
                // Whoever else wants rest has to wait, as for a device.
                let _ = end.recv();
            })
        });
        wait.recv().unwrap();
        boot.take_before_use().unwrap();
        boot.take_in_use().unwrap();
        assert_eq!(touched(&boot), 2);
        drop(done);
        device.join().unwrap();
    }
}

//! The thread that owns a part of a device: kicks in, handler, interrupts out.
//!
//! The loop is event-manager's. A kick arrives through an ioeventfd, an interrupt leaves through
//! an irqfd, so the vCPUs take no part in moving data. Stopping a worker gives its handler back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::Context;
use event_manager::{EventManager, EventOps, Events, MutEventSubscriber, SubscriberOps};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::config::Config;
use super::interrupt::Interrupt;
use super::roster::Roster;
use super::{Fault, Handler, Queue, Watch};
use crate::log::Log;

/// Rounds over queues that refill as fast as they are served, before other events get their turn.
const ROUNDS_MAX: u32 = 16;

/// Event data of the stop request; queues have their index, watches follow [`WATCH`].
const STOP: u32 = u32::MAX;
const WATCH: u32 = 1 << 16;

/// What a worker needs besides its handler.
pub struct Setup {
    /// Thread name.
    pub name: String,
    /// The queues it serves, and the events that kick them, in the same order.
    pub queues: Vec<(Queue, EventFd)>,
    /// The features that the driver accepted.
    pub features: u64,
    /// The device's configuration space.
    pub config: Config,
    /// Raised when buffers were used.
    pub interrupt: Interrupt,
    /// The machine's devices.
    pub roster: Arc<Roster>,
    /// Set when the device needs a reset.
    pub faulted: Arc<AtomicBool>,
    /// What the device has to say.
    pub log: Arc<Log>,
}

/// A running worker.
pub struct Worker {
    stop: EventFd,
    /// Whether another thread is to go on.
    renews: Arc<AtomicBool>,
    thread: JoinHandle<Option<Loop>>,
}

impl Worker {
    /// Starts the thread; the handler's `start` runs on it.
    ///
    /// # Errors
    /// The host has no thread or descriptor left.
    pub fn spawn(handler: Box<dyn Handler>, setup: Setup) -> anyhow::Result<Self> {
        let (queues, kicks) = setup.queues.into_iter().unzip();
        Self::run(Loop {
            handler,
            queues,
            kicks,
            stop: EventFd::new(EFD_NONBLOCK).context("cannot create an eventfd")?,
            renews: Arc::default(),
            features: setup.features,
            config: setup.config,
            interrupt: setup.interrupt,
            roster: setup.roster,
            faulted: setup.faulted,
            log: setup.log,
            watched: Vec::new(),
            name: setup.name,
            running: true,
        })
    }

    fn run(state: Loop) -> anyhow::Result<Self> {
        let manager = EventManager::new().context("cannot create an event loop")?;
        let stop = state.stop.try_clone();
        let stop = stop.context("cannot duplicate an eventfd")?;
        let renews = Arc::clone(&state.renews);
        let thread = thread::Builder::new()
            .name(state.name.clone())
            .spawn(move || run(manager, state))
            .context("cannot start a device's thread")?;
        Ok(Self {
            stop,
            renews,
            thread,
        })
    }

    /// Stops the thread and takes the handler back.
    ///
    /// # Errors
    /// The thread panicked.
    pub fn stop(self) -> anyhow::Result<Box<dyn Handler>> {
        Ok(self.end()?.handler)
    }

    /// Has a new thread, a child of this one, go on where the worker's is: what that has given up is
    /// this one's still. The handler's `start` runs on it, and no `stop` before.
    ///
    /// # Errors
    /// The thread panicked, or the host has none left, nor a descriptor. Then the handler is lost.
    pub fn renew(self) -> anyhow::Result<Self> {
        self.renews.store(true, Ordering::SeqCst);
        Self::run(self.end()?)
    }

    fn end(self) -> anyhow::Result<Loop> {
        // Fails only when a stop is pending 2^64 - 2 times.
        let _ = self.stop.write(1);
        self.thread
            .join()
            .ok()
            .flatten()
            .context("a device's thread panicked")
    }
}

fn run(mut manager: EventManager<Loop>, state: Loop) -> Option<Loop> {
    let log = Arc::clone(&state.log);
    let id = manager.add_subscriber(state);
    while manager.subscriber_mut(id).is_ok_and(|state| state.running) {
        if let Err(error) = manager.run() {
            log.tell(format_args!("a device's event loop failed: {error}"));
            break;
        }
    }
    let mut state = manager.remove_subscriber(id).ok()?;
    if state.renews.swap(false, Ordering::SeqCst) {
        // As a loop begins; kicks that nobody has seen to are pending.
        let _ = state.stop.read();
        state.watched.clear();
        state.running = true;
    } else {
        state.handler.stop();
    }
    Some(state)
}

/// What the thread owns.
struct Loop {
    handler: Box<dyn Handler>,
    queues: Vec<Queue>,
    kicks: Vec<EventFd>,
    stop: EventFd,
    renews: Arc<AtomicBool>,
    features: u64,
    config: Config,
    interrupt: Interrupt,
    roster: Arc<Roster>,
    faulted: Arc<AtomicBool>,
    log: Arc<Log>,
    /// The handler's descriptors as they are registered.
    watched: Vec<Watch>,
    name: String,
    running: bool,
}

impl MutEventSubscriber for Loop {
    fn init(&mut self, ops: &mut EventOps) {
        let roster = Arc::clone(&self.roster);
        let _at_work = roster.at_work();
        let mut added = ops.add(Events::with_data(&self.stop, STOP, EventSet::IN));
        for (index, kick) in (0..).zip(&self.kicks) {
            added = added.and(ops.add(Events::with_data(kick, index, EventSet::IN)));
        }
        let started = match added {
            Ok(()) => self.handler.start(self.features),
            Err(error) => Err(anyhow::anyhow!("cannot wait for kicks: {error}")),
        };
        let served = match started {
            Ok(()) => self.catch_up(),
            Err(error) => Err(Fault::Host(error)),
        };
        self.settle(served, ops);
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        let roster = Arc::clone(&self.roster);
        let _at_work = roster.at_work();
        let served = match events.data() {
            STOP => {
                self.running = false;
                return;
            }
            watch if watch >= WATCH => {
                let index = watch.saturating_sub(WATCH) as usize;
                self.handler.ready(index, &mut self.queues)
            }
            queue => {
                let index = queue as usize;
                if let Some(kick) = self.kicks.get(index) {
                    // Only clears the counter: how often the driver kicked does not matter.
                    let _ = kick.read();
                }
                self.kick(index)
            }
        };
        let served = served.and_then(|()| self.catch_up());
        self.settle(served, ops);
    }
}

impl Loop {
    /// Lets the handler serve a queue, with kicks off meanwhile.
    fn kick(&mut self, index: usize) -> Result<(), Fault> {
        let Some(queue) = self.queues.get_mut(index) else {
            return Ok(());
        };
        queue.disable_kicks()?;
        self.handler.kick(index, &mut self.queues)
    }

    /// Serves what is left or became available meanwhile, and asks for kicks where nothing is.
    ///
    /// All queues, since a handler that was called for one of them, or for a host descriptor, may
    /// have emptied another.
    fn catch_up(&mut self) -> Result<(), Fault> {
        let mut behind = None;
        for _ in 0..ROUNDS_MAX {
            behind = None;
            for index in 0..self.queues.len() {
                let available = match self.queues.get_mut(index) {
                    Some(queue) => queue.enable_kicks()?,
                    None => false,
                };
                if available {
                    behind = Some(index);
                    self.kick(index)?;
                }
            }
            if behind.is_none() {
                break;
            }
        }
        if let Some(kick) = behind.and_then(|index| self.kicks.get(index)) {
            // Fails only when the counter is full, and then the event is pending all the same.
            let _ = kick.write(1);
        }
        Ok(())
    }

    /// Tells the driver what was done, and waits for what the handler waits for now.
    fn settle(&mut self, served: Result<(), Fault>, ops: &mut EventOps) {
        if let Some(bytes) = self.handler.changed_config() {
            self.config.set(bytes);
            self.interrupt.config_change();
        }
        let settled = served
            .and_then(|()| self.interrupt_if_wanted())
            .and_then(|()| self.rewatch(ops));
        if let Err(fault) = settled {
            self.fail(&fault, ops);
        }
    }

    fn interrupt_if_wanted(&mut self) -> Result<(), Fault> {
        let mut wanted = false;
        for queue in &mut self.queues {
            wanted |= queue.needs_interrupt()?;
        }
        if wanted {
            self.interrupt.used_buffer();
        }
        Ok(())
    }

    fn rewatch(&mut self, ops: &mut EventOps) -> Result<(), Fault> {
        let wanted = self.handler.watch();
        if wanted == self.watched {
            return Ok(());
        }
        self.unwatch(ops);
        for (index, watch) in (WATCH..).zip(&wanted) {
            if watch.events.is_empty() {
                continue;
            }
            ops.add(Events::with_data_raw(watch.fd, index, watch.events))
                .map_err(|error| Fault::Host(anyhow::anyhow!("cannot wait: {error}")))?;
        }
        self.watched = wanted;
        Ok(())
    }

    fn unwatch(&mut self, ops: &mut EventOps) {
        for watch in self.watched.drain(..) {
            if !watch.events.is_empty() {
                // The descriptor may be closed, and then epoll has forgotten it by itself.
                let _ = ops.remove(Events::with_data_raw(watch.fd, 0, watch.events));
            }
        }
    }

    /// Stops serving until the driver resets the device (§2.1.1). Told once a start: a device
    /// that faulted does nothing that could fail again.
    fn fail(&mut self, fault: &Fault, ops: &mut EventOps) {
        let name = &self.name;
        self.log
            .tell(format_args!("device {name} needs a reset: {fault}"));
        self.unwatch(ops);
        for kick in &self.kicks {
            let _ = ops.remove(Events::with_data(kick, 0, EventSet::IN));
        }
        self.faulted.store(true, Ordering::SeqCst);
        self.interrupt.config_change();
    }
}

#[cfg(test)]
mod tests;

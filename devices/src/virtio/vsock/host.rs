//! The host's end of the device, for any thread.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, bail, ensure};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::connections::CONNECTIONS_MAX;

/// Connections of the guest that the host has not taken from a channel, as of a socket that
/// listens. The guest's next are refused.
const BACKLOG_MAX: usize = 128;

/// Makes and takes connections with the guest.
#[derive(Clone)]
pub struct Host(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    wake: EventFd,
}

#[derive(Default)]
struct State {
    /// Streams for ports of the guest, until the device takes them.
    waiting: Vec<(u32, UnixStream)>,
    listeners: HashMap<u32, SyncSender<UnixStream>>,
    /// Why nothing can be connected.
    refusal: Option<&'static str>,
}

impl Host {
    /// # Errors
    /// No descriptor is left.
    pub(super) fn new() -> anyhow::Result<Self> {
        let wake = EventFd::new(EFD_NONBLOCK).context("cannot create an eventfd")?;
        let state = Mutex::default();
        Ok(Self(Arc::new(Shared { state, wake })))
    }

    /// Connects `stream` with what listens on `port` in the guest.
    ///
    /// Bytes written to the stream's other end before the guest accepts are not lost. While no
    /// driver is up, the connection waits for one: it is made as soon as the guest has booted so
    /// far. The stream is closed when the guest refuses (nobody listens there), when it resets the
    /// connection or the device, and when there are [`CONNECTIONS_MAX`] connections; the other end
    /// then reads its end, or `ECONNRESET` where bytes were left that nobody will read. Shutting
    /// down one direction at either side shuts it down at the other, after all that came before.
    ///
    /// The stream becomes non-blocking, and with it all duplicates of it.
    ///
    /// # Errors
    /// The guest's driver broke the protocol and has not recovered, the machine has ended, or too
    /// many connections wait already.
    pub fn connect(&self, port: u32, stream: UnixStream) -> anyhow::Result<()> {
        stream
            .set_nonblocking(true)
            .context("cannot make a stream non-blocking")?;
        let mut state = self.state();
        if let Some(refusal) = state.refusal {
            bail!("cannot connect to port {port} of the guest: {refusal}");
        }
        ensure!(
            state.waiting.len() < CONNECTIONS_MAX,
            "cannot connect to port {port} of the guest: {CONNECTIONS_MAX} connections wait for it \
             already"
        );
        state.waiting.push((port, stream));
        drop(state);
        self.wake();
        Ok(())
    }

    /// Takes the connections that the guest makes to `port` of the host (CID 2). Each arrives as
    /// one end of a socket pair; dropping it closes the connection. Listening ends when the
    /// receiver is dropped, or somebody else listens on the same port.
    ///
    /// # Errors
    /// The device is gone: its machine has ended.
    pub fn listen(&self, port: u32) -> anyhow::Result<Receiver<UnixStream>> {
        let mut state = self.state();
        ensure!(
            state.refusal != Some(GONE),
            "cannot listen on port {port} for the guest: {GONE}"
        );
        let (sender, receiver) = sync_channel(BACKLOG_MAX);
        state.listeners.insert(port, sender);
        Ok(receiver)
    }

    /// Readable when there are streams to take.
    pub(super) fn fd(&self) -> RawFd {
        self.0.wake.as_raw_fd()
    }

    /// The streams that are to be connected.
    pub(super) fn take(&self) -> Vec<(u32, UnixStream)> {
        // Only clears the counter: how many streams there are does not depend on it.
        let _ = self.0.wake.read();
        std::mem::take(&mut self.state().waiting)
    }

    /// A stream to whoever listens on `port`; none when nobody does, or does not keep up.
    pub(super) fn accept(&self, port: u32) -> Option<UnixStream> {
        let state = self.state();
        let listener = state.listeners.get(&port)?;
        let (ours, theirs) = UnixStream::pair().ok()?;
        ours.set_nonblocking(true).ok()?;
        listener.try_send(theirs).ok()?;
        Some(ours)
    }

    /// The device was reset: what is connected now waits for the next driver.
    pub(super) fn recover(&self) {
        self.state().refusal = None;
    }

    /// The driver broke the protocol.
    pub(super) fn fail(&self) {
        self.refuse("its driver broke the protocol");
    }

    /// The device is gone.
    pub(super) fn end(&self) {
        self.refuse(GONE);
        self.state().listeners.clear();
    }

    fn refuse(&self, why: &'static str) {
        let mut state = self.state();
        state.refusal = Some(why);
        state.waiting.clear();
    }

    fn wake(&self) {
        // Fails only when the counter is full, and then the event is pending all the same.
        let _ = self.0.wake.write(1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Said of a device that no longer exists.
const GONE: &str = "its device is gone";

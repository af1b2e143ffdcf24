//! Ways into the machine that passt has not: UNIX sockets of the host, sockets that systemd hands
//! over, and UDP ports of the host's loopback.
//!
//! The one thing to know: who comes is carried over vsock to the guest's agent, which connects to the
//! guest's loopback. So a machine needs no network card for sockets. In the emulated host, a port of
//! its loopback stands in for each: the real socket is outside and leads there.

use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use guest::protocol::AGENT_PORT;
use vmm::app::{App, Port, Protocol};
use vmm::machine::Running;
use vmm::net::{self, Handed, SocketFile};

use crate::attach::Connection;
use crate::carrier::{Carrier, Door, doors, target};
use crate::output::say;

/// For the guest to start the process that carries, however busy it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(300);

/// Before that is tried again, where the guest has ended the process.
const PAUSE: Duration = Duration::from_secs(1);

/// The carrier's only doors.
const ALL: u64 = 0;

/// Sockets that listen; who comes waits.
pub struct Carried {
    doors: Vec<Door>,
    files: Vec<SocketFile>,
    /// All ports, with the numbers that were picked.
    pub ports: Vec<Port>,
    /// Those that are left to passt.
    pub others: Vec<Port>,
}

impl Carried {
    /// Picks numbers, and listens where it is no matter of passt's. `ports` are those of `app`, or
    /// their like inside; systemd listens at those in `handed`.
    ///
    /// # Errors
    /// One cannot be had; says which.
    pub fn open(app: &App, ports: &[Port], mut handed: Handed) -> Result<Self> {
        let mut carried = Self {
            doors: Vec::new(),
            files: Vec::new(),
            ports: Vec::new(),
            others: Vec::new(),
        };
        for (wanted, (port, taken)) in app.ports.iter().zip(net::take(ports, &mut handed)?) {
            carried.ports.push(port.clone());
            // passt finds no way back to the loopback interface: answers to datagrams go to the
            // gateway's address, which is closed to the machine.
            let is_lost = port.protocol == Protocol::Udp && port.address.is_loopback();
            if wanted.host.ports().is_some() && !is_lost {
                // passt takes it again.
                carried.others.push(port);
                continue;
            }
            // Who has had the machine started comes before its program listens.
            let is_patient = wanted.host.handed().is_some();
            for (socket, guest) in taken.into_iter().zip(port.guest.first..) {
                let target = target((Ipv4Addr::LOCALHOST, guest).into(), is_patient);
                let (doors, file) = doors(socket, target)?;
                carried.doors.extend(doors);
                carried.files.extend(file);
            }
        }
        Ok(carried)
    }

    /// Carries who comes into the machine from now on. The files are the caller's to remove.
    pub fn start(self, running: Arc<Running>) -> Vec<SocketFile> {
        let Self { doors, files, .. } = self;
        if !doors.is_empty() {
            let thread = thread::Builder::new().name("carrier".into());
            if let Err(error) = thread.spawn(move || carry(doors, &running)) {
                say(format_args!("its sockets lead nowhere: {error}"));
            }
        }
        files
    }
}

/// Carries until the process ends, or a guest that breaks the protocol is given up.
fn carry(mut doors: Vec<Door>, running: &Running) {
    loop {
        // One that cannot be had is a machine's that has ended, mostly.
        if let Ok(mut carrier) = connect(running) {
            carrier.open(ALL, doors);
            if let Err(error) = carrier.carry_until(None) {
                say(format_args!("its sockets lead nowhere any more: {error:#}"));
                return;
            }
            doors = carrier.into_doors(ALL);
        }
        thread::sleep(PAUSE);
    }
}

fn connect(running: &Running) -> Result<Carrier> {
    let (here, there) = UnixStream::pair().context("cannot make a socket pair")?;
    running.vsock.connect(AGENT_PORT, there)?;
    Carrier::new(Connection::open(here, HELLO_TIMEOUT)?)
}

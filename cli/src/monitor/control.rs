//! What a running machine can be asked for over its control socket.

use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use guest::protocol::AGENT_PORT;
use jiff::Timestamp;
use vmm::app::{App, Port, StoreMode};
use vmm::closure::StorePath;
use vmm::machine::Running;
use vmm::net::Network;

use super::Ended;
use super::health::Health;
use crate::FAILED;
use crate::attach::{Command, Commander};
use crate::audience::Audience;
use crate::control::message::{HealthStatus, Info};
use crate::control::server::Machine;
use crate::control::statistics::Statistics;
use crate::events::{self, Happened};
use crate::machines::record::End;

/// Until a client that waits for news is answered all the same: it may have a deadline of its own.
const NEWS_PATIENCE: Duration = Duration::from_secs(1);

/// The machine of this process.
pub struct Controlled {
    app: Mutex<App>,
    started: Timestamp,
    ports: Vec<Port>,
    addresses: Vec<IpAddr>,
    running: Arc<Running>,
    commander: Commander,
    audience: Option<Audience>,
    health: Health,
}

impl Controlled {
    /// A machine that starts now, which `ports` of the host lead to. One in the foreground has no
    /// audience.
    pub fn new(
        app: &App,
        network: &Network,
        ports: &[Port],
        running: Arc<Running>,
        commander: Commander,
        audience: Option<Audience>,
        health: Health,
    ) -> Self {
        let addresses = network.links.iter().flat_map(|link| &link.addresses);
        Self {
            app: Mutex::new(app.clone()),
            started: Timestamp::now(),
            ports: ports.to_vec(),
            addresses: addresses.map(|subnet| subnet.address).collect(),
            running,
            commander,
            audience,
            health,
        }
    }
}

impl Controlled {
    fn app(&self) -> MutexGuard<'_, App> {
        self.app.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Machine for Controlled {
    fn info(&self) -> Info {
        let (ready, health, status_text) = self.health.look();
        let app = self.app().clone();
        let (store_data, store_data_reason) = self.running.store_in_use();
        Info {
            pid: std::process::id(),
            started: self.started,
            paused: self.running.pause.is_paused(),
            ports: self.ports.clone(),
            addresses: self.addresses.clone(),
            ready,
            health,
            status_text,
            store_data: has_store(&app).then_some(store_data),
            store_data_reason: store_data_reason.map(str::to_owned),
            app,
        }
    }

    fn await_news(&self, ready: bool, health: Option<HealthStatus>) {
        self.health.await_change(ready, health, NEWS_PATIENCE);
    }

    fn statistics(&self) -> Result<Statistics> {
        super::measure::measure(&self.running)
    }

    fn connect_agent(&self, stream: UnixStream) -> Result<()> {
        self.running.vsock.connect(AGENT_PORT, stream)
    }

    fn audience(&self) -> Result<Audience> {
        let foreground = "it runs in the foreground of another command, which has its streams";
        self.audience.clone().context(foreground)
    }

    fn signal(&self, signal: u8) -> Result<()> {
        self.commander.tell(Command::Signal(signal))
    }

    fn power_off(&self) -> Result<()> {
        self.commander.tell(Command::PowerOff)
    }

    fn set_paused(&self, paused: bool) -> Result<()> {
        let happened = if paused {
            self.running.pause.pause()?;
            Happened::Paused
        } else {
            self.running.pause.resume()?;
            // A program that has ended needs no clock.
            let _ = self.commander.tell(Command::Clock);
            Happened::Unpaused
        };
        events::note(self.health.name(), happened);
        Ok(())
    }

    fn show(&self, paths: &[StorePath], roots: &[StorePath]) -> Result<()> {
        let served = self.running.served.as_ref();
        let served = served.context("only a system's store can become more")?;
        served.add(paths, roots)
    }

    fn take_on(&self, app: App) {
        *self.app() = app;
    }
}

/// Whether a machine sees the host's store, or a part of it.
fn has_store(app: &App) -> bool {
    app.store.mode != StoreMode::None && app.bundle.is_none()
}

/// What is told of a machine's end. `verdict`: why it was ended, if that was for its health.
pub fn told(ended: &Result<Ended>, verdict: Option<String>) -> End {
    let (status, reason) = match ended {
        Ok(ended) => (ended.status, ended.reason.clone().or(verdict)),
        Err(error) => (FAILED, Some(format!("{error:#}"))),
    };
    End {
        at: Timestamp::now(),
        status,
        reason,
        reboots: ended.as_ref().is_ok_and(|ended| ended.reboots),
    }
}

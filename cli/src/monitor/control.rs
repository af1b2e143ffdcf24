//! What a running machine can be asked for over its control socket.

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use anyhow::Result;
use guest::protocol::AGENT_PORT;
use jiff::Timestamp;
use vmm::app::App;
use vmm::machine::Running;

use super::Ended;
use crate::FAILED;
use crate::attach::{Command, Commander};
use crate::control::message::Info;
use crate::control::server::Machine;
use crate::control::statistics::Statistics;
use crate::machines::record::End;

/// The machine of this process.
pub struct Controlled {
    app: App,
    started: Timestamp,
    running: Arc<Running>,
    commander: Commander,
}

impl Controlled {
    /// A machine that starts now.
    pub fn new(app: &App, running: Arc<Running>, commander: Commander) -> Self {
        Self {
            app: app.clone(),
            started: Timestamp::now(),
            running,
            commander,
        }
    }
}

impl Machine for Controlled {
    fn info(&self) -> Info {
        Info {
            pid: std::process::id(),
            started: self.started,
            paused: self.running.pause.is_paused(),
            app: self.app.clone(),
        }
    }

    fn statistics(&self) -> Result<Statistics> {
        super::measure::measure(&self.running)
    }

    fn connect_agent(&self, stream: UnixStream) -> Result<()> {
        self.running.vsock.connect(AGENT_PORT, stream)
    }

    fn signal(&self, signal: u8) -> Result<()> {
        self.commander.tell(Command::Signal(signal))
    }

    fn power_off(&self) -> Result<()> {
        self.commander.tell(Command::PowerOff)
    }

    fn set_paused(&self, paused: bool) -> Result<()> {
        if paused {
            self.running.pause.pause()
        } else {
            self.running.pause.resume()
        }
    }
}

/// What is told of a machine's end.
pub fn told(ended: &Result<Ended>) -> End {
    let (status, reason) = match ended {
        Ok(ended) => (ended.status, ended.reason.clone()),
        Err(error) => (FAILED, Some(format!("{error:#}"))),
    };
    End {
        at: Timestamp::now(),
        status,
        reason,
    }
}

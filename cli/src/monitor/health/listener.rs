//! Listens to what the program says of itself, and does what follows: it is ready, it is told on, and
//! it is ended where its watchdog wants a word that does not come.
//!
//! The one thing to know: `guest::notify` listens in the machine, before the program is started. When
//! that goes, as in a guest without memory, another one is started; the watchdog waits for neither.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use guest::notify;
use guest::protocol::AGENT_PORT;
use vmm::app::{App, Ready};
use vmm::machine::Running;

use super::program::Program;
use super::watchdog::Watchdog;
use super::words::{Word, Words};
use super::{Health, SIGABRT, SIGKILL};
use crate::attach::{Connection, Followed, Heard};
use crate::events::{self, Happened};
use crate::systemd::{self, Notice};

/// For the guest to start the process that listens, however busy it is.
const START_TIME: Duration = Duration::from_secs(60);

/// The same, in a guest that has ended one.
const RESTART_TIME: Duration = Duration::from_secs(5);

/// Between two words to systemd, so that a program that chatters keeps nobody else busy.
const TELL_PAUSE: Duration = Duration::from_secs(1);

/// For a program that is stuck to leave a core after SIGABRT, and to go after SIGKILL.
const ABORT_TIME: Duration = Duration::from_secs(10);
const KILL_TIME: Duration = Duration::from_secs(5);

/// What the program is heard by.
pub struct Listener {
    followed: Followed,
    words: Words,
}

impl Listener {
    /// Listens in the machine, if its program is to be heard.
    ///
    /// # Errors
    /// The guest cannot listen.
    pub fn open(app: &App, running: &Running) -> Result<Option<Self>> {
        let is_named = app.is_heard_by_name();
        let open =
            || Self::start(running, is_named, START_TIME).context("cannot listen to the program");
        app.is_heard().then(open).transpose()
    }

    fn start(running: &Running, is_named: bool, time: Duration) -> Result<Self> {
        let (here, there) = UnixStream::pair().context("cannot make a socket pair")?;
        running.vsock.connect(AGENT_PORT, there)?;
        let connection = Connection::open(here, time)?;
        let mut followed = Followed::start(connection, &notify::execution(is_named))?;
        // Its first word is that it listens.
        match followed.hear(time)? {
            Heard::Bytes(bytes) if bytes.first() == Some(&notify::END) => Ok(Self {
                followed,
                words: Words::default(),
            }),
            Heard::Nothing => bail!("it does not answer"),
            Heard::Bytes(_) | Heard::End => bail!("the guest cannot listen"),
        }
    }

    /// What is said in that time. None if nobody listens any more.
    fn hear(&mut self, time: Duration) -> Option<Vec<Word>> {
        match self.followed.hear(time) {
            Ok(Heard::Bytes(bytes)) => Some(self.words.take(&bytes)),
            Ok(Heard::Nothing) => Some(Vec::new()),
            Ok(Heard::End) | Err(_) => None,
        }
    }
}

/// A program that is heard.
pub struct Speaker {
    health: Health,
    running: Arc<Running>,
    program: Program,
    ready: Ready,
    /// Whether it is a system with a stage 1 of its own.
    is_own: bool,
    watchdog: Watchdog,
    /// Whether systemd does not know yet of a status, and of life.
    has_status: bool,
    has_life: bool,
    /// When systemd was last told something.
    told: Option<Instant>,
}

impl Speaker {
    /// That of `app`, which has just been started.
    pub fn new(health: Health, app: &App, running: Arc<Running>, program: Program) -> Self {
        let mut watchdog = Watchdog::new(app.watchdog.map(Into::into));
        if app.ready != Ready::Notify {
            watchdog.arm();
        }
        Self {
            health,
            running,
            program,
            ready: app.ready,
            is_own: app.own_kernel().is_some(),
            watchdog,
            has_status: false,
            has_life: false,
            told: None,
        }
    }

    /// Listens until the program has ended.
    pub fn listen(mut self, listener: Listener) {
        let mut listener = Some(listener);
        let step = self.watchdog.step();
        loop {
            let begun = Instant::now();
            let was_paused = self.running.pause.is_paused();
            let heard = match &mut listener {
                Some(listener) => listener.hear(step),
                None if self.program.has_ended_after(step) => return,
                None => {
                    listener = Listener::start(&self.running, self.is_own, RESTART_TIME).ok();
                    Some(Vec::new())
                }
            };
            if self.program.has_ended_after(Duration::ZERO) {
                return;
            }
            if heard.is_none() {
                listener = None;
            }
            let mut fault = self.heed(heard.unwrap_or_default());
            let has_run = !was_paused && !self.running.pause.is_paused();
            if has_run && self.watchdog.pass(begun.elapsed()) {
                let period = self.watchdog.period().as_secs_f32();
                fault = Some(format!(
                    "its program has not said for {period} s that it lives"
                ));
            }
            if let Some(fault) = fault {
                return self.bite(fault);
            }
            self.tell();
        }
    }

    /// Does what is said. What is wrong, if the program is stuck.
    fn heed(&mut self, words: Vec<Word>) -> Option<String> {
        let mut is_ready = false;
        let mut fault = None;
        for word in words {
            match word {
                Word::Ready => is_ready = self.ready == Ready::Notify,
                Word::Status(text) => {
                    self.health.set_status(text);
                    self.has_status = true;
                }
                Word::Alive => {
                    self.watchdog.hear();
                    self.has_life = true;
                }
                Word::Stuck => fault = Some("its program has said that it is stuck".into()),
            }
        }
        // With the status that came with it.
        if is_ready {
            self.watchdog.arm();
            self.health.set_ready();
        }
        fault
    }

    /// Tells systemd what is new.
    fn tell(&mut self) {
        let is_early = self.told.is_some_and(|told| told.elapsed() < TELL_PAUSE);
        if is_early || !(self.has_status || self.has_life) {
            return;
        }
        if std::mem::take(&mut self.has_status)
            && let (.., Some(status)) = self.health.look()
        {
            systemd::notify(Notice::Status(&status));
        }
        if std::mem::take(&mut self.has_life) && systemd::is_watchdog() {
            systemd::notify(Notice::Alive);
        }
        self.told = Some(Instant::now());
    }

    /// Ends the program as systemd does one whose watchdog it is.
    fn bite(&self, fault: String) {
        events::note(self.health.name(), Happened::Watchdog);
        self.health.set_verdict(fault);
        self.program
            .end(&[(SIGABRT, ABORT_TIME), (SIGKILL, KILL_TIME)]);
    }
}
